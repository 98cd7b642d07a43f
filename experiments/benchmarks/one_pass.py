"""Scores, contributions, dissection and CAV sums on the same images: what each costs beside the scores, and together.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks.one_pass [--repeats 1] [--out results.json]

Everything reads all default layers. A round runs, on the same images: the bare network; ``collect_scores``; the same
with contributions; with what a dissection's first pass reads (the values above the thresholds), with the sums of maps
that the vectors of :func:`interpnet.concepts.tcav` are differences of, and with both; with what the second pass of a
dissection reads (overlaps with masks, own and borrowed, above known thresholds); and with all that one forward pass can
give. A figure is the median over rounds of its time divided by that round's scores alone, by processor time. Masks are
blocks of eleven concepts, images smooth noise; weights are random.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.measuring import seconds
from experiments.common.networks import cifar_resnet
from experiments.common.runner import command
from interpnet.engine import Instrument, Output, Site, Trace, forward_logits, instrument
from interpnet.reliance import ContributionSums
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json


def _lite() -> nn.Module:
    """Return EfficientNet-Lite0 as timm builds it."""
    network: nn.Module = import_module("timm").create_model("tf_efficientnet_lite0", pretrained=False)
    return network


#: Networks with the side of their images, the images of a batch, and batches.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    "ResNet-20 (32x32)": (lambda: cifar_resnet(20), 32, 64, 4),
    "SqueezeNet (224x224)": (lambda: torchvision.models.squeezenet1_0(weights=None), 224, 16, 3),
    "EfficientNet-Lite0 (224x224)": (_lite, 224, 16, 3),
}
RUNS = (
    "forward",
    "scores",
    "contributions",
    "thresholds",
    "CAV sums",
    "thresholds and CAV sums",
    "overlaps",
    "all in one forward pass",
)
_QUANTILE = 0.005
_CONCEPTS = 11
_DRAWS = 19
_GROUPS = 50
_SETS = 10  # of images, whose maps are summed
_STEP = 2
# What dissect() itself reads with; the library does not hand it on.
_concepts: Any = {name: import_module(f"interpnet.concepts._{name}") for name in ("tops", "overlap", "work")}


class Beside:
    """Runs the passes of a collection of scores, and reads what dissections and CAVs need from the same maps."""

    def __init__(self, parts: Sequence[str], masks: Tensor, limits: dict[str, Tensor] | None) -> None:
        self._parts = set(parts)
        self._masks = masks  # (N, K, h, w)
        self.limits = limits or {}
        self.tops: dict[str, Any] = {}
        self.sums: dict[str, Tensor] = {}
        self.overlaps: dict[str, Any] = {}

    def open(
        self, model: nn.Module, _trace: Trace, sites: Sequence[Site], _first: Tensor, output: Output | None
    ) -> None:
        """Make ready."""
        self._model = model
        self._output = output
        n = len(self._masks)
        for site in sites:
            above = math.floor(_QUANTILE * n * math.prod(site.map_shape))
            if "thresholds" in self._parts:
                self.tops[site.name] = _concepts["tops"].Tops(site.channels, above)
            if "CAV sums" in self._parts:
                self.sums[site.name] = torch.zeros(_SETS, math.prod(site.shape))
            if "overlaps" in self._parts:
                self.overlaps[site.name] = _concepts["overlap"].Overlap(site.channels, _CONCEPTS, _GROUPS, _DRAWS)
        self._reads = {site.name: partial(self._read, site) for site in sites}

    def resume(self, rows: int) -> None:
        """There is nothing to go on with."""

    def commit(self, rows: int) -> None:
        """There is nothing to keep."""

    def logits(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        indices: Tensor,
        put: Callable[[Tensor], Tensor],
        *,
        known: int = 0,  # noqa: ARG002
    ) -> Tensor:
        """Run one batch."""
        self._numbers = indices
        if "overlaps" in self._parts:
            # As dissect(): each image's own masks, and those of others.
            others = torch.stack([self._masks[(indices + 1 + d) % len(self._masks)] for d in range(_DRAWS)], 1)
            self._shows = _concepts["overlap"].Shown.of(self._masks[indices], others, indices % _GROUPS)
        with instrument(self._model, Instrument(reads=self._reads)):
            return forward_logits(self._model, images, self._output, put)

    def _read(self, site: Site, out: Tensor) -> None:
        maps = _concepts["work"].maps_of(out, site)
        if site.name in self.tops:
            self.tops[site.name].add(maps)
        if site.name in self.sums:
            self.sums[site.name].index_add_(0, self._numbers % _SETS, out.detach().flatten(1).float())
        if site.name in self.overlaps:
            self.overlaps[site.name].add(maps, self.limits[site.name], self._shows, tuple(self._masks.shape[2:]))


def subject(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], Tensor]:
    """Return a network with random weights, batches of smooth images, and masks (N, K, h, w) of blocks."""
    build, size, batch, batches = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    draws = torch.Generator().manual_seed(1)
    n = batch * batches
    rough = torch.randn(n, 3, size // 8, size // 8, generator=draws)
    images = nn.functional.interpolate(rough, size=(size, size), mode="bilinear", align_corners=False)
    concepts = torch.randint(0, _CONCEPTS, (n, 4, 4), generator=draws)
    side = size // _STEP
    numbers = nn.functional.interpolate(concepts[:, None].float(), size=(side, side), mode="nearest").long()
    masks = numbers == torch.arange(_CONCEPTS)[:, None, None]
    return model, [(part, torch.arange(batch) % 10) for part in torch.split(images, batch)], masks


def runs(model: nn.Module, batches: list[tuple[Tensor, Tensor]], masks: Tensor) -> dict[str, Callable[[], Any]]:
    """Return what one round runs; thresholds are known from a first pass."""
    last = [images.contiguous(memory_format=torch.channels_last) for images, _ in batches]

    def forward() -> None:
        with torch.inference_mode():
            for part in last:
                model(part)

    def collect(companion: Any = None) -> None:
        collect_scores(model, batches, progress=False, contributions=companion)

    first = Beside(["thresholds"], masks, None)
    collect(first)
    limits = {name: tops.limits() for name, tops in first.tops.items()}

    def beside(*parts: str) -> None:
        companion = Beside(parts, masks, limits)
        collect(companion)
        for tops in companion.tops.values():
            tops.limits()

    return {
        "forward": forward,
        "scores": collect,
        "contributions": lambda: collect(ContributionSums()),
        "thresholds": lambda: beside("thresholds"),
        "CAV sums": lambda: beside("CAV sums"),
        "thresholds and CAV sums": lambda: beside("thresholds", "CAV sums"),
        "overlaps": lambda: beside("overlaps"),
        "all in one forward pass": lambda: beside("thresholds", "CAV sums", "overlaps"),
    }


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Time one network in rounds; return medians in multiples of the scores alone, with the lowest and highest."""
    model, batches, masks = subject(name)
    todo = runs(model, batches, masks)
    rounds = [{what: seconds(todo[what])[1] for what in RUNS} for _ in range(repeats)]
    row: dict[str, Any] = {"network": name, "images": len(masks)}
    row["scores_s"] = round(statistics.median(r["scores"] for r in rounds), 2)
    for what in RUNS:
        ratios = [r[what] / r["scores"] for r in rounds]
        row[what] = [round(f(ratios), 3) for f in (statistics.median, min, max)]
    return row


@command(networks=NETWORKS)
def main(*, repeats: int = 1, networks: tuple[str, ...] = tuple(NETWORKS), out: Path | None = None) -> None:
    """Time each network, print the figures, and write JSON if asked to."""
    keep_freed_memory()
    rows = []
    for name in networks:
        row = compare(name, repeats)
        print(json.dumps(row), flush=True)
        rows.append(row)
        if out:
            write_json(out, {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows})
