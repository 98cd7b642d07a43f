"""What C3 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Line, number
from experiments.tcav.images import CLASSES
from experiments.tcav.table import AGAIN, BESIDE, CAPTUM, UNTRAINED, WHOLE, beside, lines_by_way, raised

_AGREES = 1e-6


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return C3's claims, on the committed results where no others are given."""
    ways = lines_by_way(committed(__file__) if lines is None else lines)
    return [_expected(ways), _others(ways), _captum(ways[CAPTUM])]


def pairs(line: Line, *, expected: bool) -> dict[str, bool]:
    """Return whether a class is raised, of the pairs of class and concept that are expected or not."""
    return {
        f"{name.replace('_', ' ')} by {concept}": raised(line, name, concept)
        for concept, (_, names) in BESIDE.items()
        for name in CLASSES
        if (name in names) == expected
    }


def named(found: dict[str, bool]) -> str:
    """Return the pairs raised, in words."""
    return ", ".join(pair for pair, up in found.items() if up) or "none"


def _expected(ways: dict[str, Line]) -> Claim:
    """Judge: each concept raises the classes that it should, by the rule for the last layer on other images."""
    ups = pairs(ways[AGAIN], expected=True)
    first = pairs(ways[WHOLE], expected=True)
    values = [
        f"{name} {number(beside(ways[AGAIN], name, concept).mean, '+.2f')}"
        for concept, (_, names) in BESIDE.items()
        for name in names
    ]
    return Claim(
        "C3",
        "Stripes raise zebra, tiger and tabby of EfficientNet-Lite0, and water gondola and lifeboat, beyond controls",
        counted(ups.values(), "classes"),
        f"last layer, images that the rule was not chosen on: {named(ups)}; log-odds for a usual step, less those of "
        f"the concept beside: {', '.join(values)}",
        verdict_of(ups.values()),
        "" if all(ups.values()) else "the class goes by other things",
        f"by the rule over three layers that was written down first: {named(first)}",
    )


def _others(ways: dict[str, Line]) -> Claim:
    """Judge: a concept raises no class that has nothing to do with it."""
    loud = pairs(ways[AGAIN], expected=False)
    first = pairs(ways[WHOLE], expected=False)
    quiet = [not up for up in loud.values()]
    untrained = [
        not up
        for way in UNTRAINED
        if way in ways
        for kind in (True, False)
        for up in pairs(ways[way], expected=kind).values()
    ]
    return Claim(
        "C3",
        "Stripes and water raise no class of EfficientNet-Lite0 that has nothing to do with them",
        counted(quiet, "pairs"),
        f"last layer: {named(loud)}; over three layers: {named(first)}; with random weights "
        f"{len(untrained) - sum(untrained)} of {len(untrained)} pairs",
        verdict_of(quiet),
        "" if all(quiet) else "photographs of a concept share more than the concept, and a class more than its name",
    )


def _captum(line: Line) -> Claim:
    """Judge: scores, vectors and effects are those of captum."""
    parts = ("score", "vector", "effect")
    agree = [line[part] <= _AGREES for part in parts]
    return Claim(
        "C3",
        "On the same vectors scores and effects of EfficientNet-Lite0 are those of captum's TCAV, to 1e-6",
        counted(agree, "numbers"),
        "; ".join(f"{part} {line[part]:.0e}" for part in parts),
        verdict_of(agree),
        "" if all(agree) else "float32 sums in another order",
    )
