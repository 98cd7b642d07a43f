"""What E1 found: whether removing identified channels costs a class more than controls do, and whom else it costs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from experiments.ablation.differences import Group, Interval, difference, groups, of, recall, removed, selectivity
from experiments.ablation.table import TITLES, name
from experiments.common.claims import Claim
from experiments.common.pages import signed

_RESULTS = Path(__file__).with_name("results.json")
_DRAWN = ("random", "random-per-layer")
Lines = list[dict[str, Any]]
Judged = dict[Group, dict[str, Interval]]


def claims() -> list[Claim]:
    """Return the claims with figures and verdicts from the committed results."""
    lines: Lines = json.loads(_RESULTS.read_text())
    return [beyond_random(lines), selective(lines), beyond_highest(lines)]


def verdict(wins: list[bool]) -> str:
    """Return the verdict over several studies: all, some or none."""
    return "holds" if all(wins) else "holds in part" if any(wins) else "does not hold"


def points(found: Interval) -> str:
    """Return a difference in percentage points with its interval."""
    return signed((100 * found[0], 100 * found[1], 100 * found[2]))


def studies(lines: Lines) -> list[Group]:
    """Return the groups that can be judged: at least one relevant channel a class is there to be removed."""
    return [g for g in groups([x for x in lines if x["setting"] == "paper"], TITLES) if removed(lines, g) >= 1]


def _judged(lines: Lines, what: str, controls: tuple[str, ...], setting: str = "paper") -> Judged:
    found = {}
    for group in studies(lines):
        each = {c: difference(lines, group, c, what, setting) for c in controls}
        found[group] = {c: d for c, d in each.items() if d is not None}
    return {g: each for g, each in found.items() if each}


def beyond_random(lines: Lines) -> Claim:
    """Judge: a study is won where the class loses more than with both random controls, beyond the 95 % interval."""
    found = _judged(lines, "own", _DRAWN)
    won = {g: all(d[2] < 0 for d in each.values()) for g, each in found.items()}
    by_layer = {g: each["random-per-layer"] for g, each in found.items()}
    worst, best = max(by_layer, key=lambda g: by_layer[g][0]), min(by_layer, key=lambda g: by_layer[g][0])
    figure = (
        f"won {sum(won.values())} of {len(won)} studies; against random-per-layer, points: "
        f"{points(by_layer[worst])} ({name(lines, worst)}) to {points(by_layer[best])} ({name(lines, best)})"
    )
    claim = (
        "Removing a class's identified channels costs it more than as many random ones, of all layers or layer by layer"
    )
    return Claim(
        "E1", claim, figure, verdict(list(won.values())), _why_lost(lines, [g for g, w in won.items() if not w])
    )


def _why_lost(lines: Lines, lost: list[Group]) -> str:
    """Say for every study that is lost what became of it with five times mu, against channels of the same layers."""
    parts = []
    for group in lost:
        more = difference(lines, group, "random-per-layer", "own", "5 mu")
        tried = f", with 5 mu {points(more)} against random-per-layer" if more is not None else ""
        parts.append(f"{name(lines, group)} ({removed(lines, group):.1f} channels a class{tried})")
    return f"not won: {'; '.join(parts)}" if parts else ""


def selective(lines: Lines) -> Claim:
    """Judge: a study is won where others' recall less own is above both random controls', beyond the interval."""
    found = _judged(lines, "selectivity", _DRAWN)
    won = {g: all(d[1] > 0 for d in each.values()) for g, each in found.items()}
    values = [s[0] for g in found if (s := selectivity(lines, g, "relevant")) is not None]
    figure = (
        f"won {sum(won.values())} of {len(won)} studies; the class keeps {100 * min(values):.1f} to "
        f"{100 * max(values):.1f} points less than the others"
    )
    claim = "What identified channels carry is the class's own: the others lose less"
    return Claim(
        "E1", claim, figure, verdict(list(won.values())), _positive(lines, [g for g, w in won.items() if not w])
    )


def _positive(lines: Lines, lost: list[Group]) -> str:
    """Say for every study that is lost what the channels with positive weight alone are."""
    parts = []
    for group in lost:
        alone = difference(lines, group, "random-per-layer", "selectivity", ours="relevant-positive")
        if alone is not None:
            parts.append(f"{name(lines, group)} (those with positive weight {points(alone)} against random-per-layer)")
    return f"not won: {'; '.join(parts)}" if parts else ""


def others_loss(lines: Lines, group: Group, condition: str) -> float:
    """Return how many points of recall the other classes lose under a condition, on average over networks."""
    found = recall(lines, group, condition, "others")
    intact = [x["intact"] for x in of(lines, group)]
    return math.nan if found is None else 100 * (sum(intact) / len(intact) - found[0])


def beyond_highest(lines: Lines) -> Claim:
    """Judge: a study is won where the class loses more than with its highest activations, beyond the interval."""
    found = {g: each["highest-activation"] for g, each in _judged(lines, "own", ("highest-activation",)).items()}
    won = [d[2] < 0 for d in found.values()]
    selective = _judged(lines, "selectivity", ("highest-activation",)).values()
    more = [each["highest-activation"][1] > 0 for each in selective]
    own = [100 * d[0] for d in found.values()]
    figure = (
        f"won {sum(won)} of {len(won)} studies: own recall {min(own):+.1f} to {max(own):+.1f} points against it; "
        f"more selective in {sum(more)}"
    ).replace("-", "−")
    highest, relevant = ([others_loss(lines, g, c) for g in found] for c in ("highest-activation", "relevant"))
    reason = (
        f"they cost the other classes {min(highest):.1f} to {max(highest):.1f} points as well, the identified ones "
        f"{min(relevant):.1f} to {max(relevant):.1f}"
    ).replace("-", "−")
    return Claim(
        "E1",
        "Removing them costs the class more than removing its highest activations",
        figure,
        verdict(won),
        "" if all(won) else reason,
    )
