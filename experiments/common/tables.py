"""Numbers as the pages show them: tables, intervals, minus signs; and where an interval lies."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Line = dict[str, Any]


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.high < 0

    def times(self, factor: float) -> Interval:
        """Return the interval of the quantity times a factor; a negative one exchanges the ends.

        Examples
        --------
        >>> Interval(1.0, 0.0, 3.0).times(-1)
        Interval(mean=-1.0, low=-3.0, high=-0.0)
        """
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.mean, low, high)


def paired(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return mean and Student's interval of differences paired over seeds (or networks).

    Examples
    --------
    >>> [round(v, 2) for v in paired([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    mean = float(np.mean(values))
    if len(values) < 2:  # one value has no spread
        return Interval(mean, -math.inf, math.inf)
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))  # standard error of the mean
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * spread  # Student's quantile: few networks
    return Interval(mean, mean - half, mean + half)


def proportion(hits: int, total: int, z: float = 1.96) -> Interval:
    """Return a share with Wilson's 95 % interval; of nothing it is NaN, and may be anything from 0 to 1.

    Examples
    --------
    >>> [round(v, 3) for v in proportion(45, 50)]
    [0.9, 0.786, 0.957]
    """
    if not total:
        return Interval(math.nan, 0.0, 1.0)
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def of_draws(values: Sequence[float] | np.ndarray) -> Interval:
    """Return the first value with the 95 % interval of the others, which are a bootstrap's draws; NaN is left out.

    Examples
    --------
    >>> of_draws([5.0, *range(101)])
    Interval(mean=5.0, low=2.5, high=97.5)
    """
    low, high = np.nanquantile(np.asarray(values[1:], dtype=np.float64), [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def number(value: float, form: str = ".1f") -> str:
    """Return a number with a minus sign, not a hyphen.

    Examples
    --------
    >>> number(-1.25), number(0.5, "+.2f")
    ('−1.2', '+0.50')
    """
    return f"{value:{form}}".replace("-", "−")


def signed(values: tuple[float, float, float], digits: int = 1) -> str:
    """Return ``+1.2 (−0.3 to +2.7)``.

    Examples
    --------
    >>> signed((1.23, -0.31, 2.74))
    '+1.2 (−0.3 to +2.7)'
    """
    mean, low, high = (number(v, f"+.{digits}f") for v in values)
    return f"{mean} ({low} to {high})"


def points(interval: Interval) -> str:
    """Return a share with its interval in percentage points."""
    return signed(interval.times(100))


def emphasised(name: str, strong: Collection[str] = (), weak: Collection[str] = ()) -> str:
    """Return a name in bold where it is one of ``strong``, in italics where it is one of ``weak``."""
    if name in strong:
        return f"**{name}**"
    if name in weak:
        return f"*{name}*"
    return name


def against(difference: Interval, *, more: bool, digits: int = 1) -> str:
    """Return ours less another's (``more``: more is better), bold where the whole interval says the other is better."""
    text = signed(difference, digits)
    loses = difference.below if more else difference.above
    return emphasised(text, [text] * loses)


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table.

    Examples
    --------
    >>> print(markdown(["a", "b"], [["x", 1]]))
    | a | b |
    | --- | --- |
    | x | 1 |
    """
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    r"""Return text that stays within a cell of a Markdown table.

    Examples
    --------
    >>> print(cell("a | b\n c"))
    a \| b c
    """
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def sections(parts: Mapping[str, str], first: str) -> str:
    """Return a first paragraph, then every part under its heading."""
    return "\n\n".join([first, *(f"### {title}\n\n{part}" for title, part in parts.items())])


def grouped(lines: Iterable[Line], *keys: str) -> dict[tuple[Any, ...], list[Line]]:
    """Return the lines by the values of some keys, in the order in which these first came.

    Examples
    --------
    >>> list(grouped([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 0, "b": 2}], "a"))
    [(1,), (0,)]
    """
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(tuple(line[key] for key in keys), []).append(line)
    return found


def minutes(lines: Iterable[Line]) -> float:
    """Return how many minutes the lines took to measure."""
    return float(sum(line["seconds"] for line in lines)) / 60


def commits(lines: Iterable[Line]) -> str:
    """Return the commits whose code measured the lines."""
    return ", ".join(sorted({one for line in lines for one in line["commit"].split(", ")}))
