"""What a loader yields: batches of images, with labels, positions in the data set and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from interpnet.datasets import IMAGE_KEYS, LABEL_KEYS, ImageData, make_loader
from interpnet.datasets import Batch as DataBatch
from interpnet.engine import check_images
from interpnet.errors import DataError
from interpnet.scores._items import BATCH_SIZE, counted, in_batches, kind_of, prepared
from interpnet.scores._labels import Names, as_labels
from interpnet.support.checks import whole_numbers

Loader = Iterable[Any] | Dataset[Any] | Callable[[int], Iterable[Any]]
Prepare = Callable[[Any], Any]


class NoImageError(DataError):
    """A loader without a single image."""


class Batch(NamedTuple):
    """Images (B, C, H, W) with labels and positions in the data set (B,), if any, and the images left out."""

    images: Tensor
    labels: Tensor | Names | None
    indices: Tensor | None
    skipped: list[Any]


def entries(batch: Any, *, inputs: str | None = None, labels: str | None = None) -> tuple[Any, Any]:
    """Return the images and the labels of what a loader yields, as they are; labels are ``None`` where there are none.

    A batch is a tensor of images, a sequence (images, labels, anything else), or a dictionary, of which ``inputs`` and
    ``labels`` name the keys. A single item of a data set is read in the same way.
    """
    if isinstance(batch, Mapping):
        images = _entry(batch, inputs, IMAGE_KEYS, "inputs")
        if images is None:
            raise DataError(
                f"the loader yielded a dictionary with keys {sorted(map(str, batch))}; name its images with "
                f"inputs='...' (known are {', '.join(IMAGE_KEYS)})"
            )
        return images, _entry(batch, labels, LABEL_KEYS, "labels")
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


def unpack(
    batch: Any,
    *,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    indices: str | None = None,
) -> Batch:
    """Return (images, labels, indices, skipped) of what a loader yields, checked; see :func:`entries`.

    ``prepare`` makes of what stands in the batch as images what the model takes, and ``indices`` names the key of the
    images' positions in the data set where a batch is a dictionary.

    Only this library's own batches tell positions and images left out: what else stands in third and fourth place
    (paths, masks, numbers of other things) is not looked at.
    """
    if isinstance(batch, DataBatch):
        # A batch of which no image could be read still says which were skipped.
        images = batch.images
        if not (images.shape[:1] == (0,) and batch.skipped):
            images = _images(images, prepare)
        return Batch(images, as_labels(batch.labels), batch.indices, list(batch.skipped))
    images, known = entries(batch, inputs=inputs, labels=labels)
    ready = _images(images, prepare)
    return Batch(ready, as_labels(known), _positions(batch, indices, len(ready)), [])


def _positions(batch: Any, key: str | None, n: int) -> Tensor | None:
    """Return the positions (n,) under a key of a batch."""
    if key is None:
        return None
    if not isinstance(batch, Mapping):
        raise DataError(
            f"indices={key!r} names a key, and the loader yields a {type(batch).__name__}; without it positions are "
            "counted, in the loader's order"
        )
    positions = whole_numbers(_entry(batch, key, (), "indices"), f"indices={key!r}", error=DataError)
    if positions.shape != (n,) or (n and positions.min() < 0):
        raise DataError(f"indices={key!r}: shape {positions.shape} came; expected {n} positions, counted from 0")
    return torch.from_numpy(positions)


def _images(images: Any, prepare: Prepare | None) -> Tensor:
    """Return images as the model takes them, or one line that says how ``prepare`` makes them so."""
    ready = prepared(images, prepare)
    hint = ""
    if isinstance(ready, np.ndarray):
        hint = "prepare=torch.from_numpy"
    elif isinstance(ready, list | tuple):
        hint = (
            "prepare=lambda images: torch.stack([to_tensor(image) for image in images]), to_tensor being the "
            "transform of the model's training, or give the data set that transform"
        )
    elif isinstance(ready, Tensor) and not ready.is_floating_point() and not ready.is_complex():
        hint = "prepare=lambda images: images.float() / 255, and what else the model's training did to its images"
    if hint and prepare is None:
        raise DataError(f"images: {kind_of(ready)} came; expected a floating-point Tensor (B, C, H, W): pass {hint}")
    return check_images(ready)


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


def refuse_iterators(loader: object, use: str) -> None:
    """Refuse what can be read once only, before anything of it is lost; ``use`` reads it several times."""
    # A class of the user's own that is its own iterator may well start again: what it yields will tell.
    module = type(loader).__module__
    if isinstance(loader, Iterator) and module in {"builtins", "itertools", "torch.utils.data.dataloader"}:
        raise DataError(
            f"the loader is a {type(loader).__name__}, which can be read once only, and {use} reads the images several "
            "times; pass one that starts again each time: a DataLoader, or list(loader)"
        )


def batches_from(
    loader: Loader, start: int = 0, *, inputs: str | None = None, labels: str | None = None
) -> Iterable[Any]:
    """Return the batches of a loader; a function is asked for those after the first ``start`` images.

    Of a data set, or other single items, batches are made; ``inputs`` and ``labels`` as in :func:`entries`.
    """
    if isinstance(loader, ImageData):
        return make_loader(loader, batch_size=BATCH_SIZE)
    batches: Any = loader
    if callable(loader) and not _has_batches(loader):
        batches = loader(start)
    if not _has_batches(batches):
        hint = "[(images, labels)] is one batch"
        if isinstance(batches, Mapping):
            hint = "[batch] is one; of a dictionary of splits pass one split"
        raise DataError(
            f"loader: a {type(batches).__name__} came; expected (images, labels) batches, as a DataLoader or a list "
            f"gives them ({hint}), a data set, or a function start -> batches"
        )
    return in_batches(batches, partial(entries, inputs=inputs, labels=labels))


def _has_batches(loader: object) -> bool:
    """Whether a ``for`` loop over ``loader`` can give batches; a tensor would give its images one by one."""
    kind = type(loader)
    # Without __iter__ Python counts through __getitem__.
    loops = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return loops and not isinstance(loader, Tensor | np.ndarray | str | bytes | Mapping | type)


def peek(
    batches: Iterable[Any], *, inputs: str | None = None, labels: str | None = None, prepare: Prepare | None = None
) -> tuple[Tensor, Iterator[Any]]:
    """Return the first images, and the batches with those looked at put back."""
    iterator = iter(batches)
    before: list[Any] = []
    for batch in iterator:
        # Also batches of which no image could be read.
        before.append(batch)
        images = unpack(batch, inputs=inputs, labels=labels, prepare=prepare).images
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
    if isinstance(data, Sized):
        return len(data)
    return counted(loader)
