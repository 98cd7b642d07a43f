"""Anybody's torch Dataset as a source: its labels and classes found, its items checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interpnet.datasets._pixels import READ_ERRORS, array_to_tensor, image_to_tensor
from interpnet.datasets._sources import NetworkInput, Source
from interpnet.errors import DataError, InterpNetError

_SAMPLED_ITEMS = 256


class DatasetSource(Source):
    """A map-style torch Dataset of (image, label).

    The image may be a Pillow image or uint8 tensor (raw pixels), or a float tensor, a finished input.
    """

    def __init__(
        self,
        dataset: Any,
        classes: Sequence[str],
        labels: np.ndarray,
        names: Sequence[str] | None,
    ) -> None:
        self.dataset = dataset
        self.classes = tuple(classes)
        self.labels = labels
        self.names = names

    def name(self, i: int) -> str:
        """Return the given name, or the data set's class and the number."""
        return f"{type(self.dataset).__name__}/{i}" if self.names is None else self.names[i]

    def read(self, i: int, channels: int) -> Tensor | NetworkInput:
        """Read item ``i`` and check its label against the known one."""
        item = self.dataset[i]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise DataError(f"item {i} of the data set is {type(item).__name__}, expected (image, label)")
        image, label = item[0], item[1]
        if int(label) != self.labels[i]:
            raise DataError(
                f"item {i} of the data set has label {int(label)}, but its list of labels says "
                f"{self.labels[i]}; give labels= as the items have them"
            )
        if isinstance(image, Image.Image):
            return image_to_tensor(image, channels)
        if isinstance(image, np.ndarray):
            image = array_to_tensor(image)
        if not isinstance(image, Tensor) or image.dim() not in {2, 3}:
            what = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"item {i} of the data set has an image that is {what}, expected a tensor (C, H, W) or a Pillow image"
            )
        tensor = array_to_tensor(image)
        if tensor.is_floating_point():
            return NetworkInput(tensor)
        if tensor.dtype != torch.uint8:
            raise DataError(f"item {i} of the data set is of {tensor.dtype}, expected uint8 or float")
        return tensor

    def content_digest(self) -> bytes:
        """Hash up to 256 items, evenly spread."""
        digest = hashlib.sha256()
        for i in np.unique(np.linspace(0, len(self.labels) - 1, _SAMPLED_ITEMS).astype(int)):
            item = self.read(int(i), 3)
            tensor = item.tensor if isinstance(item, NetworkInput) else item
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.digest()


def classes_of(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names a data set exposes, also through a Subset."""
    if hasattr(dataset, "classes"):
        return tuple(str(name) for name in dataset.classes)
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        return classes_of(dataset.dataset)
    return None


def labels_of(dataset: Any) -> Any:
    """Return the labels a data set exposes; without any, read every item."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        return np.asarray(labels_of(dataset.dataset))[np.asarray(dataset.indices, dtype=np.int64)]
    tensors: Sequence[Any] = getattr(dataset, "tensors", ())
    if len(tensors) > 1:
        return tensors[1]
    for attribute in ("targets", "labels"):
        known = getattr(dataset, attribute, None)
        if known is not None and len(known) == len(dataset):
            transform = getattr(dataset, "target_transform", None)
            return known if transform is None else [transform(label) for label in np.asarray(known).tolist()]
    return [dataset[i][1] for i in range(len(dataset))]


def checked_labels(labels: Any, n_images: int, classes: tuple[str, ...]) -> np.ndarray:
    """Return labels as int64 (n_images,), each a number of a class, or raise DataError."""
    array: np.ndarray = np.asarray([label.tolist() if isinstance(label, Tensor) else label for label in labels])
    if array.shape != (n_images,):
        raise DataError(
            f"labels have shape {array.shape} for {n_images} images, expected one class number each; "
            "a target matrix goes to collect_scores with a DataLoader of your own"
        )
    if n_images and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"labels are of type {array.dtype}, expected whole numbers")
    wrong = np.flatnonzero((array < 0) | (array >= len(classes)))
    if wrong.size:
        raise DataError(
            f"image {wrong[0]} has label {array[wrong[0]]}, outside the {len(classes)} classes "
            f"(0 to {len(classes) - 1}); {wrong.size} such labels in all"
        )
    return array.astype(np.int64)


def channels_of_first(source: DatasetSource) -> int:
    """Return the first image's channels where it is a tensor; Pillow images become 3."""
    if not len(source.labels):
        return 3
    try:
        first = source.read(0, 3)
    except InterpNetError:
        raise
    except READ_ERRORS:
        return 3
    tensor = first.tensor if isinstance(first, NetworkInput) else first
    return int(tensor.shape[0])
