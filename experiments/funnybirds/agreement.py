"""How far what an explanation says of the parts agrees with what their removal costs, with bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.common.tables import of_draws
from interpnet.support.types import Bools, Float64, Int64

_DRAWS = 1000
_DRAWS_OF_RANKS = 200
_LEAST_PARTS = 3  # seen in an image, to have an order
Arrays = tuple[Float64, Bools]  # the losses (N, P), and which parts are seen


def correlated(a: Float64, b: Float64) -> Float64:
    """Return the rank correlation along the last axis, 0 where one side has no order.

    Examples
    --------
    >>> correlated(np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), np.array([[1.0, 3.0, 2.0], [1.0, 2.0, 3.0]]))
    array([0.5, 0. ])
    """
    ranks = [rankdata(one, axis=-1) for one in (a, b)]
    x, y = (one - one.mean(-1, keepdims=True) for one in ranks)
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    found: Float64 = np.divide((x * y).sum(-1), spread, out=np.zeros_like(spread), where=spread > 0)
    return found


def orders(values: Float64, losses: Float64, seen: Bools) -> Float64:
    """Return for each image the rank correlation over the parts that are seen (N,); NaN where they are fewer than 3."""
    found = np.full(len(values), np.nan)
    for i in np.flatnonzero(seen.sum(1) >= _LEAST_PARTS):
        found[i] = correlated(values[i, seen[i]], losses[i, seen[i]])
    return found


def tops(values: Float64, losses: Float64, seen: Bools) -> Float64:
    """Return for each image whether the part with the largest loss has the largest value (N,), NaN as in orders.

    Where several parts share the largest value, it is one over their number.
    """
    found = np.full(len(values), np.nan)
    for i in np.flatnonzero(seen.sum(1) >= _LEAST_PARTS):
        own = values[i, seen[i]]
        first = own == own.max()
        found[i] = first[losses[i, seen[i]].argmax()] / first.sum()
    return found


def usual(losses: Float64, seen: Bools, groups: Int64) -> Float64:
    """Return the mean loss of each part in the other images of a group where it is seen (N, P); 0 without any."""
    found = np.zeros_like(losses)
    for i in range(len(losses)):
        others = (groups == groups[i]) & (np.arange(len(losses)) != i)
        counts = seen[others].sum(0)
        found[i] = np.where(seen[others], losses[others], 0).sum(0) / np.maximum(counts, 1)
    return found


def across(values: Float64, losses: Float64, seen: Bools, seed: int = 0) -> Float64:
    """Return the rank correlation over images, the mean over parts, and the same of resampled images (1 + draws,)."""
    every = []
    for p in range(values.shape[1]):
        rows = np.flatnonzero(seen[:, p])
        rng = np.random.default_rng([seed, p])
        drawn = rows[np.vstack([np.arange(len(rows)), rng.integers(len(rows), size=(_DRAWS_OF_RANKS, len(rows)))])]
        every.append(correlated(values[drawn, p], losses[drawn, p]))
    found: Float64 = np.mean(every, 0)
    return found


def compared(
    ways: Sequence[Mapping[str, Float64]], truths: Sequence[Arrays], ours: str, control: str
) -> dict[str, dict[str, list[float]]]:
    """Return for each way its agreement, mean over networks, with 95 % intervals over images, and differences.

    "ours less it" and "beyond control" are of the orders.

    ``ways`` are the values (N, P) by name of each network. The images are the same for all; draws take the same ones.
    """
    n = len(truths[0][0])
    rng = np.random.default_rng(0)
    drawn = np.vstack([np.arange(n), rng.integers(n, size=(_DRAWS, n))])
    means: dict[str, dict[str, Float64]] = {}
    for name in ways[0]:
        parts: dict[str, list[Float64]] = {"order": [], "top": [], "across": []}
        for values, (losses, seen) in zip(ways, truths, strict=True):
            parts["order"].append(np.nanmean(orders(values[name], losses, seen)[drawn], 1))
            parts["top"].append(np.nanmean(tops(values[name], losses, seen)[drawn], 1))
            parts["across"].append(across(values[name], losses, seen))
        means[name] = {measure: np.mean(rows, 0) for measure, rows in parts.items()}
    found: dict[str, Any] = {}
    for name, by_measure in means.items():
        found[name] = {measure: list(of_draws(draws)) for measure, draws in by_measure.items()}
        found[name]["ours less it"] = list(of_draws(means[ours]["order"] - by_measure["order"]))
        found[name]["beyond control"] = list(of_draws(by_measure["order"] - means[control]["order"]))
    return found
