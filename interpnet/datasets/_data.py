"""The one data set type of the project: images with names, labels, fingerprint and known preprocessing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from interpnet.datasets._folders import read_unlabelled
from interpnet.datasets._pixels import READ_ERRORS, BadImageError, reason_of
from interpnet.datasets._preprocess import Preprocessing, make_preprocessing, require_unit_range
from interpnet.datasets._sample import look_into_items
from interpnet.datasets._sources import FolderSource, Source
from interpnet.datasets._wrapped import DatasetSource
from interpnet.errors import DataError, InterpNetError
from interpnet.support.checks import check_kinds, one_of, whole_numbers
from interpnet.support.types import Bools, Int64

_ON_BAD_IMAGE = ("fail", "skip")
# Displayed values may leave [0, 1] by rounding; beyond this they were never pixels.
_DISPLAY_SLACK = 1e-3
_NAMES_AT_ONCE = 4096


@final
class ImageData(Dataset[tuple[Tensor, int | Tensor]]):
    """Images and labels as a torch Dataset that can name, show and fingerprint its images.

    Made by :func:`load_dataset` or :meth:`from_dataset`, whose ``spec``, ``split`` and ``on_bad_image`` it keeps.
    ``data[i]`` is ``(image, label)``: float32 (C, H, W) normalised for the network, and an int or, where an image can
    have several labels, a float32 tensor of 0 and 1 for every class. ``classes`` are the names of the classes, in the
    order of the labels; ``labels`` or ``targets`` are known without reading an image; ``mean`` and ``std``, one per
    channel, are what normalisation subtracts and divides by; ``preprocessing`` holds the settings of size and
    normalisation as JSON-able values; ``notes`` are what a reader of results should know of the images, such as files
    that were left out.
    """

    def __init__(
        self, source: Source, steps: Preprocessing, *, spec: str, split: str, on_bad_image: str = "fail"
    ) -> None:
        one_of(on_bad_image, "on_bad_image", _ON_BAD_IMAGE, error=DataError)
        if len(source.labels) == 0:
            raise DataError(f"data set {spec!r} has no images in its {split} split")
        self._source = source
        self._steps = steps
        self.classes = source.classes
        self.mean = steps.mean
        self.std = steps.std
        # There and back makes lists of tuples, so that a manifest read back equals the one written.
        self.preprocessing: dict[str, Any] = json.loads(json.dumps(steps.settings()))
        self.spec = spec
        self.split = split
        self.notes = source.notes
        self.on_bad_image = on_bad_image

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        classes: Sequence[str] | int | None = None,
        *,
        labels: Sequence[int] | Sequence[Sequence[int]] | np.ndarray | Tensor | None = None,
        names: Sequence[str] | None = None,
        image_size: int | Sequence[int] | None = None,
        crop: int | Sequence[int] | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        channels: int | None = None,
        max_value: float | None = None,
        on_bad_image: str = "fail",
        spec: str | None = None,
        split: str = "train",
    ) -> ImageData:
        """Wrap any map-style torch Dataset of (image, label).

        A floating-point tensor (C, H, W) is taken as the network's finished input: ``mean`` and ``std`` only say how it
        was normalised, so that it can be shown. A Pillow image or uint8 array is raw: it is converted, resized, cropped
        and normalised as :func:`load_dataset` does, by default to 3 channels with mean 0 and std 1. A data set without
        length or classes, a label that is no class, and bad settings are DataErrors.

        Parameters
        ----------
        classes : sequence of str or int, optional
            Names of the classes, or their number where they have none; by default ``dataset.classes``.
        labels : sequence of int, or targets (N, C) of 0 and 1, optional
            Targets where an image can have several labels, or none. By default ``dataset.targets`` or ``.labels``
            (also through ``Subset`` and ``TensorDataset``), else every item is read once.
        names, spec, split : sequence of N str, str, str, optional
            What reports call the images, and how a manifest names the data.
        image_size, crop, mean, std, channels, max_value, on_bad_image
            As in :func:`load_dataset`.

        Examples
        --------
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]))
        >>> data = ImageData.from_dataset(pairs, ["cat", "dog"])
        >>> len(data), data.labels.tolist(), tuple(data[0][0].shape)
        (4, [0, 1, 1, 0], (1, 8, 8))
        """
        spec = spec or f"python:{type(dataset).__name__}"
        source = DatasetSource(dataset, classes, labels, names, max_value)
        first, finished = source.first()
        if channels is None:
            channels = first
        steps = make_preprocessing(
            channels=channels, image_size=image_size, crop=crop, mean=mean, std=std, max_value=max_value
        )
        if not finished:
            require_unit_range(steps.mean, steps.std)
            look_into_items(source, spec)
        return cls(source, steps, spec=spec, split=split, on_bad_image=on_bad_image)

    @classmethod
    def from_files(cls, files: Sequence[str | os.PathLike[str]], *, spec: str, **settings: Any) -> ImageData:
        """Read image files without labels (all are 0), named as given; the settings are those in ``preprocessing``.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (4, 2), 51).save(file)
        >>> data = ImageData.from_files([file], spec="one", channels=1, image_size=None, crop=None, mean=0, std=1)
        >>> data[0][0].unique(), data[0][0].shape
        (tensor([0.2000]), torch.Size([1, 2, 4]))
        """
        steps = make_preprocessing(**settings)
        source = FolderSource(Path(), [(os.fspath(file), 0) for file in files], ["any"], max_value=steps.max_value)
        return cls(source, steps, spec=spec, split="files")

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], *, spec: str, on_bad_image: str = "fail", **settings: Any
    ) -> ImageData:
        """Read all images in a folder and below it without labels (all are 0), named by their paths below it.

        The settings are those in ``preprocessing``; what is left out stands in ``notes``. A DataError where the folder
        is missing or holds no image.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> Image.new("L", (4, 2), 51).save(folder / "grey.png")
        >>> data = ImageData.from_folder(folder, spec="one", channels=1, image_size=None, crop=None, mean=0, std=1)
        >>> len(data), data.name(0)
        (1, 'grey.png')
        """
        steps = make_preprocessing(**settings)
        source = read_unlabelled(os.fspath(folder), steps.max_value)
        return cls(source, steps, spec=spec, split="files", on_bad_image=on_bad_image)

    @property
    def labels(self) -> Int64:
        """The class number of each image (N,); a DataError where targets do not give every image exactly one label."""
        if self.targets is None:
            return self._source.labels
        counts = self.targets.sum(1)
        odd = np.flatnonzero(counts != 1)
        if len(odd):
            raise DataError(
                f"image {odd[0]} of data set {self.spec!r} has {counts[odd[0]]} labels, so it has no class number; "
                "targets (N, C) says which labels each image has"
            )
        numbers: Int64 = self.targets.argmax(1)
        return numbers

    @property
    def numbered(self) -> bool:
        """Whether the classes have no other names than the numbers of their labels."""
        return self._source.numbered

    @cached_property
    def finished(self) -> bool:
        """Whether the images come as the network wants them (see :meth:`from_dataset`), and are not normalised here."""
        for i in range(len(self)):
            with suppress(BadImageError):
                return self._read(i)[1]
        return False

    @property
    def targets(self) -> Bools | None:
        """Which labels each image has (N, C) of bool, where it can have several; None where there are class numbers."""
        if self._source.labels.ndim > 1:
            return self._source.labels
        return None

    def __len__(self) -> int:
        return len(self._source.labels)

    def __repr__(self) -> str:
        return f"ImageData({self.spec!r}, {self.split}, {len(self):,} images, {len(self.classes):,} classes)"

    def __getitem__(self, i: int) -> tuple[Tensor, int | Tensor]:
        """Return ``(image, label)``; an unreadable image is a BadImageError whatever ``on_bad_image`` is."""
        i = self._index(i)
        image, finished = self._read(i)
        if not finished:
            image = self._steps.normalise(image)
        label = self._source.labels[i]
        if label.ndim:
            return image, torch.from_numpy(label.astype(np.float32))
        return image, int(label)

    def picture(self, i: int) -> Tensor:
        """Return image ``i`` for display: float32 (C, H, W) in [0, 1], cropped and resized, not normalised.

        A finished input (see :meth:`from_dataset`) whose un-normalised values leave [0, 1] is scaled by its
        own minimum and maximum instead of being clipped.
        """
        image, finished = self._read(self._index(i))
        if finished:
            return self.displayed(image)
        return image.clamp(0, 1)

    def displayed(self, inputs: Tensor) -> Tensor:
        """Return inputs of the network (..., C, H, W) for display: in [0, 1], not normalised.

        Those whose un-normalised values leave [0, 1] are scaled by their own minimum and maximum, all together.
        """
        images = self._steps.undo(inputs)
        low, high = (float(value) for value in images.aminmax())
        if low < -_DISPLAY_SLACK or high > 1 + _DISPLAY_SLACK:
            # A constant image has no span to divide by.
            images = (images - low) / ((high - low) or 1.0)
        return images.clamp(0, 1)

    def name(self, i: int) -> str:
        """Return what a report calls image ``i``: its path below the folder, or ``"digits/train/17"``."""
        return self._source.names[self._index(i)]

    @property
    def masks(self) -> Mapping[str, np.ndarray] | None:
        """Known regions of the images by name, (N, H, W) of bool each, as the source has them: before any resizing.

        ``"discriminative"`` are the pixels that tell the class. None where the data knows no regions.
        """
        return self._source.masks

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """Classes without a single image."""
        known = self._source.labels
        if self.targets is not None:
            known = np.nonzero(self.targets)[1]
        met = set(known.tolist())
        return tuple(name for label, name in enumerate(self.classes) if label not in met)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the first image that can be read."""
        for i in range(len(self)):
            try:
                image, _finished = self._read(i)
            except BadImageError:
                if self.on_bad_image == "fail":
                    raise
            else:
                return image.shape[0], image.shape[1], image.shape[2]
        raise DataError(f"none of the {len(self)} images of {self.spec!r} can be read")

    def fingerprint(self) -> str:
        """Return a SHA-256 over classes, labels, names and content; computed once.

        Content is: for arrays every byte; for folders and shards the size and every byte of each image file, or past
        1 GiB in all the size and time of change of each file or shard; for a wrapped Dataset 256 items, evenly
        spread. How images are prepared is no part of it: see :attr:`preprocessing`.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"[{json.dumps(self.classes)}, [".encode())
        names = self._source.names
        # Part by part: of a hundred million images the names alone would fill the memory.
        for start in range(0, len(names), _NAMES_AT_ONCE):
            part = json.dumps(list(names[start : start + _NAMES_AT_ONCE]))[1:-1]
            digest.update(f"{', ' if start else ''}{part}".encode())
        digest.update(b"]]")
        if self.targets is not None:
            digest.update(b"targets" + np.packbits(self.targets).tobytes())
        else:
            # Little-endian, so that the fingerprint is the same on machines of either byte order.
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        try:
            digest.update(self._source.content_digest())
        except OSError as error:
            raise DataError(f"data set {self.spec!r} changed or cannot be read: {error}") from error
        return digest.hexdigest()

    def _index(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of a data set of {len(self)}")
        return i % len(self)

    def _read(self, i: int) -> tuple[Tensor, bool]:
        """Return image ``i`` in [0, 1] and False, or its finished input and True."""
        try:
            image, finished = self._source.read(i, self._steps.channels)
            if not finished:
                return self._steps.shape(image), False
        except InterpNetError:
            # A ValueError of ours is about the data set, not about one bad image.
            raise
        except READ_ERRORS as error:
            raise BadImageError(i, self._source.names[i], reason_of(error)) from error
        if self._steps.image_size is not None or self._steps.crop is not None:
            raise DataError(
                "image_size and crop came with images that are finished tensors; resize in the data set's own transform"
            )
        if image.shape[0] != self._steps.channels:
            raise DataError(
                f"image {self._source.names[i]!r} has {image.shape[0]} channels, expected {self._steps.channels}"
            )
        return image.to(torch.float32), True


def stack_images(data: ImageData, indices: Iterable[int]) -> Tensor:
    """Read some images as one batch (B, C, H, W), normalised; two that differ in size are a DataError.

    Examples
    --------
    >>> from interpnet.datasets import load_dataset
    >>> stack_images(load_dataset("digits"), [3, 0]).shape
    torch.Size([2, 1, 8, 8])
    """
    check_kinds(stack_images, locals())
    chosen = whole_numbers(list(indices), "indices", error=DataError).tolist()
    if not chosen:
        raise DataError("indices is empty, expected at least one image")
    outside = [i for i in chosen if not -len(data) <= i < len(data)]
    if outside:
        raise DataError(f"indices hold {outside[0]}; expected 0 to {len(data) - 1}")
    images = [data[i][0] for i in chosen]
    for i, image in zip(chosen, images, strict=True):
        require_same_size(data.name(chosen[0]), images[0].shape, data.name(i), image.shape)
    return torch.stack(images)


def require_same_size(first: str, shape: Sequence[int], name: str, other: Sequence[int]) -> None:
    """Raise a DataError that names two images whose (C, H, W) differ."""
    if tuple(shape) != tuple(other):
        raise DataError(
            f"images of differing sizes cannot make a batch: {first!r} is {shape[-2]}x{shape[-1]} and "
            f"{name!r} is {other[-2]}x{other[-1]} pixels (height x width). "
            "Give image_size=N (--image-size N) to resize and crop them alike"
        )
