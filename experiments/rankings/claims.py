"""What Q1 found, by rule from results.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from experiments.common.claims import Claim, counted, graded, judged, tally, verdict_of
from experiments.common.pages import committed
from experiments.common.subjects import KINDS
from experiments.common.tables import Interval, Line, number, signed
from experiments.rankings.orders import OURS, RANDOM, RELIANCE, RELIANCES, RIVALS, TESTS
from experiments.rankings.table import area, compared, dominated, gain, kinds, names

_REASON = (
    "The size of a weight ranks evidence against a class as high as evidence for it, and a column's scale decides "
    "how cheaply it is weighed"
)
_ENOUGH = 0.8  # of the families of networks on which a rival is to be beaten: four of five


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return Q1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    return [*of_mulasso(lines), undominated(lines), beyond_rivals(lines)]


def of_mulasso(lines: list[Line]) -> list[Claim]:
    """Return what is said of the mu-lasso against other rankings."""
    found = []
    for key, sentence in (
        ("own", "Removing the mu-lasso's channels costs a class more recall than those of any other ranking"),
        ("selective", "They cost the class more, compared with the others, than those of any other ranking"),
    ):
        parts = kinds(lines).items()
        pairs = (
            (f"{name} ({kind})", gain(part, OURS, name, key)) for kind, part in parts for name in compared(part, OURS)
        )
        one = tally(pairs, more=True)
        figure = f"{one.counts} of {one.total} comparisons{one.names('; beaten by ')}"
        found.append(Claim("Q1", sentence, one.short, figure, one.verdict, _REASON, tested(lines, key)))
    random = {kind: gain(part, OURS, RANDOM, "own") for kind, part in kinds(lines).items()}
    sentence = "Removing the mu-lasso's channels costs a class more recall than random channels"
    figure = f"lost, ours less theirs: {ends(random)}"
    return [*found, judged("Q1", sentence, random, "kinds", figure, _REASON, tested(lines, "own"))]


def ends(effects: dict[str, Interval]) -> str:
    """Return the smallest and the largest of some effects with their names."""
    order = sorted(effects, key=lambda kind: effects[kind].mean)
    return " to ".join(f"{signed(effects[kind])} ({kind})" for kind in dict.fromkeys((order[0], order[-1])))


def tested(lines: list[Line], key: str) -> str:
    """Return what tests the reason: loss under the changed ranking less ours, for every change that was measured."""
    found = []
    for what, name in TESTS.items():
        known = {kind: part for kind, part in kinds(lines).items() if name in names(part)}
        changes = [f"{kind} {number(-gain(part, OURS, name, key).mean, '+.1f')}" for kind, part in known.items()]
        found += [f"{what}: {', '.join(changes)}"] * bool(changes)
    return f"change of the loss where that is changed, points: {'; '.join(found)}"


def undominated(lines: list[Line]) -> Claim:
    """Judge: on a kind of network no ranking is better than reliance in own loss and in selectivity, beyond both."""
    better = {kind: dominated(part, RELIANCE) for kind, part in kinds(lines).items()}
    free = [not found for found in better.values()]
    over = [f"{name} ({kind})" for kind, found in better.items() for name in found]
    foreign = [not set(found) - set(RELIANCES) for found in better.values()]
    figure = (
        f"on {counted(free, 'kinds of networks')} no ranking is better in both, beyond both intervals; on "
        f"{sum(foreign)} none but a variant of its own"
    )
    return Claim(
        "Q1",
        "No other ranking takes more of a class's recall than reliance and is more selective as well",
        counted(free, "kinds"),
        figure,
        verdict_of(free),
        f"better in both: {', '.join(over)}",
    )


def sums(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Return by rival and family of networks the sum of own loss and selectivity of reliance less the rival's."""
    found: dict[str, dict[str, float]] = {}
    for rival in RIVALS:
        families: dict[str, list[float]] = {}
        for kind, part in kinds(lines).items():
            mean = float(np.mean([area(x, RELIANCE, "both") - area(x, rival, "both") for x in part]))
            families.setdefault(KINDS[kind].family, []).append(mean)
        found[rival] = {family: float(np.mean(values)) for family, values in families.items()}
    return found


def beyond_rivals(lines: list[Line]) -> Claim:
    """Judge: reliance's sum of own loss and selectivity is above each rival's on at least four of five families."""
    won = {rival: [v > 0 for v in families.values()] for rival, families in sums(lines).items()}
    enough = [sum(cases) >= _ENOUGH * len(cases) for cases in won.values()]
    figure = "; ".join(f"{rival}: {counted(cases, 'families')}" for rival, cases in won.items())
    lost = Counter(family for found in sums(lines).values() for family, v in found.items() if v <= 0)
    return Claim(
        "Q1",
        "In own loss plus selectivity reliance beats the mu-lasso, d′, correlation and gradient × activation",
        counted(enough, "rivals"),
        figure,
        graded(full=all(enough), part=any(enough)),
        f"not on {', '.join(lost)}",
    )
