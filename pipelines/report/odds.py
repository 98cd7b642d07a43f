"""Log-odds in words."""

from __future__ import annotations

import math

from .numbers import percent


def probability(odds: float) -> str:
    """Return the probability of log-odds in words of a caption.

    Examples
    --------
    >>> probability(0.0), probability(-20.0)
    ('50.0 %', 'below 0.1 %')
    """
    share = 1 / (1 + math.exp(-min(max(odds, -700.0), 700.0)))
    if 0 < share < 0.001:
        return "below 0.1 %"
    return percent(share)
