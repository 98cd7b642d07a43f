"""The area under a curve over the number of removed channels, and its differences paired over networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.common.tables import Interval, Line, paired
from experiments.rankings.orders import DRAWS, OURS, RANDOM


def area(ks: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of a curve over log2(1 + k), by trapezoids: each doubling of k counts the same.

    ``ks`` ascend from 0; a shorter curve ends the area.

    Examples
    --------
    >>> area([0, 1, 3], [1.0, 0.0, 0.0]), area([0, 1, 3], [1.0, 0.0])
    (0.25, 0.5)
    """
    x = np.log2(1 + np.asarray(ks[: len(values)], dtype=float))  # each doubling of k is one unit
    return float(np.trapezoid(values, x) / (x[-1] - x[0]))


def curve(line: Line, name: str, key: str) -> list[float]:
    """Return a ranking's ``own``, ``others`` or ``selective`` (others less own) curve in %; of ``random`` the mean."""
    if name == RANDOM:
        draws = [curve(line, f"{RANDOM} {i}", key) for i in range(DRAWS)]  # the draws are one ranking
        return [float(v) for v in np.mean(draws, axis=0)]
    row = line["curves"][name]
    if key == "selective":
        return [100 * (b - a) for a, b in zip(row["own"], row["others"], strict=True)]
    return [100 * v for v in row[key]]


def names(lines: Iterable[Line]) -> list[str]:
    """Return the rankings of the lines, the draws of ``random`` as one."""
    every = (name for line in lines for name in line["curves"])
    return list(dict.fromkeys(RANDOM if name.startswith(f"{RANDOM} ") else name for name in every))


def areas(lines: Sequence[Line], name: str, key: str) -> list[float]:
    """Return a ranking's area for every network, in points; where its curve is shorter, the area ends there."""
    return [area(line["ks"], curve(line, name, key)) for line in lines]


def gain(lines: Sequence[Line], name: str, key: str, upto: int | None = None) -> Interval:
    """Return our area less another ranking's over the networks, on the shorter curve's k and to ``upto`` at most."""
    differences = []
    for line in lines:
        ks = line["ks"]
        curves = [curve(line, one, key) for one in (OURS, name)]
        ends = [*map(len, curves), sum(k <= (upto or ks[-1]) for k in ks)]  # the shorter curve ends both
        ours, other = (area(ks, one[: min(ends)]) for one in curves)
        differences.append(ours - other)
    return paired(differences)
