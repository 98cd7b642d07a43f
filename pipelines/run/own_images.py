"""A program's own images as the data of a run: data sets, loaders and lists of batches, each image by its position."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from interpnet.datasets import BatchLoader, ImageData, known_classes, known_labels
from interpnet.errors import DataError
from interpnet.scores import batches_from, entries, refuse_iterators
from interpnet.support.progress import progress_bar

from .own_labels import Number, reader_of

# A loader that cannot be read at a position is kept in memory up to so many bytes.
_KEEP_BYTES = 2 << 30
_READ_TWICE = 16  # images, by which a loader that changes them is found
_BATCH_AXES = 4
_USE = "an audit"

Images = Any  # whatever audit() takes: ImageData, a data set, a loader, a list of batches


@dataclass(frozen=True)
class Keys:
    """The names of images and labels in batches and items that are dictionaries; ``None`` for the common ones."""

    inputs: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class _Found:
    """What was found in a program's images."""

    n: int
    read: Callable[[int], tuple[Any, Any]]  # the image and the label of a position, as they come
    labels: Any = None  # (n,) as they come, where they are known without reading images
    classes: Sequence[str] | None = None
    names: Sequence[str] | None = None
    workers: int = 0
    kept: bool = False  # in memory, where nothing changes


def own_data(
    images: Images,
    *,
    split: str,
    classes: Sequence[str] | None,
    keys: Keys,
    settings: Mapping[str, Any],
    hint: Mapping[str, Any],
) -> ImageData:
    """Return a program's images as :class:`ImageData`; see :func:`interpnet.pipelines.audit` for what they can be.

    Labels that no attribute tells are read in one pass. ``settings`` are those of :meth:`ImageData.from_dataset`, and
    ``hint`` those of the weights' publisher, for raw images. Where the images bring no names of classes, these are
    numbers, although ``classes``, the names of the network's outputs, may be known.
    """
    if isinstance(images, ImageData):
        return images
    name = name_of(images)
    if isinstance(images, BatchLoader):
        hint = {"mean": images.data.mean, "std": images.data.std}
    found = _found(images, keys)
    if not found.n:
        raise DataError(f"the {split} images are a {name} that yields nothing; expected at least one image and label")
    if isinstance(found.read(0)[0], Tensor) and found.read(0)[0].is_floating_point():
        hint = {key: value for key, value in hint.items() if key in {"mean", "std"}}
    labels = found.labels
    if labels is None:
        labels = _read_labels(found, split)
    number = reader_of(labels, found.classes or classes)
    numbers = [number(label) for label in labels]
    data = ImageData.from_dataset(
        _Numbered(found, number),
        found.classes or _count(numbers),
        labels=numbers,
        names=found.names or [f"{name}/{split}/{i}" for i in range(found.n)],
        spec=f"python:{name}",
        split=split,
        **(dict(hint) | dict(settings)),
    )
    if not found.kept:
        _read_twice(data, name)
    return data


def name_of(images: Images) -> str:
    """Return what a program's images are called: by the class of the data set, also of one in a loader.

    Examples
    --------
    >>> name_of(DataLoader([1, 2])), name_of([])
    ('list', 'list')
    """
    if isinstance(images, DataLoader | torch.utils.data.Subset):
        return name_of(images.dataset)
    return type(images).__name__


def _count(numbers: Sequence[Any]) -> int:
    """Return how many classes labels tell of."""
    if isinstance(numbers[0], list):
        return len(numbers[0])
    return 1 + int(max(0, *numbers))


class _Numbered:
    """Items (image, label number)."""

    def __init__(self, found: _Found, number: Number) -> None:
        self._found = found
        self._number = number

    def __len__(self) -> int:
        return self._found.n

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        image, label = self._found.read(i)
        return image, self._number(label)


class _LabelsOnly(Dataset[Any]):
    """The label of each position, as it comes."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    def __len__(self) -> int:
        return self._found.n

    def __getitem__(self, i: int) -> Any:
        label = self._found.read(i)[1]
        # Between processes nothing is lost but the absence of a label.
        return "" if label is None else label


def _read_labels(found: _Found, split: str) -> list[Any]:
    """Read every item once for its label, in as many processes as the user's loader has."""
    loader = DataLoader(_LabelsOnly(found), batch_size=None, num_workers=found.workers, collate_fn=default_convert)
    labels = []
    with progress_bar(f"Reading labels ({split})", found.n) as advance:
        for label in loader:
            labels.append(None if isinstance(label, str) and not label else label)
            advance(1)
    return labels


def _read_twice(data: ImageData, name: str) -> None:
    """Refuse images that come in another form every time: an audit reads each of them several times."""
    for i in np.unique(np.linspace(0, len(data) - 1, _READ_TWICE).astype(int)).tolist():
        first, again = data[i][0], data[i][0]
        if first.shape != again.shape or not torch.equal(first.nan_to_num(), again.nan_to_num()):
            raise DataError(
                f"image {i} of the {data.split} images ({name}) is another one each time it is read, as with random "
                "crops or flips; an audit reads images several times: give the data set without random transforms, "
                "such as with those of the test"
            )


def _found(images: Images, keys: Keys) -> _Found:
    """Return how to read what a program calls its images."""
    if isinstance(images, BatchLoader):
        return _of_dataset(torch.utils.data.Subset(images.data, np.unique(images.indices).tolist()), keys)
    if isinstance(images, DataLoader):
        return _of_loader(images, keys)
    refuse_iterators(images, _USE)
    if isinstance(images, tuple | list) and not _are_items(images, keys):
        return _kept(_as_batches(images), keys)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, str | Mapping | Tensor):
        return _of_dataset(images, keys)
    return _kept(images, keys)


def _as_batches(images: Sequence[Any]) -> Sequence[Any]:
    """Return batches; a pair (all images, all labels) is one."""
    if len(images) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in images):
        return [tuple(map(torch.as_tensor, images))]
    return images


def _are_items(images: Sequence[Any], keys: Keys) -> bool:
    """Whether a list holds single images with their labels, and not batches of them."""
    if not images or isinstance(images[0], Tensor | np.ndarray):
        return False
    image, _ = entries(images[0], inputs=keys.inputs, labels=keys.labels)
    return not (isinstance(image, Tensor | np.ndarray) and image.ndim >= _BATCH_AXES)


def _of_dataset(dataset: Any, keys: Keys) -> _Found:
    classes = known_classes(dataset)
    labels = known_labels(dataset)
    columns = getattr(dataset, "column_names", None)
    if isinstance(columns, list):
        # A table of the library datasets: the labels are a column, and their names stand in its features.
        key = _label_column(columns, keys)
        labels = dataset[key]
        classes = getattr(dataset.features[key], "names", None)
    return _Found(len(dataset), partial(_item, dataset, keys), labels, classes, _file_names(dataset))


def _label_column(columns: Sequence[str], keys: Keys) -> str:
    _, found = entries({column: column for column in columns}, inputs=keys.inputs, labels=keys.labels)
    if found is None:
        raise DataError(f"the data set has the columns {', '.join(columns)}; name that of the labels: labels='...'")
    return str(found)


def _item(dataset: Any, keys: Keys, i: int) -> tuple[Any, Any]:
    return entries(dataset[i], inputs=keys.inputs, labels=keys.labels)


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


def _of_loader(loader: DataLoader[Any], keys: Keys) -> _Found:
    """Return how to read the images of a loader: item by item, each collated as the loader does."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return _kept(loader, keys)
    positions = _positions(loader)
    found = _of_dataset(loader.dataset, keys)
    labels = None
    # Another collate function may change labels as it likes.
    if found.labels is not None and loader.collate_fn is default_collate:
        labels = [found.labels[i] for i in positions]
    return _Found(
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
    images, labels = entries(collate([dataset[positions[i]]]), inputs=keys.inputs, labels=keys.labels)
    if len(images) != 1:
        raise DataError(
            f"the loader's collate_fn makes {len(images)} images of one; an audit explains single images: give a "
            "loader without mixing or cropping into several"
        )
    return images[0], None if labels is None else labels[0]


def _kept(batches: Iterable[Any], keys: Keys) -> _Found:
    """Read batches, or single items, once and keep them in memory; too many are a :class:`DataError`."""
    images: list[Any] = []
    labels: list[Any] = []
    size = 0
    for batch in batches_from(batches):
        some, known = entries(batch, inputs=keys.inputs, labels=keys.labels)
        if getattr(some, "ndim", 0) < _BATCH_AXES:
            some, known = [some], [known]
        if known is None:
            known = [None] * len(some)
        if len(known) != len(some):
            raise DataError(
                f"a batch has {len(some)} images and {len(known)} labels; expected one label for each image"
            )
        # A loader may fill the same memory for every batch.
        images += [image.clone() if isinstance(image, Tensor) else image for image in some]
        labels += list(known)
        size += sum(getattr(image, "nbytes", 0) for image in some)
        if size > _KEEP_BYTES:
            raise DataError(
                f"the {type(batches).__name__} holds more than {_KEEP_BYTES >> 30} GiB of images and cannot be read at "
                "a position, which an audit needs; give a map-style torch Dataset (with __len__ and __getitem__), or a "
                "DataLoader of one"
            )
    pairs = list(zip(images, labels, strict=True))
    return _Found(len(pairs), pairs.__getitem__, labels, known_classes(batches), kept=True)
