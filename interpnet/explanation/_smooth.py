"""A Gaussian over heatmaps, by one small matrix per axis."""

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
