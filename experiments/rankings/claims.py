"""What Q1 found, by rule from results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.areas import gain, names
from experiments.common.claims import Claim
from experiments.common.claims import tally as count
from experiments.common.pages import signed
from experiments.rankings.orders import RANDOM
from experiments.rankings.table import compared, kinds

HERE = Path(__file__).parent


def tally(lines: Sequence[dict[str, Any]], key: str) -> tuple[int, int, list[str]]:
    """Return how often ours is better beyond the 95 % interval, how often level, and which rankings beat it."""
    return count(
        ((f"{name} ({kind})", gain(part, name, key)) for kind, part in kinds(lines).items() for name in compared(part)),
        more=key != "own",
    )


def verdict(better: int, beaten: int) -> str:
    """Return ``holds`` where nothing beats ours and it beats something, ``holds in part`` where it wins more often."""
    if not beaten and better:
        return "holds"
    return "holds in part" if better > beaten else "does not hold"


def claims() -> list[Claim]:
    """Return Q1's claims."""
    return claims_of(json.loads((HERE / "results.json").read_text()))


def claims_of(lines: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims that some results support."""
    found = []
    for key, sentence in (
        ("own", "Removing the mu-lasso's channels costs a class more recall than those of any other ranking"),
        ("selective", "They cost the class more, compared with the others, than those of any other ranking"),
    ):
        better, level, beaten = tally(lines, key)
        total = better + level + len(beaten)
        worst = f"; beaten by {', '.join(beaten[:3])}{' ...' if len(beaten) > 3 else ''}" if beaten else ""
        figure = f"better in {better}, level in {level}, worse in {len(beaten)} of {total} comparisons{worst}"
        found.append(Claim("Q1", sentence, figure, verdict(better, len(beaten)), reason(lines, key) if beaten else ""))
    random = {kind: gain(part, RANDOM, "own") for kind, part in kinds(lines).items()}
    sentence = "Removing the mu-lasso's channels costs a class more recall than random channels"
    figure = "area, ours less theirs: " + "; ".join(f"{kind} {signed(v)}" for kind, v in random.items())
    wins = sum(high < 0 for _, _, high in random.values())
    judged = "holds" if wins == len(random) else "holds in part" if wins else "does not hold"
    found.append(Claim("Q1", sentence, figure, judged, "" if judged == "holds" else reason(lines, "own")))
    return found


#: What is changed to test a reason, and the ranking that changes it.
TESTS = {
    "no weight below 0": "mu-lasso, w ≥ 0",
    "that and correlated twins": "mu-lasso, w ≥ 0, with twins",
    "centred columns": "mu-lasso, centred",
    "standardised, no weight below 0": "mu-lasso, standardised, w ≥ 0",
}


def reason(lines: list[dict[str, Any]], key: str) -> str:
    """Return the most likely reason with the figures of its tests: area under the changed ranking less ours."""
    found = []
    for what, name in TESTS.items():
        known = {kind: part for kind, part in kinds(lines).items() if name in names(part)}
        changes = [f"{kind} {_less(gain(part, name, key))}" for kind, part in known.items()]
        if changes:
            found.append(f"{what}: {', '.join(changes)}")
    return (
        "The size of a weight ranks evidence against a class as high as evidence for it, and a column's scale decides "
        f"how cheaply it is weighed. Change of the area where that is changed, points: {'; '.join(found)}"
    )


def _less(ours_less_other: tuple[float, float, float]) -> str:
    return f"{-ours_less_other[0]:+.1f}".replace("-", "−")
