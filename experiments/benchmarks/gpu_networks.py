"""What reading a network costs on a device, in forward-equivalents: scores, contributions, explanations, ablation."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.collect import timed
from interpnet.ablation import ablation_study
from interpnet.engine import find_sites
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation
from interpnet.reliance import ContributionSums
from interpnet.scores import collect_scores

#: Networks with the side of their images and the images of a batch.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), 224, 128),
    "efficientnet_b0": (lambda: torchvision.models.efficientnet_b0(weights=None), 224, 128),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(weights=None), 224, 128),
}
SMALL: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "two layers": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10)
        ),
        8,
        4,
    )
}
PRECISIONS = ("fp32", "tf32", "autocast")
LAYOUTS = ("contiguous", "channels_last")
_ROUNDS = 5
_BATCHES = 2
_CHANNELS = 3  # of each class, to explain and to remove
_REMOVED_IMAGES = 64


@contextmanager
def precision(name: str) -> Iterator[torch.dtype | None]:
    """Set what float32 products may be rounded to, and yield the type of autocast, if any; all is put back."""
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    torch.backends.cuda.matmul.allow_tf32 = name != "fp32"
    torch.backends.cudnn.allow_tf32 = name != "fp32"
    try:
        yield {"autocast": torch.bfloat16}.get(name)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before[0]
        torch.backends.cudnn.allow_tf32 = before[1]


def rows(device: torch.device, small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield every network in every precision and layout, then their ablation studies."""
    networks = SMALL if small else NETWORKS
    rounds = 1 if small else _ROUNDS
    # The defaults first: what is left out for want of time is the rest.
    for layout in reversed(LAYOUTS):
        for kind in PRECISIONS:
            for name in networks:
                yield f"{name}, {kind}, {layout}", _passes(networks[name], device, kind, layout, rounds)
    for name in networks:
        yield f"{name}, ablation study", _study(networks[name], device, min(_REMOVED_IMAGES, networks[name][2]))


def _network(spec: tuple[Callable[[], nn.Module], int, int], device: torch.device) -> tuple[nn.Module, list[Tensor]]:
    """Return a network with random weights on the device, and batches of random images on the host."""
    build, side, batch = spec
    torch.manual_seed(0)
    model = build().eval().to(device)
    return model, [torch.randn(batch, 3, side, side) for _ in range(_BATCHES)]


def _few(model: nn.Module, images: Tensor) -> Interpretation:
    """Return an interpretation in which every class relies on the same few channels of the network's last layers."""
    with torch.no_grad():
        trace = find_sites(model, images)
    channels = trace.index()
    coef = np.zeros((trace.n_outputs, len(channels)))
    coef[:, np.linspace(len(channels) // 2, len(channels) - 1, _CHANNELS).astype(int)] = 1.0
    return Interpretation(channels, coef, tuple(str(c) for c in range(trace.n_outputs)))


def _passes(
    spec: tuple[Callable[[], nn.Module], int, int], device: torch.device, kind: str, layout: str, rounds: int
) -> Callable[[], dict[str, Any]]:
    """Return the measurement of one network in one precision and layout."""

    def measure() -> dict[str, Any]:
        model, host = _network(spec, device)
        labels = torch.arange(len(host[0])) % 10
        with precision(kind) as autocast:
            run = _runs(model, host, labels, device, layout, autocast)
            for work in run.values():
                work()
            peaks = {what: _peak(work, device) for what, work in run.items()}
            taken = [{what: timed(work, device) for what, work in run.items()} for _ in range(rounds)]
        images = len(host) * len(host[0])
        row: dict[str, Any] = {"bare, images/s": images / statistics.median(round_["bare"] for round_ in taken)}
        for what in run:
            if what != "bare":
                row[f"{what}, forwards"] = statistics.median(round_[what] / round_["bare"] for round_ in taken)
        if device.type == "cuda":
            row |= {f"{what}, peak GiB": peak for what, peak in peaks.items()}
        return row

    return measure


def _runs(
    model: nn.Module,
    host: list[Tensor],
    labels: Tensor,
    device: torch.device,
    layout: str,
    autocast: torch.dtype | None,
) -> dict[str, Callable[[], object]]:
    """Return what a round runs: the bare network on images that are there already, and ours from the host's."""
    memory_format = getattr(torch, {"contiguous": "contiguous_format"}.get(layout, layout))
    there = [images.to(device, memory_format=memory_format) for images in host]
    batches = [(images, labels) for images in host]
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext
    if autocast is not None:
        cast = lambda: torch.autocast(device.type, autocast)  # noqa: E731 - a name for both cases
    reasons = _few(model, there[0][:2])
    options: dict[str, Any] = {"device": device, "memory_format": layout, "progress": False, "autocast": autocast}

    def bare() -> None:
        with torch.inference_mode(), cast():
            for images in there:
                model(images)

    found: dict[str, Callable[[], object]] = {
        "bare": bare,
        "scores": lambda: collect_scores(model, batches, **options),
        "contributions": lambda: collect_scores(model, batches, contributions=ContributionSums(), **options),
    }
    if autocast is None:
        found["explain"] = lambda: [explain(model, images, reasons, k=_CHANNELS) for images in there]
    return found


def _peak(work: Callable[[], object], device: torch.device) -> float:
    """Return the most memory of the device that a call held, in GiB; 0 on the CPU."""
    if device.type != "cuda":
        work()
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return float(torch.cuda.max_memory_allocated(device) / 2**30)


def _study(
    spec: tuple[Callable[[], nn.Module], int, int], device: torch.device, n_images: int
) -> Callable[[], dict[str, Any]]:
    """Return the measurement of an ablation study, in passes of the bare network over its images."""

    def measure() -> dict[str, Any]:
        model, host = _network(spec, device)
        images = host[0][:n_images]
        labels = torch.arange(n_images) % 10
        there = images.to(device)
        reasons = _few(model, there[:2])

        def bare() -> None:
            with torch.inference_mode():
                model(there)

        def study() -> None:
            ablation_study(
                model,
                [(images, labels)],
                reasons,
                controls=("random",),
                curve=False,
                single=False,
                device=device,
                progress=False,
            )

        bare()
        seconds = timed(study, device)
        return {"images": n_images, "passes": seconds / statistics.median(timed(bare, device) for _ in range(3))}

    return measure
