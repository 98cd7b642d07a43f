"""What E1 found: whether removing identified channels costs a class more than controls do, and whom else it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.ablation.differences import Group, Interval, difference, groups, selectivity
from experiments.ablation.table import TITLES, name
from experiments.claims import Claim
from experiments.pages import signed

_RESULTS = Path(__file__).with_name("results.json")
_DRAWN = ("random", "random-per-layer")
Lines = list[dict[str, Any]]


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


def _judged(
    lines: Lines, what: str, controls: tuple[str, ...], setting: str = "paper"
) -> dict[Group, dict[str, Interval]]:
    found = {}
    for group in groups([x for x in lines if x["setting"] == setting], TITLES):
        each = {c: difference(lines, group, c, what, setting) for c in controls}
        found[group] = {c: d for c, d in each.items() if d is not None}
    return found


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
    lost = ", ".join(name(lines, g) for g, w in won.items() if not w)
    return Claim(
        "E1", "Removing a class's identified channels costs it more than removing random ones, drawn over all layers "
        "or layer by layer", figure, verdict(list(won.values())), f"not on {lost}" if lost else "",
    )  # fmt: skip


def selective(lines: Lines) -> Claim:
    """Judge: a study is won where others' recall less own is above both random controls', beyond the interval."""
    found = _judged(lines, "selectivity", _DRAWN)
    won = [all(d[1] > 0 for d in each.values()) for each in found.values()]
    values = [s[0] for g in found if (s := selectivity(lines, g, "relevant")) is not None]
    figure = (
        f"won {sum(won)} of {len(won)} studies; the class keeps {100 * min(values):.1f} to {100 * max(values):.1f} "
        "points less than the others"
    )
    return Claim("E1", "What identified channels carry is the class's own: the others lose less", figure, verdict(won))


def beyond_highest(lines: Lines) -> Claim:
    """Judge: a study is won where the class loses more than with its highest activations, beyond the interval."""
    found = {
        g: each["highest-activation"] for g, each in _judged(lines, "own", ("highest-activation",)).items() if each
    }
    won = [d[2] < 0 for d in found.values()]
    values = [s[0] for g in found if (s := selectivity(lines, g, "highest-activation")) is not None]
    figure = (
        f"won {sum(won)} of {len(won)} studies; own recall {100 * min(d[0] for d in found.values()):+.1f} to "
        f"{100 * max(d[0] for d in found.values()):+.1f} points against it"
    ).replace("-", "−")
    reason = (
        f"they cost every class alike: selectivity {100 * min(values):.1f} to {100 * max(values):.1f} points"
        if not all(won) else ""
    )  # fmt: skip
    return Claim(
        "E1", "Removing them costs the class more than removing its highest activations", figure, verdict(won), reason
    )
