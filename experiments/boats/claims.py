"""S3's claims, from results.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from experiments.boats import table
from experiments.boats.photographs import ON_LAND, ON_WATER, WATER
from experiments.boats.table import Lines
from experiments.common.claims import Claim, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, number, signed

ASKED = ("lifeboat", "gondola", "goose")  # the classes that the question names
_LEVEL = 0.05
_BLIND = "Without boxes, the search orders the classes by their surroundings' share as boxes do"


def claims() -> list[Claim]:
    """Return what S3 says, decided by its numbers."""
    lines: Lines = committed(__file__)
    return [_water(lines), _more(lines), _empty(lines), _blind(lines)]


def difference(one: Sequence[float], other: Sequence[float]) -> Interval:
    """Return the difference of two means with Welch's 95 % interval."""
    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return Interval(float(np.mean(one) - np.mean(other)), float(found.low), float(found.high))


def _water(lines: Lines) -> Claim:
    """Hold for a class of a network that water raises against land and against streets."""
    names = table.networks(lines)
    shown = [table.needs_water(lines, name, c) for c in ASKED for name in names]
    figures = []
    for c in ASKED:
        yes = sum(table.needs_water(lines, name, c) for name in names)
        effect = signed(table.effect(lines, names[0], c, "water"))
        figures.append(f"{c} {effect} on {names[0]}, raised in {yes} of {len(names)} networks")
    share = table.effect(lines, names[0], "lifeboat", "share of water")
    return Claim(
        "S3",
        "Lifeboat, gondola and goose need water: sea or lake raises their log-odds against land and against streets",
        f"{sum(shown)} of {len(shown)} classes and networks",
        f"{'; '.join(figures)}; water is {100 * share.mean:.0f} % of what makes a lifeboat there",
        verdict_of(shown),
        "a box holds water too, and what a class has around it is more than water: Venice, a meadow",
    )


def _more(lines: Lines) -> Claim:
    """Hold for a network where the eight classes' mean share is larger, the whole Welch interval above zero."""
    gains = {}
    for name in table.networks(lines):
        shares = [
            [table.effect(lines, name, c, "share of own surroundings").mean for c in group]
            for group in (ON_WATER, ON_LAND)
        ]
        gains[name] = difference(*shares).times(100)
    return Claim(
        "S3",
        "Boats and water animals go by their surroundings more than cats, dogs and vehicles do",
        f"{signed(next(iter(gains.values())))} points of share",
        "; ".join(f"{name} {signed(gain)}" for name, gain in gains.items()),
        verdict_of(gain.above for gain in gains.values()),
        "ten and eight classes: the classes differ among themselves",
        effects=tuple(gains.items()),
    )


def _empty(lines: Lines) -> Claim:
    """Hold for a network that takes water with nothing in it for a boat or water animal more often than streets."""
    shown, figures, short = [], [], ""
    for name in table.networks(lines):
        (line,) = table.of(lines, "scenes", name)
        taken = {label: Interval(*line[label]["taken"]) for label in (*WATER, "alp", "street")}
        shown.append(all(taken[label].low > taken["street"].high for label in WATER))
        short = short or ", ".join(f"{label} {100 * taken[label].mean:.0f} %" for label in (*WATER, "street"))
        figures.append(f"{name}: " + ", ".join(f"{label} {100 * one.mean:.0f} %" for label, one in taken.items()))
    return Claim(
        "S3",
        "Sea and lake with nothing in them are taken for a boat or a water animal more often than streets are",
        short,
        "; ".join(figures),
        verdict_of(shown),
        "the scenes are classes of their own, which take them; without these, mountains are taken as often as lakes",
    )


def _blind(lines: Lines) -> Claim:
    """Hold for a network and disc with a rank correlation above 0 at 5 %, for so many tests; in part if for some."""
    found = {name: table.agreement(lines, name) for name in table.networks(lines) if table.of(lines, "audit", name)}
    every = [one for by_disc in found.values() for one in by_disc.values()]
    if not every:
        return Claim("S3", _BLIND, "not measured", "not measured", "open")
    values = {name: ", ".join(number(rho, "+.2f") for rho, _ in by_disc.values()) for name, by_disc in found.items()}
    return Claim(
        "S3",
        _BLIND,
        f"rank correlations {number(min(rho for rho, _ in every), '+.2f')} to "
        f"{number(max(rho for rho, _ in every), '+.2f')}",
        f"over 18 classes, by disc: {'; '.join(f'{name} {text}' for name, text in values.items())}",
        verdict_of(rho > 0 and p < _LEVEL / len(every) for rho, p in every),
        "a disc counts what of the subject lies outside of it, and how much that is differs from class to class",
    )
