"""What the homotopy knows of every class; rows of every tensor are classes, padded to one number K of active slots."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass
class ActiveSet:
    """The active columns (C, K) and their weights, ``offset - multiplier * slope``; 0 in unused slots."""

    column: Tensor  # int64; anything in unused slots
    used: Tensor  # bool
    sign: Tensor  # of the weights
    offset: Tensor  # inv(G_AA) b_A
    slope: Tensor  # inv(G_AA) sign
    inverse: Tensor  # inv(G_AA), (C, K, K)

    @staticmethod
    def empty(b: Tensor, slots: int) -> ActiveSet:
        """Return the state at w = 0, for correlations ``b`` (C, m)."""
        zeros = b.new_zeros(len(b), slots)
        inverse = b.new_zeros(len(b), slots, slots)
        return ActiveSet(zeros.long(), zeros.bool(), zeros.clone(), zeros.clone(), zeros.clone(), inverse)

    def widened(self, more: int) -> ActiveSet:
        """Return the same with ``more`` unused slots."""
        vectors = (self.column, self.used, self.sign, self.offset, self.slope)
        column, used, sign, offset, slope = (pad(x, (0, more)) for x in vectors)
        return ActiveSet(column, used, sign, offset, slope, pad(self.inverse, (0, more, 0, more)))

    def free(self, row: Tensor, slot: Tensor) -> None:
        """Clear one slot of each class in ``row``."""
        for array in (self.used, self.sign, self.offset, self.slope, self.inverse):
            array[row, slot] = 0
        self.inverse[row, :, slot] = 0


@dataclass
class Correlations:
    """Correlations (C, m) of all columns with the residual, ``offset + multiplier * slope``."""

    at_zero: Tensor  # b: those at w = 0
    offset: Tensor
    slope: Tensor
    bar: Tensor  # 0 for a column that may join, minus infinity for one that is active, empty or was found dependent


@dataclass
class Progress:
    """How far each class (C,) has come."""

    ids: Tensor  # which class a row is
    idle: Tensor  # steps of length zero in a row
    target: Tensor  # the next radius to report
    multiplier: Tensor  # at present
    floor: Tensor  # the multiplier at which the path ends
    alive: Tensor  # bool
    safe: Tensor  # (C, m): the last weights that were looked at and found in order


class GramRows:
    """Rows of G of the columns active so far in any class: few, early on; a step's product runs over them only."""

    def __init__(self, G: Tensor) -> None:
        self._G = G
        self._rows = G.new_empty(32, len(G))
        self._count = 0
        self._place = torch.zeros(len(G), dtype=torch.int64, device=G.device)
        self._known = torch.zeros(len(G), dtype=torch.bool, device=G.device)

    def add(self, columns: Tensor) -> None:
        """Add the columns that are active for the first time."""
        fresh = columns[~self._known[columns]]
        if len(fresh) == 0:
            return
        fresh = torch.unique(fresh)
        end = self._count + len(fresh)
        if end > len(self._rows):
            more = min(max(end, 2 * len(self._rows)), len(self._G)) - len(self._rows)
            self._rows = torch.cat([self._rows, self._rows.new_empty(more, len(self._G))])
        self._rows[self._count : end] = self._G[fresh]
        self._place[fresh] = torch.arange(self._count, end, device=fresh.device)
        self._known[fresh] = True
        self._count = end

    def image(self, column: Tensor, weight: Tensor) -> Tensor:
        """Return ``w' G`` (C, m) of weights (C, K) on added columns (C, K)."""
        spread = weight.new_zeros(len(weight), self._count).scatter_add_(1, self._place[column], weight)
        return spread @ self._rows[: self._count]
