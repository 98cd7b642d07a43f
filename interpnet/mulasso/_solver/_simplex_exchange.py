"""The shortest weights that give the same predictions, where columns depend on each other.

docs/method.md, section 2.5.
Source: Dantzig, "Linear Programming and Extensions", 1963; the rule "enter where most is won" with the first of ties.
"""

from __future__ import annotations

import numpy as np

from interpnet.mulasso._solver._batched_systems import pull_of
from interpnet.support.types import Float64, Int64

# A gain below this, for each unit of weight moved, is rounding.
_GAIN = 1e-9
# Entries of the table below this share of the largest are rounding and must not be divided by.
_PIVOT = 1e-9


def shortest(table: Float64, weight: Float64, sign: Float64, *, positive: bool) -> tuple[Int64, Float64]:
    """Return the K columns that hold the shortest weights, and their signs.

    ``table`` (K, n) is T, the n columns outside in terms of the K active ones, whose weights are ``weight`` (K,); no
    weight contradicts its ``sign`` (K,), 1 or -1. Columns are returned by number, 0 .. K - 1 for the active ones and
    K .. K + n - 1 for those outside.
    """
    K, n = table.shape
    T = table.copy()
    w = weight.copy()
    s = sign.copy()
    inside = np.arange(K)
    outside = np.arange(K, K + n)
    for _ in range(10 * (K + n)):
        # A unit of weight on column j, with the sign of its cost, saves |cost| - 1 of the l1 norm.
        cost = s @ T
        saved = pull_of(cost, positive=positive)
        j = int(saved.argmax())
        if saved[j] - 1 <= _GAIN:
            break
        enters = np.sign(cost[j])
        step = -enters * T[:, j]
        falls = s * step < -_PIVOT * np.abs(step).max()
        if not falls.any():
            break
        reach = np.full(K, np.inf)
        reach[falls] = w[falls] / -step[falls]
        i = int(reach.argmin())
        w += reach[i] * step
        w[i] = reach[i] * enters
        s[i] = enters
        _exchange(T, i, j)
        inside[i], outside[j] = outside[j], inside[i]
    return inside, s


def _exchange(T: Float64, i: int, j: int) -> None:
    """Rewrite the table, in place, for column j of those outside in the place of column i of those inside."""
    column = T[:, j].copy()
    row = T[i] / T[i, j]
    T -= np.outer(column, row)
    T[i] = row
    T[:, j] = -column / column[i]
    T[i, j] = 1 / column[i]
