"""The photographs of S4, the snow in them as judged by eye and by a rule, and pieces of snow and grass."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms import v2

from experiments.common.imagenet import opened, preparation
from experiments.common.shared_data import shared_data
from interpnet.support.types import Bools, Float64, Int64

CLASSES = ("husky", "wolf")
HUSKY, WOLF = range(2)
SIDE = 224  # pixels
# These three tell the training images with snow from those without best, of 60 tried.
_BRIGHT = 0.7  # a pixel's largest colour, of 1: at least so much of it is bright
_PALE = 0.15  # and its colours differ by at most so much of the largest
_RING = 0.5  # of the side: the disc's radius, outside of which snow is looked for: the corners
_PIECE = 56  # pixels: the side of a piece of snow or grass
_CROP = preparation(256, SIDE, (0.0,) * 3, (1.0,) * 3, v2.InterpolationMode.BICUBIC)  # values 0 to 1
_DOGS = 151, 268  # ImageNet's first dog and last
#: Of :func:`dogs` those that stand or lie in snow, as judged by eye.
IN_SNOW = (172, 184, 236, 244, 248, 250)


class Photographs(NamedTuple):
    """Photographs as a network sees them, values 0 to 1."""

    images: Tensor  # (N, 3, 224, 224)
    labels: Int64  # (N,): 0 husky, 1 wolf
    test: Bools  # (N,)
    names: tuple[str, ...]


def photographs() -> Photographs:
    """Return all photographs: the shorter side 256 pixels, and the square of 224 in the middle."""
    with tarfile.open(shared_data() / "husky_wolf.tar") as archive:
        files = [m.name for m in archive.getmembers() if m.isfile()]
        names = tuple(sorted(files, key=lambda name: (name.split("/")[:2], int(Path(name).stem.split("_")[1]))))
        images = torch.stack([_CROP(opened(archive, name).convert("RGB")) for name in names])
    labels = np.array([CLASSES.index(name.split("/")[1]) for name in names])
    return Photographs(images, labels, np.array([name.startswith("test/") for name in names]), names)


def labelled(names: tuple[str, ...]) -> Int64:
    """Return the snow in each photograph as it was judged by eye (snow.csv): 0 none, 1 a little, 2 on the ground."""
    with Path(__file__).with_name("snow.csv").open(encoding="utf-8") as file:
        by_name = {row["file"]: int(row["snow"]) for row in csv.DictReader(file)}
    return np.array([by_name[name] for name in names])


def dogs() -> tuple[Tensor, list[int]]:
    """Return one photograph of every second dog of ImageNet, no wolf among them, and their ImageNet classes."""
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(m.name for m in archive.getmembers() if m.isfile())
        numbers = [2 * i for i in range(len(files)) if _DOGS[0] <= 2 * i <= _DOGS[1]]
        images = [_CROP(opened(archive, files[c // 2]).convert("RGB")) for c in numbers]
    return torch.stack(images), numbers


def outlines(names: Sequence[str]) -> Tensor:
    """Return where the animals are (N, 224, 224), bool, as outlined by hand (outlines.csv, in tenths of the side)."""
    with Path(__file__).with_name("outlines.csv").open(encoding="utf-8") as file:
        by_name = {row["file"]: row["outline"] for row in csv.DictReader(file)}
    found = []
    for name in names:
        points = [tuple(float(v) * SIDE / 10 for v in point.split()) for point in by_name[name].split(";")]
        drawn = Image.new("1", (SIDE, SIDE))
        ImageDraw.Draw(drawn).polygon(points, fill=1)
        found.append(torch.from_numpy(np.array(drawn)))
    return torch.stack(found)


def disc(radius: float, side: int = SIDE) -> Tensor:
    """Return where a disc around the middle lies, bool (side, side); its radius is a share of the side."""
    along = (torch.arange(side) + 0.5) / side - 0.5
    return along[:, None] ** 2 + along**2 < radius**2


def white(images: Tensor) -> Tensor:
    """Return the pixels (N, H, W) that are bright and have hardly a colour: what snow is by day, and a white sky."""
    most, least = images.amax(1), images.amin(1)
    return (most >= _BRIGHT) & (most - least <= _PALE * most)


def snow_by_rule(images: Tensor) -> Float64:
    """Return the share of white pixels (N,) outside of a disc of half the side."""
    outside = ~disc(_RING, images.shape[-1])
    share: Float64 = white(images)[:, outside].double().mean(1).numpy()
    return share


def green(images: Tensor) -> Tensor:
    """Return the pixels (N, H, W) whose green is the largest colour by a tenth of it."""
    red, middle, blue = images.unbind(1)
    return middle >= 1.1 * torch.maximum(red, blue)


def pieces(images: Tensor, rule: Tensor, most: int) -> Tensor:
    """Return (most, 3, 56, 56): from each picture the square along its edge with most pixels of ``rule``, the best.

    Only squares that touch the edge of the picture are looked at: the subject is elsewhere more often.
    """
    last = SIDE - _PIECE
    places = [(y, x) for y in range(0, last + 1, 8) for x in range(0, last + 1, 8) if y in (0, last) or x in (0, last)]
    shares = torch.stack([rule[:, y : y + _PIECE, x : x + _PIECE].float().mean((1, 2)) for y, x in places], 1)
    best, which = shares.max(1)
    found = []
    for i in best.argsort(descending=True, stable=True)[:most].tolist():
        y, x = places[int(which[i])]
        found.append(images[i, :, y : y + _PIECE, x : x + _PIECE])
    return torch.stack(found)


def tiled(piece: Tensor) -> Tensor:
    """Return a picture (3, 224, 224) made of a piece, every second one mirrored so that no edge is seen."""
    times = -(-SIDE // _PIECE)
    row = torch.cat([piece if i % 2 == 0 else piece.flip(2) for i in range(times)], 2)
    whole = torch.cat([row if i % 2 == 0 else row.flip(1) for i in range(times)], 1)
    return whole[:, :SIDE, :SIDE]
