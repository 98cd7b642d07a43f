"""Changes of recall of a result that has none paired by image (format 1), as its recalls bound them; no torch."""

from __future__ import annotations

import numpy as np

from interpnet.ablation._averages import by_class
from interpnet.ablation._changes import Changes
from interpnet.ablation._effect import Draws, Effect
from interpnet.ablation._reading import others_change
from interpnet.ablation._result import AblationResult, Condition
from interpnet.support.types import Float64, Int64


def changes_of_recall(result: AblationResult, condition: Condition, named: Condition | None = None) -> Changes:
    """Return how recall changes under a condition, compared with ``named`` where that is given.

    Paired by image where the result has it. Otherwise from the classes' recalls, as if every recall came from other
    images: the variances are then sums, and larger than those of pairs.
    """
    if "recall" in condition.changes:
        return condition.changes["recall"]
    own = by_class(condition.own)
    others = by_class(others_change(result, condition))
    intact = _variance(result.intact)
    of_own = intact + _variance(own)
    of_others = intact + _variance(by_class(condition.others))
    draws = _draws(condition)

    def effect(mean: Float64, variance: Float64, drawn: Draws | None = draws) -> Effect:
        n = np.where(np.isfinite(mean), result.support, 0)
        # Of n images, whose squares are divided by n - 1 elsewhere.
        return Effect(mean, variance * n / np.maximum(n - 1, 1), n, share=True, draws=drawn)

    change = own - result.intact
    own_beyond = None
    specific_beyond = None
    if named is not None:
        theirs = changes_of_recall(result, named)
        both = _variance(own) + _variance(by_class(named.own))
        own_beyond = effect(change - theirs.own.mean, both)
        specific = (theirs.others.mean - theirs.own.mean) - (others - change)
        specific_beyond = effect(specific, both + 2 * of_others)
    return Changes(
        own=effect(change, of_own),
        others=effect(others, of_others, None),
        specific=effect(others - change, of_own + of_others),
        by_removed=effect(others, of_others, None),
        own_beyond=own_beyond,
        specific_beyond=specific_beyond,
    )


def _variance(recall: Float64) -> Float64:
    """Return the variance of whether one image is recognised (C,)."""
    return np.clip(recall * (1 - recall), 0.0, None)


def _draws(condition: Condition) -> Draws | None:
    """Return how recall varies between the repeats, of which each is one draw for all images of a class."""
    if not condition.name.startswith("random"):
        return None
    repeats = len(condition.own)
    number: Int64 = np.full(condition.own.shape[1], repeats)
    variance = np.full(condition.own.shape[1], np.nan)
    if repeats > 1:
        variance = condition.own.var(0, ddof=1)
    return Draws(number, variance)
