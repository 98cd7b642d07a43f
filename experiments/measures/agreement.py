"""How far measures order the methods alike: Kendall's tau between mean ranks, with intervals over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy import stats

from experiments.common.tables import Interval, Line, of_draws
from experiments.measures.measure import MEASURES
from experiments.measures.settings import CONTROLS
from interpnet.evaluate import measures
from interpnet.support.types import Float64

DRAWS = 400
NAMES = tuple(MEASURES)
_SIGN = {m.name: (-1.0, 1.0)[m.direction.startswith("higher")] for m in measures()}


@dataclass(frozen=True)
class Network:
    """The values of one network: by measure (methods, images or grids), NaN where a method refused or had none."""

    methods: tuple[str, ...]
    values: dict[str, Float64]

    def ranks(self, measure: str) -> Float64:
        """Return each method's rank within every image, from 0, the worst, to 1."""
        found = self.values[measure] * _SIGN[measure]
        there = np.isfinite(found)
        ranks = stats.rankdata(np.where(there, found, -np.inf), axis=0)
        absent = (~there).sum(0)
        ranks = (ranks - 1 - absent) / np.maximum(there.sum(0) - 1, 1)
        return np.where(there, ranks, np.nan)

    @cached_property
    def orders(self) -> Float64:
        """Mean ranks (1 + draws, methods, measures); the first draw has every image once."""
        rng = np.random.default_rng(0)
        chosen: dict[int, np.ndarray] = {}
        found = np.full((1 + DRAWS, len(self.methods), len(NAMES)), np.nan)
        for j, name in enumerate(NAMES):
            if name not in self.values:
                continue
            ranks = self.ranks(name)
            n = ranks.shape[1]
            if n not in chosen:  # measures of the same images draw the same ones
                chosen[n] = np.vstack([np.arange(n), rng.integers(0, n, (DRAWS, n))])
            drawn = ranks[:, chosen[n]]  # (methods, 1 + draws, n)
            counts = np.isfinite(drawn).sum(2)
            sums = np.nansum(drawn, 2)
            found[:, :, j] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).T
        return found


def networks_of(lines: Iterable[Line], *, controls: bool = False) -> dict[str, Network]:
    """Return the values by network, with or without the control maps."""
    kept = [line for line in lines if controls or line["method"] not in CONTROLS]
    found = {}
    for network in dict.fromkeys(line["network"] for line in kept):
        own = [line for line in kept if line["network"] == network]
        methods = tuple(dict.fromkeys(line["method"] for line in own))
        values: dict[str, Float64] = {}
        for line in own:
            if "values" not in line:
                continue
            row = np.array([np.nan if v is None else v for v in line["values"]], dtype=np.float64)
            table = values.setdefault(line["measure"], np.full((len(methods), len(row)), np.nan))
            table[methods.index(line["method"])] = row
        found[network] = Network(methods, values)
    return found


def tau(a: Float64, b: Float64) -> Float64:
    """Return Kendall's tau-b of orders (draws, methods, m) and (draws, methods, k), (draws, m, k); NaN is left out.

    Examples
    --------
    >>> a = np.array([[[1.0], [2.0], [3.0]]])
    >>> tau(a, np.array([[[1.0, 3.0], [3.0, 2.0], [2.0, 1.0]]])).round(3).tolist()
    [[[0.333, -1.0]]]
    """
    one = _signs(a)
    two = one if b is a else _signs(b)
    across = [np.swapaxes(part, 1, 2) for part in one]
    return _tau(across[0] @ two[0], np.abs(across[0]) @ two[1], across[1] @ np.abs(two[0]))


def _signs(orders: Float64) -> tuple[Float64, Float64]:
    """Return which of two methods is ahead and whether both are there (draws, pairs of methods, m)."""
    first, second = np.triu_indices(orders.shape[1], 1)
    difference = orders[:, first] - orders[:, second]
    there = np.isfinite(difference)
    return np.sign(np.where(there, difference, 0.0)), there.astype(np.float64)


def _tau(both: Float64, left: Float64, right: Float64) -> Float64:
    """Return tau from the pairs that agree less those that disagree, and the untied ones of each order."""
    # Pairs that count: both measures have both methods; ties of one leave the geometric mean smaller.
    size = np.sqrt(left * right)
    return np.where(size > 0, both / np.where(size > 0, size, 1.0), np.nan)


def between_measures(found: dict[str, Network]) -> Float64:
    """Return tau (networks, 1 + draws, measures, measures) of every pair of measures within each network."""
    return np.stack([tau(one.orders, one.orders) for one in found.values()])


def between_networks(found: dict[str, Network]) -> Float64:
    """Return the mean tau (1 + draws, measures) of a measure's orders in every pair of networks."""
    methods = list(dict.fromkeys(method for one in found.values() for method in one.methods))
    aligned = []
    for one in found.values():
        table = np.full((1 + DRAWS, len(methods), len(NAMES)), np.nan)
        table[:, [methods.index(m) for m in one.methods]] = one.orders
        aligned.append(_signs(table))
    pairs = [
        _tau((one * two).sum(1), (np.abs(one) * has_two).sum(1), (has_one * np.abs(two)).sum(1))
        for (one, has_one), (two, has_two) in combinations(aligned, 2)
    ]
    return _mean(np.stack(pairs)) if pairs else np.full((1 + DRAWS, len(NAMES)), np.nan)


def told_apart(found: dict[str, Network]) -> Float64:
    """Return (measures,): the share of pairs of methods whose mean ranks differ beyond the interval, over networks."""
    shares = []
    for one in found.values():
        first, second = np.triu_indices(len(one.methods), 1)
        difference = one.orders[:, first] - one.orders[:, second]  # (1 + draws, pairs, measures)
        low, high = np.nanquantile(np.nan_to_num(difference[1:]), [0.025, 0.975], axis=0)
        there = np.isfinite(difference[0])
        apart = ((low > 0) | (high < 0)) & there
        shares.append(np.where(there.sum(0) > 0, apart.sum(0) / np.maximum(there.sum(0), 1), np.nan))
    return _mean(np.stack(shares))


def within_and_between(taus: Float64, questions: Iterable[Sequence[str]]) -> tuple[Float64, Float64]:
    """Return the mean tau (draws,) of two measures of one question, and of measures of different questions."""
    of = {name: number for number, own in enumerate(questions) for name in own}
    first, second = np.triu_indices(len(NAMES), 1)
    same = np.array([of[NAMES[i]] == of[NAMES[j]] for i, j in zip(first, second, strict=True)])
    pairs = np.moveaxis(taus[:, first, second], 1, 0)
    return _mean(pairs[same]), _mean(pairs[~same])


def pooled(taus: Float64) -> Float64:
    """Return the mean (1 + draws, measures, measures) over the networks that have both measures."""
    return _mean(taus)


def _mean(values: Float64) -> Float64:
    """Return the mean over the first axis of what is there."""
    there = np.isfinite(values)
    count = there.sum(0)
    sums = np.where(there, values, 0.0).sum(0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def interval(draws: Float64) -> Interval:
    """Return a value with its interval, of draws whose first is the value itself."""
    if not np.isfinite(draws).any():
        return Interval(np.nan, np.nan, np.nan)
    return of_draws(draws)
