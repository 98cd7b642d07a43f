"""Enlarging maps between their values, only where something can be above a limit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from interpnet.concepts._above import above, true_at

_CHUNK = 1 << 18  # pixels at once: what a processor's cache holds


class Cells:
    """The enlargement (bilinear) of maps (h, w) to a grid (H, W), in cells: the pixels between the same four values.

    A pixel lies between the values around it, so that it is above a limit only where one of these is: the others need
    not be computed.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]) -> None:
        rows, columns = (_Axis(*pair) for pair in zip(size, grid, strict=True))
        self.count = len(rows.first) * len(columns.first)
        self.pixels = rows.pixels.shape[1] * columns.pixels.shape[1]  # of the largest cell
        self._columns = len(columns.first)
        self._down, self._across = rows, columns
        # (cells, 4): the positions of the values around a cell.
        self._corners = torch.stack(
            [
                (row[:, None] * size[1] + column).flatten()
                for row in (rows.first, rows.second)
                for column in (columns.first, columns.second)
            ],
            1,
        )
        # (cells, pixels): the number of each pixel on the grid.
        self._numbers = (
            (rows.pixels[:, None, :, None] * grid[1] + columns.pixels[:, None, :]).flatten(2).flatten(0, 1).int()
        )
        # Of each position the up to four cells that it is around; beyond the end stands for none.
        around = torch.full((2, 2, *size), self.count)
        for i, row in enumerate(rows.around):
            for j, column in enumerate(columns.around):
                some = (row[:, None] >= 0) & (column >= 0)
                around[i, j][some] = (row[:, None] * self._columns + column)[some]
        around = around.view(4, -1)
        self._around = around[(around < self.count).any(1)]

    def above(self, maps: Tensor, limits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (channel * B + image, pixel), each (n,), of what is above limits (C,) in maps (B, C, h, w), in order.

        By and by, so many as fit a cache.
        """
        images, channels = maps.shape[:2]
        found = above(maps, limits)
        marks = torch.zeros(channels * images, self.count + 1, dtype=torch.bool, device=maps.device)
        of = found.channel * images + found.image
        for around in self._around.to(maps.device):
            marks[of, around[found.place]] = True
        marks[:, -1] = False
        flat = maps.flatten(2)
        for some in torch.split(true_at(marks), max(1, _CHUNK // self.pixels)):
            which, cell = some.div(self.count + 1, rounding_mode="floor"), some % (self.count + 1)
            channel = which.div(images, rounding_mode="floor")
            values = flat[(which % images)[:, None], channel[:, None], self._corners.to(maps.device)[cell]]
            at = true_at(self._between(values, cell) > limits[channel, None, None])
            own = at.div(self.pixels, rounding_mode="floor")
            yield which[own], self._numbers.to(maps.device)[cell].flatten()[at]

    def _between(self, values: Tensor, cell: Tensor) -> Tensor:
        """Return the pixels (n, rows, columns) of cells between four values (n, 4) each; NaN where there is none."""
        row, column = cell.div(self._columns, rounding_mode="floor"), cell % self._columns
        across = self._across.weights.to(cell.device)[column][:, None]
        # Between two equal values is that value itself, which a limit can be.
        left, right = values[:, 0::2, None], values[:, 1::2, None]
        lines = left + (right - left) * across
        upper, lower = lines[:, :1], lines[:, 1:]
        found: Tensor = upper + (lower - upper) * self._down.weights.to(cell.device)[row][:, :, None]
        return found


class _Axis:
    """One side: n cells between two of its ``size`` positions each, with the pixels among ``pixels`` that lie there."""

    def __init__(self, size: int, pixels: int) -> None:
        # Centres of pixels among those of positions, none before the first or behind the last. In whole numbers: so a
        # pixel on a position has nothing of the next one.
        place = ((2 * torch.arange(pixels) + 1) * size - pixels).clamp(0, 2 * pixels * (size - 1))
        before, beyond = place.div(2 * pixels, rounding_mode="floor"), place % (2 * pixels)
        self.first, cell, counts = torch.unique_consecutive(before, return_inverse=True, return_counts=True)
        inside = torch.arange(pixels) - (counts.cumsum(0) - counts)[cell]
        shape = (len(self.first), int(counts.max()))
        #: (n, f): the pixels of each cell, and how much of the second position is in them; NaN beyond the cell's end.
        self.pixels, self.weights = torch.zeros(shape, dtype=torch.int64), torch.full(shape, torch.nan)
        self.pixels[cell, inside] = torch.arange(pixels)
        self.weights[cell, inside] = (beyond.double() / (2 * pixels)).float()
        # Where no pixel lies between them, the second is the first.
        between = torch.zeros_like(counts).index_add_(0, cell, beyond) > 0
        self.second = torch.where(between, self.first + 1, self.first)
        #: (2, size): the cell behind each position and the one before it; -1 for none.
        self.around = torch.full((2, size), -1)
        self.around[0, self.first] = torch.arange(len(self.first))
        self.around[1, self.second[between]] = torch.arange(len(self.first))[between]


@lru_cache(maxsize=64)
def cells(size: tuple[int, int], grid: tuple[int, int]) -> Cells:
    """Return the cells of an enlargement, made once.

    Examples
    --------
    >>> maps, limits = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.tensor([0.5])
    >>> [(of.tolist(), pixel.tolist()) for of, pixel in cells((1, 2), (1, 4)).above(maps, limits)]
    [([0, 0], [2, 3])]
    """
    return Cells(size, grid)
