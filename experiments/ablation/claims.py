"""What E1 found: whether removing identified channels costs a class more than controls do, and whom else it costs."""

from __future__ import annotations

import numpy as np

from experiments.ablation.table import DRAWN, TITLES, Group, conditions, difference, groups, name, of, recall, removed
from experiments.common.claims import Claim, counted, judged, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, number, points, signed

Judged = dict[Group, dict[str, Interval]]


def claims() -> list[Claim]:
    """Return the claims with figures and verdicts from the committed results."""
    lines: list[Line] = committed(__file__)
    return [beyond_random(lines), selective(lines), beyond_highest(lines), by_reliance(lines)]


def studies(lines: list[Line]) -> list[Group]:
    """Return the groups that can be judged: at least one relevant channel per class is there to be removed."""
    return [g for g in groups([x for x in lines if x["setting"] == "paper"], TITLES) if removed(lines, g) >= 1]


def _judged(lines: list[Line], what: str, controls: tuple[str, ...], setting: str = "paper") -> Judged:
    """Return the studies' differences from controls in points, above 0 where the method wins."""
    sign = {"own": -100, "selectivity": 100}[what]
    found = {}
    for group in studies(lines):
        each = {c: d.times(sign) for c in controls if (d := difference(lines, group, c, what, setting)) is not None}
        if each:
            found[group] = each
    return found


def _against_random(lines: list[Line], found: Judged, claim: str, figure: str, words: dict[Group, str]) -> Claim:
    """Return a claim that is judged by both random controls; ``words`` say what becomes of a lost study."""
    won = {g: all(d.above for d in each.values()) for g, each in found.items()}
    lost = "; ".join(words[g] for g, one in won.items() if not one and g in words)
    return Claim(
        "E1",
        claim,
        counted(won.values(), "studies"),
        f"won {counted(won.values(), 'studies')}; {figure}",
        verdict_of(won.values()),
        f"not won: {lost}" if lost else "",
        effects=tuple((name(lines, g), each["random-per-layer"]) for g, each in found.items()),
    )


def beyond_random(lines: list[Line]) -> Claim:
    """Judge: a study is won where the class loses more than with both random controls, beyond the 95 % interval."""
    found = _judged(lines, "own", DRAWN)
    ends = sorted(found, key=lambda group: found[group]["random-per-layer"].mean)
    words = {}
    for group in found:
        more = difference(lines, group, "random-per-layer", "own", "5 mu")  # the reason's test
        tried = "" if more is None else f", with 5 mu {points(more)} against random-per-layer"
        words[group] = f"{name(lines, group)} ({removed(lines, group):.1f} channels per class{tried})"
    worst, best = (f"{signed(found[g]['random-per-layer'].times(-1))} ({name(lines, g)})" for g in (ends[0], ends[-1]))
    claim = (
        "Removing a class's identified channels costs it more than as many random ones, of all layers or layer by layer"
    )
    return _against_random(lines, found, claim, f"against random-per-layer, points: {worst} to {best}", words)


def selective(lines: list[Line]) -> Claim:
    """Judge: a study is won where others' recall less own is above both random controls', beyond the interval."""
    found = _judged(lines, "selectivity", DRAWN)
    kept = [100 * s.mean for g in found if (s := recall(lines, g, "relevant", "selectivity")) is not None]
    words = {}
    for group in found:
        # The reason's test: the channels with positive weight alone.
        alone = difference(lines, group, "random-per-layer", "selectivity", ours="relevant-positive")
        if alone is not None:
            words[group] = f"{name(lines, group)} (those with positive weight {points(alone)} against random-per-layer)"
    figure = f"the class keeps {min(kept):.1f} to {max(kept):.1f} points less than the others"
    claim = "What identified channels carry is the class's own: the others lose less"
    return _against_random(lines, found, claim, figure, words)


def beyond_highest(lines: list[Line]) -> Claim:
    """Judge: a study is won where the class loses more than with its highest activations, beyond the interval."""
    own, selectivity = (_judged(lines, what, ("highest-activation",)) for what in ("own", "selectivity"))
    effects = {name(lines, group): each["highest-activation"] for group, each in own.items()}
    more = sum(each["highest-activation"].above for each in selectivity.values())
    ends = [number(-end(d.mean for d in effects.values()), "+.1f") for end in (max, min)]
    ranges = []
    for condition in ("highest-activation", "relevant"):
        lost = []
        for group in own:
            intact = float(np.mean([x["intact"] for x in of(lines, group)]))
            left = np.mean([np.mean(c["others"]) for c in conditions(lines, group, condition)])
            lost.append(100 * (intact - float(left)))
        ranges.append(f"{number(min(lost))} to {number(max(lost))}")
    won = counted([effect.above for effect in effects.values()], "studies")
    return judged(
        "E1",
        "Removing them costs the class more than removing its highest activations",
        effects,
        "studies",
        f"won {won}: own recall {ends[0]} to {ends[1]} points against it; more selective in {more}",
        f"they cost the other classes {ranges[0]} points as well, the identified ones {ranges[1]}",
    )


def by_reliance(lines: list[Line]) -> Claim:
    """Judge: a study is won where the channels that a class relies on cost it more, and more than others, than random.

    Against both random controls, in own recall and in selectivity, beyond the interval. The figure says how many of
    these studies the mu-lasso's channels win by the same rule.
    """
    found = {setting: _both_won(lines, setting) for setting in ("reliance", "paper")}
    won = found["reliance"]
    theirs = [found["paper"][group] for group in won if group in found["paper"]]
    lost = "; ".join(name(lines, group) for group, one in won.items() if not one)
    return Claim(
        "E1",
        "The channels that a class relies on cost it more than random ones, and cost the others less",
        counted(won.values(), "studies"),
        f"won {counted(won.values(), 'studies')}; of the same, the mu-lasso's {sum(theirs)}",
        verdict_of(won.values()),
        f"not won: {lost}" if lost else "",
    )


def _both_won(lines: list[Line], setting: str) -> dict[Group, bool]:
    own, selectivity = (_judged(lines, what, DRAWN, setting) for what in ("own", "selectivity"))
    return {g: all(d.above for found in (own, selectivity) for d in found[g].values()) for g in own}
