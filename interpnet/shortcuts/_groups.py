"""Two kinds of evidence in one class: its own images fall into groups that other channels carry. docs/measures.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from interpnet.ablation import adjusted
from interpnet.engine import ChannelIndex
from interpnet.shortcuts._evidence import Evidence
from interpnet.shortcuts._findings import Group, GroupChannel, Grouped
from interpnet.shortcuts._shown import class_name
from interpnet.support.types import Bools, Float64, Int64

_CHANNELS = 10  # that tell the groups apart
_IMAGES = 10  # shown of each group
_FEWEST = 16  # images of a class; halves of fewer show nothing
_LEVEL = 0.05  # of the adjusted p-value
_ROUNDS = 50  # of two-means; it has settled long before


class Axis(NamedTuple):
    """A direction in the contributions, and where two groups lie on it."""

    channels: Int64  # (c,)
    weights: Float64  # (c,)
    low: float
    high: float

    def at(self, contributions: Float64) -> Float64:
        """Return where images (n, m) lie (n,)."""
        found: Float64 = contributions[:, self.channels] @ self.weights
        return found


def groups_in(
    evidence: Evidence, labels: Int64, studied: Int64, indices: Int64, names: Sequence[str] | None, seed: int
) -> tuple[Grouped, ...]:
    """Return the classes, of those studied, whose own recognised images fall into two groups: the most certain first.

    ``labels`` (N,) and ``indices`` (N,) are the images' classes and numbers.
    """
    own = labels == evidence.predicted
    members = {int(k): np.flatnonzero(own & (labels == k)) for k in studied}
    members = {k: rows for k, rows in members.items() if len(rows) >= _FEWEST}
    if not members:
        return ()
    rng = np.random.default_rng(seed)

    def of(k: int) -> Float64:
        return evidence.contributions[members[k]].astype(np.float64)

    p = adjusted(np.array([split_p(of(k), rng) for k in members]))
    found = [
        Grouped(k, class_name(k, names), float(one), _groups(of(k), indices[rows], evidence.channels))
        for (k, rows), one in zip(members.items(), p, strict=True)
        if one < _LEVEL
    ]
    return tuple(sorted(found, key=lambda entry: entry.p))


def split_p(values: Float64, rng: np.random.Generator) -> float:
    """Return how likely images (n, m) of one kind would seem to be of two: a p-value, exact for any number of channels.

    Two-means on one half of the images says in which direction two groups would lie apart, and where. On the other half
    the space is cut there into three stretches of the same length: around the one group, between them, around the
    other. Where all images are of one kind, their density along a direction rises to one peak and falls, so that the
    middle holds at least as many as one of its neighbours. Each neighbour is held against it by a sign test, and the
    larger p-value counts; of the two halves, twice the smaller.
    """
    order = rng.permutation(len(values))
    halves = np.array_split(order, 2)
    found = []
    for learn, test in (halves, halves[::-1]):
        axis = axis_of(values[learn])
        place = axis.at(values[test])
        step = (axis.high - axis.low) / 4
        if step <= 0:
            return 1.0
        edges = [axis.low - step, axis.low + step, axis.high - step, axis.high + step]
        left, middle, right = np.histogram(place, edges)[0]
        found.append(max(stats.binom.cdf(middle, middle + side, 0.5) for side in (left, right)))
    return float(min(1.0, 2 * min(found)))


def axis_of(values: Float64) -> Axis:
    """Return the direction in which two groups of images (n, m) differ, in the channels that differ most."""
    one = two_means(values)
    if not one.any() or one.all():
        return Axis(np.zeros(1, dtype=np.int64), np.zeros(1), 0.0, 0.0)
    centre = values[one].mean(0)
    other = values[~one].mean(0)
    apart = centre - other
    channels = np.argsort(-np.abs(apart), kind="stable")[:_CHANNELS].astype(np.int64)
    weights = apart[channels]
    return Axis(channels, weights, float(other[channels] @ weights), float(centre[channels] @ weights))


def two_means(values: Float64) -> Bools:
    """Return which images (n, m) belong to the second of two groups, each nearer to its own mean (Lloyd 1982).

    It begins with the sides of the mean along the direction in which the images vary most.
    """
    centred = values - values.mean(0)
    _, vectors = np.linalg.eigh(centred @ centred.T)
    one: Bools = vectors[:, -1] > 0
    for _ in range(_ROUNDS):
        if not one.any() or one.all():
            break
        centre = centred[one].mean(0)
        other = centred[~one].mean(0)
        nearer: Bools = centred @ (centre - other) > (centre @ centre - other @ other) / 2
        if (nearer == one).all():
            break
        one = nearer
    return one


def _groups(values: Float64, indices: Int64, channels: ChannelIndex) -> tuple[Group, Group]:
    """Return the two groups of a class's images, the larger first."""
    axis = axis_of(values)
    place = axis.at(values) - (axis.low + axis.high) / 2
    sides = sorted((1, -1), key=lambda side: -int((side * place > 0).sum()))
    first, second = (_group(values, side * place, axis, indices, channels) for side in sides)
    return first, second


def _group(values: Float64, place: Float64, axis: Axis, indices: Int64, channels: ChannelIndex) -> Group:
    """Return the images whose place is above 0, those that are furthest first, and the channels that carry them."""
    own = place > 0
    here = values[own].mean(0)
    elsewhere = values[~own].mean(0)
    more = here - elsewhere
    carrying = [int(j) for j in axis.channels if more[j] > 0]
    carrying.sort(key=lambda j: -more[j])
    order = np.argsort(-place, kind="stable")[: min(_IMAGES, int(own.sum()))]
    shown = tuple(int(i) for i in indices[order])
    return Group(
        int(own.sum()),
        shown,
        tuple(GroupChannel(channels[j], float(here[j]), float(elsewhere[j])) for j in carrying),
    )
