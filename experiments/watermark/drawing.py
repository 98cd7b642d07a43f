"""Which classes field images lean to, computed from logits alone: what the search says, written a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from experiments.watermark.photographs import CONTROL, IN_PLACE, MARK, PLAIN
from experiments.watermark.run import CARTON
from interpnet.support.types import Float64, Int64

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the field images that bear the watermark
_TAIL = 0.05
LEVEL = 0.05  # of the adjusted p-value, as the search has it
_NAMED = 10


class Leaning(NamedTuple):
    """Of every class (1000,)."""

    n: Int64  # field images that lean to it
    p: Float64  # adjusted
    place: Int64  # among all, the most surprising first


def log_odds(logits: Float64) -> Float64:
    """Return the log-odds (N, C) of every class.

    Examples
    --------
    >>> log_odds(np.log([[0.5, 0.25, 0.25]])).round(3).tolist()
    [[0.0, -1.099, -1.099]]
    """
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    odds: Float64 = log_p - np.log(-np.expm1(np.minimum(log_p, -1e-15)))
    return odds


def threshold(known: Float64, labels: Int64, k: int) -> float:
    """Return the log-odds of class k that 95 % of training images of other classes stay below."""
    return float(np.quantile(known[labels != k, k], 1 - _TAIL))


def leaning(known: Float64, labels: Int64, field: Float64) -> Leaning:
    """Compare log-odds of field images (F, C) with those of training images (N, C)."""
    thresholds = np.quantile(known, 1 - _TAIL, axis=0)
    for k in np.unique(labels):  # of images of other classes
        thresholds[k] = threshold(known, labels, int(k))
    n, before = (field > thresholds).sum(0), (known > thresholds).sum(0)
    # Fisher's exact test, one-sided.
    p = stats.hypergeom.sf(n - 1, len(known) + len(field), n + before, len(field))
    adjusted = stats.false_discovery_control(p)
    place = np.empty(len(p), dtype=np.int64)
    place[np.lexsort((-n, adjusted))] = 1 + np.arange(len(p))
    return Leaning(n, adjusted, place)


def splits(logits: dict[str, Float64], labels: Int64, most: int) -> dict[str, Any]:
    """Return what becomes of the carton when two fifths of the photographs are training images and two are the field.

    Drawn at random many times; of the field images a share bears the watermark, or its control.
    """
    odds = {name: log_odds(rows) for name, rows in logits.items()}
    draws = np.random.default_rng(0)
    runs: dict[tuple[str, float], list[Leaning]] = {}
    for _ in range(most):
        order = draws.permutation(len(labels))
        half = 2 * len(order) // 5
        known, field = order[:half], order[half : 2 * half]
        for version, share in [(PLAIN, 0.0), (CONTROL, 0.25), (IN_PLACE, 0.25), *((MARK, share) for share in SHARES)]:
            with_it = np.arange(half) < round(share * half)
            rows = np.where(with_it[:, None], odds[version][field], odds[PLAIN][field])
            runs.setdefault((version, share), []).append(leaning(odds[PLAIN][known], labels[known], rows))
    return {f"{version}, {share:.0%}": _summed_up(found) for (version, share), found in runs.items()}


def _summed_up(found: Sequence[Leaning]) -> dict[str, Any]:
    places = np.array([one.place[CARTON] for one in found])
    return {
        "splits": len(found),
        "first": float((places == 1).mean()),
        "first ten": float((places <= _NAMED).mean()),
        "median place": float(np.median(places)),
        "named": float(np.mean([one.p[CARTON] < LEVEL for one in found])),
        "any class": float(np.mean([(one.p < LEVEL).any() for one in found])),
        "classes": float(np.mean([(one.p < LEVEL).sum() for one in found])),
    }
