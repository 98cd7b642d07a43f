"""What E1 found: whether removing identified channels costs a class more than controls do, and whom else it costs."""

from __future__ import annotations

import numpy as np

from experiments.ablation.differences import Group, difference, groups, of, recall, removed
from experiments.ablation.table import DRAWN, TITLES, name
from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, number, points

_HIGHEST = ("highest-activation",)
Judged = dict[Group, dict[str, Interval]]


def claims() -> list[Claim]:
    """Return the claims with figures and verdicts from the committed results."""
    lines: list[Line] = committed(__file__)
    return [beyond_random(lines), selective(lines), beyond_highest(lines)]


def studies(lines: list[Line]) -> list[Group]:
    """Return the groups that can be judged: at least one relevant channel per class is there to be removed."""
    return [g for g in groups([x for x in lines if x["setting"] == "paper"], TITLES) if removed(lines, g) >= 1]


def _judged(lines: list[Line], what: str, controls: tuple[str, ...]) -> Judged:
    found = {}
    for group in studies(lines):
        each = {c: d for c in controls if (d := difference(lines, group, c, what)) is not None}
        if each:
            found[group] = each
    return found


def _effects(lines: list[Line], found: Judged, control: str, sign: int) -> tuple[tuple[str, Interval], ...]:
    return tuple((name(lines, group), each[control].times(100 * sign)) for group, each in found.items())


def _lost(won: dict[Group, bool], words: dict[Group, str]) -> str:
    """Return what is said of each study that is lost."""
    lost = [words[group] for group, one in won.items() if not one and group in words]
    return "not won: " * bool(lost) + "; ".join(lost)


def beyond_random(lines: list[Line]) -> Claim:
    """Judge: a study is won where the class loses more than with both random controls, beyond the 95 % interval.

    What became of a lost study with five times mu, against channels of the same layers, is its reason's test.
    """
    found = _judged(lines, "own", DRAWN)
    won = {g: all(d.below for d in each.values()) for g, each in found.items()}
    by_layer = sorted(found, key=lambda group: -found[group]["random-per-layer"].mean)
    words = {}
    for group in found:
        more = difference(lines, group, "random-per-layer", "own", "5 mu")
        tried = f"{name(lines, group)} ({removed(lines, group):.1f} channels per class"
        if more is not None:
            tried += f", with 5 mu {points(more)} against random-per-layer"
        words[group] = f"{tried})"
    worst, best = (
        f"{points(found[group]['random-per-layer'])} ({name(lines, group)})" for group in (by_layer[0], by_layer[-1])
    )
    return Claim(
        "E1",
        "Removing a class's identified channels costs it more than as many random ones, of all layers or layer by "
        "layer",
        counted(won.values(), "studies"),
        f"won {counted(won.values(), 'studies')}; against random-per-layer, points: {worst} to {best}",
        verdict_of(won.values()),
        _lost(won, words),
        effects=_effects(lines, found, "random-per-layer", -1),
    )


def selective(lines: list[Line]) -> Claim:
    """Judge: a study is won where others' recall less own is above both random controls', beyond the interval.

    What the channels with positive weight alone are, in a lost study, is its reason's test.
    """
    found = _judged(lines, "selectivity", DRAWN)
    won = {g: all(d.above for d in each.values()) for g, each in found.items()}
    kept = [100 * s.mean for g in found if (s := recall(lines, g, "relevant", "selectivity")) is not None]
    words = {}
    for group in found:
        alone = difference(lines, group, "random-per-layer", "selectivity", ours="relevant-positive")
        if alone is not None:
            words[group] = f"{name(lines, group)} (those with positive weight {points(alone)} against random-per-layer)"
    return Claim(
        "E1",
        "What identified channels carry is the class's own: the others lose less",
        counted(won.values(), "studies"),
        f"won {counted(won.values(), 'studies')}; the class keeps {min(kept):.1f} to {max(kept):.1f} points less than "
        "the others",
        verdict_of(won.values()),
        _lost(won, words),
        effects=_effects(lines, found, "random-per-layer", 1),
    )


def others_loss(lines: list[Line], group: Group, condition: str) -> float:
    """Return how many points of recall the other classes lose under a condition, on average over networks."""
    found = recall(lines, group, condition, "others")
    intact = [x["intact"] for x in of(lines, group)]
    if found is None:
        raise ValueError(f"{condition} was not measured on {group.subject}; run experiments.ablation.run")
    return 100 * (float(np.mean(intact)) - found.mean)


def beyond_highest(lines: list[Line]) -> Claim:
    """Judge: a study is won where the class loses more than with its highest activations, beyond the interval."""
    found = _judged(lines, "own", _HIGHEST)
    own = [each["highest-activation"] for each in found.values()]
    won = [d.below for d in own]
    more = [each["highest-activation"].above for each in _judged(lines, "selectivity", _HIGHEST).values()]
    least, most = (number(100 * end(d.mean for d in own), "+.1f") for end in (min, max))
    ranges = []
    for condition in ("highest-activation", "relevant"):
        lost = [others_loss(lines, group, condition) for group in found]
        ranges.append(f"{number(min(lost))} to {number(max(lost))}")
    return Claim(
        "E1",
        "Removing them costs the class more than removing its highest activations",
        counted(won, "studies"),
        f"won {counted(won, 'studies')}: own recall {least} to {most} points against it; more selective in {sum(more)}",
        verdict_of(won),
        f"they cost the other classes {ranges[0]} points as well, the identified ones {ranges[1]}",
        effects=_effects(lines, found, "highest-activation", -1),
    )
