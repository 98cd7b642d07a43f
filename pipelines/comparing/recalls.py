"""What both networks recognise, class by class, and what their named channels are worth to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, Answers, Effect, find_condition, finite_mean
from interpnet.support.types import Bools, Float64, Int64

from ..report.verdict import study_verdicts
from .change import Change, among, of_effect, of_intervals
from .pair import Pair

_NAN = math.nan


@dataclass(frozen=True)
class ClassRecall:
    """One class in both runs."""

    name: str
    images: tuple[int, int]
    recall: Change
    log_odds: Change | None  # None where the images are not paired
    verdicts: dict[str, tuple[str, str]]  # the levels of both, by the way to name channels; empty where not studied


@dataclass(frozen=True)
class Removal:
    """What removing each class's named channels does, as one way names them."""

    way: str
    lost: Change  # the change of the class's own recall
    verdicts: tuple[str, str]  # the levels


@dataclass(frozen=True)
class Recalls:
    """What both networks recognise."""

    paired: bool  # whether the same images are compared, one by one
    images: tuple[int, int]
    accuracy: Change | None  # of all images alike; None where an image can have several labels
    recall: Change  # the mean over classes
    log_odds: Change | None
    classes: tuple[ClassRecall, ...]
    removals: tuple[Removal, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "paired": self.paired,
            "images": list(self.images),
            "accuracy": _json(self.accuracy),
            "recall": self.recall.to_json(),
            "log_odds": _json(self.log_odds),
            "removed": {
                one.way: {"recall_lost": one.lost.to_json(), "verdicts": list(one.verdicts)} for one in self.removals
            },
            "classes": [
                {
                    "name": one.name,
                    "images": list(one.images),
                    "recall": one.recall.to_json(),
                    "log_odds": _json(one.log_odds),
                    "verdicts": {way: list(levels) for way, levels in one.verdicts.items()},
                }
                for one in self.classes
            ],
        }


def _json(change: Change | None) -> dict[str, Any] | None:
    return None if change is None else change.to_json()


def recalls_of(pair: Pair) -> Recalls | None:
    """Compare what both networks recognise; ``None`` where one of them looked at no test image."""
    studies = [run.study for run in pair.runs]
    a, b = studies
    if a is None or b is None:
        return None
    verdicts = [study_verdicts(run) for run in pair.runs]
    ways = [way for way in verdicts[0] if way in verdicts[1]]
    levels = {way: (verdicts[0][way].classes, verdicts[1][way].classes) for way in ways}
    studied = set(pair.studied.tolist())
    measured = _apart(pair, a, b) if pair.answers is None else _paired(pair.classes, *pair.answers)
    named = []
    for c, name, images, recall, log_odds in measured.classes:
        of_class = {}
        for way, (mine, theirs) in levels.items():
            if mine and theirs and c in studied:
                of_class[way] = (mine[pair.at[0][c]].level, theirs[pair.at[1][c]].level)
        named.append(ClassRecall(name, images, recall, log_odds, of_class))
    removals = []
    for way in ways:
        lost = _lost(pair, way)
        if lost is not None:
            removals.append(Removal(way, lost, (verdicts[0][way].level, verdicts[1][way].level)))
    return Recalls(
        paired=pair.answers is not None,
        images=measured.images,
        accuracy=None if a.independent else measured.accuracy,
        recall=measured.recall,
        log_odds=measured.log_odds,
        classes=tuple(named),
        removals=tuple(removals),
    )


@dataclass(frozen=True)
class _Measured:
    """The same numbers, whichever way they were compared."""

    images: tuple[int, int]
    accuracy: Change
    recall: Change
    log_odds: Change | None
    # Those with images: number and name, images, recall, log-odds.
    classes: list[tuple[int, str, tuple[int, int], Change, Change | None]]


def _paired(classes: Sequence[str], mine: Answers, theirs: Answers) -> _Measured:
    """Compare image by image."""
    count = len(classes)
    whole = mine.change_to(theirs, "recall", 1, by_class=False)
    recall = mine.change_to(theirs, "recall", count)
    odds = mine.change_to(theirs, "log_odds", count)
    means = {measure: [_means(one, measure, count) for one in (mine, theirs)] for measure in ("recall", "log_odds")}
    support = np.bincount(mine.labels, minlength=count)
    known = np.flatnonzero(support).tolist()
    by_class = {
        measure: among([of_effect(means[measure][0][c], means[measure][1][c], effect.of(c)) for c in known])
        for measure, effect in (("recall", recall), ("log_odds", odds))
    }
    n = len(np.unique(mine.images))
    images = [(int(support[c]), int(support[c])) for c in known]
    named = [classes[c] for c in known]
    return _Measured(
        images=(n, n),
        accuracy=of_effect(float(mine.right.mean()), float(theirs.right.mean()), whole),
        recall=of_effect(finite_mean(means["recall"][0]), finite_mean(means["recall"][1]), recall),
        log_odds=of_effect(finite_mean(means["log_odds"][0]), finite_mean(means["log_odds"][1]), odds),
        classes=list(zip(known, named, images, by_class["recall"], by_class["log_odds"], strict=True)),
    )


def _means(answers: Answers, measure: str, count: int) -> Float64:
    sums = np.bincount(answers.labels, weights=answers.outcome.value(measure), minlength=count)
    n = np.bincount(answers.labels, minlength=count)
    means: Float64 = np.divide(sums, n, out=np.full(count, _NAN), where=n > 0)
    return means


def _apart(pair: Pair, a: AblationResult, b: AblationResult) -> _Measured:
    """Compare the recalls of two samples of images."""
    effects = [_recall(study, at) for study, at in zip((a, b), pair.at, strict=True)]
    both = effects[0].known & effects[1].known
    effects = [one.restricted(both) for one in effects]
    recall = effects[1].plus(-effects[0])
    known = np.flatnonzero(both).tolist()
    changes = among([of_effect(effects[0].mean[c], effects[1].mean[c], recall.of(c)) for c in known])
    whole = [_pooled(one) for one in effects]
    images = [study.n_images for study in (a, b)]
    if not a.independent:
        # Those of the classes in common.
        images = [int(one.count.sum()) for one in effects]
    return _Measured(
        images=(images[0], images[1]),
        accuracy=of_effect(whole[0].overall(), whole[1].overall(), whole[1].plus(-whole[0])),
        recall=of_effect(effects[0].overall(), effects[1].overall(), recall),
        log_odds=None,
        classes=[
            (c, pair.classes[c], (int(effects[0].count[c]), int(effects[1].count[c])), change, None)
            for c, change in zip(known, changes, strict=True)
        ],
    )


def _recall(study: AblationResult, at: Int64) -> Effect:
    """Return the recall of some classes as values of 0 and 1 of their images."""
    return _of_some(replace(_shares(study.recall, study.support), clusters=study.clusters), at)


def _of_some(effect: Effect, at: Int64) -> Effect:
    """Return the effect of classes by their numbers, in that order."""
    kept = effect.restricted(np.isin(np.arange(len(effect.mean)), at))
    clusters = kept.clusters
    if clusters is not None:
        clusters = clusters._replace(shared=clusters.shared[at])
    return Effect(kept.mean[at], kept.variance[at], kept.count[at], kept.share, clusters=clusters)


def _shares(p: Float64, n: Int64) -> Effect:
    variance = np.divide(p * (1 - p) * n, n - 1, out=np.full(len(p), _NAN), where=n > 1)
    return Effect(p, variance, n, share=True)


def _pooled(effect: Effect) -> Effect:
    """Return the share of all images alike, as one class."""
    known = effect.known
    n = int(effect.count[known].sum())
    right = float((effect.mean[known] * effect.count[known]).sum())
    return _shares(np.array([right / n if n else _NAN]), np.array([n]))


def _lost(pair: Pair, way: str) -> Change | None:
    """Compare what removing the named channels does to a class's own recall; ``None`` where that is not known."""
    found = []
    for run, at in zip(pair.runs, pair.at, strict=True):
        condition = find_condition(run.studies[way], "relevant")
        if condition is None or "recall" not in condition.changes:
            return None
        found.append(_of_some(condition.changes["recall"].own, at))
    return of_losses(found[0], found[1])


def of_losses(first: Effect, second: Effect) -> Change | None:
    """Compare what removals do to recalls, by class, over the classes known of both; ``None`` where there is none.

    As of two samples: what one image does in both networks was not kept, so that the interval is wider than need be.
    """
    both: Bools = first.known & second.known
    if not both.any():
        return None
    # Each with its own interval, which does not shrink to nothing where all images change, or none does.
    a, b = (one.restricted(both) for one in (first, second))
    return of_intervals((a.overall(), *a.interval()), (b.overall(), *b.interval()))


def rows_first(classes: tuple[ClassRecall, ...]) -> list[ClassRecall]:
    """Return classes with those that differ first, the largest fall before."""
    return sorted(classes, key=lambda one: (not one.recall.differs, one.recall.change))
