"""What is done to a map before it is scaled: a Gaussian, by one small matrix per axis, and a limit to its peaks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import InterpNetError
from interpnet.support.checks import is_number
from interpnet.support.types import Float64

# The Gaussian ends so many standard deviations from its middle.
_REACH = 4.0
# A Gaussian so many times as wide as the map leaves its mean.
_WIDEST = 4.0


def checked_width(smooth: float) -> float:
    """Return ``smooth`` where it can be a Gaussian's standard deviation: a finite number of at least 0."""
    if not is_number(smooth) or not 0 <= smooth < math.inf:
        raise InterpNetError(
            f"smooth is {smooth!r}; expected a number of at least 0: the standard deviation in pixels, 0 for none"
        )
    return float(smooth)


def blurred(maps: Tensor, smooth: float, *, axes: int = 2) -> Tensor:
    """Return maps (..., H, W) under a Gaussian with a standard deviation of ``smooth`` pixels; 0 leaves them alone.

    ``axes`` is the number of axes of one map. Beyond its edges the map is mirrored, the outermost pixel included, so
    that its sum stays. The Gaussian ends at 4 standard deviations.

    Examples
    --------
    >>> blurred(torch.tensor([[0.0, 1.0, 0.0]]), 0.5, axes=1).round(decimals=3)
    tensor([[0.1070, 0.7870, 0.1070]])
    """
    if smooth == 0:
        return maps
    for axis in range(-axes, 0):
        matrix = torch.from_numpy(gaussian(maps.shape[axis], smooth)).to(maps)
        maps = (maps.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return maps


def checked_share(saturate: float) -> float:
    """Return ``saturate`` where it can be a share of pixels: above 0, at most 1."""
    if not is_number(saturate) or not 0 < saturate <= 1:
        raise InterpNetError(
            f"saturate is {saturate!r}; expected a share of pixels above 0 and at most 1: above this quantile of a map "
            "its values are cut, 1 for none"
        )
    return float(saturate)


def saturated(maps: Tensor, saturate: float, *, axes: int = 2) -> Tensor:
    """Return maps (..., H, W) with the values above their own quantile ``saturate`` set to it; 1 leaves them alone.

    Otherwise a few hot pixels set the scale of a map, and the rest of it is dark. ``axes`` is the number of axes of one
    map. The quantile lies between two pixels, by linear interpolation. Where it is the map's minimum, as in a map of
    few positive pixels, the map stays as it is: cut there, it would be blank.

    Examples
    --------
    >>> saturated(torch.tensor([0.0, 1.0, 2.0, 9.0]), 0.5, axes=1)
    tensor([0.0000, 1.0000, 1.5000, 1.5000])
    """
    if saturate == 1:
        return maps
    flat = maps.flatten(-axes)
    # torch.quantile takes at most 16 million numbers; sorting has no such limit.
    ranked = flat.sort(-1).values
    place = saturate * (flat.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, flat.shape[-1] - 1)
    limit = torch.lerp(ranked[..., below], ranked[..., above], place - below)
    limit = torch.where(limit > ranked[..., 0], limit, ranked[..., -1])
    return torch.minimum(flat, limit[..., None]).view_as(maps)


def gaussian(n: int, sigma: float) -> Float64:
    """Return the symmetric matrix (n, n) that a row of n pixels is multiplied by to smooth it; its rows sum to 1."""
    if sigma > _WIDEST * n:
        return np.full((n, n), 1 / n)
    reach = int(_REACH * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    # Mirrored at every edge, the pixels repeat after twice as many.
    places = (np.arange(n)[:, None] + steps) % (2 * n)
    places = np.minimum(places, 2 * n - 1 - places)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], places), weights)
    return matrix
