"""A number in two runs with its difference, its interval, and whether the difference is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from interpnet.ablation import Effect, adjusted

from ..report.numbers import signed, span

#: A difference is one where chance would make as large a one this often, or more seldom.
LEVEL = 0.05
_HALF = float(special.ndtri(0.975))  # standard errors in half of a 95 % interval


@dataclass(frozen=True)
class Change:
    """A number of the first run and the second, and the second less the first."""

    first: float
    second: float
    change: float
    low: float  # the ends of its 95 % interval; NaN where there is none
    high: float
    p: float  # two-sided; among several classes adjusted for the share of false discoveries; NaN where not tested

    @property
    def differs(self) -> bool:
        """Whether it is more than chance."""
        return self.p <= LEVEL

    @property
    def said(self) -> str:
        """What is said of it: "higher", "lower", or nothing that chance would not do."""
        if not math.isfinite(self.p):
            return "not tested"
        if not self.differs:
            return "within chance"
        return {True: "higher", False: "lower"}[self.change > 0]

    def words(self, digits: int = 3) -> str:
        """Return the difference with its interval."""
        if not math.isfinite(self.low):
            return signed(self.change, digits)
        return f"{signed(self.change, digits)} ({span((self.low, self.high), digits)})"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers; NaN is ``None``."""
        numbers = {name: value if math.isfinite(value) else None for name, value in vars(self).items()}
        return {**numbers, "differs": self.differs}


def of_effect(first: float, second: float, effect: Effect) -> Change:
    """Return the change whose difference, interval and p-value are those of an effect over images."""
    known = effect.known.any()
    low, high = effect.interval() if known else (math.nan, math.nan)
    return Change(first, second, effect.overall(), low, high, two_sided(effect) if known else math.nan)


def two_sided(effect: Effect) -> float:
    """Return how often chance makes a difference as large in either direction."""
    return min(1.0, 2 * min(effect.p_value(), (-effect).p_value()))


def of_intervals(first: tuple[float, float, float], second: tuple[float, float, float]) -> Change:
    """Return the change of two numbers, each given with the ends of its 95 % interval, of independent samples.

    The interval is that of Zou and Donner (2008), from the distances of the numbers to the ends that face each other.

    Examples
    --------
    >>> found = of_intervals((0.5, 0.4, 0.6), (0.8, 0.7, 0.85))
    >>> round(found.low, 3), round(found.high, 3), found.differs
    (0.159, 0.412, True)
    """
    a, low_a, high_a = first
    b, low_b, high_b = second
    change = b - a
    down = math.hypot(b - low_b, high_a - a)
    up = math.hypot(high_b - b, a - low_a)
    facing = down if change > 0 else up
    p = math.nan
    if math.isfinite(facing):
        p = 1.0
        if change != 0:
            p = 2 * float(special.ndtr(-_HALF * abs(change) / facing)) if facing > 0 else 0.0
    return Change(a, b, change, change - down, change + up, p)


def of_errors(first: float, second: float, stderr: float) -> Change:
    """Return the change of two means of many images, with the standard error of their difference."""
    half = _HALF * stderr
    change = second - first
    p = math.nan
    if math.isfinite(change) and stderr > 0:
        p = 2 * float(special.ndtr(-abs(change) / stderr))
    return Change(first, second, change, change - half, change + half, p)


def among(changes: Sequence[Change]) -> list[Change]:
    """Return changes, each one of several, with p-values adjusted for the share of false discoveries."""
    if not changes:
        return []
    p = adjusted(np.array([one.p for one in changes]))
    return [replace(one, p=float(value)) for one, value in zip(changes, p, strict=True)]


def counted(changes: Iterable[Change]) -> tuple[int, int]:
    """Return how many are higher and how many lower."""
    said = [one.said for one in changes]
    return said.count("higher"), said.count("lower")
