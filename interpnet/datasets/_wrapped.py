"""Anybody's torch Dataset as a source: its labels and classes found, its items checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interpnet.datasets._pixels import READ_ERRORS, array_to_tensor, image_to_tensor, scaled
from interpnet.datasets._sources import Source
from interpnet.errors import DataError, InterpNetError
from interpnet.support.types import Bools, Int64

_SAMPLED_ITEMS = 256


class DatasetSource(Source):
    """A map-style torch Dataset of images, Pillow's or uint8 (raw pixels) or floats (finished inputs), and labels."""

    def __init__(
        self,
        dataset: Any,
        classes: Sequence[str] | int | None,
        labels: Any = None,
        names: Sequence[str] | None = None,
        max_value: float | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(
                f"dataset is {type(dataset).__name__}, expected a map-style torch Dataset with __len__ and "
                "__getitem__; put a stream's items into a list"
            )
        kind = type(dataset).__name__
        n = len(dataset)
        if classes is None:
            classes = known_classes(dataset)
        if classes is None:
            raise DataError(f"{kind} has no .classes; give classes=[...], the classes' names")
        if labels is None:
            labels = _labels_of(dataset)
        if names is None:
            names = [f"{kind}/{i}" for i in range(n)]
        numbered = type(classes) is int
        if isinstance(classes, int):
            classes = [str(label) for label in range(classes)]
        class_names = _checked_classes(classes)
        checked = _checked_labels(labels, n, len(class_names))
        if len(names) != n:
            raise DataError(f"names has {len(names)} entries for {n} images")
        super().__init__(checked, class_names, [*map(str, names)])
        self.numbered = numbered
        self.dataset = dataset
        self.max_value = max_value

    def image(self, i: int) -> Any:
        """Return the image of item ``i`` as it is, its label checked against the known one."""
        item = self.dataset[i]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise DataError(f"item {i} of the data set is {type(item).__name__}, expected (image, label)")
        # A data set that shuffles itself gives other items than its labels say: every score would be another class's.
        label = plain_label(item[1])
        # A list of labels equals no number.
        if label != self.labels[i].tolist():
            raise DataError(
                f"item {i} of the data set has label {label!r}, but its list of labels says "
                f"{self.labels[i]}; give labels= as the items have them"
            )
        return item[0]

    def read(self, i: int, channels: int) -> tuple[Tensor, bool]:
        """Read item ``i``; its label is checked."""
        image = self.image(i)
        if isinstance(image, Image.Image):
            return image_to_tensor(image, channels, self.max_value), False
        if isinstance(image, np.ndarray):
            image = array_to_tensor(image)
        if not isinstance(image, Tensor) or image.dim() not in {2, 3}:
            what = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"item {i} of the data set has an image that is {what}, expected a tensor (C, H, W) or a Pillow image"
            )
        tensor = array_to_tensor(image)
        if tensor.is_floating_point():
            return tensor, True
        if self.max_value is not None and not tensor.is_complex():
            return scaled(tensor.numpy(), self.max_value, f"{tensor.dtype}"), False
        if tensor.dtype != torch.uint8:
            raise DataError(
                f"item {i} of the data set is of {tensor.dtype}, expected uint8 or float; for other whole numbers, "
                "max_value= says which value is white"
            )
        return tensor, False

    def content_digest(self) -> bytes:
        """Hash up to 256 items, evenly spread."""
        digest = hashlib.sha256()
        # Items may be computed or decoded: all of them would take as long as the audit itself.
        for i in np.unique(np.linspace(0, len(self.labels) - 1, _SAMPLED_ITEMS).astype(int)):
            tensor, _finished = self.read(int(i), 3)
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.digest()

    def first(self) -> tuple[int, bool]:
        """Return the first image's channels (Pillow images become 3), and whether it is finished."""
        if not len(self.labels):
            return 3, False
        try:
            image, finished = self.read(0, 3)
        except InterpNetError:
            raise
        except READ_ERRORS:
            # Whoever reads the image gets the error; a file that cannot be decoded is one of a Pillow data set.
            return 3, False
        return int(image.shape[0]), finished


def _is_subset(dataset: Any) -> bool:
    """Whether a data set selects from another, as torch's Subset does."""
    return hasattr(dataset, "indices") and hasattr(dataset, "dataset")


def known_classes(dataset: Any) -> Sequence[str] | None:
    """Return the class names a data set exposes, also through a Subset."""
    if hasattr(dataset, "classes"):
        return list(dataset.classes)
    if _is_subset(dataset):
        return known_classes(dataset.dataset)
    return None


def known_labels(dataset: Any) -> Any:
    """Return the labels (N,) that a data set exposes without reading an image; None where it exposes none.

    Examples
    --------
    >>> from torch.utils.data import Subset, TensorDataset
    >>> known_labels(Subset(TensorDataset(torch.zeros(3, 1), torch.tensor([5, 6, 7])), [2, 0])).tolist()
    [7, 5]
    """
    if _is_subset(dataset):
        known = known_labels(dataset.dataset)
        if known is None:
            return None
        return np.asarray(known)[np.asarray(dataset.indices, dtype=np.int64)]
    tensors: Sequence[Any] = getattr(dataset, "tensors", ())
    if len(tensors) > 1:
        return tensors[1]
    for attribute in ("targets", "labels"):
        known = getattr(dataset, attribute, None)
        if known is None or len(known) != len(dataset):
            continue
        # The list holds raw labels; the items have them transformed.
        transform = getattr(dataset, "target_transform", None)
        return known if transform is None else [transform(label) for label in np.asarray(known).tolist()]
    return None


def _labels_of(dataset: Any) -> Any:
    """Return the labels a data set exposes; without any, read every item."""
    known = known_labels(dataset)
    if known is not None:
        return known
    # Slow, and the only way left.
    try:
        return [dataset[i][1] for i in range(len(dataset))]
    except (TypeError, IndexError, KeyError) as error:
        raise DataError(
            f"dataset is a {type(dataset).__name__} whose items are no (image, label) pairs ({error}); expected a "
            "torch Dataset or a list of such pairs"
        ) from error


def plain_label(label: Any) -> Any:
    """Return a label of torch's or numpy's as Python's own; an array of one number is that number."""
    if isinstance(label, Tensor):
        label = label.detach().cpu()
    if isinstance(label, Tensor | np.generic | np.ndarray):
        values = np.asarray(label)
        if values.size == 1:
            return values.item()
        return values.tolist()
    return label


def _checked_classes(classes: Any) -> list[str]:
    """Return the classes' names, or raise DataError where they are no list of different names."""
    try:
        names = [*map(str, classes)]
    except TypeError as error:
        raise DataError(f"classes is {classes!r}, expected the classes' names") from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"classes names {twice[0]!r} more than once, expected different names")
    return names


def _checked_targets(array: np.ndarray) -> Bools:
    """Return a matrix of 0 and 1 as bool, or raise DataError."""
    wrong = np.argwhere((array != 0) & (array != 1))
    if len(wrong):
        image, column = wrong[0].tolist()
        raise DataError(
            f"the target of image {image} is {array[image, column]} for class {column}; expected 0 or 1 for every class"
        )
    return array.astype(bool)


def _checked_labels(labels: Any, n_images: int, n_classes: int) -> Int64 | Bools:
    """Return labels as int64 (n_images,), each a number of a class, or as targets, or raise DataError."""
    try:
        plain = [plain_label(label) for label in labels]
        array: np.ndarray = np.asarray(plain)
    except (TypeError, ValueError) as error:
        raise DataError(f"labels are {type(labels).__name__}, expected one class number for each image") from error
    if any(isinstance(label, bool) for label in plain):
        # Among numbers, numpy makes numbers of these.
        raise DataError("labels are of type bool, expected whole numbers")
    if array.shape == (n_images, n_classes) and array.dtype.kind in "biuf":
        return _checked_targets(array)
    if array.shape != (n_images,):
        raise DataError(
            f"labels have shape {array.shape} for {n_images} images and {n_classes} classes, expected one class number "
            f"each or, where an image can have several labels, targets ({n_images}, {n_classes}) of 0 and 1"
        )
    if n_images and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"labels are of type {array.dtype}, expected whole numbers")
    wrong = np.flatnonzero((array < 0) | (array >= n_classes))
    if wrong.size:
        raise DataError(
            f"image {wrong[0]} has label {array[wrong[0]]}, outside the {n_classes} classes "
            f"(0 to {n_classes - 1}); {wrong.size} such labels in all"
        )
    return array.astype(np.int64)
