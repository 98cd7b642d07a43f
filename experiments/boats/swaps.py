"""What lies in a box, put on other surroundings: the pictures that S3 shows to the networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from experiments.boats.photographs import ON_LAND, WATER, Photographs
from interpnet.support.types import Int64

#: The largest share of a photograph that a box may cover: the rest is what is exchanged.
MOST = 0.6
#: What the box of a photograph is put on.
SURROUNDINGS = ("own", "water", "land", "street")
#: A box is filled with this margin, for a subject's ears and shadow.
_MARGIN = 2
_GREY = 128


@dataclass(frozen=True)
class Swaps:
    """The pictures made of one class's photographs: (n, 3, 64, 64) uint8 each.

    ``whole`` by name: ``"original"``; ``"alone"``, its surroundings with the box filled; ``"grey"``, the box on grey.
    ``put`` by (what the box shows, surroundings): ``"own"`` or ``"other"``, and one of :data:`SURROUNDINGS`.
    """

    rows: Int64
    whole: dict[str, Tensor]
    put: dict[tuple[str, str], Tensor]

    def named(self) -> dict[str, Tensor]:
        """Return all pictures by one name."""
        return {**self.whole, **{f"{content} on {where}": picture for (content, where), picture in self.put.items()}}


def filled(image: Tensor, box: Iterable[int]) -> Tensor:
    """Return a picture (3, H, W), uint8, with a box filled from the pixels around it, each by 1 / distance^2.

    ``box`` has the first column and row and the last; two pixels more on each side are filled. A box that leaves
    nothing around it is filled with the picture's mean.

    Examples
    --------
    >>> row = torch.tensor([0, 0, 9, 9, 9, 9, 9, 100, 100], dtype=torch.uint8).expand(3, 1, 9)
    >>> filled(row, (4, 0, 4, 0))[0, 0].tolist()
    [0, 0, 4, 20, 50, 80, 96, 100, 100]
    """
    _, height, width = image.shape
    left, top, right, bottom = box
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[max(top - _MARGIN, 0) : bottom + 1 + _MARGIN, max(left - _MARGIN, 0) : right + 1 + _MARGIN] = True
    # The pixels that touch it.
    ring = (nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0] > 0) & ~inside
    result = image.clone()
    if not ring.any():
        result[:] = image.float().mean((1, 2), keepdim=True).round().to(torch.uint8)
        return result
    weights = torch.cdist(inside.nonzero().double(), ring.nonzero().double()).pow(-2)
    weights /= weights.sum(1, keepdim=True)
    result[:, inside] = (image[:, ring].double() @ weights.T).round().to(torch.uint8)
    return result


def pasted(plate: Tensor, image: Tensor, box: Iterable[int], source: Iterable[int] | None = None) -> Tensor:
    """Return ``plate`` with what ``image`` shows in its box ``source``, by default the same, made to fill ``box``."""
    left, top, right, bottom = box
    own = slice(top, bottom + 1), slice(left, right + 1)
    result = plate.clone()
    if source is None:
        result[:, own[0], own[1]] = image[:, own[0], own[1]]
        return result
    first, above, last, below = source
    content = image[None, :, above : below + 1, first : last + 1].float()
    size = (bottom + 1 - top, right + 1 - left)
    scaled = nn.functional.interpolate(content, size, mode="bilinear", align_corners=False, antialias=True)
    result[:, own[0], own[1]] = scaled[0].round().clamp(0, 255).to(torch.uint8)
    return result


def swaps_of(given: Photographs, c: int, streets: Tensor, *, most: int, seed: int = 0) -> Swaps:
    """Return the swaps of at most so many held-out photographs of class ``c``.

    Every photograph draws its own partners. Land is a photograph of a class of :data:`ON_LAND`, its subject's box
    filled; the same box is filled in water and street, which have no subject, so that all three suffer alike.
    """
    rng = np.random.default_rng([seed, c])
    name = given.classes[c]
    own = given.rows((name,), most=MOST)
    rows = np.sort(rng.permutation(own)[:most])
    land = given.rows(tuple(one for one in ON_LAND if one != name), most=MOST)
    water = given.rows(WATER)
    whole: dict[str, list[Tensor]] = {"original": [], "alone": [], "grey": []}
    put: dict[tuple[str, str], list[Tensor]] = {
        (content, where): [] for content in ("own", "other") for where in SURROUNDINGS
    }
    for row in rows:
        image, box = given.images[row], given.boxes[row].tolist()
        mate = int(rng.choice(own[own != row]))
        field, other = (int(i) for i in rng.choice(land, 2, replace=False))
        gap = given.boxes[field].tolist()
        plates = {
            "own": filled(given.images[mate], given.boxes[mate].tolist()),
            "water": filled(given.images[int(rng.choice(water))], gap),
            "land": filled(given.images[field], gap),
            "street": filled(streets[int(rng.integers(len(streets)))], gap),
        }
        whole["original"].append(image)
        whole["alone"].append(filled(image, box))
        whole["grey"].append(pasted(torch.full_like(image, _GREY), image, box))
        for where, plate in plates.items():
            put["own", where].append(pasted(plate, image, box))
            put["other", where].append(pasted(plate, given.images[other], box, given.boxes[other].tolist()))
    return Swaps(rows, {k: torch.stack(v) for k, v in whole.items()}, {k: torch.stack(v) for k, v in put.items()})
