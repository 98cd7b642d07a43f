"""How a program's images are read by their position: from data sets, loaders and lists of batches."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from interpnet.datasets import BatchLoader, ImageData, known_classes, known_labels
from interpnet.errors import DataError
from interpnet.scores import Prepare, entries, refuse_iterators

# What cannot be read at a position is kept in memory up to so many bytes.
_KEEP_BYTES = 2 << 30
_BATCH_AXES = 4
_USE = "an audit"

#: Whatever audit() takes: ImageData, a data set, a loader, a list of batches.
Images = Any


@dataclass(frozen=True)
class Keys:
    """How batches and items are read: the names of images and labels in dictionaries, and what prepares images."""

    inputs: str | None = None  # None for the common ones
    labels: str | None = None
    prepare: Prepare | None = None  # makes what the model takes of a batch of images as they come
    labelled: bool = True  # whether labels are looked at; without, they need not be there

    def pair(self, batch: Any) -> tuple[Any, Any]:
        """Return the images and labels of a batch, or the image and the label of an item, as they come."""
        if not self.labelled and isinstance(batch, Image.Image | np.ndarray):
            return batch, None
        return entries(batch, inputs=self.inputs, labels=self.labels)


@dataclass(frozen=True)
class Found:
    """What was found in a program's images."""

    n: int
    read: Callable[[int], tuple[Any, Any]]  # the image and the label of a position, as they come
    labels: Any = None  # (n,) as they come, where they are known without reading images
    classes: Sequence[str] | None = None
    names: Sequence[str] | None = None
    workers: int = 0
    kept: bool = False  # in memory, where nothing changes


def found_in(images: Images, keys: Keys) -> Found:
    """Return how to read what a program calls its images; the labels of those without are all 0."""
    found = _found_in(images, keys)
    if keys.labelled:
        return found
    return replace(found, read=partial(_unlabelled, found.read), labels=[0] * found.n, classes=["any"])


def _unlabelled(read: Callable[[int], tuple[Any, Any]], i: int) -> tuple[Any, int]:
    return read(i)[0], 0


def _found_in(images: Images, keys: Keys) -> Found:
    if isinstance(images, BatchLoader):
        return _of_dataset(Subset(images.data, np.unique(images.indices).tolist()), keys)
    if isinstance(images, DataLoader):
        return _of_loader(images, keys)
    refuse_iterators(images, _USE)
    if isinstance(images, tuple | list) and not _are_items(images, keys):
        return _kept(_as_batches(images, keys), keys)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, str | Mapping | Tensor):
        return _of_dataset(images, keys)
    if not hasattr(images, "__iter__") or isinstance(images, str | Mapping | Tensor | np.ndarray):
        raise DataError(
            f"images: a {type(images).__name__} came; expected a DataLoader, a data set of (image, label), a list of "
            "batches, or a pair (images, labels)"
        )
    return _kept(images, keys)


def _as_batches(images: Sequence[Any], keys: Keys) -> Sequence[Any]:
    """Return batches; a pair (all images, all labels) is one."""
    pair = len(images) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in images)
    # Without labels two arrays of images are two batches, or two images.
    if pair and (keys.labelled or images[1].ndim < _BATCH_AXES - 1):
        return [tuple(map(torch.as_tensor, images))]
    return images


def _are_items(images: Sequence[Any], keys: Keys) -> bool:
    """Whether a list holds single images with their labels, and not batches of them."""
    if not images or isinstance(images[0], Tensor | np.ndarray):
        return False
    image, _ = keys.pair(images[0])
    return not (isinstance(image, Tensor | np.ndarray) and image.ndim >= _BATCH_AXES)


def _of_dataset(dataset: Any, keys: Keys) -> Found:
    classes = known_classes(dataset)
    labels = known_labels(dataset)
    columns = getattr(dataset, "column_names", None)
    if isinstance(columns, list) and keys.labelled:
        # A table of the library datasets: the labels are a column, and their names stand in its features.
        key = _label_column(columns, keys)
        labels = dataset[key]
        classes = getattr(dataset.features[key], "names", None)
    return Found(len(dataset), partial(_item, dataset, keys), labels, classes, _file_names(dataset))


def _label_column(columns: Sequence[str], keys: Keys) -> str:
    _, found = keys.pair({column: column for column in columns})
    if found is None:
        raise DataError(f"the data set has the columns {', '.join(columns)}; name that of the labels: labels='...'")
    return str(found)


def _item(dataset: Any, keys: Keys, i: int) -> tuple[Any, Any]:
    return keys.pair(dataset[i])


def _file_names(dataset: Any) -> list[str] | None:
    """Return the images' paths below their common folder, where a data set of files tells them."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        names = _file_names(dataset.dataset)
        return names and [names[i] for i in dataset.indices]
    if isinstance(dataset, ImageData):
        return [dataset.name(i) for i in range(len(dataset))]
    samples = getattr(dataset, "samples", None)
    root = getattr(dataset, "root", None)
    if not isinstance(samples, list) or not isinstance(root, str | Path) or len(samples) != len(dataset):
        return None
    paths = [Path(str(path)) for path, *_ in samples]
    if not all(path.is_relative_to(root) for path in paths):
        return None
    # Bytes of a name that are no UTF-8 could be written nowhere.
    return [os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace") for path in paths]


def _of_loader(loader: DataLoader[Any], keys: Keys) -> Found:
    """Return how to read the images of a loader: item by item, each collated as the loader does."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return _kept(loader, keys)
    positions = _positions(loader)
    found = _of_dataset(loader.dataset, keys)
    labels = None
    # Another collate function may change labels as it likes.
    if found.labels is not None and loader.collate_fn is default_collate:
        labels = [found.labels[i] for i in positions]
    return Found(
        len(positions),
        partial(_collated, loader.dataset, loader.collate_fn, positions, keys),
        labels,
        found.classes,
        found.names and [found.names[i] for i in positions],
        loader.num_workers,
    )


def _positions(loader: DataLoader[Any]) -> list[int]:
    """Return which items a loader yields, in their order in the data set."""
    everything = list(range(len(loader.dataset)))  # type: ignore[arg-type]
    sampler = loader.sampler
    usual = isinstance(sampler, SequentialSampler | RandomSampler) or getattr(sampler, "replacement", False)
    if usual and type(loader.batch_sampler) is BatchSampler:
        return everything
    # Samplers of a part of the data set, and those of the user's own, say it in a pass.
    batches: Iterable[Iterable[int]] = loader.batch_sampler or ()
    return sorted({int(i) for batch in batches for i in batch})


def _collated(
    dataset: Any, collate: Callable[[list[Any]], Any], positions: Sequence[int], keys: Keys, i: int
) -> tuple[Any, Any]:
    images, labels = keys.pair(collate([dataset[positions[i]]]))
    if len(images) != 1:
        raise DataError(
            f"the loader's collate_fn makes {len(images)} images of one; an audit explains single images: give a "
            "loader without mixing or cropping into several"
        )
    return images[0], None if labels is None else labels[0]


def _bytes_of(image: Any) -> int:
    """Return how much memory an image takes, Pillow's or an array, as far as it tells."""
    if isinstance(image, Image.Image):
        return math.prod(image.size) * len(image.getbands())
    return int(getattr(image, "nbytes", 0))


def _kept(batches: Iterable[Any], keys: Keys) -> Found:
    """Read batches, or single items, once and keep them in memory; too many are a :class:`DataError`."""
    images: list[Any] = []
    labels: list[Any] = []
    size = 0
    for batch in batches:
        some, known = keys.pair(batch)
        if getattr(some, "ndim", 0) < _BATCH_AXES:
            some = [some]
            known = [known]
        if known is None:
            known = [None] * len(some)
        if len(known) != len(some):
            raise DataError(
                f"a batch has {len(some)} images and {len(known)} labels; expected one label for each image"
            )
        # A loader may fill the same memory for every batch.
        images += [image.clone() if isinstance(image, Tensor) else image for image in some]
        labels += list(known)
        size += sum(map(_bytes_of, some))
        if size > _KEEP_BYTES:
            raise DataError(
                f"the {type(batches).__name__} holds more than {_KEEP_BYTES >> 30} GiB of images and cannot be read at "
                "a position, which an audit needs; give a map-style torch Dataset (with __len__ and __getitem__), or a "
                "DataLoader of one"
            )
    pairs = list(zip(images, labels, strict=True))
    return Found(len(pairs), pairs.__getitem__, labels, known_classes(batches), kept=True)
