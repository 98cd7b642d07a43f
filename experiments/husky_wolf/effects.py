"""How much of the log-odds goes with the middle, with the surroundings, and with what is laid around."""

from __future__ import annotations

import numpy as np

from experiments.common.tables import Interval, of_draws
from experiments.husky_wolf.photographs import HUSKY, WOLF
from experiments.husky_wolf.pictures import Pairs
from interpnet.support.types import Bools, Float64, Int64

_DRAWS = 2000  # of the bootstrap


def draws_of(labels: Int64, n: int = _DRAWS, seed: int = 0) -> Float64:
    """Return how often each image comes in a draw (n + 1, N), with as many of each class; first once each."""
    rng = np.random.default_rng(seed)
    weights = np.ones((n + 1, len(labels)))
    for c in np.unique(labels):
        own = np.flatnonzero(labels == c)
        weights[1:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=n)
    return weights


def swap_effects(odds: Float64, pairs: Pairs, labels: Int64) -> dict[str, Interval]:
    """Return the effects of middle and surroundings on the wolf's log-odds, in log-odds and as a share.

    ``x = e + a [the middle shows a wolf] + b [the surroundings do]`` by least squares over pairs of different
    photographs, each of the four cells as heavy; the share is b / (a + b). A bootstrap draws photographs, and a pair
    comes as often as both do. ``"follow"`` is the share of pairs of different classes that are answered as the
    surroundings' class.
    """
    return {name: of_draws(values) for name, values in _drawn(odds, pairs, labels).items()}


def larger_share(one: Float64, other: Float64, pairs: Pairs, labels: Int64) -> Interval:
    """Return by how much the surroundings' share is larger in the first log-odds, of the same pictures."""
    return of_draws(_drawn(one, pairs, labels)["share"] - _drawn(other, pairs, labels)["share"])


def _drawn(odds: Float64, pairs: Pairs, labels: Int64) -> dict[str, Float64]:
    known, place = np.unique(np.concatenate(pairs), return_inverse=True)
    middle, around = np.split(place, 2)
    drawn = draws_of(labels[known])
    weights = drawn[:, middle] * drawn[:, around] * (middle != around)
    wolf_inside, wolf_around = (labels[rows] == WOLF for rows in pairs)

    def mean(values: Float64 | Bools, chosen: Bools) -> Float64:
        sums, total = (weights * chosen) @ values, (weights * chosen).sum(1)
        means: Float64 = np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0)
        return means

    cells = {
        (inside, outside): mean(odds, (wolf_inside == inside) & (wolf_around == outside))
        for inside in (HUSKY, WOLF)
        for outside in (HUSKY, WOLF)
    }
    a = (cells[WOLF, HUSKY] + cells[WOLF, WOLF] - cells[HUSKY, HUSKY] - cells[HUSKY, WOLF]) / 2
    b = (cells[HUSKY, WOLF] + cells[WOLF, WOLF] - cells[HUSKY, HUSKY] - cells[WOLF, HUSKY]) / 2
    share = np.maximum(b, 0) / (np.maximum(a, 0) + np.maximum(b, 0))
    follow = mean((odds > 0) == wolf_around, wolf_inside != wolf_around)
    return {"middle": a, "surroundings": b, "share": share, "follow": follow}


def difference(one: Float64, other: Float64, labels: Int64) -> Interval:
    """Return the mean difference of log-odds (images, pieces) of the same images, both drawn in the bootstrap."""
    rng = np.random.default_rng(1)
    change = one - other
    images = draws_of(labels)
    which = np.ones((len(images), change.shape[1]))
    n = change.shape[1]
    which[1:] = rng.multinomial(n, np.full(n, 1 / n), size=len(images) - 1)
    values = np.einsum("di,ij,dj->d", images, change, which) / (images.sum(1) * which.sum(1))
    return of_draws(values)
