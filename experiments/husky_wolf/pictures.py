"""What S4 shows to the network: animals in each other's surroundings, and with snow or grass around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.husky_wolf.photographs import (
    HUSKY,
    SIDE,
    WOLF,
    Photographs,
    disc,
    green,
    outlines,
    pieces,
    tiled,
    white,
)
from interpnet.support.types import Int64

#: What is left of a photograph: the animal as outlined by hand, or a disc in the middle, its radius in sides.
OUTLINE = "outline"
DISCS = {f"disc {radius}": radius for radius in (0.2, 0.3, 0.4, 0.5)}
NOTHING = "nothing"
#: What is laid around. The texture of a piece and its mean colour are exchanged too.
MATERIALS = (
    "snow",
    "grass",
    "snow in the colour of grass",
    "grass in the colour of snow",
    "colour of snow",
    "colour of grass",
    "snow, pixels shuffled",
    "grey",
)
_PIECES = 8  # of snow, and of grass


class Pairs(NamedTuple):
    """Rows of the photographs whose middle is seen, and of those whose surroundings are."""

    middle: Int64
    around: Int64


def every_pair(given: Photographs) -> Pairs:
    """Return all ordered pairs of test photographs, each with itself included."""
    rows = np.flatnonzero(given.test)
    return Pairs(np.repeat(rows, len(rows)), np.tile(rows, len(rows)))


def inside(given: Photographs, shape: str) -> Tensor:
    """Return what is left (n, 224, 224), bool, of the test photographs."""
    names = [given.names[row] for row in np.flatnonzero(given.test)]
    if shape == OUTLINE:
        return outlines(names)
    if shape == NOTHING:
        return torch.zeros(len(names), SIDE, SIDE, dtype=torch.bool)
    return disc(DISCS[shape]).expand(len(names), -1, -1)


def exchanged(given: Photographs, shape: str) -> Tensor:
    """Return every pair's picture (n, 3, 224, 224): what is left of one photograph in the surroundings of the other.

    Where the other's animal is, the first photograph is seen too, so that no second animal is left.
    """
    images, left = given.images[np.flatnonzero(given.test)], inside(given, shape)
    first = torch.arange(len(images)).repeat_interleave(len(images))
    second = torch.arange(len(images)).repeat(len(images))
    return torch.where((left[first] | left[second])[:, None], images[first], images[second])


def materials(given: Photographs) -> dict[str, Tensor]:
    """Return by material pictures (8, 3, 224, 224) made of pieces that were cut from training photographs.

    Snow comes from wolves' photographs, grass from huskies'. In another's colour a piece keeps its differences from its
    mean, which becomes the other's mean.
    """
    wolves, huskies = (given.images[np.flatnonzero(~given.test & (given.labels == c))] for c in (WOLF, HUSKY))
    snow, grass = pieces(wolves, white(wolves), _PIECES), pieces(huskies, green(huskies), _PIECES)
    of_snow, of_grass = (piece.mean((2, 3), keepdim=True) for piece in (snow, grass))
    order = torch.from_numpy(np.random.default_rng(0).permutation(snow[0, 0].numel()))
    every = {
        "snow": snow,
        "grass": grass,
        "snow in the colour of grass": (snow - of_snow + of_grass).clamp(0, 1),
        "grass in the colour of snow": (grass - of_grass + of_snow).clamp(0, 1),
        "colour of snow": of_snow.expand_as(snow),
        "colour of grass": of_grass.expand_as(grass),
        "snow, pixels shuffled": snow.flatten(2)[:, :, order].view_as(snow),
        "grey": torch.full_like(snow, 0.5),
    }
    return {name: torch.stack([tiled(piece) for piece in every[name]]) for name in MATERIALS}


def laid_around(given: Photographs, material: Tensor, shape: str) -> Tensor:
    """Return the test photographs (n, 3, 224, 224) with a material around what is left of them."""
    return torch.where(inside(given, shape)[:, None], given.images[np.flatnonzero(given.test)], material)
