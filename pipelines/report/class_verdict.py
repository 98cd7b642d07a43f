"""What an ablation study says of each class: whether its named channels may be cited for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from interpnet.ablation import AblationResult, Changes, Condition, Effect, adjusted

from .numbers import signed, span

_BEYOND = 0.025  # of one side, of all classes that are called so
# Fewer images cannot reach that: a test of signs says 2^-n at least.
_FEWEST = 6
# Changes that are surely no more than this are called none.
_NOTHING = {"recall": 0.05, "log_odds": 0.5}
_WORDS = {"recall": "recall", "log_odds": "log-odds"}
# What each control changes, by measure, and whether it is drawn at random.
Compared = Sequence[tuple[Mapping[str, Changes], bool]]


@dataclass(frozen=True)
class ClassVerdict:
    """What the study says of one class."""

    level: str  # "shown", "mixed", "not shown" or "open": nothing to judge by
    sentence: str


def class_verdicts(
    study: AblationResult, condition: Condition, named: Mapping[str, Changes], compared: Compared, *, held_out: bool
) -> tuple[ClassVerdict, ...]:
    """Return the verdict of every class; see :class:`ClassVerdict`.

    They rest on log-odds, where the study has them, for recall is blunt in few images. P-values are adjusted for the
    number of classes (Benjamini and Hochberg). "shown" needs a loss beyond every control and beyond the others' loss,
    and a recall that falls.
    """
    measure = "recall"
    if "log_odds" in named:
        measure = "log_odds"
    changes = named[measure]
    tested = np.flatnonzero((condition.removed > 0) & (study.support >= _FEWEST) & np.isfinite(study.intact)).tolist()
    controls = [(of[measure], drawn) for of, drawn in compared]
    chances = {c: _chances(changes, controls, c) for c in tested}
    adjusted_chances = [adjusted(np.array([chances[c][i] for c in tested])) for i in range(4)]
    found = []
    at = {c: i for i, c in enumerate(tested)}
    for c, name in enumerate(study.classes):
        if study.only is not None and c not in study.only:
            found.append(ClassVerdict("open", f"The channels of {name} were not removed (--only)."))
        elif not condition.removed[c]:
            found.append(ClassVerdict("open", f"No channel is named for {name}."))
        elif c not in at:
            images = int(study.support[c])
            text = {0: "There is no test image", 1: "There is one test image"}
            there = text.get(images, f"There are {images} test images")
            found.append(ClassVerdict("open", f"{there} of {name}, too few to judge by."))
        else:
            beyond = [bool(p[at[c]] <= _BEYOND) for p in adjusted_chances]
            own = {m: of.own.of(c) for m, of in named.items()}
            verdict = _of_class(name, own, beyond, measure, len(tested), held_out=held_out)
            if beyond[0] and not any(drawn for _, drawn in compared):
                verdict = _not_compared(name, own)
            found.append(verdict)
    return tuple(found)


def _chances(changes: Changes, controls: Sequence[tuple[Changes, bool]], c: int) -> tuple[float, float, float, float]:
    """Return one-sided p-values of a class: of a loss, and of one beyond three things.

    These are what random channels cost on average, what a single draw of them may cost by luck, and everything.
    """
    average = []
    random = []
    rankings = []
    for of, drawn in controls:
        if of.own_beyond is None:
            continue
        p = of.own_beyond.of(c).p_value(one_draw=drawn)
        if drawn:
            average.append(of.own_beyond.of(c).p_value())
            random.append(p)
        else:
            rankings.append(p)
    # Without a random control nothing is beyond one.
    of_random = max(random, default=1.0)
    of_average = max(average, default=1.0)
    of_everything = max([of_random, *rankings, _specific(changes, c)])
    return (-changes.own.of(c)).p_value(), of_average, of_random, of_everything


def _specific(changes: Changes, c: int) -> float:
    """Return the one-sided p-value of a class that loses no more than the others do without its channels."""
    own = changes.own.of(c)
    others = changes.by_removed.of(c)
    images = int(min(own.count[0], others.count[0]))
    error = math.hypot(own.stderr(), others.stderr())
    more = others.overall() - own.overall()
    if images < 2 or not math.isfinite(error) or not more > 0:
        return 1.0
    least = math.exp2(-float(own.count[0]))
    if error == 0:
        return least
    # The fewer images of the two give the degrees of freedom: no more than Welch's.
    return max(float(special.stdtr(images - 1, -more / error)), least)


def _numbers(own: Mapping[str, Effect]) -> str:
    return "; ".join(f"{_WORDS[m]} {signed(e.overall())}, {span(e.interval())}" for m, e in own.items())


def _not_compared(name: str, own: Mapping[str, Effect]) -> ClassVerdict:
    """Return what is known of a class that loses something, where no channels were removed at random."""
    text = f"Removing them costs {name} something ({_numbers(own)}), but no random control was run to compare it with."
    return ClassVerdict("open", text)


def _of_class(
    name: str, own: Mapping[str, Effect], beyond: Sequence[bool], measure: str, tested: int, *, held_out: bool
) -> ClassVerdict:
    """Put a class into words: its changes, and what they are beyond, as :func:`_chances` orders it.

    ``measure`` is what the verdicts of all ``tested`` classes rest on.
    """
    numbers = _numbers(own)
    loses, average, random, every = beyond
    if every and own["recall"].interval()[1] < 0:
        text = f"Removing them costs {name} more than any control does, and more than it costs the others ({numbers})."
        if held_out:
            return ClassVerdict("shown", text)
        return ClassVerdict("mixed", text + " But these are the images that the channels were found on.")
    if every:
        return ClassVerdict(
            "mixed",
            f"Removing them makes the network less sure of {name} ({numbers}), more than any control does; these "
            "images do not show that it recognises fewer.",
        )
    if random:
        return ClassVerdict(
            "mixed",
            f"Removing them costs {name} more than removing random channels ({numbers}), but not shown to be more than "
            "it costs the others, or than removing channels that simpler rankings name.",
        )
    if loses and average:
        return ClassVerdict(
            "mixed",
            f"Removing them costs {name} more than as many random channels do on average ({numbers}), but the few "
            "draws do not show that no random choice would cost as much.",
        )
    if loses:
        return ClassVerdict(
            "not shown",
            f"Removing them costs {name} something ({numbers}), but not shown to be beyond what as many random "
            "channels cost.",
        )
    advice = f"do not cite these channels for {name}."
    if any(effect.p_value() <= _BEYOND for effect in own.values()):
        return ClassVerdict("not shown", f"Removing them does not cost {name} anything, it helps ({numbers}): {advice}")
    if all(max(map(abs, effect.interval())) <= _NOTHING[m] for m, effect in own.items()):
        return ClassVerdict("not shown", f"Removing them changes hardly anything ({numbers}): {advice}")
    # An interval below zero shows a loss by itself; sentence and numbers must not contradict each other.
    if any(effect.interval()[1] < 0 for effect in own.values()):
        why = f"the {_WORDS[measure]}, by which classes are judged, do not fall beyond chance"
        if own[measure].interval()[1] < 0:
            why = f"of {tested} classes some fall this far by chance"
        return ClassVerdict("not shown", f"Removing them may cost {name} something ({numbers}), but {why}: {advice}")
    images = int(own["recall"].count[0])
    return ClassVerdict(
        "not shown", f"{images} images do not show that removing them costs {name} anything ({numbers}): {advice}"
    )
