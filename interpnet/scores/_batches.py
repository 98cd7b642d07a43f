"""What a loader yields: batches of images, with labels, positions in the data set and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interpnet.engine import check_images
from interpnet.errors import DataError

Loader = Iterable[Any] | Callable[[int], Iterable[Any]]


class Batch(NamedTuple):
    """Images (B, C, H, W) with labels and positions in the data set (B,), if any, and the images left out."""

    images: Tensor
    labels: Tensor | None
    indices: Tensor | None
    skipped: list[Any]


def unpack(batch: Any) -> Batch:
    """Return (images, labels, indices, skipped) of what a loader yields.

    A batch is a tensor of images, or a sequence (images, labels[, indices[, skipped]]).
    """
    if isinstance(batch, Tensor):
        batch = (batch,)
    if not isinstance(batch, tuple | list) or not batch:
        raise DataError(
            f"the loader yielded a {type(batch).__name__}; expected (images, labels) batches as a torch DataLoader "
            "gives them"
        )
    missing: list[Any] = [None, None, []][len(batch) - 1 :]
    images, labels, indices, skipped = (list(batch) + missing)[:4]  # what a short batch lacks is filled in
    if not (isinstance(images, Tensor) and images.shape[:1] == (0,) and skipped):
        check_images(images)  # a batch of which no image could be read still says which were skipped
    return Batch(images, _tensor(labels), _tensor(indices), list(skipped))


def _tensor(values: Any) -> Tensor | None:
    return values if values is None else torch.as_tensor(values)


def peek(batches: Iterable[Any]) -> tuple[Tensor, Iterator[Any]]:
    """Return the first images, and the batches with those looked at put back."""
    iterator = iter(batches)
    before: list[Any] = []
    for batch in iterator:
        before.append(batch)  # also batches of which no image could be read
        images = unpack(batch).images
        if images.shape[0]:
            return images, chain(before, iterator)
    raise DataError("the loader yielded no image; expected at least one (images, labels) batch")


def image_count(loader: Loader) -> int | None:
    """Return how many images a loader says it has, ``None`` where it does not say."""
    n = getattr(loader, "n_images", None)  # of this library's own loaders
    if isinstance(n, int):
        return n
    data = getattr(loader, "dataset", None)
    return len(data) if isinstance(data, Sized) else None


def checked_labels(labels: Tensor | None, n: int, n_classes: int, indices: Tensor) -> Tensor:
    """Return class numbers (n,) as int64, or a target matrix (n, n_classes) as float32; ``indices`` name the images."""
    if labels is None:
        raise DataError("the loader yields no labels; expected (images, labels) batches")
    if labels.shape[0] != n:
        raise DataError(f"a batch has {n} images and {labels.shape[0]} labels; expected one label per image")
    if labels.dim() == 2:
        if labels.shape[1] != n_classes:
            raise DataError(f"targets have {labels.shape[1]} columns; the model has {n_classes} outputs")
        return labels.float()
    if labels.dim() != 1 or labels.is_floating_point():
        raise DataError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} came; expected (B,) class numbers or "
            f"a (B, {n_classes}) target"
        )
    outside = ((labels < 0) | (labels >= n_classes)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"image {int(indices[row])} has label {int(labels[row])}; the model has {n_classes} outputs, so labels "
            f"must lie in 0..{n_classes - 1}. Are the classes numbered as in training?"
        )
    return labels.long()
