"""Cutting what a channel answers to out of an image by its heatmap, and filling the hole from what surrounds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn import functional

from interpnet.support.types import Bools, Float64

# Of the shorter side: the standard deviation under which a heatmap is read, and that of a patch's edge.
_SMOOTH = 1 / 32
_STRONG = 0.5  # of the heatmap's maximum: what belongs to the patch
_MOST = 1 / 9  # of the image that a patch may cover, before its edge is softened
_FAINT = 0.02  # opacity that is not worth a pixel
_REACH = 3.0  # standard deviations of an edge


@dataclass(frozen=True)
class Patch:
    """What a channel answers to in one image."""

    row: int  # of the image
    image: Tensor  # (C, H, W)
    opacity: Tensor  # (H, W)
    quiet: tuple[int, int]  # by how many rows and columns the place lies away where the channel answers least

    def without(self) -> list[Tensor]:
        """Return the image without the patch, and without what lies where the channel is quiet."""
        return [self._emptied(self.opacity), self._emptied(moved(self.opacity, self.quiet))]

    def _emptied(self, opacity: Tensor) -> Tensor:
        return torch.lerp(self.image, filled(self.image, (opacity > 0).numpy()), opacity)

    def on(self, image: Tensor) -> Tensor:
        """Return another image with the patch."""
        return torch.lerp(image, self.image, self.opacity)

    def ways_on(self, image: Tensor, rng: np.random.Generator) -> list[Tensor]:
        """Return another image with the patch, a quiet patch, the patch's pixels in another order, it elsewhere."""
        quiet = moved(self.image, (-self.quiet[0], -self.quiet[1]))
        mixed = reordered(self.image, self.opacity, rng)
        aside = anywhere(self.opacity.numpy(), rng)
        return [
            self.on(image),
            torch.lerp(image, quiet, self.opacity),
            torch.lerp(image, mixed, self.opacity),
            torch.lerp(image, moved(self.image, aside), moved(self.opacity, aside)),
        ]


def cut_by(heatmap: Float64) -> Float64:
    """Return the opacity (H, W) of the patch that a heatmap (H, W), not below 0, cuts out; 0 all over if it is flat.

    The heatmap is smoothed; the patch is what exceeds half of its maximum and hangs together with it, but at most a
    ninth of the image; it is widened and its edge softened.
    """
    width = _width(heatmap.shape)
    strength = ndimage.gaussian_filter(heatmap, width, mode="reflect")
    peak = strength.max()
    if peak <= strength.min():
        return np.zeros_like(strength)
    most = max(1, int(_MOST * strength.size))
    threshold = max(_STRONG * peak, np.partition(strength, -most, axis=None)[-most])
    parts, _ = ndimage.label(strength >= threshold)
    core = parts == parts[np.unravel_index(int(strength.argmax()), strength.shape)]
    wide = ndimage.binary_dilation(core, iterations=round(width))
    opacity = ndimage.gaussian_filter(wide.astype(np.float64), width, mode="nearest", truncate=_REACH)
    opacity[opacity < _FAINT] = 0.0
    return np.asarray(opacity, dtype=np.float64)


def _width(shape: tuple[int, ...]) -> float:
    return max(1.0, min(shape) * _SMOOTH)


def quietest(heatmap: Float64, opacity: Float64, rng: np.random.Generator) -> tuple[int, int]:
    """Return by how many rows and columns the patch moves to where the heatmap is lowest under it.

    It stays within the image, and beside its own place where there is room. One of several lowest places is drawn.
    """
    places = _places(opacity)
    window = torch.from_numpy(opacity[places.rows, places.columns])
    under = functional.conv2d(torch.from_numpy(heatmap)[None, None], window[None, None])[0, 0].numpy()
    height, width = window.shape
    rows, columns = (np.arange(n) for n in under.shape)
    beside = (abs(rows - places.rows.start) >= height)[:, None] | (abs(columns - places.columns.start) >= width)
    if beside.any():
        under = np.where(beside, under, np.inf)
    lowest = under.min()
    # Convolution leaves rounding where the map is 0.
    equal = np.flatnonzero(under <= lowest + 1e-9 * max(float(heatmap.sum()), 1e-300))
    row, column = np.unravel_index(int(rng.choice(equal)), under.shape)
    return int(row) - places.rows.start, int(column) - places.columns.start


def anywhere(opacity: Float64, rng: np.random.Generator) -> tuple[int, int]:
    """Return by how many rows and columns a patch moves to a place within the image, drawn at random."""
    places = _places(opacity)
    height, width = opacity.shape
    row = rng.integers(0, height - (places.rows.stop - places.rows.start) + 1)
    column = rng.integers(0, width - (places.columns.stop - places.columns.start) + 1)
    return int(row) - places.rows.start, int(column) - places.columns.start


class _Places(NamedTuple):
    """The rows and columns that a patch covers."""

    rows: slice
    columns: slice


def _places(opacity: Float64) -> _Places:
    rows, columns = (np.flatnonzero(opacity.any(axis)) for axis in (1, 0))
    return _Places(slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))


def moved(images: Tensor, by: tuple[int, int]) -> Tensor:
    """Return images (..., H, W) moved by rows and columns; what leaves comes back opposite."""
    return images.roll(by, (-2, -1))


def reordered(image: Tensor, opacity: Tensor, rng: np.random.Generator) -> Tensor:
    """Return an image (C, H, W) with the pixels under a patch (H, W) in another order; the opacity stays."""
    at = torch.nonzero(opacity.flatten() > 0).flatten()
    result = image.flatten(1).clone()
    result[:, at] = result[:, at[torch.from_numpy(rng.permutation(len(at)))]]
    return result.view_as(image)


def filled(image: Tensor, hole: Bools) -> Tensor:
    """Return an image (C, H, W) with what is in a hole (H, W) made from its rim: each pixel the mean of its neighbours.

    That is the harmonic function with the rim's values; at the image's edge it is flat. Of the four neighbours of a
    pixel, those beyond the edge do not count.

    Examples
    --------
    >>> line = torch.tensor([[[0.0, 9.0, 9.0, 3.0]]])
    >>> filled(line, np.array([[False, True, True, False]]))
    tensor([[[0., 1., 2., 3.]]])
    """
    if not hole.any() or hole.all():
        return image
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    values = image.detach().cpu().double().numpy()
    rim = np.zeros((int(hole.sum()), len(values)))
    degree = np.zeros(len(rim))
    pairs = []
    for here, there in _neighbours():
        own = number[here]
        other = number[there]
        inside = own >= 0
        degree[own[inside]] += 1.0
        edge = inside & (other < 0)
        rim[own[edge]] += values[:, *there][:, edge].T
        both = inside & (other >= 0)
        pairs.append(np.stack([own[both], other[both]]))
    row, column = np.concatenate(pairs, 1)
    laplacian = sparse.diags(degree) - sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(rim), len(rim)))
    result = values.copy()
    result[:, hole] = splu(laplacian.tocsc()).solve(rim).T
    return torch.from_numpy(result).to(image)


def _neighbours() -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return (here, there) for each of the four directions: places of an image, and their neighbours'."""
    every, first, last = slice(None), slice(None, -1), slice(1, None)
    down = ((first, every), (last, every))
    across = ((every, first), (every, last))
    return [down, down[::-1], across, across[::-1]]
