"""Single items of a data set, put together to batches: a torch Dataset, a list of items, a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from interpnet.errors import DataError

#: So many items make a batch.
BATCH_SIZE = 32
Entries = Callable[[Any], tuple[Any, Any]]


def in_batches(source: Any, entries: Entries) -> Iterator[Any]:
    """Yield what ``source`` yields: batches as they are, single items (image, label) put together to batches.

    ``entries`` takes images and labels out of a batch or item, which may be a dictionary.

    Examples
    --------
    >>> items = [(torch.zeros(1, 2, 2), 0), (torch.ones(1, 2, 2), 1)]
    >>> [(images.shape, labels) for images, labels in in_batches(items, lambda item: item)]
    [(torch.Size([2, 1, 2, 2]), [0, 1])]
    """
    items = _iterator(source)
    first = next(items, _END)
    if first is _END:
        return
    if not is_item(first, entries, certainly=is_data_set(source)):
        yield first
        # By hand: a for loop would ask for an iterator again, and a loader that is its own one would start again.
        while (batch := next(items, _END)) is not _END:
            yield batch
        return
    group = [first, *islice(items, BATCH_SIZE - 1)]
    while group:
        yield together([entries(item) for item in group])
        group = list(islice(items, BATCH_SIZE))


_END = object()


def is_data_set(source: object) -> bool:
    """Whether it is a map-style data set of torch or of Hugging Face, which holds items and no batches."""
    ours = isinstance(source, Dataset) and not isinstance(source, IterableDataset)
    return ours or (type(source).__module__.split(".")[0] == "datasets" and hasattr(source, "__getitem__"))


def _iterator(source: Any) -> Iterator[Any]:
    # Without __iter__ Python counts through __getitem__ until an IndexError, which data sets need not raise.
    if hasattr(type(source), "__iter__") or not hasattr(type(source), "__len__"):
        return iter(source)
    return (source[i] for i in range(len(source)))


def is_item(value: Any, entries: Entries, *, certainly: bool) -> bool:
    """Whether a value is one image with its label, and not a batch of images."""
    try:
        image, label = entries(value)
    except DataError:
        # Whoever reads it as a batch gets the error.
        return False
    if isinstance(image, Image.Image):
        return True
    # A batch has one axis more than an image; a volume is told from a batch by nothing.
    if not isinstance(image, Tensor | np.ndarray) or image.ndim > 3:
        return False
    alone = isinstance(label, str | int | float | np.generic)
    return certainly or alone or (isinstance(label, Tensor | np.ndarray) and label.ndim == 0)


def together(items: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the images and labels of several items as a batch; Pillow's images stay a list."""
    images = _stacked([image for image, _ in items])
    labels = [label for _, label in items]
    if any(label is None for label in labels):
        return images, None
    # Rows of a target, or one-hot.
    if all(isinstance(label, Tensor | np.ndarray) for label in labels):
        return images, torch.stack([torch.as_tensor(label) for label in labels])
    return images, labels


def _stacked(images: Sequence[Any]) -> Any:
    if not all(isinstance(image, Tensor | np.ndarray) for image in images):
        return images
    tensors = [torch.as_tensor(image) for image in images]
    sizes = dict.fromkeys(tuple(tensor.shape) for tensor in tensors)
    if len(sizes) > 1:
        one, other = list(sizes)[:2]
        raise DataError(
            f"the data set has images of shapes {one} and {other}; resize them in its transform, or pass a DataLoader "
            "that puts images of one size together"
        )
    return torch.stack(tensors)


def counted(source: Any) -> int | None:
    """Return how many items a data set has, ``None`` for what is no data set or does not say."""
    if is_data_set(source) and hasattr(source, "__len__"):
        return len(source)
    return None


def prepared(images: Any, prepare: Callable[[Any], Any] | None) -> Any:
    """Return the images of a batch after ``prepare``, if any; its own errors become a :class:`DataError`."""
    if prepare is None:
        return images
    try:
        return prepare(images)
    except (MemoryError, torch.OutOfMemoryError, Warning):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"prepare= failed on {kind_of(images)}: {type(error).__name__}: {text}") from error


def kind_of(images: Any) -> str:
    """Return what came as images, as words.

    Examples
    --------
    >>> kind_of(torch.zeros(2, 3)), kind_of([1, 2])
    ('a Tensor (2, 3) of torch.float32', 'a list of int')
    """
    if isinstance(images, Tensor | np.ndarray):
        return f"a {type(images).__name__} {tuple(images.shape)} of {images.dtype}"
    if isinstance(images, Iterable) and not isinstance(images, str | bytes):
        first = next(iter(images), None)
        return f"a {type(images).__name__} of {type(first).__name__}"
    return f"a {type(images).__name__}"
