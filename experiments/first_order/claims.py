"""What R1 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Line, number

_LEAST = 0.5  # a rank correlation from which on the order is said to agree


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return R1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    return [in_order(lines), in_size(lines)]


def in_order(lines: list[Line]) -> Claim:
    """Judge: on a network the order agrees whose rank correlation reaches :data:`_LEAST` in every third of layers."""
    parts = {line["network"]: [part["rank"] or 0.0 for part in line["thirds"] if part["channels"]] for line in lines}
    shown = [min(ranks) >= _LEAST for ranks in parts.values()]
    each = (f"{name} {', '.join(number(r, '.2f') for r in ranks)}" for name, ranks in parts.items())
    worst = ", ".join(name for name, ranks in parts.items() if min(ranks) < _LEAST)
    return Claim(
        "R1",
        "Contributions order channels as their removal does, early and late layers alike",
        counted(shown, "networks"),
        f"rank correlation by thirds of the layers: {'; '.join(each)}",
        verdict_of(shown),
        f"below {_LEAST} in a third of {worst}: a map that is set to zero is no small change",
    )


def in_size(lines: list[Line]) -> Claim:
    """Judge: on a network the size agrees whose slope is within a third of 1 in every third of the layers."""
    parts = {line["network"]: [part["slope"] or 0.0 for part in line["thirds"] if part["channels"]] for line in lines}
    shown = [all(2 / 3 <= slope <= 4 / 3 for slope in slopes) for slopes in parts.values()]
    each = (f"{name} {', '.join(number(s, '.2f') for s in slopes)}" for name, slopes in parts.items())
    return Claim(
        "R1",
        "A contribution is as large as the log-odds that its channel's removal takes",
        counted(shown, "networks"),
        f"slope by thirds of the layers: {'; '.join(each)}",
        verdict_of(shown),
        "later layers make up for what is removed or enlarge it, which no gradient at the intact network sees",
    )
