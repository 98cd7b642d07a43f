"""The kernel that makes a score of an activation map: bytes read per second, beside torch.compile and a plain copy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.collect import timed
from interpnet.scores import channel_norms

#: Maps of ResNet-50 (images, channels, height, width), from its first layers to its last.
MAPS = ((128, 64, 112, 112), (128, 256, 56, 56), (128, 512, 28, 28), (128, 1024, 14, 14), (128, 2048, 7, 7))
_REPEATS = 20


def plain(activation: Tensor) -> Tensor:
    """Return the norm of every channel's map (B, C): the formula, for a compiler to fuse."""
    return activation.float().square().sum((2, 3)).sqrt()


def rows(device: torch.device, small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield every map in float32 and bfloat16, in both layouts."""
    maps = ((2, 8, 4, 4),) if small else MAPS
    for shape in maps:
        for dtype in (torch.float32, torch.bfloat16):
            for layout in ("contiguous_format", "channels_last"):
                name = f"{'x'.join(map(str, shape))}, {str(dtype).removeprefix('torch.')}, {layout}"
                yield name, _measurement(shape, dtype, layout, device, compiled=not small)


def _measurement(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device, *, compiled: bool
) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        map_ = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=getattr(torch, layout))
        todo: dict[str, Callable[[], Tensor]] = {
            "ours": lambda: channel_norms(map_, 1),
            "plain": lambda: plain(map_),
            "copy": map_.clone,
        }
        if compiled:
            fused: Callable[[Tensor], Tensor] = torch.compile(plain)
            todo["compiled"] = lambda: fused(map_)
        expected = map_.double().square().sum((2, 3)).sqrt()
        row: dict[str, Any] = {}
        for name, work in todo.items():
            found = work()
            if name != "copy":
                error = ((found.double() - expected).abs() / expected).max()
                row[f"{name}, error"] = float(error)
            seconds = statistics.median(timed(work, device) for _ in range(_REPEATS))
            row[f"{name}, GB/s"] = map_.nbytes / seconds / 1e9
        return row

    return measure
