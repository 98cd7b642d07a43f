"""What M2 found, by rule from results.json."""

from __future__ import annotations

from pathlib import Path

from experiments.common.claims import Claim, judged
from experiments.common.tables import Interval, Line
from experiments.measures.agreement import NAMES, between_measures, between_networks, interval, networks_of, pooled
from experiments.measures.packed import unpacked
from experiments.measures.settings import QUESTIONS
from experiments.measures.table import mean_with_others


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return M2's two claims, on the committed results where no others are given."""
    if lines is None:
        lines = unpacked(Path(__file__).with_name("results.json"))
    found = networks_of(lines)
    taus = pooled(between_measures(found))
    carried = between_networks(found)
    first = [own[0] for own in QUESTIONS.values()]
    alike = {name: interval(mean_with_others(taus, name, first)).times(100) for name in first}
    over = {name: interval(carried[:, NAMES.index(name)]).times(100) for name in NAMES}
    return [
        judged(
            "M2",
            "Measures that ask different questions order the methods alike",
            alike,
            "measures",
            _range("beside one measure of each other question: mean Kendall's tau", alike),
            "they ask different things: a map may be right and spread out, or sharp and wrong",
        ),
        judged(
            "M2",
            "A measure's order of methods on one network holds on others",
            over,
            "measures",
            _range("mean Kendall's tau between two networks", over),
            "the order is that network's own",
        ),
    ]


def _range(what: str, found: dict[str, Interval]) -> str:
    ends = sorted((one.mean / 100, name) for name, one in found.items())
    (low, worst), (high, best) = ends[0], ends[-1]
    return f"{what} {low:+.2f} (`{worst}`) to {high:+.2f} (`{best}`)".replace("-", "−")
