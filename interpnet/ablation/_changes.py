"""What removals change in each image, gathered into effects by class: from arrays of N images, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from interpnet.ablation._effect import Draws, Effect, effect_by_class, ratio
from interpnet.support.brief import brief
from interpnet.support.types import Bools, Float32, Float64, Int64

#: What is measured of an image: whether its class is recognised (0 or 1), and its class's log-odds and log-probability.
MEASURES = ("recall", "log_odds", "log_probability")
#: The class whose channels an image lost that lost none.
NOBODY = -1
# Pairs of classes that are counted at a time.
_BLOCK_CELLS = 1 << 18


class Outcome(NamedTuple):
    """What a network says of N images: of each, whether its class is recognised, and the log-odds of its class."""

    right: Bools
    log_odds: Float32

    def value(self, measure: str) -> Float64:
        """Return one of ``MEASURES`` for every image (N,)."""
        if measure == "recall":
            return self.right.astype(np.float64)
        log_odds = self.log_odds.astype(np.float64)
        if measure == "log_odds":
            return log_odds
        # The probability is the logistic function of the log-odds.
        return -np.logaddexp(0.0, -log_odds)


class Pass(NamedTuple):
    """One pass: from each image the channels of one class were removed, or a draw made for that class."""

    outcome: Outcome
    classes: Int64  # (N,): whose channels each image lost; its own class's, or another's, or NOBODY
    draws: Int64 | None = None  # (N,): which draw for that class it was; None where channels are not drawn

    def change(self, measure: str, before: Float64) -> Float64:
        """Return by how much one of ``MEASURES`` differs from ``before`` (N,); NaN where an image lost nothing."""
        return np.where(self.classes == NOBODY, np.nan, self.outcome.value(measure) - before)


@brief
@dataclass(frozen=True)
class Changes:
    """How one measure changes when channels are removed, paired by image: value without them minus value with them.

    Everything is over images by class (C,), each an :class:`Effect`. ``own``, ``others`` and ``specific`` are by the
    image's class; every image loses its own class's channels in one pass and those of other classes in others, so that
    the three are paired. ``by_removed`` is by the class whose channels the images of other classes lose.
    ``own_beyond`` and ``specific_beyond``, of a control, compare it with the condition ``relevant``: how much more a
    class loses without its named channels than under the control, and how much more of that is its own.
    """

    own: Effect
    others: Effect
    specific: Effect  # others minus own: how much more the class itself loses
    by_removed: Effect
    own_beyond: Effect | None = None
    specific_beyond: Effect | None = None

    def restricted(self, studied: Bools, named: Changes | None = None) -> Changes:
        """Return the changes where only the channels of some classes were removed; ``named`` as for ``own_beyond``.

        The others are then all images that lost these channels, by the class whose they are, and an image that lost its
        own class's channels is paired with none that lost those of another: errors add up.
        """
        own = self.own.restricted(studied)
        others = self.by_removed.restricted(studied)
        own_beyond = None
        specific_beyond = None
        if self.own_beyond is not None:
            own_beyond = self.own_beyond.restricted(studied)
            if named is not None:
                specific_beyond = own_beyond.plus(named.by_removed.restricted(studied), -others)
        specific = (-own).plus(others)
        return Changes(own, others, specific, others, own_beyond, specific_beyond)


class Gathered(NamedTuple):
    """The passes of one condition."""

    own: Sequence[Pass]
    others: Sequence[Pass]


def changes_of(
    intact: Outcome,
    labels: Int64,
    n_classes: int,
    made: Gathered,
    named: Gathered | None = None,
    images: Int64 | None = None,
) -> Mapping[str, Changes]:
    """Return the :class:`Changes` of every measure; ``named`` are the passes that a control is compared with.

    Where an image can have several labels, ``images`` (N,) are the numbers of the rows' images.
    """
    return {measure: _changes(measure, intact, labels, n_classes, made, named, images) for measure in MEASURES}


def _changes(
    measure: str,
    intact: Outcome,
    labels: Int64,
    n_classes: int,
    made: Gathered,
    named: Gathered | None,
    images: Int64 | None,
) -> Changes:
    before = intact.value(measure)
    share = measure == "recall"

    def by_class(values: Float64, classes: Int64 = labels, draws: Draws | None = None) -> Effect:
        of = images
        if of is not None:
            of = np.tile(of, len(values) // len(of))
        return effect_by_class(values, classes, n_classes, share=share, draws=draws, images=of)

    def paired(gathered: Gathered) -> tuple[Float64, Float64]:
        own = [one.change(measure, before) for one in gathered.own]
        others = [_of_others(one.change(measure, before), one, labels) for one in gathered.others]
        known = np.isfinite(others)
        return np.mean(own, axis=0), ratio(np.where(known, others, 0.0).sum(0), known.sum(0))

    own, others = paired(made)
    draws = draws_of(made.own, [one.change(measure, before) for one in made.own], labels, n_classes)
    taken = np.concatenate([one.change(measure, before) for one in made.others])
    lost = np.concatenate([one.classes for one in made.others])
    mine = np.tile(labels, len(made.others))
    removed = by_class(np.where(lost != mine, taken, np.nan), lost)
    means = mean_of_others(lost, mine, taken, n_classes)
    removed = Effect(means, removed.variance, removed.count, share, clusters=removed.clusters)
    own_beyond = None
    specific_beyond = None
    if named is not None:
        named_own, named_others = paired(named)
        own_beyond = by_class(own - named_own, draws=draws)
        specific_beyond = by_class((named_others - named_own) - (others - own), draws=draws)
    return Changes(
        own=by_class(own, draws=draws),
        others=by_class(others),
        specific=by_class(others - own, draws=draws),
        by_removed=removed,
        own_beyond=own_beyond,
        specific_beyond=specific_beyond,
    )


def _of_others(change: Float64, one: Pass, labels: Int64) -> Float64:
    # A network of a single class has no other one, and an image may have every label.
    return np.where(one.classes != labels, change, np.nan)


def draws_of(passes: Sequence[Pass], changes: Sequence[Float64], labels: Int64, n_classes: int) -> Draws | None:
    """Return how many draws each class had, and the variance that a draw alone makes; None without draws.

    The variance is that of a one-way analysis of variance: between draws less what images make of it (Searle, Casella
    and McCulloch 1992, section 3.6). Where each pass has a single draw, passes are compared.
    """
    groups = [one.draws for one in passes if one.draws is not None]
    if not groups:
        return None
    most = 1 + max(int(group.max()) for group in groups)
    draws = np.zeros(n_classes, dtype=np.int64)
    sums = np.zeros(n_classes)
    parts = np.zeros(n_classes)
    means = []
    for change, group in zip(changes, groups, strict=True):
        cells = effect_by_class(change, labels * most + group, n_classes * most)
        count = cells.count.reshape(n_classes, most)
        mean = np.where(count > 0, cells.mean.reshape(n_classes, most), 0.0)
        n = count.sum(1)
        k = (count > 0).sum(1)
        draws += k
        total = effect_by_class(change, labels, n_classes)
        means.append(total.mean)
        between = (count * (mean - np.nan_to_num(total.mean)[:, None]) ** 2).sum(1)
        within = np.nan_to_num(cells.variance.reshape(n_classes, most) * (count - 1)).sum(1)
        usable = (k > 1) & (n > k)
        size = np.where(usable, n - (count**2).sum(1) / np.maximum(n, 1), 1.0)
        sums += np.where(usable, (between - (k - 1) * within / np.maximum(n - k, 1)) / size, 0.0)
        parts += usable
    variance = np.divide(sums, parts, out=np.full(n_classes, np.nan), where=parts > 0)
    if len(means) > 1:
        of_passes = np.var(means, axis=0, ddof=1)
        variance = np.where((parts == 0) & (draws == len(means)), of_passes, variance)
    return Draws(draws, variance, len(means))


def mean_of_others(foreign: Int64, labels: Int64, values: Float64 | Bools, n_classes: int) -> Float64:
    """Return for each class j the mean, over the other classes, of their mean value where j's list was removed (C,).

    ``foreign`` (N,) is the class whose list each image lost, ``NOBODY`` for none, and ``labels`` (N,) its own; NaN for
    a class whose list no image of another class lost. Memory and time grow with the pairs of classes that occur, not
    with C^2.
    """
    means = np.full(n_classes, np.nan)
    # A single class is its own foreign one.
    taken = (foreign != labels) & (foreign != NOBODY)
    removed, row = np.unique(foreign[taken], return_inverse=True)
    own = labels[taken]
    value = values[taken].astype(np.float64)
    order = np.argsort(row, kind="stable")
    per_block = max(1, _BLOCK_CELLS // n_classes)
    for start in range(0, len(removed), per_block):
        count = min(per_block, len(removed) - start)
        lo, hi = np.searchsorted(row[order], [start, start + count])
        here = order[lo:hi]
        at = (row[here] - start) * n_classes + own[here]
        sums = np.bincount(at, weights=value[here], minlength=count * n_classes).reshape(count, n_classes)
        images = np.bincount(at, minlength=count * n_classes).reshape(count, n_classes)
        # A class without images counts for nothing.
        known = images > 0
        by_pair = ratio(sums, images)
        means[removed[start : start + count]] = ratio(np.where(known, by_pair, 0.0).sum(1), known.sum(1))
    return means
