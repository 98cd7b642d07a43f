"""Images of concepts, of anything, and of classes: all of 64 pixels, enlarged to the network's size."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from experiments.boats.networks import as_input, enlarged
from experiments.boats.photographs import SCENES, SIDE, WATER, Photographs, photographs, streets
from experiments.common.imagenet import opened
from experiments.common.shared_data import shared_data

#: By concept, how many images of which kind; the second and the fourth are controls of the one before.
STRIPES, TEXTURES, WATERS, LAND = "stripes", "other textures", "water", "scenes of land"
CONCEPTS = (STRIPES, TEXTURES, WATERS, LAND)
_OTHERS = ("blotchy", "bubbly", "bumpy", "cobwebbed")
PLAIN = ("lion", "cougar")  # cats without stripes: what zebra, tiger and horse are asked about
#: Class, its output, and whose photographs it is asked about.
CLASSES: dict[str, tuple[int, tuple[str, ...]]] = {
    "zebra": (340, PLAIN),
    "tiger": (292, PLAIN),
    "tabby": (281, ("tabby",)),
    "gondola": (576, ("gondola",)),
    "lifeboat": (625, ("lifeboat",)),
    "sorrel": (339, PLAIN),
    "lion": (291, ("lion",)),
    "cougar": (286, ("cougar",)),
    "Persian_cat": (283, ("Persian_cat",)),
    "school_bus": (779, ("school_bus",)),
    "tractor": (866, ("tractor",)),
}
STRIPED = ("zebra", "tiger", "tabby")  # which stripes should raise
ON_WATER = ("gondola", "lifeboat")  # which water should raise


class Batches:
    """Batches of 64 x 64 images (N, 3, 64, 64), uint8, as the network wants them, made when they are asked for."""

    def __init__(self, images: Tensor, size: int = 50) -> None:
        self.images = images
        self._size = size

    def __iter__(self) -> Iterator[tuple[Tensor]]:
        """Yield (images,)."""
        for part in torch.split(self.images, self._size):
            yield (enlarged(as_input(part)),)

    def inputs(self, n: int | None = None) -> Tensor:
        """Return the first ``n`` images at once, or all, as the network wants them."""
        return enlarged(as_input(self.images[:n]))


class Sets(NamedTuple):
    """What a concept is compared with, and asked about."""

    concepts: dict[str, Batches]
    random: Batches
    classes: dict[str, Batches]


def sets(*, each: int = 25, random: int = 80, asked: int = 30, part: int = 0) -> Sets:
    """Return concepts of ``each`` images, images for ``random`` sets of so many, and ``asked`` images of each class.

    ``part`` 1 takes the next images of all of them, and no samples of ImageNet, of which there is one set.
    """
    given = photographs()
    shrink = v2.Compose([v2.PILToTensor(), v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)])
    folder = shared_data()
    textures = folder / "concepts" / "textures.tar"
    half, quarter = each // 2, -(-each // len(_OTHERS))
    mixed = torch.stack([_next(_files(textures, f"{one}/", shrink), quarter, part) for one in _OTHERS])
    roads = streets()
    step = len(roads) // half
    concepts = {
        STRIPES: _next(_files(textures, "striped/", shrink), each, part),
        TEXTURES: mixed.transpose(0, 1).flatten(0, 1)[:each],
        WATERS: of_classes(given, WATER, each, part=part),
        LAND: torch.cat([of_classes(given, ("alp",), each - half, part=part), roads[part * step // 2 :: step][:half]]),
    }
    samples = _files(folder / "imagenet" / "samples.tar", "", shrink)[: 0 if part else random * each]
    things = tuple(name for name in given.classes if name not in SCENES)
    anything = torch.cat([samples, of_classes(given, things, random * each - len(samples), part=part)])
    return Sets(
        {name: Batches(images) for name, images in concepts.items()},
        Batches(anything),
        {
            name: Batches(of_classes(given, whose, asked, held_out=True, part=part))
            for name, (_, whose) in CLASSES.items()
        },
    )


def _next(images: Tensor, n: int, part: int) -> Tensor:
    return images[part * n : (part + 1) * n]


def of_classes(given: Photographs, names: tuple[str, ...], n: int, *, held_out: bool = False, part: int = 0) -> Tensor:
    """Return the first n photographs of some classes, nearly as many of each, of those held out or of the others.

    ``part`` 1: the n after those.
    """
    each = -(-n // len(names))
    own = [
        np.flatnonzero((given.labels == number) & (given.held_out == held_out))[part * each : (part + 1) * each]
        for number in given.numbers(names)
    ]
    return given.images[np.stack(own).T.ravel()[:n]]


def _files(path: Path, start: str, prepare: v2.Compose) -> Tensor:
    """Return an archive's pictures whose name starts so, (N, 3, 64, 64), uint8."""
    with tarfile.open(path) as archive:
        names = sorted(one.name for one in archive.getmembers() if one.isfile() and one.name.startswith(start))
        return torch.stack([prepare(opened(archive, name).convert("RGB")) for name in names])
