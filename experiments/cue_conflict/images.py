"""Cue-conflict images, the sixteen classes they ask about, photographs of these, and textures."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from experiments.common.imagenet import Images, opened, read
from experiments.common.shared_data import shared_data
from interpnet.errors import DataError
from interpnet.support.types import Int64

#: The outputs among ImageNet's 1,000 that are each of the sixteen classes, as Geirhos et al. (2019) published them:
#: ranges, both ends included.
MEMBERS: dict[str, tuple[tuple[int, int], ...]] = {
    "airplane": ((404, 404),),
    "bear": ((294, 297),),
    "bicycle": ((444, 444), (671, 671)),
    "bird": (
        *((8, 8), (10, 16), (18, 20), (22, 24), (80, 83), (87, 96)),
        *((98, 100), (127, 133), (135, 145)),
    ),
    "boat": ((472, 472), (554, 554), (625, 625), (814, 814), (914, 914)),
    "bottle": ((440, 440), (720, 720), (737, 737), (898, 899), (901, 901), (907, 907)),
    "car": ((436, 436), (511, 511), (817, 817)),
    "cat": ((281, 286),),
    "chair": ((423, 423), (559, 559), (765, 765), (857, 857)),
    "clock": ((409, 409), (530, 530), (892, 892)),
    "dog": (
        *((152, 191), (193, 203), (205, 226), (228, 241), (243, 250), (252, 257)),
        *((259, 259), (261, 263), (265, 268)),
    ),
    "elephant": ((385, 386),),
    "keyboard": ((508, 508), (878, 878)),
    "knife": ((499, 499),),
    "oven": ((766, 766),),
    "truck": ((555, 555), (569, 569), (656, 656), (675, 675), (717, 717), (734, 734), (864, 864), (867, 867)),
}
CLASSES = tuple(MEMBERS)
_NAME = re.compile(r"([a-z]+)(\d+)-([a-z]+)(\d+)\.jpg")
#: A picture's number is that of its class times this, and its own.
NUMBERS = 1000


def members() -> list[list[int]]:
    """Return the outputs of each class, in the order of ``CLASSES``."""
    return [[i for first, last in ranges for i in range(first, last + 1)] for ranges in MEMBERS.values()]


class Conflicts(NamedTuple):
    """Images whose shape and texture are of different classes, and the pictures that they were made of."""

    images: Tensor  # (N, 3, H, W)
    shape: Int64  # (N,): class of the shape
    texture: Int64  # (N,): class of the texture
    shape_picture: Int64  # (N,): which picture gave the shape
    texture_picture: Int64  # (N,): which picture gave the texture


def parsed(name: str) -> tuple[int, int, int, int]:
    """Return class of the shape, class of the texture, and the picture of each, from a file's name.

    Examples
    --------
    >>> parsed("cat/cat7-elephant1.jpg")
    (7, 11, 7007, 11001)
    """
    found = _NAME.fullmatch(Path(name).name)
    if found is None or not {found[1], found[3]} <= set(CLASSES):
        raise DataError(f"{name}: expected SHAPE NUMBER-TEXTURE NUMBER.jpg, both of {', '.join(CLASSES)}")
    shape, texture = CLASSES.index(found[1]), CLASSES.index(found[3])
    return shape, texture, NUMBERS * shape + int(found[2]), NUMBERS * texture + int(found[4])


def conflicts(prepare: v2.Compose, each: int | None = None) -> Conflicts:
    """Return the images whose shape and texture disagree, at most ``each`` of a shape."""
    with tarfile.open(shared_data() / "cue_conflict.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        rows = [(name, *parsed(name)) for name in files]
        rows = [row for row in rows if row[1] != row[2]]
        if each is not None:
            rows = [row for c in range(len(CLASSES)) for row in [r for r in rows if r[1] == c][:each]]
        images = torch.stack([prepare(opened(archive, row[0]).convert("RGB")) for row in rows])
    return Conflicts(images, *(np.array(column) for column in list(zip(*rows, strict=True))[1:]))


def samples(prepare: v2.Compose, most: int | None = None) -> Images:
    """Return the photographs of ImageNet that show one of the sixteen classes, at most so many of each."""
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        # There is one sample of every second class, in their order.
        own = {c: [files[i // 2] for i in group if i % 2 == 0][:most] for c, group in enumerate(members())}
        return read(archive, {c: names for c, names in own.items() if names}, prepare)


def textures(prepare: v2.Compose, each: int | None = None) -> tuple[Images, tuple[str, ...]]:
    """Return photographs of textures, at most ``each`` of one, and the textures' names."""
    with tarfile.open(shared_data() / "concepts" / "textures.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        names = sorted({Path(name).parent.name for name in files})
        own = {i: [f for f in files if Path(f).parent.name == name][:each] for i, name in enumerate(names)}
        return read(archive, own, prepare), tuple(names)


def halves(pictures: Sequence[int] | Int64) -> Int64:
    """Return 0 or 1 for each image, by whether the number of its picture is even."""
    return np.asarray(pictures) % NUMBERS % 2
