"""What two images can exchange: a region, the colours, the fine detail, the place of the subject, a patch.

An image is taken apart into a *part* and its *rest*. Where a network answers to the part's class although the rest
shows another, the part carries evidence; whether it may is for a person to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Radii of the subject's disc, as shares of the sides; what lies outside covers 80, 62 and 36 % of an image.
RADII = (0.25, 0.35, 0.45)
_FRAME = 1 / 16  # of the shorter side
_CELL = 1 / 4  # of a side
PATCH = 1 / 4  # of a side
SMALL_PATCH = 1 / 8
_BLUR = (0.25, 0.5, 0.25)  # what is left of an image without its finest detail
_RINGS = 24  # of frequencies


@dataclass(frozen=True)
class Images:
    """Images with what is known of each: what an exchange reads."""

    pixels: Tensor  # (N, C, H, W)
    classes: Tensor  # (N,) int64
    peaks: Tensor  # (N, 2) int64: row and column of the middle of the class's strongest evidence
    masks: Tensor | None  # (N, H, W) bool: where the subject is
    patterns: Tensor  # (K, C, H, W): of each class the detail that its images have in common, less that of all

    def take(self, rows: Tensor) -> Images:
        """Return some of them; the patterns of all classes stay."""
        masks = None
        if self.masks is not None:
            masks = self.masks[rows]
        return Images(self.pixels[rows], self.classes[rows], self.peaks[rows], masks, self.patterns)

    def to(self, put: Callable[[Tensor], Tensor]) -> Images:
        """Return them where ``put`` puts images."""
        pixels = put(self.pixels)
        where = pixels.device
        masks = None
        if self.masks is not None:
            masks = self.masks.to(where)
        return Images(pixels, self.classes.to(where), self.peaks.to(where), masks, self.patterns.to(where))


Exchange = Callable[[Images, Images], Tensor]
#: (rest, donors) -> (N, 2, H, W) bool: where the part is in the donor, and where it is in the image that is made.
Where = Callable[[Images, Images], Tensor]


@dataclass(frozen=True)
class Part:
    """A part that images can exchange."""

    name: str  # as a person reads it
    kind: str  # "surroundings", "frame", "place", "colours", "detail", "pattern", "position", "patch"
    area: float  # share of the image that it covers, 1 where it covers all of it faintly
    exchanged: Exchange  # (rest, donors) -> the rest's images with the donors' part, (N, C, H, W)
    where: Where | None = None  # None for a part that is everywhere, such as the colours


def parts_of(shape: tuple[int, int], *, masks: bool = False) -> tuple[Part, ...]:
    """Return the parts of images of ``shape`` (height, width); with masks also what lies outside the subject."""
    found = []
    if masks:
        found.append(Part("outside the subject", "surroundings", math.nan, _outside_masks, _where_outside_masks))
    for radius in RADII:
        outside = ~_disc(shape, radius)
        found.append(_region(f"outside a disc of radius {radius:g}", "surroundings", outside))
    found.append(_region("the frame", "frame", _frame(shape)))
    found += [_region(name, "place", cell) for name, cell in _cells(shape).items()]
    found.append(Part("the colours", "colours", 1.0, _colours))
    found.append(Part("the spectrum", "spectrum", 1.0, _spectrum))
    found.append(Part("the finest detail", "detail", 1.0, _detail))
    found.append(Part("a pattern in common", "pattern", 1.0, _pattern))
    found.append(Part("the position", "position", 1.0, _position))
    found.append(Part("a small patch", "patch", SMALL_PATCH**2, _patch(SMALL_PATCH), _where_patch(SMALL_PATCH)))
    found.append(Part("a patch", "patch", PATCH**2, _patch(PATCH), _where_patch(PATCH)))
    return tuple(found)


def _region(name: str, kind: str, region: Tensor) -> Part:
    def exchanged(rest: Images, donors: Images) -> Tensor:
        return torch.where(region.to(rest.pixels.device), donors.pixels, rest.pixels)

    def where(rest: Images, donors: Images) -> Tensor:
        return region.to(rest.pixels.device).expand(len(donors.pixels), 2, *region.shape)

    return Part(name, kind, float(region.double().mean()), exchanged, where)


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


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    return pixels.mean((2, 3), keepdim=True), pixels.std((2, 3), keepdim=True)


def _colours(rest: Images, donors: Images) -> Tensor:
    """Mean and standard deviation of every colour from the donor (Reinhard et al. 2001, without their colour space)."""
    mean, spread = _moments(rest.pixels)
    other_mean, other_spread = _moments(donors.pixels)
    scaled = (rest.pixels - mean) * (other_spread / spread.clamp(min=1e-6)).clamp(max=4.0) + other_mean
    return _within(scaled, rest, donors)


def blurred(pixels: Tensor, times: int = 1) -> Tensor:
    """Return images (N, C, H, W) after a binomial filter of 3 x 3, reflected at the edges."""
    kernel = torch.tensor(_BLUR, dtype=pixels.dtype, device=pixels.device)
    colours = pixels.shape[1]
    for _ in range(times):
        for shape, padding in (((1, 3), (1, 1, 0, 0)), ((3, 1), (0, 0, 1, 1))):
            weight = kernel.view(1, 1, *shape).expand(colours, 1, *shape)
            pixels = functional.conv2d(functional.pad(pixels, padding, mode="replicate"), weight, groups=colours)
    return pixels


def _detail(rest: Images, donors: Images) -> Tensor:
    fine = donors.pixels - blurred(donors.pixels)
    return _within(blurred(rest.pixels) + fine, rest, donors)


def _spectrum(rest: Images, donors: Images) -> Tensor:
    """How strong each ring of frequencies is, of the grey and of the differences to it; its mean stays the rest's."""
    return _within(_with_spectrum(rest.pixels, donors.pixels), rest, donors)


def _with_spectrum(pixels: Tensor, others: Tensor) -> Tensor:
    height, width = pixels.shape[2:]
    down = torch.fft.fftfreq(height, device=pixels.device)[:, None]
    across = torch.fft.rfftfreq(width, device=pixels.device)
    ring = ((down**2 + across**2).sqrt() * 2 * _RINGS / math.sqrt(2)).long().clamp(max=_RINGS - 1)
    grey, other_grey = (x.mean(1, keepdim=True) for x in (pixels, others))
    made = []
    for mine, theirs in ((grey, other_grey), (pixels - grey, others - other_grey)):
        own = torch.fft.rfft2(mine)
        power, other_power = (_by_ring(x, ring) for x in (own, torch.fft.rfft2(theirs)))
        gain = (other_power / power.clamp(min=1e-12)).sqrt().clamp(max=10.0)
        gain[:, 0] = 1.0  # the mean and the coarsest structure are not the spectrum's
        made.append(torch.fft.irfft2(own * gain[:, ring][:, None], s=(height, width)))
    grey_again, differences = made
    changed: Tensor = grey_again + differences
    return changed


def _by_ring(transformed: Tensor, ring: Tensor) -> Tensor:
    power = transformed.abs().square().mean(1).flatten(1)
    sums = torch.zeros(len(power), _RINGS, device=power.device, dtype=power.dtype)
    sums.index_add_(1, ring.flatten(), power)
    counts = torch.bincount(ring.flatten(), minlength=_RINGS).clamp(min=1)
    return sums / counts


def _pattern(rest: Images, donors: Images) -> Tensor:
    changed = rest.pixels - rest.patterns[rest.classes] + rest.patterns[donors.classes]
    return _within(changed, rest, donors)


def patterns_of(pixels: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Return (K, C, H, W): the mean image of each class, without what a blur leaves of it, less that of all classes."""
    sums = torch.zeros(n_classes, *pixels.shape[1:], dtype=pixels.dtype, device=pixels.device)
    sums.index_add_(0, classes.to(pixels.device), pixels)
    counts = torch.bincount(classes, minlength=n_classes).to(pixels.device)
    means = sums / counts.clamp(min=1).view(-1, 1, 1, 1)
    seen = counts > 0
    overall = means[seen].mean(0)
    fine = means - overall
    fine = fine - blurred(fine, 4)
    fine[~seen] = 0.0
    return fine


def centroids(pixels: Tensor) -> Tensor:
    """Return (N, 2): row and column of the middle of where images have local contrast, in pixels."""
    contrast = (pixels - blurred(pixels, 8)).square().sum(1).sqrt()
    contrast = contrast - contrast.flatten(1).median(1).values[:, None, None]
    contrast = contrast.clamp(min=0.0)
    total = contrast.sum((1, 2)).clamp(min=1e-12)
    found = []
    for axis in (1, 2):
        places = torch.arange(contrast.shape[axis], device=pixels.device, dtype=pixels.dtype)
        found.append((contrast.sum(3 - axis) * places).sum(1) / total)
    return torch.stack(found, 1)


def _position(rest: Images, donors: Images) -> Tensor:
    """Move the rest's image so that its middle is where the donor's is; what leaves comes back at the other side."""
    moves = (centroids(donors.pixels) - centroids(rest.pixels)).round().long()
    height, width = rest.pixels.shape[2:]
    rows = (torch.arange(height, device=moves.device) - moves[:, :1]) % height
    columns = (torch.arange(width, device=moves.device) - moves[:, 1:]) % width
    n = torch.arange(len(moves), device=moves.device)[:, None, None]
    return rest.pixels.movedim(1, 3)[n, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def _patch(share: float) -> Exchange:
    """Put the square around the donor's peak in the place of the square around the rest's own."""

    def exchanged(rest: Images, donors: Images) -> Tensor:
        height, width = rest.pixels.shape[2:]
        side = max(2, round(share * min(height, width)))
        here, there = (_corners(images.peaks, side, (height, width)) for images in (rest, donors))
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
        side = max(2, round(share * min(height, width)))
        rows, columns = (torch.arange(n, device=rest.pixels.device) for n in (height, width))
        found = []
        for images in (donors, rest):
            corners = _corners(images.peaks, side, (height, width))
            down, across = corners[:, :1], corners[:, 1:]
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
