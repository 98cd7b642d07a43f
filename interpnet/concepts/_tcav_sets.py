"""The sets of images that a concept is read from, and the gradients of classes' images, in one pass each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor, nn

from interpnet.concepts._reading import Gradients, Put, rows_read
from interpnet.concepts._sets import Known, digests_of, parts_of
from interpnet.concepts._tcav_layer import Members
from interpnet.engine import Layers, Output, Site, Trace, find_sites
from interpnet.errors import DataError
from interpnet.support.progress import Advance
from interpnet.support.types import Float32, Int64

FEWEST = 3  # random sets: two that make a vector, and one to measure along it
FOR_5_PERCENT = 19  # random sets, or pairs of them, with which a p-value can be 0.05


@dataclass
class Intake:
    """Runs sets of images through the network and keeps the rows of all of them."""

    model: nn.Module
    put: Put
    layer: Layers
    pool: bool
    output: Output | None
    max_batch: int
    advance: Advance
    blocks: list[list[Float32]] = field(default_factory=list)  # of each part of a set the rows of each site
    digests: list[str] = field(default_factory=list)

    def open(self, first: Tensor) -> None:
        """Find the sites."""
        self.trace: Trace = find_sites(self.model, self.put(first), output=self.output)
        self.sites: tuple[Site, ...] = self.trace.select(self.layer)

    def parts(self, source: Any, name: str) -> Any:
        """Yield the images of a set, of the size of the first one's."""
        for images in parts_of(source, name, self.max_batch):
            if not hasattr(self, "trace"):
                self.open(images)
            if tuple(images.shape[1:]) != self.trace.image_shape:
                raise DataError(
                    f"{name}: images of {tuple(images.shape[1:])} came, and of {self.trace.image_shape} before; "
                    "expected images of one size"
                )
            yield images

    def add(self, source: Any, name: str, most: int | None = None) -> Int64:
        """Read a set, at most its first ``most`` images, and return the numbers of its rows."""
        start = len(self.digests)
        parts = self.parts(source, name)
        first = next(parts, None)
        if first is None:
            raise DataError(f"{name} has no images; expected at least two")
        with rows_read(self.model, self.sites, self.put, pool=self.pool, output=self.output) as read:
            for images in chain([first], parts):
                left = len(images) if most is None else most - (len(self.digests) - start)
                if left <= 0:
                    break
                images = images[:left]
                self.blocks.append(read(images, name, len(self.digests) - start))
                self.digests += digests_of(images)
                self.advance(len(images))
        numbers = np.arange(start, len(self.digests))
        if len({self.digests[i] for i in numbers}) < 2:
            raise DataError(f"{name} has one image only, or one several times; expected at least two")
        return numbers

    def rows(self, i: int) -> Float32:
        """Return the rows (N, D) of one site and forget them: together they may be most of the memory."""
        rows = np.concatenate([block[i] for block in self.blocks])
        for block in self.blocks:
            block[i] = block[i][:0].copy()
        return rows

    def of(self, numbers: Int64) -> list[str]:
        """Return the digests of rows."""
        return [self.digests[i] for i in numbers]


def sets_read(
    taken: Intake, concepts: dict[str, Any], against: Any, random: Any, sets: int, draws: np.random.Generator
) -> Members:
    """Read all sets, and say which rows are whose."""
    ours = {name: taken.add(source, f"concept {name!r}") for name, source in concepts.items()}
    other = None if against is None else taken.add(against, "against")
    size = min(len(rows) for rows in (*ours.values(), *([] if other is None else [other])))
    if isinstance(random, list | tuple):
        apart = [taken.add(source, f"random set {j}", size) for j, source in enumerate(random)]
    else:
        # An image that comes twice counts once.
        pool = taken.add(random, "random", size * sets)
        pool = pool[np.sort(np.unique(taken.of(pool), return_index=True)[1])]
        apart = list(draws.permutation(pool)[: len(pool) // size * size].reshape(-1, size))
    _check_apart(taken, ours, other, apart, split=not isinstance(random, list | tuple))
    fewest = FEWEST if other is None else FEWEST + 1
    if len(apart) < fewest:
        raise DataError(
            f"random: {len(apart)} sets of {size} images came, as many as the smallest concept has; expected at least "
            f"{fewest} sets, and {FOR_5_PERCENT * (1 if other is None else 2)} for a p-value of 0.05"
        )
    same = np.unique(np.array(taken.digests), return_inverse=True)[1].astype(np.int64)
    return Members(ours, other, apart, same)


def _check_apart(
    taken: Intake, ours: dict[str, Int64], other: Int64 | None, apart: Sequence[Int64], *, split: bool
) -> None:
    """Refuse images that are in a concept and in what it is compared with, or in two random sets."""
    known = Known()
    for j, rows in enumerate(apart):
        known.add("random" if split else f"random set {j}", taken.of(rows))
    if other is not None:
        known.add("against", taken.of(other))
    for name, rows in ours.items():
        known.check(f"concept {name!r}", taken.of(rows))


def gradients_of(taken: Intake, images: Any, name: str, target: int, outputs: str) -> list[Float32]:
    """Return the gradients (M, D) of a class's images at each site; errors begin with ``name``."""
    found: list[list[Float32]] = []
    seen: list[str] = []
    reader: Gradients | None = None
    for part in taken.parts(images, name):
        ready = taken.put(part)
        if reader is None:
            reader = Gradients(taken.model, taken.sites, ready, pool=taken.pool, output=taken.output, outputs=outputs)
        found.append(reader.of(ready, target))
        seen += digests_of(part)
        taken.advance(len(part))
    if len(set(seen)) < 2:
        raise DataError(f"{name}: {len(seen)} of the class came; expected at least two different ones")
    return [np.concatenate(blocks) for blocks in zip(*found, strict=True)]
