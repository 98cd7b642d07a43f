"""What Q1 found, by rule from results.json."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.common.areas import gain, names
from experiments.common.claims import Claim, Tally, counted, tally, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Line, number, signed
from experiments.rankings.orders import RANDOM, TESTS
from experiments.rankings.table import compared, kinds

_REASON = (
    "The size of a weight ranks evidence against a class as high as evidence for it, and a column's scale decides "
    "how cheaply it is weighed"
)


def tallied(lines: Sequence[Line], key: str) -> Tally:
    """Return how often ours is better beyond the 95 % interval, how often level, and which rankings beat it."""
    parts = kinds(lines).items()
    found = ((f"{name} ({kind})", gain(part, name, key)) for kind, part in parts for name in compared(part))
    return tally(found, more=key != "own")


def claims() -> list[Claim]:
    """Return Q1's claims."""
    return claims_of(committed(__file__))


def claims_of(lines: list[Line]) -> list[Claim]:
    """Return the claims that some results support."""
    return [
        _of_all(
            lines, "own", "Removing the mu-lasso's channels costs a class more recall than those of any other ranking"
        ),
        _of_all(
            lines, "selective", "They cost the class more, compared with the others, than those of any other ranking"
        ),
        _of_random(lines),
    ]


def _of_all(lines: list[Line], key: str, sentence: str) -> Claim:
    found = tallied(lines, key)
    total = found.better + found.level + len(found.beaten)
    figure = f"{found.counts} of {total} comparisons{found.names('; beaten by ')}"
    return Claim("Q1", sentence, found.short, figure, found.verdict, _REASON, tested(lines, key))


def _of_random(lines: list[Line]) -> Claim:
    found = {kind: gain(part, RANDOM, "own") for kind, part in kinds(lines).items()}
    wins = [difference.below for difference in found.values()]
    return Claim(
        "Q1",
        "Removing the mu-lasso's channels costs a class more recall than random channels",
        counted(wins, "kinds"),
        "area, ours less theirs: " + "; ".join(f"{kind} {signed(v)}" for kind, v in found.items()),
        verdict_of(wins),
        _REASON,
        tested(lines, "own"),
        tuple((kind, difference.times(-1)) for kind, difference in found.items()),
    )


def tested(lines: list[Line], key: str) -> str:
    """Return what tests the reason: area under the changed ranking less ours, for every change that was measured."""
    found = []
    for what, name in TESTS.items():
        known = {kind: part for kind, part in kinds(lines).items() if name in names(part)}
        changes = [f"{kind} {number(-gain(part, name, key).mean, '+.1f')}" for kind, part in known.items()]
        found += [f"{what}: {', '.join(changes)}"] * bool(changes)
    return f"change of the area where that is changed, points: {'; '.join(found)}"
