"""What the passes of a dissection counted, and the overlaps and intervals that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interpnet.support.types import Float32, Float64, Int64

#: Groups of images, which the bootstrap draws; users' groups are in them by turns.
GROUPS = 50
_RESAMPLES = 1000
_LEVEL = 0.95
_ENTRIES = 4096  # channels and concepts resampled at once


@dataclass(frozen=True, eq=False)
class Counted:
    """Pixels of the images of one category, of m channels and K concepts, in G groups of images."""

    active: Int64  # (G, m): above the threshold
    shared: Int64  # (G, m, K): above, and of the concept
    covered: Int64  # (G, K): of the concept
    null: Float64  # (m,): the largest overlap with any concept of borrowed masks; NaN where nothing is above

    @classmethod
    def joined(cls, parts: Sequence[Counted]) -> Counted:
        """Return the counts of some channels after those of others."""
        return cls(
            np.concatenate([part.active for part in parts], 1),
            np.concatenate([part.shared for part in parts], 1),
            parts[0].covered,
            np.concatenate([part.null for part in parts]),
        )

    @cached_property
    def iou(self) -> Float64:
        """(m, K); NaN where there is nothing to divide by."""
        return overlap(self.shared.sum(0), self.active.sum(0)[:, None] + self.covered.sum(0))

    def intervals(self, least: float, seed: int) -> tuple[Float64, Float64]:
        """Return the ends (m, K) of the overlaps above ``least``, NaN elsewhere: groups of images drawn again."""
        low, high = (np.full(self.iou.shape, np.nan) for _ in range(2))
        groups = len(self.active)
        draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), _RESAMPLES)
        draws = draws.astype(np.float64)
        channels, concepts = np.nonzero(np.nan_to_num(self.iou, nan=-1.0) > least)
        ends = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
        for start in range(0, len(channels), _ENTRIES):
            c = channels[start : start + _ENTRIES]
            k = concepts[start : start + _ENTRIES]
            both = self.shared[:, c, k]
            union = draws @ (self.active[:, c] + self.covered[:, k] - both)
            low[c, k], high[c, k] = np.quantile((draws @ both) / np.maximum(union, 1), ends, axis=0)
        return low, high


@dataclass(frozen=True, eq=False)
class Counts:
    """What the passes found of m channels of one network."""

    thresholds: Float32  # (m,)
    top: Int64  # (m, t)
    categories: tuple[Counted, ...]

    @property
    def iou(self) -> Float64:
        """(m, K) with the concepts of all categories."""
        return np.concatenate([one.iou for one in self.categories], 1)

    @property
    def null(self) -> Float64:
        """(m,): the largest overlap with borrowed masks in any category; 0 where nothing is above."""
        found: Float64 = np.nan_to_num(np.fmax.reduce([one.null for one in self.categories]), nan=0.0)
        return found

    def intervals(self, least: float, seed: int) -> tuple[Float64, Float64]:
        """Return the ends (m, K) of all categories; see :meth:`Counted.intervals`."""
        ends = [one.intervals(least, seed) for one in self.categories]
        return np.concatenate([low for low, _ in ends], 1), np.concatenate([high for _, high in ends], 1)


def overlap(shared: Int64, sums: Int64) -> Float64:
    """Return shared / (sums - shared), NaN where that is 0 / 0.

    Examples
    --------
    >>> overlap(np.array([2, 0]), np.array([6, 0])).tolist()
    [0.5, nan]
    """
    union = sums - shared
    found: Float64 = np.divide(shared, union, out=np.full(union.shape, np.nan), where=union > 0, dtype=np.float64)
    return found
