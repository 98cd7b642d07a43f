"""The area under a curve over the number of removed channels, and its differences paired over networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common.pages import paired
from experiments.rankings.orders import DRAWS, OURS, RANDOM


def area(ks: Sequence[int], values: Sequence[float], upto: int | None = None) -> float:
    """Return the mean of a curve over log2(1 + k), by trapezoids: each doubling of k counts the same.

    Parameters
    ----------
    ks : sequence of int
        Ascending, from 0.
    values : sequence of float
        The curve there.
    upto : int, optional
        Where the area ends; by default at the last k.

    Examples
    --------
    >>> area([0, 1, 3], [1.0, 0.0, 0.0])
    0.25
    >>> area([0, 1, 3], [1.0, 0.0, 0.0], upto=1)
    0.5
    """
    n = len(ks) if upto is None else sum(k <= upto for k in ks)
    x = np.log2(1 + np.asarray(ks[:n], dtype=float))
    return float(np.trapezoid(values[:n], x) / (x[-1] - x[0]))


def curve(line: dict[str, Any], name: str, key: str) -> list[float]:
    """Return a ranking's curve in percent: ``own``, ``others``, or ``selective``, the others less the own class.

    ``random`` is the mean over its draws.
    """
    if name == RANDOM:
        draws = [curve(line, f"{RANDOM} {i}", key) for i in range(DRAWS)]
        return [float(v) for v in np.mean(draws, axis=0)]
    row = line["curves"][name]
    if key == "selective":
        return [100 * (b - a) for a, b in zip(row["own"], row["others"], strict=True)]
    return [100 * v for v in row[key]]


def names(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rankings of the lines, the draws of ``random`` as one."""
    found: dict[str, None] = {}
    for line in lines:
        for name in line["curves"]:
            found.setdefault(RANDOM if name.startswith(f"{RANDOM} ") else name)
    return list(found)


def areas(lines: Sequence[dict[str, Any]], name: str, key: str, upto: int | None = None) -> list[float]:
    """Return a ranking's area for every network, in points; where its curve is shorter, the area ends there."""
    return [
        area(line["ks"], curve(line, name, key), _shortest(line, name, upto))
        for line in lines
    ]  # fmt: skip


def _shortest(line: dict[str, Any], name: str, upto: int | None) -> int | None:
    n = len(curve(line, name, "own"))
    last = int(line["ks"][n - 1])
    return last if upto is None else min(upto, last)


def gain(lines: Sequence[dict[str, Any]], name: str, key: str, upto: int | None = None) -> tuple[float, float, float]:
    """Return our area less another ranking's, over the networks: mean and 95 % interval, on the shorter curve's k."""
    differences = []
    for line in lines:
        end = _shortest(line, name, upto)
        differences.append(areas([line], OURS, key, end)[0] - areas([line], name, key, end)[0])
    return paired(differences)
