"""What an ablation study says, in sentences that its numbers support and no further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interpnet.ablation import AblationResult, Condition, by_class, find_condition, finite_mean, mean_change

from .numbers import signed

# From this share of a class's loss on we say that the named channels serve the class rather than everybody.
_CLASS_SHARE = 0.25
_CONTROL_WORDS = {
    "random": "random ones",
    "random-per-layer": "random ones of the same layers",
    "highest-activation": "those with the highest mean activation",
}


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


@dataclass(frozen=True, eq=False)  # two conditions with the same numbers are still two
class _Removal:
    """A condition of the study, in words and numbers."""

    study: AblationResult
    condition: Condition

    @property
    def words(self) -> str:
        return _CONTROL_WORDS[self.condition.name]

    @property
    def own(self) -> float:
        """The mean recall that is left of a class."""
        return self.condition.mean_own()

    @property
    def change(self) -> float:
        """What the other classes' mean recall changes by."""
        return mean_change(self.study, self.condition)[0]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval of ``own`` over repeated draws."""
        if self.condition.own.shape[0] == 1:
            return None
        return self.condition.interval_own()

    @property
    def low(self) -> float:
        """The smallest recall that the draws are compatible with."""
        return (self.ends or (self.own,))[0]

    @property
    def specificity(self) -> float:
        """The share of a class's loss that the others do not lose as well: 1 is the class's own, 0 everybody's."""
        lost = self.study.mean_intact - self.own
        if not lost > 0:  # NaN, too: nothing was tested
            return 0.0
        return (lost + self.change) / lost

    @property
    def count(self) -> str:
        """How many channels were removed."""
        counts = self.condition.removed[self.condition.removed > 0]
        low = int(counts.min())
        high = int(counts.max())
        return str(low) if low == high else f"{low} to {high} (mean {finite_mean(counts):.1f})"


def verdict(study: AblationResult) -> Verdict:
    """Put a study into words; see :class:`Verdict`."""
    condition = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
    if condition is None:
        return Verdict("open", "The relevant channels were not removed, so the ablation says nothing.")
    if not np.any(condition.removed > 0) or not math.isfinite(condition.mean_own()):
        return Verdict("open", "No class has relevant channels and test images, so the ablation says nothing.")
    relevant = _Removal(study, condition)
    wanted = [find_condition(study, name, condition.layers) for name in _CONTROL_WORDS]
    controls = [_Removal(study, control) for control in wanted if control is not None]
    level, judgement = _judge(relevant, controls)
    figures = [
        Figure("intact", study.mean_intact, None, "ink"),
        Figure("named channels removed", relevant.own, None, "relevant"),
        *(Figure(f"{c.words} removed", c.own, c.ends, c.condition.name) for c in controls),
    ]
    details = _details(relevant, controls)
    return Verdict(level, _headline(relevant, controls), judgement, tuple(details), tuple(figures))


def _headline(relevant: _Removal, controls: Sequence[_Removal]) -> str:
    study = relevant.study
    verb = "lowers its own recall"
    if relevant.own >= study.mean_intact:
        verb = "does not lower its own recall:"
    headline = (
        f"Removing the {relevant.count} channels that InterpNet names for a class {verb} "
        f"from {study.mean_intact:.2f} to {relevant.own:.2f}"
    )
    tested = int(np.isfinite(study.intact).sum())
    if tested > 1:
        headline += f" (mean over {tested} classes)"
    if controls:
        first = controls[0]
        headline += f"; removing as many {first.words.removeprefix('those ')}, to {first.own:.2f}"
        if first.ends:
            headline += f" (95 % interval {first.ends[0]:.3f} to {first.ends[1]:.3f})"
    return f"{headline}."


def _judge(relevant: _Removal, controls: Sequence[_Removal]) -> tuple[str, str]:
    """Return the level and the judgement: what the loss is beyond, and what it is not."""
    if not controls:
        return "open", "No control was run, so this alone does not show that the named channels are special."
    beaten = [c for c in controls if relevant.own < min(c.low, relevant.study.mean_intact)]
    lost = [c for c in controls if c not in beaten]
    # A control that costs every class alike has found channels that the whole network needs, not the class's own.
    special = relevant.specificity
    general = [c for c in lost if special >= _CLASS_SHARE and c.specificity < 0.5 * special]
    equal = [c for c in lost if c not in general]
    if any(c.condition.name == "random" for c in equal) or not (beaten or general):
        beyond = "not beyond what the controls do"
        if beaten:
            beyond = f"beyond removing {_named(beaten)}, but not beyond removing {_named(equal)}"
        return "not shown", (
            f"That is {beyond}: this study does not show that the network relies on the named channels more than on "
            "others."
        )
    if lost:
        sentences = []
        if beaten:
            sentences.append(f"That is beyond removing {_named(beaten)}.")
        if general:
            changes = ", ".join(signed(c.change) for c in general)
            sentences.append(
                f"Removing {_named(general)} costs a class as much or more, but costs the others as much (change of "
                f"their recall {changes}, against {signed(relevant.change)} here): those channels "
                "serve every class, the named ones this class."
            )
        if equal:
            sentences.append(
                f"It is not beyond removing {_named(equal)}: the named channels matter, but so do channels that are "
                "found without naming any."
            )
        level = "mixed" if equal or not beaten else "shown"
        return level, " ".join(sentences)
    nearest = min(controls, key=lambda c: c.own)
    text = (
        f"That is beyond every control: {nearest.own - relevant.own:.2f} lower than the strongest of them "
        f"({nearest.words}). The network relies on the named channels."
    )
    if not any(c.ends for c in controls):
        return "mixed", text + " Each control was drawn only once, though, so there is no interval to judge by."
    return "shown", text


def _named(controls: Sequence[_Removal]) -> str:
    return " or ".join(c.words for c in controls)


def _details(relevant: _Removal, controls: Sequence[_Removal]) -> list[str]:
    study = relevant.study
    details = []
    own = by_class(relevant.condition.own)
    tested = np.isfinite(own) & np.isfinite(study.intact) & (relevant.condition.removed > 0)
    for control in controls:
        if control.condition.name == "random":
            lower = int(np.sum(own[tested] < by_class(control.condition.own)[tested]))
            details.append(
                f"In {lower} of {int(tested.sum())} classes the own recall falls below that with random channels."
            )
    lost = study.mean_intact - relevant.own
    if lost > 0 and math.isfinite(relevant.change):
        judged = "so a good part of the effect is not specific to the class"
        if -relevant.change / lost < 0.5:
            judged = "so the effect is mostly the class's own"
        details.append(
            f"Meanwhile the mean recall of the other classes changes by {signed(relevant.change)} "
            f"(the class itself: {signed(-lost)}), {judged}."
        )
    chance = 1 / max(1, len(study.classes))
    if study.mean_intact < 1.5 * chance:
        details.append(f"The intact network's mean recall is near chance ({chance:.2f}), so little is left to lower.")
    filled = {"zero": "set to zero"}.get(study.fill, f"filled with their {study.fill}")
    details.append(
        "Intervals are over the repeated draws of a control, not over the choice of test images; "
        f"removed maps were {filled}."
    )
    return details
