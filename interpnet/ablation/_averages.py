"""Means over what is known, and their intervals over repeats; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

from interpnet.errors import InterpNetError
from interpnet.support.checks import number, real_array
from interpnet.support.types import Float64


def finite_mean(values: Any) -> float:
    """Return the mean of the finite entries, NaN without a warning where there is none.

    Examples
    --------
    >>> finite_mean([1.0, float("nan"), 3.0])
    2.0
    """
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if array.size else float("nan")


def interval(values: Float64, level: float = 0.95) -> tuple[float, float]:
    """Return the Student-t interval of the mean of ``values`` (R,); the value itself for R = 1.

    ``mean +- t_{R-1} * sd / sqrt(R)`` (docs/method.md, section 6.1) speaks of the control's draws, not of the images.

    Examples
    --------
    >>> tuple(round(v, 3) for v in interval(np.array([1.0, 2.0, 3.0])))
    (-0.484, 4.484)
    """
    if not 0 < number(level, "level") < 1:
        raise InterpNetError(f"level is {level}; expected a share between 0 and 1")
    values = real_array(values, "values")
    values = values[~np.isnan(values)]
    mean = finite_mean(values)
    if len(values) < 2:  # one value has no spread, and none has no mean
        return mean, mean
    half = float(special.stdtrit(len(values) - 1, 0.5 + level / 2)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def means(rows: Iterable[Float64]) -> Float64:
    """Return the mean of the finite entries of each row, NaN where there is none."""
    return np.array([finite_mean(row) for row in rows], np.float64)


def by_class(values: Float64) -> Float64:
    """Return (C,): the mean over repeats of an (R, C) array, NaN where a class has no value."""
    found = np.full(values.shape[1], np.nan)
    # Of many classes most have no value.
    there = np.flatnonzero(np.isfinite(values).any(0))
    found[there] = means(values[:, there].T)
    return found


def within(ends: tuple[float, float]) -> tuple[float, float]:
    """Return the part of an interval of recalls that lies in [0, 1]."""
    low, high = ends
    return max(low, 0.0), min(high, 1.0)
