"""What Q1 found, by rule from results.json."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.common.claims import Claim, Tally, judged, tally
from experiments.common.pages import committed
from experiments.common.tables import Line, number, signed
from experiments.rankings.orders import RANDOM, TESTS
from experiments.rankings.table import compared, gain, kinds, names

_REASON = (
    "The size of a weight ranks evidence against a class as high as evidence for it, and a column's scale decides "
    "how cheaply it is weighed"
)


def tallied(lines: Sequence[Line], key: str) -> Tally:
    """Return how often ours is better beyond the 95 % interval, how often level, and which rankings beat it."""
    parts = kinds(lines).items()
    found = ((f"{name} ({kind})", gain(part, name, key)) for kind, part in parts for name in compared(part))
    return tally(found, more=key != "own")


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return Q1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    claims = []
    for key, sentence in (
        ("own", "Removing the mu-lasso's channels costs a class more recall than those of any other ranking"),
        ("selective", "They cost the class more, compared with the others, than those of any other ranking"),
    ):
        found = tallied(lines, key)
        figure = f"{found.counts} of {found.total} comparisons{found.names('; beaten by ')}"
        claims.append(Claim("Q1", sentence, found.short, figure, found.verdict, _REASON, tested(lines, key)))
    random = {kind: gain(part, RANDOM, "own") for kind, part in kinds(lines).items()}
    sentence = "Removing the mu-lasso's channels costs a class more recall than random channels"
    figure = "area, ours less theirs: " + "; ".join(f"{kind} {signed(v)}" for kind, v in random.items())
    less = {kind: difference.times(-1) for kind, difference in random.items()}
    return [*claims, judged("Q1", sentence, less, "kinds", figure, _REASON, tested(lines, "own"))]


def tested(lines: list[Line], key: str) -> str:
    """Return what tests the reason: area under the changed ranking less ours, for every change that was measured."""
    found = []
    for what, name in TESTS.items():
        known = {kind: part for kind, part in kinds(lines).items() if name in names(part)}
        changes = [f"{kind} {number(-gain(part, name, key).mean, '+.1f')}" for kind, part in known.items()]
        found += [f"{what}: {', '.join(changes)}"] * bool(changes)
    return f"change of the area where that is changed, points: {'; '.join(found)}"
