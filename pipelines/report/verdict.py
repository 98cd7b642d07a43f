"""What an ablation study says, in sentences that its numbers support and no further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interpnet.ablation import AblationResult, Condition, by_class, find_condition, finite_mean, mean_change

_CONTROLS = ("random", "random-per-layer", "highest-activation")
# From this share of a class's loss on we say that the named channels serve the class rather than everybody.
_CLASS_SHARE = 0.25
_CONTROL_WORDS = {
    "random": "random ones",
    "random-per-layer": "random ones of the same layers",
    "highest-activation": "those with the highest mean activation",
}


@dataclass(frozen=True)
class Figure:
    """One number of the headline: what it is, its value, and its interval where it has one."""

    label: str
    value: float
    ends: tuple[float, float] | None
    tone: str


@dataclass(frozen=True)
class Verdict:
    """A study in words.

    Attributes
    ----------
    level : str
        ``"shown"``, ``"mixed"``, ``"not shown"`` or ``"open"`` (nothing to compare with).
    headline : str
        The main numbers in one sentence.
    judgement : str
        What follows from them.
    details : tuple of str
        Further sentences.
    figures : tuple of Figure
    """

    level: str
    headline: str
    judgement: str
    details: tuple[str, ...]
    figures: tuple[Figure, ...]


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, a real minus, and no negative zero.

    Examples
    --------
    >>> signed(-0.25), signed(-0.001), signed(0.5)
    ('−0.25', '0.00', '+0.50')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def verdict(study: AblationResult) -> Verdict:
    """Put a study into words; see :class:`Verdict`."""
    relevant = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
    if relevant is None or not np.any(relevant.removed > 0) or not math.isfinite(relevant.mean_own()):
        why = "No class has relevant channels and test images" if relevant else "The relevant channels were not removed"
        return Verdict("open", f"{why}, so the ablation says nothing.", "", (), ())
    controls = [c for name in _CONTROLS if (c := find_condition(study, name, relevant.layers)) is not None]
    intact, own = study.mean_intact, relevant.mean_own()
    verb = "lowers its own recall" if own < intact else "does not lower its own recall:"
    headline = (
        f"Removing the {_count(relevant)} channels that InterpNet names for a class {verb} "
        f"from {intact:.2f} to {own:.2f}{_on_average(study)}"
    )
    headline += f"; removing as many {_said(controls[0])}." if controls else "."
    level, judgement = _judge(study, relevant, controls)
    figures = [
        Figure("intact", intact, None, "ink"),
        Figure("named channels removed", own, None, "relevant"),
        *(Figure(_CONTROL_WORDS[c.name] + " removed", c.mean_own(), _ends(c), c.name) for c in controls),
    ]
    return Verdict(level, headline, judgement, tuple(_details(study, relevant, controls)), tuple(figures))


def _count(condition: Condition) -> str:
    counts = condition.removed[condition.removed > 0]
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high} (mean {finite_mean(counts):.1f})"


def _ends(condition: Condition) -> tuple[float, float] | None:
    return condition.interval_own() if condition.own.shape[0] > 1 else None


def _on_average(study: AblationResult) -> str:
    tested = int(np.isfinite(study.intact).sum())
    return f" (mean over {tested} classes)" if tested > 1 else ""


def _said(control: Condition) -> str:
    """Return a control and what it leaves, for the end of the headline."""
    ends = _ends(control)
    within = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{_CONTROL_WORDS[control.name].removeprefix('those ')}, to {control.mean_own():.2f}{within}"


def _specificity(study: AblationResult, condition: Condition) -> float:
    """Return the share of a class's loss that the others do not lose as well: 1 is the class's own, 0 everybody's."""
    lost = study.mean_intact - condition.mean_own()
    return (lost + mean_change(study, condition)[0]) / lost if lost > 0 else 0.0


def _judge(study: AblationResult, relevant: Condition, controls: Sequence[Condition]) -> tuple[str, str]:
    intact, own = study.mean_intact, relevant.mean_own()
    if not controls:
        return "open", "No control was run, so this alone does not show that the named channels are special."
    beaten = [c for c in controls if own < (_ends(c) or (c.mean_own(),))[0]]
    lost = [c for c in controls if c not in beaten]
    if own >= intact:
        lost, beaten = list(controls), []
    # A control that fells every class alike has found channels that the whole network needs, not the class's own.
    special = _specificity(study, relevant)
    general = [c for c in lost if special >= _CLASS_SHARE and _specificity(study, c) < 0.5 * special]
    equal = [c for c in lost if c not in general]
    if any(c.name == "random" for c in equal) or not (beaten or general):
        beyond = (
            f"beyond removing {_named(beaten)}, but not beyond removing {_named(equal)}"
            if beaten
            else ("not beyond what the controls do")
        )
        return "not shown", (
            f"That is {beyond}: this study does not show that the network relies on the named channels more than on "
            "others."
        )
    if lost:
        text = f"That is beyond removing {_named(beaten)}. " if beaten else ""
        if general:
            changes = ", ".join(signed(mean_change(study, c)[0]) for c in general)
            text += (
                f"Removing {_named(general)} costs a class as much or more, but costs the others as much (change of "
                f"their recall {changes}, against {signed(mean_change(study, relevant)[0])} here): those channels "
                "serve every class, the named ones this class. "
            )
        if equal:
            text += (
                f"It is not beyond removing {_named(equal)}: the named channels matter, but so do channels that are "
                "found without naming any."
            )
        return "mixed" if equal or not beaten else "shown", text.strip()
    nearest = min(controls, key=lambda c: c.mean_own())
    gain = nearest.mean_own() - own
    text = (
        f"That is beyond every control: {gain:.2f} lower than the strongest of them "
        f"({_CONTROL_WORDS[nearest.name]}). The network relies on the named channels."
    )
    if not any(_ends(c) for c in controls):
        return "mixed", text + " Each control was drawn only once, though, so there is no interval to judge by."
    return "shown", text


def _named(controls: Sequence[Condition]) -> str:
    return " or ".join(_CONTROL_WORDS[c.name] for c in controls)


def _details(study: AblationResult, relevant: Condition, controls: Sequence[Condition]) -> list[str]:
    own = by_class(relevant.own)
    tested = np.isfinite(own) & np.isfinite(study.intact) & (relevant.removed > 0)
    details = []
    random = next((c for c in controls if c.name == "random"), None)
    if random is not None:
        lower = int(np.sum(own[tested] < by_class(random.own)[tested]))
        count = int(tested.sum())
        details.append(f"In {lower} of {count} classes the own recall falls below that with random channels.")
    lost = study.mean_intact - relevant.mean_own()
    change, _ = mean_change(study, relevant)
    if lost > 0 and math.isfinite(change):
        share = -change / lost
        judged = (
            "so the effect is mostly the class's own"
            if share < 0.5
            else "so a good part of the effect is not specific to the class"
        )
        details.append(
            f"Meanwhile the mean recall of the other classes changes by {signed(change)} "
            f"(the class itself: {signed(-lost)}), {judged}."
        )
    chance = 1 / max(1, len(study.classes))
    if study.mean_intact < 1.5 * chance:
        details.append(f"The intact network's mean recall is near chance ({chance:.2f}), so little is left to lower.")
    details.append(
        "Intervals are over the repeated draws of a control, not over the choice of test images; "
        "removed maps were " + ("set to zero." if study.fill == "zero" else f"filled with their {study.fill}.")
    )
    return details
