"""What a loader yields: batches of images, with labels, positions in the data set and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import Batch as DataBatch
from interpnet.engine import ONE_OUTPUT, check_images
from interpnet.errors import DataError

Loader = Iterable[Any] | Callable[[int], Iterable[Any]]

# The keys by which a batch that is a dictionary is read where none are named.
_IMAGE_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


class NoImageError(DataError):
    """A loader without a single image."""


class Batch(NamedTuple):
    """Images (B, C, H, W) with labels and positions in the data set (B,), if any, and the images left out."""

    images: Tensor
    labels: Tensor | None
    indices: Tensor | None
    skipped: list[Any]


def entries(batch: Any, *, inputs: str | None = None, labels: str | None = None) -> tuple[Any, Any]:
    """Return the images and the labels of what a loader yields, as they are; labels are ``None`` where there are none.

    A batch is a tensor of images, a sequence (images, labels, anything else), or a dictionary, of which ``inputs`` and
    ``labels`` name the keys. A single item of a data set is read in the same way.
    """
    if isinstance(batch, Mapping):
        images = _entry(batch, inputs, _IMAGE_KEYS, "inputs")
        if images is None:
            raise DataError(
                f"the loader yielded a dictionary with keys {sorted(map(str, batch))}; name its images with "
                f"inputs='...' (known are {', '.join(_IMAGE_KEYS)})"
            )
        return images, _entry(batch, labels, _LABEL_KEYS, "labels")
    if isinstance(batch, Tensor):
        return batch, None
    if not isinstance(batch, tuple | list) or not batch:
        raise DataError(
            f"the loader yielded a {type(batch).__name__}; expected (images, labels) batches as a torch DataLoader "
            "gives them"
        )
    # What stands behind the labels is anything.
    if len(batch) == 1:
        return batch[0], None
    return batch[0], batch[1]


def unpack(batch: Any, *, inputs: str | None = None, labels: str | None = None) -> Batch:
    """Return (images, labels, indices, skipped) of what a loader yields, checked; see :func:`entries`.

    Only this library's own batches tell positions and images left out: what else stands in third and fourth place
    (paths, masks, numbers of other things) is not looked at.
    """
    if isinstance(batch, DataBatch):
        # A batch of which no image could be read still says which were skipped.
        if not (batch.images.shape[:1] == (0,) and batch.skipped):
            check_images(batch.images)
        return Batch(batch.images, _labels(batch.labels), _labels(batch.indices), list(batch.skipped))
    images, known = entries(batch, inputs=inputs, labels=labels)
    return Batch(check_images(images), _labels(known), None, [])


def _entry(batch: Mapping[Any, Any], name: str | None, known: Iterable[str], argument: str) -> Any:
    """Return the entry called ``name``, else the one with a ``known`` key; several that are known are refused."""
    if name is not None:
        if name not in batch:
            raise DataError(f"{argument}={name!r} is no key of the batch, which has {sorted(map(str, batch))}")
        return batch[name]
    there = [key for key in known if key in batch]
    if len(there) > 1:
        raise DataError(f"the batch has the keys {' and '.join(map(repr, there))}; say which with {argument}='...'")
    return batch[there[0]] if there else None


def _labels(values: Any) -> Tensor | None:
    """Return labels as a tensor of real numbers, or refuse them; no labels stay ``None``."""
    if values is None:
        return None
    remedy = "expected class numbers (B,), counted as the model's outputs are, or targets (B, classes)"
    if isinstance(values, Mapping):
        raise DataError(f"labels: a dictionary with keys {sorted(map(str, values))} came; {remedy}")
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"labels: {str(values)[:60]} came; {remedy} (of names: names.index(name))") from error
    if labels.is_complex() or labels.is_nested or labels.layout != torch.strided or labels.is_meta:
        raise DataError(f"labels: a tensor of {labels.dtype}, {labels.layout} on {labels.device} came; {remedy}")
    return labels


def refuse_iterators(loader: object, use: str) -> None:
    """Refuse what can be read once only, before anything of it is lost; ``use`` reads it several times."""
    # A class of the user's own that is its own iterator may well start again: what it yields will tell.
    module = type(loader).__module__
    if isinstance(loader, Iterator) and module in {"builtins", "itertools", "torch.utils.data.dataloader"}:
        raise DataError(
            f"the loader is a {type(loader).__name__}, which can be read once only, and {use} reads the images several "
            "times; pass one that starts again each time: a DataLoader, or list(loader)"
        )


def batches_from(loader: Loader, start: int = 0) -> Iterable[Any]:
    """Return the batches of a loader; a function is asked for those after the first ``start`` images."""
    batches: Any = loader
    if callable(loader) and not _has_batches(loader):
        batches = loader(start)
    if not _has_batches(batches):
        raise DataError(
            f"loader: a {type(batches).__name__} came; expected (images, labels) batches, as a DataLoader or a list "
            "gives them ([(images, labels)] is one batch), or a function start -> batches"
        )
    return cast("Iterable[Any]", batches)


def _has_batches(loader: object) -> bool:
    """Whether a ``for`` loop over ``loader`` can give batches; a tensor would give its images one by one."""
    kind = type(loader)
    # Without __iter__ Python counts through __getitem__.
    loops = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return loops and not isinstance(loader, Tensor | np.ndarray | str | bytes | Mapping | type)


def peek(
    batches: Iterable[Any], *, inputs: str | None = None, labels: str | None = None
) -> tuple[Tensor, Iterator[Any]]:
    """Return the first images, and the batches with those looked at put back."""
    iterator = iter(batches)
    before: list[Any] = []
    for batch in iterator:
        # Also batches of which no image could be read.
        before.append(batch)
        images = unpack(batch, inputs=inputs, labels=labels).images
        if images.shape[0]:
            return images, _put_back(before, iterator)
    raise NoImageError("the loader yielded no image; expected at least one (images, labels) batch")


def _put_back(before: list[Any], iterator: Iterator[Any]) -> Iterator[Any]:
    yield from before
    # By hand: a for loop would ask for an iterator again, and a loader that is its own one would start again.
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch


def image_count(loader: Loader) -> int | None:
    """Return how many images a loader says it has, ``None`` where it does not say."""
    # Of this library's own loaders.
    n = getattr(loader, "n_images", None)
    if isinstance(n, int):
        return n
    data = getattr(loader, "dataset", None)
    return len(data) if isinstance(data, Sized) else None


def checked_labels(labels: Tensor | None, n: int, n_classes: int, indices: Tensor) -> Tensor:
    """Return class numbers (n,) as int64, or a target matrix (n, n_classes) as float32; ``indices`` name the images."""
    if labels is None:
        raise DataError("the loader yields no labels; expected (images, labels) batches")
    if labels.shape[:1] != (n,):
        came = labels.shape[0] if labels.dim() else 1
        raise DataError(f"a batch has {n} images and {came} labels; expected one label per image")
    if labels.dim() == 2 and labels.shape[1] == 1 and n_classes > 1:
        labels = labels[:, 0]
    if labels.dim() == 2:
        if labels.shape[1] != n_classes:
            raise DataError(f"targets have {labels.shape[1]} columns; the model has {n_classes} outputs")
        bad = ~torch.isfinite(labels).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(
                f"the target of image {int(indices[row])} holds NaN or infinity; every value must be finite"
            )
        # A copy: a loader may fill the same tensor again for its next batch.
        return labels.to(torch.float32, copy=True)
    if n_classes == 1:
        raise DataError(ONE_OUTPUT)
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} came; expected (B,) class numbers, which "
            f"are integers (labels.long()), or a (B, {n_classes}) target"
        )
    # Comparisons of the unsigned types of 16 bits and more are not there on every device.
    labels = labels.to(torch.int64, copy=True)
    outside = ((labels < 0) | (labels >= n_classes)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"image {int(indices[row])} has label {int(labels[row])}; the model has {n_classes} outputs, so labels "
            f"must lie in 0..{n_classes - 1}. Are the classes numbered as in training?"
        )
    return labels
