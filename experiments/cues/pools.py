"""The five sources of images: one pool for each, from which every network draws its own images."""

from __future__ import annotations

import csv
import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.common.imagenet import CATS, files_of, tiny_classes
from experiments.common.shared_data import shared_data
from experiments.common.subjects import grey_data
from interpnet.datasets import an8flower
from interpnet.support.types import Bools, Bytes, Int64

SOURCES = ("flowers", "cifar10", "photographs", "fashion", "mnist")
#: Classes of Tiny-ImageNet whose surroundings tell little: cats, cars and a bridge.
PHOTOGRAPHED = (*CATS, "school_bus", "sports_car", "steel_arch_bridge")
FLOWER_POOLS = 3  # of other plants each
_FLOWERS = 2_520  # images of such a pool
_CONTRAST = 0.75  # of the petals' colours
_BRIGHT = 60  # of 255: digits and garments are brighter
_DISC = 0.6  # of the side: where a CIFAR-10 image's subject is taken to be
_GREY_BORDER = 2  # pixels on each side, from 28 to 32


@dataclass(frozen=True, eq=False)
class Pool:
    """N images of a source, their classes, and where the subject is (for planting only)."""

    images: Bytes  # (N, 3, H, W)
    labels: Int64  # (N,)
    inside: Bools  # (N, H, W)
    classes: tuple[str, ...]


@lru_cache(maxsize=4)
def pool(source: str, part: int, work: Path) -> Pool:
    """Return a source's pool; ``part`` counts the pools of flowers, which are kept in ``work``.

    Only ``cifar10/test.tar``, ``tiny_imagenet`` and the ten thousand test images of MNIST and Fashion-MNIST are read.
    """
    if source == "flowers":
        return _flowers(part, work)
    if source == "cifar10":
        return _cifar10()
    if source == "photographs":
        return _photographs()
    return _grey(source)


def _flowers(part: int, work: Path) -> Pool:
    made = an8flower("single-6c", "train", n=_FLOWERS, root=work, size=64, contrast=_CONTRAST, seed=300 + part)
    return Pool(made.images.transpose(0, 3, 1, 2).copy(), made.labels, made.mask("plant"), made.classes)


def _cifar10() -> Pool:
    with tarfile.open(shared_data() / "cifar10" / "test.tar") as archive:
        # One pass through the archive, because looking names up reads it again for each.
        found = {m.name: _decoded(archive, m) for m in archive if m.isfile()}
    names = sorted(found)
    folders = [name.split("/")[-2] for name in names]
    classes, labels = np.unique(folders, return_inverse=True)
    images = np.stack([found[name] for name in names])
    return Pool(images, labels.astype(np.int64), np.broadcast_to(disc(32, _DISC), (len(names), 32, 32)), tuple(classes))


def disc(side: int, diameter: float) -> Bools:
    """Return (side, side): a disc in the middle, its diameter as a share of the side.

    Examples
    --------
    >>> disc(4, 0.8).astype(int).tolist()
    [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    """
    along = np.arange(side) - (side - 1) / 2
    found: Bools = np.hypot(along[:, None], along[None]) <= diameter * side / 2
    return found


def _photographs() -> Pool:
    rows = {row["name"]: row for row in tiny_classes()}
    with tarfile.open(shared_data() / "tiny_imagenet" / "train.tar") as archive:
        own = files_of(archive, [rows[name] for name in PHOTOGRAPHED])
        wanted = {name for files in own for name in files}
        found = {m.name: _decoded(archive, m) for m in archive if m.name in wanted}
    boxes = _boxes()
    names = [name for files in own for name in files]
    labels = np.repeat(np.arange(len(own)), [len(files) for files in own])
    images = np.stack([found[name] for name in names])
    inside = np.zeros((len(names), *images.shape[2:]), dtype=bool)
    for i, name in enumerate(names):
        left, top, right, bottom = boxes["/".join(name.removesuffix(".JPEG").split("/")[-2:])]
        inside[i, top : bottom + 1, left : right + 1] = True
    return Pool(images, labels, inside, PHOTOGRAPHED)


def _boxes() -> dict[str, tuple[int, ...]]:
    with (shared_data() / "tiny_imagenet" / "boxes.csv").open(encoding="utf-8") as file:
        return {
            row["file"].removesuffix(".JPEG"): tuple(int(row[side]) for side in ("left", "top", "right", "bottom"))
            for row in csv.DictReader(file)
        }


def _grey(source: str) -> Pool:
    data = grey_data(source, "test")
    grey = np.pad(data.data.numpy(), [(0, 0), *[(_GREY_BORDER, _GREY_BORDER)] * 2])
    return Pool(np.repeat(grey[:, None], 3, 1), data.targets.numpy(), grey > _BRIGHT, tuple(data.classes))


def _decoded(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Bytes:
    content = archive.extractfile(member)
    assert content is not None  # only files are asked for
    return np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")).transpose(2, 0, 1)
