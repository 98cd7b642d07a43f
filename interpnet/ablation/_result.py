"""What an ablation study found, as plain arrays that go to JSON and back, and what reports read of it; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from interpnet.ablation._answers import Answers
from interpnet.ablation._averages import by_class, finite_mean, interval, means, within
from interpnet.ablation._changes import Changes
from interpnet.ablation._clusters import Clusters, of_some
from interpnet.ablation._effect import of_studied, recall_interval
from interpnet.ablation._json import array, changes_json, known, plain, read_changes, read_clusters, rounded, whole
from interpnet.ablation._precision import precision_of
from interpnet.engine import Channel
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.brief import brief
from interpnet.support.class_names import chosen_classes
from interpnet.support.types import Bools, Float64, Int64

_FORMAT = "interpnet-ablation-2"
# Without changes paired by image; several draws for all images of a class, one in each row.
_EARLIER = "interpnet-ablation-1"

# What stands in JSON for studies of some classes alone, and what does not.
_APART = ("only", "intact_of_all", "answers")

# The conditions in the order in which they are shown, and what a reader calls them.
CONDITION_LABELS = {
    "relevant": "relevant (named by InterpNet)",
    "relevant-positive": "relevant, positive weights only",
    "random": "random, same number",
    "random-per-layer": "random, same number per layer",
    "highest-activation": "highest mean activation, same number",
    "d-prime": "highest d' of the scores, same number",
}


class SingleEffect(NamedTuple):
    """What removing one channel alone does: the class's own recall lost, and the others' change.

    The same in log-odds, with standard errors over images; NaN in a result of format 1.
    """

    channel: Channel
    weight: float
    own_drop: float
    others_change: float
    log_odds_drop: float = math.nan
    log_odds_stderr: float = math.nan
    others_log_odds_change: float = math.nan
    others_log_odds_stderr: float = math.nan


@brief
@dataclass(frozen=True)
class Condition:
    """One way to choose channels, on all layers or on convolutional layers only."""

    name: str  # one of CONDITION_LABELS
    layers: str  # "all" or "conv"
    removed: Float64  # (C,): channels removed for each class
    own: Float64  # (R, C): recall of each class without its channels, for each repeat; NaN without images
    others: Float64  # (R, C): mean recall of the other classes without this class's channels
    changes: Mapping[str, Changes] = field(default_factory=dict)  # by MEASURES; empty in a result of format 1
    clusters: Clusters | None = None  # of own, where an image can have several labels

    def restricted(self, studied: Bools, named: Condition | None) -> Condition:
        """Return the condition for some classes (C,); ``named``: the condition that a control is compared with."""
        compared: Mapping[str, Changes] = {}
        if named is not None:
            compared = named.changes
        return replace(
            self,
            removed=np.where(studied, self.removed, np.nan),
            own=np.where(studied, self.own, np.nan),
            others=np.where(studied, self.others, np.nan),
            changes={m: changes.restricted(studied, compared.get(m)) for m, changes in self.changes.items()},
            clusters=of_some(self.clusters, studied),
        )

    def mean_own(self) -> float:
        """Return the mean over classes and repeats of the own recall: mean class accuracy."""
        return finite_mean(means(self.own))

    def mean_others(self) -> float:
        """Return the mean over classes and repeats of the others' recall."""
        return finite_mean(means(self.others))

    def interval_own(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_own` over images and draws; of format 1, over the repeats."""
        changes = self.changes.get("recall")
        if changes is None:
            return within(interval(means(self.own)))
        drawn = changes.own.draws
        return recall_interval(by_class(self.own), changes.own.count, draws=drawn, clusters=self.clusters)

    def interval_others(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_others` over images and draws; of format 1, over the repeats."""
        changes = self.changes.get("recall")
        if changes is None:
            return within(interval(means(self.others)))
        # Every image stands for as many classes as it lost channels of; the sample is the images.
        images = changes.others.count.astype(np.float64)
        if changes.others.clusters is not None:
            # An image of several labels is one image.
            images *= changes.others.clusters.images / max(images.sum(), 1.0)
        return recall_interval(np.full(len(images), finite_mean(by_class(self.others))), images)


@brief
@dataclass(frozen=True)
class Curve:
    """Own recall against the number of channels removed."""

    k: Int64  # (K,)
    own: Float64  # (K, C)
    random: Float64  # (K, R, C)
    # The change of log-odds with them removed, NaN in a result of format 1.
    own_log_odds: Float64 | None = None  # (K, C)
    random_log_odds: Float64 | None = None  # (K, C)
    # The 95 % intervals of the mean recalls, over images and draws; None in a result of format 1.
    own_ends: Float64 | None = None  # (K, 2)
    random_ends: Float64 | None = None  # (K, 2)

    def restricted(self, studied: Bools, support: Int64) -> Curve:
        """Return the curve of some classes (C,), whose intervals are over their ``support`` (C,) images."""
        own = np.where(studied, self.own, np.nan)
        own_ends = None
        random_ends = None
        if self.own_ends is not None:
            own_ends = np.array([recall_interval(row, support) for row in own])
            # How far the draws of these classes vary was not kept.
            random_ends = np.full_like(own_ends, np.nan)
        return replace(
            self,
            own=own,
            random=np.where(studied, self.random, np.nan),
            own_log_odds=of_studied(studied, self.own_log_odds),
            random_log_odds=of_studied(studied, self.random_log_odds),
            own_ends=own_ends,
            random_ends=random_ends,
        )


@brief
@dataclass(frozen=True)
class AblationResult:
    """All conditions of one study."""

    classes: tuple[str, ...]
    support: Int64  # (C,): images of each class
    intact: Float64  # (C,): their recall by the untouched network
    fill: str  # what removed maps were overwritten with
    n_images: int
    repeats: int
    seed: int
    conditions: tuple[Condition, ...]
    curve: Curve | None = None
    single: Mapping[int, list[SingleEffect]] = field(default_factory=dict)  # by class number
    # What follows is not known of a result of format 1.
    log_odds: Float64 | None = None  # (C,): mean log-odds of the images' own class, untouched
    log_probability: Float64 | None = None  # (C,): mean log-probability
    turns: int = 1  # passes in which each image loses the channels of another class, another one every time
    by: str = "mu-lasso"  # how the channels were identified: "mu-lasso" or "reliance"
    pairs: float = math.nan  # share of the pairs of two classes, the first with images, that those passes cover
    why_whole: str = ""  # why every removal ran the whole network; empty where it ran from its first layer on
    outputs: str = "exclusive"  # "independent" where an image can have several labels; classes are then labels
    # Where outputs are independent, (C,): the share of the images without a label that are given it, by the untouched
    # network and without the label's relevant channels; NaN for a label that every image has.
    false_alarms: Float64 | None = None
    false_alarms_removed: Float64 | None = None
    clusters: Clusters | None = None  # of intact
    # The classes whose channels were removed, None for all; of the others nothing is known but this.
    only: tuple[int, ...] | None = None
    intact_of_all: Float64 | None = None  # (C,): the recall of every class by the untouched network
    # What the untouched network says of every image; None where the result was read from JSON.
    answers: Answers | None = field(default=None, repr=False, compare=False)

    @property
    def mean_intact(self) -> float:
        """Mean class accuracy of the untouched network."""
        return finite_mean(self.intact)

    @property
    def recall(self) -> Float64:
        """The recall of every class by the untouched network (C,), also of those whose channels were not removed."""
        return self.intact if self.intact_of_all is None else self.intact_of_all

    @property
    def independent(self) -> bool:
        """Whether an image can have several labels."""
        return self.outputs == "independent"

    @property
    def precision(self) -> Float64 | None:
        """The share of the images given a label that have it (C,); None where an image has one class.

        NaN for a label that no image is given.
        """
        return precision_of(self.support, self.n_images, self.intact, self.false_alarms)

    @property
    def precision_removed(self) -> Float64 | None:
        """The same without the label's relevant channels."""
        relevant = find_condition(self, "relevant")
        if relevant is None:
            return None
        return precision_of(self.support, self.n_images, by_class(relevant.own), self.false_alarms_removed)

    def condition(self, name: str, layers: str = "all") -> Condition:
        """Return one condition by name."""
        found = find_condition(self, name, layers)
        if found is None:
            there = [(c.name, c.layers) for c in self.conditions]
            raise KeyError(f"no condition {name!r} on {layers!r}; there are {there}")
        return found

    def restricted(self, only: Sequence[int | str]) -> AblationResult:
        """Return the study of some classes, by number or name: means are over these, and the rest is not known (NaN).

        ``others`` is what the images of all other classes lose without these classes' channels. An unknown class, or
        one that was not studied, is an :class:`InterpNetError`.
        """
        chosen = chosen_classes(only, self.classes)
        missing = [self.classes[c] for c in chosen if self.only is not None and c not in self.only]
        if missing:
            raise InterpNetError(f"the channels of {missing[0]!r} were not removed; run the ablation again")
        if chosen == self.only:
            return self
        studied = np.isin(np.arange(len(self.classes)), chosen)
        curve = self.curve
        if curve is not None:
            curve = curve.restricted(studied, self.support)
        named = {c.layers: c for c in self.conditions if c.name == "relevant"}
        return replace(
            self,
            intact=np.where(studied, self.intact, np.nan),
            conditions=tuple(c.restricted(studied, named.get(c.layers)) for c in self.conditions),
            curve=curve,
            single={c: effects for c, effects in self.single.items() if studied[c]},
            log_odds=of_studied(studied, self.log_odds),
            log_probability=of_studied(studied, self.log_probability),
            false_alarms=of_studied(studied, self.false_alarms),
            false_alarms_removed=of_studied(studied, self.false_alarms_removed),
            clusters=of_some(self.clusters, studied),
            only=chosen,
            intact_of_all=self.intact if self.intact_of_all is None else self.intact_of_all,
        )

    def interval_intact(self) -> tuple[float, float]:
        """Return the 95 % interval of :attr:`mean_intact` over images."""
        return recall_interval(self.intact, self.support, clusters=self.clusters)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers; NaN becomes ``None``, a long row of mostly nothing what is left of it."""
        conditions = [
            {
                **vars(c),
                "changes": {measure: changes_json(changes) for measure, changes in c.changes.items()},
                "mean_own": c.mean_own(),
                "interval_own": c.interval_own(),
                "mean_others": c.mean_others(),
                "interval_others": c.interval_others(),
            }
            for c in self.conditions
        ]
        single = {str(c): [_effect_json(effect) for effect in effects] for c, effects in self.single.items()}
        curve = None
        of_some = {"only": self.only, "intact_of_all": self.intact_of_all}
        if self.only is None:
            of_some = {}
        if self.curve is not None:
            later = ("own_log_odds", "random_log_odds", "own_ends", "random_ends")
            curve = vars(self.curve) | {name: rounded(getattr(self.curve, name)) for name in later}
        result: dict[str, Any] = plain(
            {
                "format": _FORMAT,
                **{name: value for name, value in vars(self).items() if name not in _APART},
                **of_some,
                "mean_intact": self.mean_intact,
                "log_odds": rounded(self.log_odds),
                "log_probability": rounded(self.log_probability),
                "conditions": conditions,
                "curve": curve,
                "single": single,
            }
        )
        return result

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AblationResult:
        """Read what :meth:`to_json` gave, of this format or the one before."""
        if value.get("format") not in (_FORMAT, _EARLIER):
            raise RunFolderError(f"format {value.get('format')!r} is no ablation result; expected {_FORMAT!r}")
        only = value.get("only")
        if only is not None:
            only = tuple(map(int, only))
        curve = value["curve"]
        if curve is not None:
            curve = Curve(
                np.array(curve["k"], dtype=np.int64),
                array(curve["own"]),
                array(curve["random"]),
                known(curve.get("own_log_odds")),
                known(curve.get("random_log_odds")),
                known(curve.get("own_ends")),
                known(curve.get("random_ends")),
            )
        return cls(
            classes=tuple(value["classes"]),
            support=whole(value["support"]),
            intact=array(value["intact"]),
            fill=value["fill"],
            n_images=value["n_images"],
            repeats=value["repeats"],
            seed=value["seed"],
            conditions=tuple(_condition(c) for c in value["conditions"]),
            curve=curve,
            single={int(c): [_effect(e) for e in effects] for c, effects in value["single"].items()},
            log_odds=known(value.get("log_odds")),
            log_probability=known(value.get("log_probability")),
            turns=value.get("turns", 1),
            by=str(value.get("by", "mu-lasso")),
            pairs=float(array(value.get("pairs"))),
            why_whole=str(value.get("why_whole", "")),
            outputs=str(value.get("outputs", "exclusive")),
            clusters=read_clusters(value.get("clusters")),
            false_alarms=known(value.get("false_alarms")),
            false_alarms_removed=known(value.get("false_alarms_removed")),
            only=only,
            intact_of_all=known(value.get("intact_of_all")),
        )


def _condition(value: Mapping[str, Any]) -> Condition:
    changes = {measure: read_changes(value["changes"][measure], measure) for measure in value.get("changes") or ()}
    removed, own, others = (array(value[name]) for name in ("removed", "own", "others"))
    clusters = read_clusters(value.get("clusters"))
    return Condition(value["name"], value["layers"], removed, own, others, changes, clusters)


def _effect_json(effect: SingleEffect) -> dict[str, Any]:
    values = effect._asdict()
    return asdict(values.pop("channel")) | values


def _effect(value: Mapping[str, Any]) -> SingleEffect:
    numbers = array([value.get(name) for name in SingleEffect._fields[2:]]).tolist()
    return SingleEffect(Channel(value["layer"], value["index"]), value["weight"], *numbers)


def find_condition(result: AblationResult, name: str, layers: str = "all") -> Condition | None:
    """Return a condition, or ``None`` where it was not run."""
    return next((c for c in result.conditions if (c.name, c.layers) == (name, layers)), None)
