"""The images of one split of the data, with labels numbered as the model's outputs are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import Batch, ImageData
from interpnet.datasets import BatchLoader as DataBatches
from interpnet.errors import DataError, InterpNetError
from interpnet.support.types import Bools, Int64

from .config import RunConfig

EXCLUSIVE = "exclusive"
INDEPENDENT = "independent"


@dataclass(frozen=True)
class Split:
    """Images with labels numbered as the model's outputs are."""

    data: ImageData  # with labels numbered as the data set does
    outputs: Int64  # (data classes,) the model's output for each class of the data set
    several: int | None = None  # the number of outputs where an image can have several labels; None where it has one

    @cached_property
    def labels(self) -> Int64:
        """(N,) the model's output that each image should raise; a DataError where an image can have several labels."""
        if self.several is not None:
            raise DataError(f"an image of {self.data.spec!r} can have several labels: targets says which")
        return np.asarray(self.outputs[self.data.labels], dtype=np.int64)

    @cached_property
    def targets(self) -> Bools:
        """(N, outputs) which of the model's outputs each image should raise."""
        if self.several is None:
            raise DataError(f"an image of {self.data.spec!r} has one label: labels says which")
        targets: Bools = np.zeros((len(self.data), self.several), dtype=bool)
        if self.data.targets is not None:
            targets[:, self.outputs] = self.data.targets
        else:
            targets[np.arange(len(self.data)), self.outputs[self.data.labels]] = True
        return targets

    @property
    def truth(self) -> Int64 | Bools:
        """The labels (N,), or the targets (N, outputs) where an image can have several labels."""
        if self.several is None:
            return self.labels
        return self.targets

    @cached_property
    def strata(self) -> Int64:
        """(N,) what samples are balanced over: the label, of several the rarest, or the number of outputs for none."""
        if self.several is None:
            return self.labels
        rare = np.where(self.targets, self.targets.sum(0), len(self.data) + 1)
        rarest: Int64 = np.where(self.targets.any(1), rare.argmin(1), self.several)
        return rarest

    @property
    def present(self) -> Int64:
        """The outputs that have an image, rising."""
        if self.several is None:
            return np.unique(self.labels)
        return np.flatnonzero(self.targets.any(0))


@dataclass(frozen=True)
class Batches:
    """Batches of a data set, with labels (B,) or targets (B, outputs) numbered as the model's outputs are."""

    loader: DataBatches
    outputs: Tensor
    several: int | None = None

    @property
    def n_images(self) -> int:
        """Images a pass covers, unreadable ones included."""
        return self.loader.n_images

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield batch._replace(labels=self._numbered(batch.labels))

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.loader.batch_size

    def numbered(self, batches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Batch]]:
        """Yield some batches with the positions at which they begin, as the loader does."""
        for start, batch in self.loader.numbered(batches):
            if len(batch.indices):
                batch = batch._replace(labels=self._numbered(batch.labels))
            yield start, batch

    def _numbered(self, labels: Tensor) -> Tensor:
        if self.several is None:
            if labels.dim() > 1:
                # Each image has one: Split.labels refuses others.
                labels = labels.argmax(1)
            return self.outputs[labels]
        targets = torch.zeros(len(labels), self.several)
        if labels.dim() > 1:
            targets[:, self.outputs] = labels.float()
        else:
            targets[torch.arange(len(labels)), self.outputs[labels]] = 1.0
        return targets


def check_settings(config: RunConfig) -> None:
    """Refuse the settings that need one label per image; an ``InterpNetError`` for the first of them."""
    if config.fit_on == "predictions":
        raise InterpNetError(
            "--fit-on is predictions, and an image of this data can have several labels: the network's answers are "
            "kept for one class only. Expected labels, or auto"
        )
    if config.class_weight != "none":
        raise InterpNetError(
            f"--class-weight is {config.class_weight}, and an image of this data can have several labels, so that no "
            "weight of an image gives all of them the same total. Expected none"
        )


def belong(wanted: str, *data: ImageData) -> str:
    """Return how the outputs belong together: as ``wanted`` says or, for ``"auto"``, as the labels of the data do.

    ``"independent"`` where the data has targets and an image with no label or several. A :class:`DataError` where such
    images came and ``"exclusive"`` is wanted.
    """
    odd = [found for one in data if (found := _not_single(one))]
    if wanted == EXCLUSIVE and odd:
        raise DataError(f"--outputs is exclusive, but {odd[0]}; expected one label per image, or --outputs independent")
    if wanted == "auto":
        return {True: INDEPENDENT, False: EXCLUSIVE}[bool(odd)]
    return wanted


def _not_single(data: ImageData) -> str:
    """Say which image has not exactly one label; empty where each has."""
    if data.targets is None:
        return ""
    counts = data.targets.sum(1)
    odd = np.flatnonzero(counts != 1)
    if not len(odd):
        return ""
    return f"image {data.name(int(odd[0]))!r} has {counts[odd[0]]} labels"


def balanced(labels: Int64, limit: int | None, seed: int) -> Int64:
    """Return the positions of at most ``limit`` labels, as evenly over the classes as they allow, sorted.

    Examples
    --------
    >>> balanced(np.array([0, 0, 0, 0, 1, 1]), 4, seed=0).shape
    (4,)
    """
    everything: Int64 = np.arange(len(labels), dtype=np.int64)
    if limit is None or limit >= len(labels):
        return everything
    shuffled = np.random.default_rng(seed).permutation(everything)
    seen: defaultdict[int, int] = defaultdict(int)
    turn = np.empty(len(labels), dtype=np.int64)
    for at, label in enumerate(labels[shuffled]):
        turn[at] = seen[label]
        seen[label] += 1
    # The first image of every class, then the second, ...: what is cut off is spread alike.
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:limit]])
