"""Whether a concept's direction does more than those of sets of images that stand for nothing."""

from __future__ import annotations

import numpy as np
from scipy import stats

from interpnet.support.types import Float64

_DRAWS = 1000
_TIE = 1e-12


def rank_p(value: float, null: Float64) -> float:
    """Return the two-sided p-value of a number against numbers (R,) that it could change places with by chance.

    ``(1 + #{|null| >= |value|}) / (1 + R)``: exact, whatever they are distributed like, and never below 1 / (1 + R).

    Examples
    --------
    >>> rank_p(-3.0, np.array([1.0, -1.0, 2.0])), rank_p(1.0, np.array([1.0, -1.0, 2.0]))
    (0.25, 1.0)
    """
    beyond = int((np.abs(null) >= abs(value) - _TIE).sum())
    return (1 + beyond) / (1 + len(null))


def intervals(values: Float64, draws: np.random.Generator) -> Float64:
    """Return (..., 2): the 95 % interval of the mean over the last axis, from a bootstrap of 1,000 draws.

    Examples
    --------
    >>> intervals(np.ones((3, 4)), np.random.default_rng(0)).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    n = values.shape[-1]
    counts = draws.multinomial(n, np.full(n, 1 / n), size=_DRAWS)
    means = values @ counts.T / n
    ends: Float64 = np.moveaxis(np.quantile(means, [0.025, 0.975], axis=-1), 0, -1)
    return ends


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of n, which need not be a whole number of them.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(0.9, 50)]
    [0.786, 0.957]
    """
    z = float(stats.norm.ppf(0.975))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # Rounding may put a share of 0 or 1 beside its end.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
