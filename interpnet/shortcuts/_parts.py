"""What two images can exchange: a region, the colours, the fine detail, the place of the subject, a patch.

An image is taken apart into a *part* and its *rest*. Where a network answers to the part's class although the rest
shows another, the part carries evidence; whether it may is for a person to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.shortcuts._blur import blurred
from interpnet.shortcuts._by_class import ByClass

#: Radii of the subject's disc, as shares of the sides; what lies outside covers 62 and 36 % of an image.
RADII = (0.35, 0.45)
_FRAME = 1 / 16  # of the shorter side
_CELL = 1 / 6  # of a side
PATCH = 1 / 4  # of a side
SMALL_PATCH = 1 / 8
_MOST_GAIN = 4.0  # of a colour
_BLOCK = 8  # pixels along a side, as JPEG has them


@dataclass(frozen=True)
class Images:
    """Images with what is known of each: what an exchange reads."""

    pixels: Tensor  # (N, C, H, W)
    classes: Tensor  # (N,) int64
    # (N, 2, 2) int64: row and column of the middle of the class's strongest evidence, and of the next strongest, which
    # lies beside it
    peaks: Tensor
    masks: Tensor | None  # (N, H, W) bool: where the subject is
    by_class: ByClass  # what the images of each class have in common

    def take(self, rows: Tensor) -> Images:
        """Return some of them; what classes have in common stays."""
        masks = None
        if self.masks is not None:
            masks = self.masks[rows]
        return Images(self.pixels[rows], self.classes[rows], self.peaks[rows], masks, self.by_class)

    def to(self, put: Callable[[Tensor], Tensor]) -> Images:
        """Return them where ``put`` puts images."""
        pixels = put(self.pixels)
        where = pixels.device
        masks = None
        if self.masks is not None:
            masks = self.masks.to(where)
        return Images(pixels, self.classes.to(where), self.peaks.to(where), masks, self.by_class)


Exchange = Callable[[Images, Images], Tensor]
#: (rest, donors) -> (N, 2, H, W) bool: where the part is in the donor, and where it is in the image that is made.
Where = Callable[[Images, Images], Tensor]


@dataclass(frozen=True)
class Part:
    """A part that images can exchange."""

    name: str  # as a person reads it
    kind: str  # "surroundings", "frame", "corner", "edge", "colours", "detail", "pattern", "position", "patch"
    exchanged: Exchange  # (rest, donors) -> the rest's images with the donors' part, (N, C, H, W)
    where: Where | None = None  # None for a part that is everywhere, such as the colours
    # What the part's share is read beyond: of patches the next strongest, because a subject has evidence in several
    # places and a cue in one. None for parts that are read as they are.
    control: Part | None = None


def parts_of(shape: tuple[int, int], *, masks: bool = False) -> tuple[Part, ...]:
    """Return the parts of images of ``shape`` (height, width); with masks also what lies outside the subject."""
    found = []
    if masks:
        found.append(Part("outside the subject", "surroundings", _outside_masks, _where_outside_masks))
    for radius in RADII:
        outside = ~_disc(shape, radius)
        found.append(_region(f"outside a disc of radius {radius:g}", "surroundings", outside))
    found.append(_region("the frame", "frame", _frame(shape)))
    for name, cell in _cells(shape).items():
        found.append(_region(name, "edge" if "middle" in name else "corner", cell))
    found.append(Part("the mean colour", "colours", _mean_colour))
    found.append(Part("the tint", "colours", _tint))
    found.append(Part("the most common colour", "colours", _median_colour))
    found.append(Part("the finest detail", "detail", _detail))
    found.append(Part("the texture of blocks", "detail", _blocks))
    found.append(Part("a pattern in common", "pattern", _pattern))
    found.append(Part("the position", "position", _position))
    found += [_strongest_patch("a small patch", SMALL_PATCH), _strongest_patch("a patch", PATCH)]
    return tuple(found)


def _strongest_patch(name: str, share: float) -> Part:
    control = Part(f"{name} beside it", "patch", _patch(share, peak=1))
    return Part(name, "patch", _patch(share), _where_patch(share), control)


def _region(name: str, kind: str, region: Tensor) -> Part:
    def exchanged(rest: Images, donors: Images) -> Tensor:
        return torch.where(region.to(rest.pixels.device), donors.pixels, rest.pixels)

    def where(rest: Images, donors: Images) -> Tensor:
        return region.to(rest.pixels.device).expand(len(donors.pixels), 2, *region.shape)

    return Part(name, kind, exchanged, where)


def _disc(shape: tuple[int, int], radius: float) -> Tensor:
    rows, columns = ((torch.arange(n) - (n - 1) / 2) / n for n in shape)
    return rows[:, None] ** 2 + columns**2 < radius**2


def _frame(shape: tuple[int, int]) -> Tensor:
    width = max(1, round(_FRAME * min(shape)))
    frame = torch.ones(shape, dtype=torch.bool)
    frame[width:-width, width:-width] = False
    return frame


def _cells(shape: tuple[int, int]) -> dict[str, Tensor]:
    """Return the four corners and the four middles of the edges."""
    height, width = shape
    down, across = (max(1, round(_CELL * n)) for n in shape)
    thirds = {
        "top": (slice(0, down), slice(down, height - down), slice(height - down, height)),
        "left": (slice(0, across), slice(across, width - across), slice(width - across, width)),
    }
    cells = {}
    for i, row in enumerate(("top", "middle", "bottom")):
        for j, column in enumerate(("left", "middle", "right")):
            if (i, j) == (1, 1):
                continue
            cell = torch.zeros(shape, dtype=torch.bool)
            cell[thirds["top"][i], thirds["left"][j]] = True
            cells[f"{row} {column}"] = cell
    return cells


def _outside_masks(rest: Images, donors: Images) -> Tensor:
    return torch.where(_subjects(rest, donors)[:, None], rest.pixels, donors.pixels)


def _where_outside_masks(rest: Images, donors: Images) -> Tensor:
    outside = ~_subjects(rest, donors)
    return outside[:, None].expand(-1, 2, -1, -1)


def _subjects(rest: Images, donors: Images) -> Tensor:
    """Return (N, H, W): both subjects, which come from the rest, so that no second subject is left."""
    if rest.masks is None or donors.masks is None:
        raise ValueError("no masks")
    return rest.masks | donors.masks


def _mean_colour(rest: Images, donors: Images) -> Tensor:
    mean, other = (images.pixels.mean((2, 3), keepdim=True) for images in (rest, donors))
    return _within(rest.pixels - mean + other, rest, donors)


def _tint(rest: Images, donors: Images) -> Tensor:
    """Multiply the colours above black, so that each has the donor's share of the mean brightness; it stays the rest's.

    Black is each colour's darkest value in the two images.
    """
    black = torch.minimum(*(images.pixels.amin((2, 3), keepdim=True) for images in (rest, donors)))
    mine, theirs = ((images.pixels - black).mean((2, 3), keepdim=True) for images in (rest, donors))
    # A colour that is black all over has no share to multiply.
    shares = theirs * mine.mean(1, keepdim=True)
    own = mine * theirs.mean(1, keepdim=True)
    gain = torch.where(own > 0, shares / torch.where(own > 0, own, 1.0), 1.0).clamp(1 / _MOST_GAIN, _MOST_GAIN)
    return _within(black + (rest.pixels - black) * gain, rest, donors)


def _median_colour(rest: Images, donors: Images) -> Tensor:
    median, other = (images.pixels.flatten(2).median(2).values[:, :, None, None] for images in (rest, donors))
    return _within(rest.pixels - median + other, rest, donors)


def _detail(rest: Images, donors: Images) -> Tensor:
    fine = donors.pixels - blurred(donors.pixels)
    return _within(blurred(rest.pixels) + fine, rest, donors)


def _blocks(rest: Images, donors: Images) -> Tensor:
    """Give the rest the donor's distribution of every frequency within blocks of 8 x 8 pixels, but for their means.

    The k-th largest coefficient of the rest becomes the donor's k-th largest, so that what compression rounded to zero
    is zero. Of the grey and of the differences to it; rows and columns beyond the last whole block stay.
    """
    made = []
    for mine, theirs in zip(_grey_and_differences(rest.pixels), _grey_and_differences(donors.pixels), strict=True):
        own, other = (_frequencies(x) for x in (mine, theirs))
        ranks = own.argsort(-1).argsort(-1)
        matched = other.sort(-1).values.gather(-1, ranks)
        matched[:, :, 0, 0] = own[:, :, 0, 0]
        made.append(_from_frequencies(matched, mine))
    grey, differences = made
    return _within(grey + differences, rest, donors)


def _grey_and_differences(pixels: Tensor) -> tuple[Tensor, Tensor]:
    grey = pixels.mean(1, keepdim=True)
    return grey, pixels - grey


def _cosines(like: Tensor) -> Tensor:
    """Return the matrix (8, 8) of the discrete cosine transform, whose rows are orthonormal."""
    places = torch.arange(_BLOCK, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi * (places + 0.5) * places[:, None] / _BLOCK) * math.sqrt(2 / _BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def _frequencies(images: Tensor) -> Tensor:
    """Return (N, C, 8, 8, blocks): the cosine transform of every block."""
    height, width = (n // _BLOCK * _BLOCK for n in images.shape[2:])
    blocks = images[:, :, :height, :width].unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)
    cosines = _cosines(images)
    return (cosines @ blocks @ cosines.T).flatten(2, 3).permute(0, 1, 3, 4, 2)


def _from_frequencies(transformed: Tensor, images: Tensor) -> Tensor:
    """Return images (N, C, H, W) of which the whole blocks are those of a transform."""
    rows, columns = (n // _BLOCK for n in images.shape[2:])
    cosines = _cosines(images)
    by_block = transformed.permute(0, 1, 4, 2, 3)
    blocks = by_block.reshape(*by_block.shape[:2], rows, columns, _BLOCK, _BLOCK)
    back = (cosines.T @ blocks @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    made = images.clone()
    made[:, :, : rows * _BLOCK, : columns * _BLOCK] = back
    return made


def _pattern(rest: Images, donors: Images) -> Tensor:
    mine, theirs = (rest.by_class.details(classes).to(rest.pixels) for classes in (rest.classes, donors.classes))
    changed = rest.pixels - mine + theirs
    return _within(changed, rest, donors)


def _position(rest: Images, donors: Images) -> Tensor:
    """Move the rest's image by what lies between its class and the donor's; what leaves comes back opposite."""
    moves = rest.by_class.moves(rest.classes, donors.classes).to(rest.pixels.device)
    height, width = rest.pixels.shape[2:]
    rows = (torch.arange(height, device=moves.device) - moves[:, :1]) % height
    columns = (torch.arange(width, device=moves.device) - moves[:, 1:]) % width
    n = torch.arange(len(moves), device=moves.device)[:, None, None]
    return rest.pixels.movedim(1, 3)[n, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def patch_side(share: float, shape: Sequence[int]) -> int:
    """Return the pixels along a side of a patch in images of ``shape`` (height, width)."""
    return max(2, round(share * min(shape)))


def _patch(share: float, peak: int = 0) -> Exchange:
    """Put the square around one of the donor's peaks in the place of the square around the rest's strongest."""

    def exchanged(rest: Images, donors: Images) -> Tensor:
        height, width = rest.pixels.shape[2:]
        side = patch_side(share, (height, width))
        here = _corners(rest.peaks[:, 0], side, (height, width))
        there = _corners(donors.peaks[:, peak], side, (height, width))
        rows, columns = (here[:, axis, None] + torch.arange(side, device=here.device) for axis in (0, 1))
        from_rows, from_columns = (there[:, axis, None] + torch.arange(side, device=here.device) for axis in (0, 1))
        n = torch.arange(len(here), device=here.device)[:, None, None]
        made = rest.pixels.movedim(1, 3).clone()
        given = donors.pixels.movedim(1, 3)
        made[n, rows[:, :, None], columns[:, None, :]] = given[n, from_rows[:, :, None], from_columns[:, None, :]]
        return made.movedim(3, 1)

    return exchanged


def _where_patch(share: float) -> Where:
    def where(rest: Images, donors: Images) -> Tensor:
        height, width = rest.pixels.shape[2:]
        side = patch_side(share, (height, width))
        rows, columns = (torch.arange(n, device=rest.pixels.device) for n in (height, width))
        found = []
        for images in (donors, rest):
            corners = _corners(images.peaks[:, 0], side, (height, width))
            down = corners[:, :1]
            across = corners[:, 1:]
            within = (rows >= down) & (rows < down + side), (columns >= across) & (columns < across + side)
            found.append(within[0][:, :, None] & within[1][:, None, :])
        return torch.stack(found, 1)

    return where


def _corners(peaks: Tensor, side: int, shape: tuple[int, int]) -> Tensor:
    """Return the top left corners (N, 2) of squares around peaks that lie within the image."""
    limits = torch.tensor([n - side for n in shape], device=peaks.device)
    return torch.minimum((peaks - side // 2).clamp(min=0), limits)


def _within(changed: Tensor, rest: Images, donors: Images) -> Tensor:
    """Keep values within what the two images hold, so that no pixel is brighter than any that the network knows."""
    low, high = (
        torch.minimum(rest.pixels.amin((2, 3), keepdim=True), donors.pixels.amin((2, 3), keepdim=True)),
        torch.maximum(rest.pixels.amax((2, 3), keepdim=True), donors.pixels.amax((2, 3), keepdim=True)),
    )
    return torch.maximum(torch.minimum(changed, high), low)
