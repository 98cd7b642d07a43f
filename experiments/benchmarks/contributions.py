"""Contributions and scores in one pass against the bare network: forward-equivalents, alternated in one process.

    python -m experiments.benchmarks.contributions [--repeats 5] [--out results.json]

A round runs the bare forward passes of some batches (contiguous, as a user runs it, and channels_last, as a collection
does), ``collect_scores`` of the same images, and ``collect_scores`` with their contributions, everything included. A
figure is the median over rounds of its time divided by that round's bare passes, by the clock and by processor time,
which other work disturbs less. Peak memory is that of a fresh process for each; ``explain`` keeps the maps of all
layers, as an explanation of a class that relies on all of them does.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.measuring import peak_of, seconds
from experiments.common.networks import cifar_resnet
from experiments.common.runner import command
from interpnet.engine import find_sites
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation
from interpnet.reliance import ContributionSums
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

#: Networks with the side of their images, the images of a batch, and batches.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    "resnet20 (32x32)": (lambda: cifar_resnet(20), 32, 64, 8),
    "resnet18 (224x224)": (lambda: torchvision.models.resnet18(weights=None), 224, 8, 4),
}
RUNS = ("forward", "forward channels_last", "scores", "scores and contributions")  # in the order of a round
PEAKS = ("nothing", "explain", "scores and contributions")


def network(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a network with random weights, and batches of random images."""
    build, size, batch, batches = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(batch, 3, size, size, generator=generator) for _ in range(batches)]
    return model, [(part, torch.arange(batch) % 10) for part in images]


def runs(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Callable[[], Any]]:
    """Return what one round runs."""
    last = [images.contiguous(memory_format=torch.channels_last) for images, _ in batches]

    def forward(parts: list[Tensor]) -> None:
        with torch.inference_mode():
            for part in parts:
                model(part)

    def collect(**options: Any) -> None:
        collect_scores(model, batches, progress=False, **options)

    return {
        "forward": lambda: forward([images for images, _ in batches]),
        "forward channels_last": lambda: forward(last),
        "scores": collect,
        "scores and contributions": lambda: collect(contributions=ContributionSums()),
    }


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Time one network in rounds; return medians in forward-equivalents."""
    todo = runs(*network(name))
    for run in todo.values():
        run()
    rounds = [{what: seconds(todo[what]) for what in RUNS} for _ in range(repeats)]
    row: dict[str, Any] = {"network": name}
    for i, unit in enumerate(("clock", "processor")):
        part: dict[str, Any] = {"forward_s": statistics.median(r["forward"][i] for r in rounds)}
        for what in RUNS[1:]:
            ratios = [r[what][i] / r["forward"][i] for r in rounds]
            part[what] = [statistics.median(ratios), min(ratios), max(ratios)]
        row[unit] = part
    return row


def once(what: str, name: str) -> None:
    """Do one of ``PEAKS`` with the first batch."""
    model, batches = network(name)
    images, labels = batches[0]
    if what == "explain":
        trace = find_sites(model, images)
        channels = trace.index()
        coef = np.ones((trace.n_outputs, len(channels)))
        every = Interpretation(channels, coef, tuple(map(str, range(trace.n_outputs))))
        explain(model, images, every, k=1, trace=trace, variant="paper")
    if what == "scores and contributions":
        collect_scores(model, [(images, labels)], contributions=ContributionSums(), progress=False)


def peak_memory(what: str, name: str) -> float:
    """Do one of ``PEAKS`` in a fresh process; return its peak resident memory in MiB."""
    return peak_of(f"from experiments.benchmarks.contributions import once\nonce({what!r}, {name!r})\n")


@command(networks=NETWORKS)
def main(
    *,
    repeats: int = 5,
    networks: tuple[str, ...] = tuple(NETWORKS),
    no_memory: bool = False,
    out: Path | None = None,
) -> None:
    """Run both parts, print the figures, and write JSON if asked to."""
    keep_freed_memory()  # as the command line does; it speeds up both sides alike
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} rounds")
    rows = []
    for name in networks:
        row = compare(name, repeats)
        if not no_memory:
            row["memory_mib"] = {what: peak_memory(what, name) for what in PEAKS}
        print(json.dumps(row), flush=True)
        rows.append(row)
    if out:
        write_json(out, {"rows": rows})
