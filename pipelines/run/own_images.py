"""A program's own images as the data of a run: data sets, loaders and lists of batches, each image by its position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_convert

from interpnet.datasets import BatchLoader, ImageData, plain_label
from interpnet.errors import DataError
from interpnet.scores import Labels, as_labels, prepared
from interpnet.support.progress import progress_bar

from .own_reading import Found, Images, Keys, found_in

_READ_TWICE = 16  # images, by which a loader that changes them is found


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
    found = found_in(images, keys)
    if not found.n:
        raise DataError(
            f"the {split} images are a {type(images).__name__} that yields nothing; expected at least one image and "
            "label"
        )
    labels = found.labels
    if labels is None:
        labels = _read_labels(found, split)
    numbers = _class_numbers(labels, found.classes or classes)
    items = _Numbered(found, labels, numbers, keys)
    image, _ = items[0]
    if isinstance(image, Tensor) and image.is_floating_point():
        hint = {key: value for key, value in hint.items() if key in {"mean", "std"}}
    data = ImageData.from_dataset(
        items,
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
    >>> name_of(DataLoader([1, 2])), name_of(DataLoader(Subset(np.zeros(3), [0])))
    ('images', 'ndarray')
    """
    if isinstance(images, DataLoader | Subset):
        return name_of(images.dataset)
    # What a list holds is nothing that its type tells.
    if isinstance(images, list | tuple):
        return "images"
    return type(images).__name__


def _class_numbers(labels: Sequence[Any], classes: Sequence[str] | None) -> np.ndarray:
    """Return class numbers (N,), or targets (N, C) of images with several labels, of labels as they come."""
    known = as_labels(_plain_labels(labels))
    n_classes = 2
    if classes is not None:
        n_classes = max(2, len(classes))
    elif isinstance(known, Tensor):
        n_classes = _most(known)
    named = classes if isinstance(known, tuple) else None
    checked = Labels(n_classes, classes=named).checked(known, len(labels), torch.arange(len(labels)))
    if checked.dim() == 1:
        return checked.numpy()
    zeros_and_ones = bool(((checked == 0) | (checked == 1)).all())
    if zeros_and_ones and bool((checked.sum(1) == 1).all()):
        return checked.argmax(1).numpy()
    return checked.numpy()


def _plain_labels(labels: Sequence[Any]) -> list[Any]:
    """Return labels as Python's own numbers, names or rows; none, and names beside others, are a DataError."""
    known = [plain_label(label) for label in labels]
    if any(label is None for label in known):
        raise DataError("the images come without labels; expected (image, label) pairs, or (images, labels) batches")
    names = sum(isinstance(label, str) for label in known)
    if 0 < names < len(known):
        raise DataError(f"{names} of {len(known)} labels are names and the others are not; expected labels of one type")
    return known


def _most(labels: Tensor) -> int:
    """Return how many classes labels tell of: two at least."""
    if labels.dim() > 1:
        return int(labels.shape[1])
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return 2
    return max(2, 1 + int(labels.max()))


def _count(numbers: np.ndarray) -> int:
    """Return how many classes class numbers or targets tell of."""
    if numbers.ndim > 1:
        return int(numbers.shape[1])
    return 1 + int(numbers.max())


class _Numbered:
    """Items (image, class number or row of targets), each with the label that it had when labels were read."""

    def __init__(self, found: Found, labels: Sequence[Any], numbers: np.ndarray, keys: Keys) -> None:
        self._found = found
        self._labels = labels
        self._numbers = numbers
        self._prepare = keys.prepare

    def __len__(self) -> int:
        return self._found.n

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        image, label = self._found.read(i)
        # A data set that shuffles itself gives other items than its labels say: every score would be another class's.
        if plain_label(label) != plain_label(self._labels[i]):
            raise DataError(
                f"image {i} comes with label {plain_label(label)!r}, and its list of labels (targets), or an earlier "
                f"reading, says {plain_label(self._labels[i])!r}; expected the same each time"
            )
        if self._prepare is not None:
            image = _alone(prepared(_batch_of(image), self._prepare))
        return image, self._numbers[i]


def _batch_of(image: Any) -> Any:
    """Return a batch of one image, as :func:`interpnet.collect_scores` makes batches of items."""
    if isinstance(image, Tensor | np.ndarray):
        return torch.as_tensor(image)[None]
    return [image]


def _alone(images: Any) -> Tensor:
    if not isinstance(images, Tensor) or images.dim() < 2 or len(images) != 1:
        came = type(images).__name__
        if isinstance(images, Tensor):
            came = f"Tensor {tuple(images.shape)}"
        raise DataError(f"prepare= made a {came} of a batch of one image; expected a Tensor (1, C, H, W)")
    return images[0]


class _LabelsOnly(Dataset[Any]):
    """The label of each position, as it comes."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def __len__(self) -> int:
        return self._found.n

    def __getitem__(self, i: int) -> Any:
        label = self._found.read(i)[1]
        # Between processes nothing is lost but the absence of a label.
        return "" if label is None else label


def _read_labels(found: Found, split: str) -> list[Any]:
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
        first = data[i][0]
        again = data[i][0]
        if first.shape != again.shape or not torch.equal(first.nan_to_num(), again.nan_to_num()):
            raise DataError(
                f"image {i} of the {data.split} images ({name}) is another one each time it is read, as with random "
                "crops or flips; an audit reads images several times: give the data set without random transforms, "
                "such as with those of the test"
            )
