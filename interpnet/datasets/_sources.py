"""Where images come from: arrays in memory, folders of files; :mod:`_wrapped` adds anybody's torch Dataset."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from interpnet.datasets._an8flower.dataset import An8Flower
from interpnet.datasets._an8flower.files import ReleasedFlower
from interpnet.datasets._pixels import array_to_tensor, image_to_tensor

# Hashing every byte is the safest; past this it would take longer than a user waits.
_HASH_CONTENT_UP_TO = 2**30


class Source(ABC):
    """N images, each read on demand, with labels (N,), the classes' names in their order, and N names of images."""

    def __init__(self, labels: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes = tuple(classes)
        self.names = names

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


class FolderSource(Source):
    """Image files, named by their path below ``root``, with forward slashes."""

    def __init__(self, root: Path, files: Sequence[tuple[str, int]], classes: Sequence[str]) -> None:
        super().__init__(np.array([label for _, label in files]), classes, [name for name, _ in files])
        self.root = root

    def read(self, i: int, channels: int) -> tuple[Tensor, bool]:
        """Decode file ``i``."""
        path = self.root / self.names[i]
        if path.stat().st_size == 0:
            raise ValueError("the file is empty (0 bytes)")
        with Image.open(path) as image:
            return image_to_tensor(image, channels), False

    def content_digest(self) -> bytes:
        """Hash each file's size and bytes; in a folder of more than 1 GiB, its size and time of change."""
        files = [self.root / name for name in self.names]
        stats = [file.stat() for file in files]
        whole = sum(stat.st_size for stat in stats) <= _HASH_CONTENT_UP_TO
        digest = hashlib.sha256(b"content" if whole else b"stat")
        for file, stat in zip(files, stats, strict=True):
            digest.update(f"{stat.st_size}\0".encode())
            digest.update(file.read_bytes() if whole else f"{stat.st_mtime_ns}\0".encode())
        return digest.digest()
