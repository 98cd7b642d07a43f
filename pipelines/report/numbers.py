"""Numbers for a reader: one way to write each kind, with a dash for what does not exist."""

from __future__ import annotations

import math
from typing import Any

NAN = float("nan")
_NONE = "–"  # what stands where there is no number
_MINUS = "−"  # as wide as a plus, unlike a hyphen


def number(value: Any) -> float:
    """Return a number of a file as a float, NaN for ``None``: JSON has no NaN."""
    if value is None:
        return NAN
    return float(value)


def number_text(value: Any, digits: int = 2) -> str:
    """Return a number for a reader, ``–`` where there is none, with a real minus.

    Examples
    --------
    >>> number_text(-0.5), number_text(None), number_text(1234, 0), number_text(3e-9)
    ('−0.50', '–', '1,234', '3.0e−09')
    """
    known = number(value)
    if not math.isfinite(known):
        return _NONE
    text = f"{known:,.{digits}f}"
    # Rounded to nothing it would look like zero.
    if 0 < abs(known) < 0.5 * 10.0**-digits:
        text = f"{known:.1e}"
    return text.replace("-", _MINUS)


def share_text(value: Any, digits: int = 2) -> str:
    """Return a share, or an end of its interval, always in the same form: next to nothing is 0.00.

    Examples
    --------
    >>> share_text(0.0018), share_text(-0.0018), share_text(None)
    ('0.00', '0.00', '–')
    """
    known = number(value)
    if not math.isfinite(known):
        return _NONE
    # Adding zero takes the sign from a negative one.
    return f"{round(known, digits) + 0.0:.{digits}f}".replace("-", _MINUS)


def with_interval(value: Any, low: Any, high: Any) -> str:
    """Return a number with the ends of its interval.

    Examples
    --------
    >>> with_interval(0.123, 0.1, 0.15)
    '0.12 (0.10 to 0.15)'
    """
    return f"{share_text(value)} ({share_text(low)} to {share_text(high)})"


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, a real minus, and no negative zero.

    Examples
    --------
    >>> signed(-0.25), signed(-0.001), signed(0.5)
    ('−0.25', '0.00', '+0.50')
    """
    if not math.isfinite(value):
        return _NONE
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", _MINUS)


def span(ends: tuple[float, float], digits: int = 2) -> str:
    """Return an interval of changes, a dash where there is none.

    Examples
    --------
    >>> span((-0.25, 0.5)), span((float("nan"), float("nan")))
    ('−0.25 to +0.50', '–')
    """
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        return _NONE
    return f"{signed(low, digits)} to {signed(high, digits)}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    Examples
    --------
    >>> percent(0.1234), percent(float("nan"))
    ('12.3 %', '–')
    """
    share = number(value)
    if math.isnan(share):
        return _NONE
    return f"{100 * share:.{digits}f} %"
