"""What a search for shortcuts costs on photographs: seconds of an image, forward-equivalents, peak memory.

    python -m experiments.benchmarks.shortcuts [--images 400] [--threads 2] [--out results.json]

EfficientNet-Lite0 with its 1,000 outputs, and ImageNet's samples, one of every second class, in turn until there are as
many images as asked. All are kept and searched. The bare network (``no_grad``, the same batches) runs before and after
the search; forward-equivalents are the search's time by its mean, by the clock and by processor time, which other work
disturbs less. Memory is the process's: before the search with network and samples, and its peak.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.measuring import kibibytes, seconds
from experiments.common.imagenet import networks, read
from experiments.common.runner import command
from experiments.common.shared_data import shared_data
from interpnet.shortcuts import find
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

_BARE = 128  # images that the bare network runs on, each time


class Repeated:
    """Batches of ``n`` images: those that are there in turn, over and over."""

    def __init__(self, images: Tensor, labels: Tensor, n: int, size: int) -> None:
        self._images = images
        self._labels = labels
        self._n = n
        self._size = size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self._n, self._size):
            rows = torch.arange(start, min(start + self._size, self._n)) % len(self._images)
            yield self._images[rows], self._labels[rows]


def samples(most: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, and the first samples (at most ``most``) with ImageNet's numbers of their classes."""
    model, prepare = networks("efficientnet")
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        found = read(archive, {2 * i: [name] for i, name in enumerate(files[:most])}, prepare)
    return model, found.images, torch.from_numpy(found.labels)


def bare(model: nn.Module, images: Tensor, size: int) -> tuple[float, float]:
    """Return the seconds that the network alone takes for one image: by the clock, and by the processor."""
    some = images[torch.arange(_BARE) % len(images)]

    def run() -> None:
        with torch.no_grad():
            for part in torch.split(some, size):
                model(part)

    clock, processor = seconds(run)
    return clock / _BARE, processor / _BARE


@command(images="photographs", batch="images in one pass", threads="of torch")
def main(*, images: int = 400, batch: int = 16, threads: int = 2, out: Path | None = None) -> None:
    """Time one search, print the figures, and write JSON if asked to."""
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(threads)
    model, pixels, labels = samples(images)
    bare(model, pixels, batch)
    loader = Repeated(pixels, labels, images, batch)
    before = bare(model, pixels, batch)
    held = kibibytes("VmRSS")
    found: list[Any] = []
    took = seconds(lambda: found.append(find(model, loader, images=None, max_batch=batch)))
    peak = kibibytes("VmHWM")
    after = bare(model, pixels, batch)
    each = [(one + other) / 2 for one, other in zip(before, after, strict=True)]
    row = {
        "images": images,
        "classes": len(torch.unique(labels)),
        "threads": threads,
        "minutes": took[0] / 60,
        "seconds of an image": took[0] / images,
        "bare, seconds of an image": each[0],
        "forward-equivalents, clock": took[0] / images / each[0],
        "forward-equivalents, processor": took[1] / images / each[1],
        "passes counted": found[0].passes,
        "memory before, MiB": held / 1024,
        "peak memory, MiB": peak / 1024,
    }
    print(json.dumps(row, indent=1))
    if out is not None:
        write_json(out, row)
