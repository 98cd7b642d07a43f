"""What an ablation study says, in sentences that its intervals carry and no further; docs/method.md, section 6.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interpnet.ablation import AblationResult, Changes, Condition, changes_of_recall, find_condition, finite_mean

from .class_verdict import ClassVerdict, class_verdicts
from .load import RunData
from .numbers import number_text, signed, span

#: One side of a 95 % interval: what is rarer by chance is said to be beyond it.
BEYOND = 0.025
_CONTROL_WORDS = {
    "random": "random ones",
    "random-per-layer": "random ones of the same layers",
    "highest-activation": "those with the highest mean activation",
    "d-prime": "those with the highest d'",
}
_MEASURE_WORDS = {"recall": "in recall", "log_odds": "in log-odds"}


@dataclass(frozen=True)
class Figure:
    """One number of the headline."""

    label: str
    value: float
    ends: tuple[float, float] | None  # its interval, where it has one
    tone: str  # the class of the style sheet that colours it


@dataclass(frozen=True)
class Verdict:
    """A study in words."""

    level: str  # "shown", "mixed", "not shown" or "open": nothing to compare with
    headline: str  # the main numbers in one sentence
    judgement: str = ""  # what follows from them
    details: tuple[str, ...] = ()  # further sentences
    figures: tuple[Figure, ...] = ()  # the main numbers
    classes: tuple[ClassVerdict, ...] = ()  # of every class, in order


@dataclass(frozen=True, eq=False)  # two conditions with the same numbers are still two
class _Removal:
    """A condition of the study, in words and numbers."""

    study: AblationResult
    condition: Condition
    named: Condition | None = None  # what a control is compared with

    @property
    def words(self) -> str:
        return _CONTROL_WORDS[self.condition.name]

    @property
    def drawn(self) -> bool:
        """Whether its channels are drawn at random."""
        return self.condition.name.startswith("random")

    @property
    def own(self) -> float:
        """The mean recall that is left of a class."""
        return self.condition.mean_own()

    @cached_property
    def changes(self) -> dict[str, Changes]:
        """The changes of the measures that a verdict rests on."""
        found = {"recall": changes_of_recall(self.study, self.condition, self.named)}
        if "log_odds" in self.condition.changes:
            found["log_odds"] = self.condition.changes["log_odds"]
        return found

    @cached_property
    def beaten(self) -> list[str]:
        """The measures in which the named channels cost a class more than this control, beyond the interval.

        Of a random control: more than a single draw of it would.
        """
        effects = {measure: changes.own_beyond for measure, changes in self.changes.items()}
        return [m for m, e in effects.items() if e is not None and e.p_value(one_draw=self.drawn) <= BEYOND]

    @cached_property
    def blunt(self) -> bool:
        """Whether this ranking costs the others so much that the named channels are more the class's own, by far."""
        effects = [changes.specific_beyond for changes in self.changes.values()]
        return not self.drawn and all(e is not None and e.p_value() <= BEYOND for e in effects)

    @property
    def losses(self) -> list[str]:
        """The measures in which a class loses anything, beyond the interval."""
        return [measure for measure, changes in self.changes.items() if (-changes.own).p_value() <= BEYOND]

    @property
    def specific(self) -> bool:
        """Whether a class loses more than the others do, beyond the interval, in every measure.

        Of a random control: whether the named channels are the class's own beyond what a single draw is by luck.
        """
        effects = [changes.specific for changes in self.changes.values()]
        if self.named is None:
            return all(effect.p_value() <= BEYOND for effect in effects)
        beyond = [changes.specific_beyond for changes in self.changes.values()]
        return all(effect is not None and effect.p_value(one_draw=True) <= BEYOND for effect in beyond)

    @property
    def count(self) -> str:
        """How many channels were removed."""
        counts = self.condition.removed[self.condition.removed > 0]
        low = int(counts.min())
        high = int(counts.max())
        if low == high == 1:
            return "one channel"
        return f"{low} channels" if low == high else f"{low} to {high} (mean {finite_mean(counts):.1f}) channels"


def study_verdicts(run: RunData) -> dict[str, Verdict]:
    """Put every study of a run into words."""
    prints = [run.entry("data", split).get("fingerprint") for split in ("train", "test")]
    # As far as the manifest says.
    held_out = prints[0] != prints[1] or None in prints
    return {way: verdict(study, held_out=held_out) for way, study in run.studies.items()}


def verdict(study: AblationResult, *, held_out: bool = True) -> Verdict:
    """Put a study into words; see :class:`Verdict`.

    It is "shown" only where the named channels cost their class more than every control of the same size, and more
    than they cost the other classes, each beyond the 95 % interval of the difference paired by image. ``held_out`` says
    whether the images are others than those that the channels were found on: without that it is "mixed" at most.
    """
    condition = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
    if condition is None:
        return Verdict("open", "The relevant channels were not removed, so the ablation says nothing.")
    if not np.any(condition.removed > 0) or not math.isfinite(condition.mean_own()):
        return Verdict("open", "No class has relevant channels and test images, so the ablation says nothing.")
    named = _Removal(study, condition)
    wanted = [find_condition(study, name, condition.layers) for name in _CONTROL_WORDS]
    controls = [_Removal(study, control, condition) for control in wanted if control is not None]
    level, judgement = _judge(named, controls)
    if level == "shown" and not held_out:
        level = "mixed"
        judgement += (
            " But these are the images that the channels were found on: there is no test split, which flatters them."
        )
    guessing = study.interval_intact()[0] <= _chance(study)
    if level == "shown" and guessing:
        level = "mixed"
        judgement += (
            f" But the intact network is not shown to recognise the classes beyond chance ({_chance(study):.2f}), so "
            "that it has nothing to rely on."
        )
    compared = [(c.changes, c.drawn) for c in controls if not c.blunt]
    classes = class_verdicts(study, condition, named.changes, compared, held_out=held_out)
    if guessing:
        classes = tuple(_of_guessing(one) for one in classes)
    figures = [
        Figure("intact", study.mean_intact, study.interval_intact(), "ink"),
        Figure("named channels removed", named.own, condition.interval_own(), "relevant"),
        *(Figure(f"{c.words} removed", c.own, c.condition.interval_own(), c.condition.name) for c in controls),
    ]
    details = _details(named, controls, classes)
    return Verdict(level, _headline(named, controls), judgement, tuple(details), tuple(figures), classes)


def _chance(study: AblationResult) -> float:
    """Return the mean class recall of guessing; 0 for a single class, which is always right.

    Of labels it is how often they are given to images that lack them.
    """
    if study.false_alarms is not None:
        return float(np.nan_to_num(finite_mean(study.false_alarms)))
    classes = len(study.classes)
    if classes < 2:
        return 0.0
    return 1 / classes


def _of_guessing(one: ClassVerdict) -> ClassVerdict:
    if one.level != "shown":
        return one
    return ClassVerdict("mixed", f"{one.sentence} But the intact network may as well be guessing.")


def _headline(named: _Removal, controls: Sequence[_Removal]) -> str:
    study = named.study
    change = named.changes["recall"].own
    low, high = change.interval()
    verb = "changes its own recall"
    if high < 0:
        verb = "lowers its own recall"
    elif named.own >= study.mean_intact:
        verb = "does not lower its own recall:"
    headline = f"Removing the {named.count} that {_finds(study)} {verb} from {study.mean_intact:.2f} to {named.own:.2f}"
    tested = int(np.isfinite(study.intact).sum())
    if tested > 1:
        headline += f" (mean over {tested} classes; "
    else:
        headline += " ("
    headline += f"{signed(change.overall())}, 95 % interval {span((low, high))})"
    if controls:
        first = controls[0]
        headline += f"; removing as many {first.words.removeprefix('those ')}, to {first.own:.2f}"
    return f"{headline}."


def _finds(study: AblationResult) -> str:
    return {"reliance": "a class is found to rely on"}.get(study.by, "InterpNet names for a class")


def _judge(named: _Removal, controls: Sequence[_Removal]) -> tuple[str, str]:
    """Return the level and the judgement: what the loss is beyond, and what it is not."""
    if not controls:
        return "open", "No control was run, so this alone does not show that the named channels are special."
    measures = list(named.changes)
    losses = named.losses
    beaten = [c for c in controls if c.beaten == losses == measures]
    blunt = [c for c in controls if c not in beaten and c.blunt]
    partly = [c for c in controls if set(c.beaten) & set(losses) and c not in [*beaten, *blunt]]
    equal = [c for c in controls if c not in [*beaten, *blunt, *partly]]
    if any(c.drawn for c in equal) or not (beaten or blunt or partly):
        beyond = "not beyond what the controls do"
        if beaten or partly:
            beyond = f"beyond removing {_named([*beaten, *partly])}, but not beyond removing {_named(equal)}"
        return "not shown", (
            f"That is {beyond}: this study does not show that the network relies on the named channels more than on "
            "others."
        )
    sentences = []
    if beaten and not (blunt or partly or equal):
        sentences.append(f"That is beyond every control: {_by_how_much(beaten)}.")
    elif beaten:
        sentences.append(f"That is beyond removing {_named(beaten)}: {_by_how_much(beaten)}.")
    for measure, words in _MEASURE_WORDS.items():
        only = [c for c in partly if measure in c.beaten and measure in losses]
        if only:
            sentences.append(f"It is beyond removing {_named(only)} only {words}.")
    sentences += [
        f"Removing {c.words} {_against(named, c)}, but costs the others too: those channels serve every class, the "
        "named ones this class."
        for c in blunt
    ]
    if equal:
        sentences += [f"It is not beyond removing {c.words}, which {_against(named, c)}." for c in equal]
        sentences.append("The named channels matter, but so do channels that are found without naming any.")
    specific = named.specific and all(c.specific for c in controls if c.drawn)
    if not specific:
        sentences.append(f"{_not_specific(named)}, so the named channels are not shown to be the class's own.")
    if not any(c.drawn for c in controls):
        sentences.append("No random control was run, which any choice of channels should be compared with.")
    elif specific and beaten and not (partly or equal):
        return "shown", " ".join([*sentences, "The network relies on the named channels."])
    return "mixed", " ".join(sentences)


def _against(named: _Removal, control: _Removal) -> str:
    """Say what a control leaves of a class's recall beside the named channels; the interval says what is less."""
    left = f"{control.own:.2f}, the named channels {named.own:.2f}"
    effect = control.changes["recall"].own_beyond
    if effect is None:
        return f"leaves another recall ({left}; not compared image by image)"
    low, high = effect.interval(one_draw=control.drawn)
    if high < 0:
        return f"leaves a class less recall ({left})"
    if low > 0:
        return f"leaves a class more recall ({left})"
    return f"leaves a recall that these images do not tell from theirs ({left}; difference {span((low, high))})"


def _not_specific(named: _Removal) -> str:
    """Say in which measure a class is not shown to lose more than the others, with both numbers."""
    found = [
        f"{_MEASURE_WORDS[m]} ({signed(of.own.overall())}, the others {signed(of.others.overall())}; difference "
        f"{span(of.specific.interval())})"
        for m, of in named.changes.items()
        if of.specific.p_value() > BEYOND
    ]
    if found:
        return f"It is not shown that a class loses more than the others do {' nor '.join(found)}"
    return "A class loses more than the others do, but random channels may be as much its own by luck"


def _by_how_much(controls: Sequence[_Removal]) -> str:
    """Say what the named channels cost beyond the strongest of some controls, in recall."""
    nearest = min(controls, key=lambda c: c.own)
    effect = nearest.changes["recall"].own_beyond
    if effect is None:
        return "more than it costs"
    text = f"{effect.overall():.2f} lower than with the strongest of them ({nearest.words}"
    if len(controls) == 1:
        text = f"{effect.overall():.2f} lower than with those ("
    else:
        text += ", "
    low, high = effect.interval(one_draw=nearest.drawn)
    return f"{text}95 % interval {number_text(low)} to {number_text(high)})"


def _named(controls: Sequence[_Removal]) -> str:
    return " or ".join(c.words for c in controls)


def _details(named: _Removal, controls: Sequence[_Removal], classes: Sequence[ClassVerdict]) -> list[str]:
    study = named.study
    details = []
    if study.independent:
        details.append(
            "Classes are labels here, and an image can have several: a label's recall is over the images that have it, "
            "and the others are the labels that an image has when it loses the channels of one that it lacks."
        )
    for measure, changes in named.changes.items():
        what = {"recall": "The recall of a class changes", "log_odds": "The log-odds of a class change"}[measure]
        own = f"{signed(changes.own.overall())} ({span(changes.own.interval())})"
        others = f"{signed(changes.others.overall())} ({span(changes.others.interval())})"
        more = changes.specific
        difference = f"{signed(more.overall())} ({span(more.interval())})"
        details.append(f"{what} by {own}, of the other classes by {others}. Its own loss beyond theirs: {difference}.")
    tested = [c for c in classes if c.level != "open"]
    drawn = any(c.drawn for c in controls)
    if tested and drawn:
        shown = sum(c.level == "shown" for c in tested)
        details.append(
            f"Class by class it is shown for {shown} of {len(tested)} classes (at most 5 % of those that are called "
            "so are expected to be wrong: Benjamini and Hochberg)."
        )
    chance = _chance(study)
    if study.mean_intact < 1.5 * chance:
        details.append(f"The intact network's mean recall is near chance ({chance:.2f}), so little is left to lower.")
    filled = {"zero": "set to zero"}.get(study.fill, f"filled with their {study.fill}")
    covers = "over test images, paired" + (", and over the draws of random controls" if drawn else "")
    if not any(c.condition.changes for c in [named, *controls]):
        covers = "wide, for this study of an earlier version kept no pairs of images"
    details.append(f"Intervals are {covers}; removed maps were {filled}.")
    return details
