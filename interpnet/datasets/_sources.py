"""Where images come from: arrays in memory, folders of files; :mod:`_wrapped` adds anybody's torch Dataset."""

from __future__ import annotations

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from interpnet.datasets._an8flower.dataset import An8Flower
from interpnet.datasets._an8flower.files import ReleasedFlower
from interpnet.datasets._decode import read_image
from interpnet.datasets._files import Encoded
from interpnet.datasets._pixels import array_to_tensor

# Hashing every byte is the safest; past this it would take longer than a user waits.
_HASH_CONTENT_UP_TO = 2**30


class Source(ABC):
    """N images, each read on demand, with labels, the classes' names in their order, and N names of images.

    Labels are class numbers (N,) of int64 or, where an image can have several, targets (N, C) of bool.
    """

    def __init__(self, labels: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> None:
        self.labels: np.ndarray = np.asarray(labels)
        if self.labels.ndim < 2:
            self.labels = self.labels.astype(np.int64, copy=False)
        self.classes = tuple(classes)
        self.names = names
        #: Whether the classes have no other names than the numbers of their labels.
        self.numbered = False
        #: What a reader of results should know about the images; of these, what is warned of at once.
        self.notes: tuple[str, ...] = ()
        self.warned: tuple[str, ...] = ()

    @property
    def masks(self) -> Mapping[str, np.ndarray] | None:
        """Known regions of the images by name, (N, H, W) of bool each; None where nobody knows them."""
        return None

    @abstractmethod
    def read(self, i: int, channels: int) -> tuple[Tensor, bool]:
        """Return image ``i`` (C, H, W), and whether it is finished: normalised for the network already.

        One that is not is uint8, or float32 in [0, 1]. The caller converts to ``channels``; a decoder may do so itself.
        """

    @abstractmethod
    def content_digest(self) -> bytes:
        """Return a SHA-256 digest over the images' content, as far as it can be had quickly."""


class ArraySource(Source):
    """Pixels in one array: uint8, or float32 in [0, 1]; (N, H, W) or (N, H, W, C)."""

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str], names: str | Sequence[str]
    ) -> None:
        if isinstance(names, str):
            names = [f"{names}/{i}" for i in range(len(labels))]
        super().__init__(labels, classes, names)
        self.pixels = pixels

    def read(self, i: int, channels: int) -> tuple[Tensor, bool]:
        """Return the pixels of row ``i``."""
        del channels
        return array_to_tensor(self.pixels[i]), False

    def content_digest(self) -> bytes:
        """Hash shape, type and every byte of the array."""
        digest = hashlib.sha256(f"{self.pixels.shape} {self.pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.digest()


class FlowerSource(ArraySource):
    """Flowers, generated or released, with their masks."""

    def __init__(self, flower: An8Flower | ReleasedFlower, names: Sequence[str]) -> None:
        super().__init__(flower.images, flower.labels, flower.classes, names)
        self._flower = flower

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """The flowers' masks, made when they are asked for: they take more memory than the images."""
        return self._flower.named_masks()


class EncodedSource(Source):
    """Images as files hold them, each decoded when it is read; ``max_value`` is the value of white."""

    max_value: float | None = None

    @abstractmethod
    def encoded(self, i: int) -> Encoded:
        """Return image ``i`` as a file holds it: the file, or its bytes."""

    def read(self, i: int, channels: int) -> tuple[Tensor, bool]:
        """Decode image ``i``."""
        return read_image(self.encoded(i), channels, self.max_value), False


class FolderSource(EncodedSource):
    r"""Image files, named by their path below ``root``, with forward slashes.

    Names and classes are text that can be written anywhere: bytes that are no UTF-8 stand as ``\xe9``.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[tuple[str, int]],
        classes: Sequence[str],
        *,
        max_value: float | None = None,
        notes: tuple[str, ...] = (),
        warned: tuple[str, ...] = (),
    ) -> None:
        labels = np.array([label for _, label in files])
        super().__init__(labels, [shown(name) for name in classes], [shown(name) for name, _ in files])
        self.root = root
        self.files = [name for name, _ in files]
        self.max_value = max_value
        self.notes = notes
        self.warned = warned

    def encoded(self, i: int) -> Path:
        """Return where file ``i`` is."""
        return self.root / self.files[i]

    def content_digest(self) -> bytes:
        """Hash each file's size and bytes; in a folder of more than 1 GiB, its size and time of change.

        What is no file, such as a broken link or a pipe, counts by that alone.
        """
        files = [self.root / name for name in self.files]
        stats = [_status(file) for file in files]
        whole = is_hashed_whole(sum(status.st_size for status in stats if status is not None))
        digest = hashlib.sha256(b"content" if whole else b"stat")
        for file, status in zip(files, stats, strict=True):
            if status is None:
                digest.update(b"no file\0")
                continue
            digest.update(f"{status.st_size}\0".encode())
            digest.update(file.read_bytes() if whole else f"{status.st_mtime_ns}\0".encode())
        return digest.digest()


def is_hashed_whole(n_bytes: int) -> bool:
    """Whether every byte of images as files hold them is hashed, and not what the system says of the files."""
    return n_bytes <= _HASH_CONTENT_UP_TO


def _status(file: Path) -> os.stat_result | None:
    """Return what the system knows of a file; None for a broken link and for what is no file."""
    try:
        status = file.stat()
    except OSError:
        if file.is_symlink():
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    return status


def shown(name: str) -> str:
    r"""Return a file's name as text that any file and terminal can hold: bytes that are no UTF-8 become ``\xe9``.

    Examples
    --------
    >>> shown(os.fsdecode(b"caf\xe9.png"))
    'caf\\xe9.png'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
