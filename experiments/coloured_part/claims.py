"""What Q5 found, from E3's results.json."""

from __future__ import annotations

import json

from experiments.coloured_part.run import BETWEEN, MEASURED, PART, PLANT, marks
from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.maps import PAPER
from experiments.common.tables import signed
from experiments.localisation.claims import literature


def claims() -> list[Claim]:
    """Return Q5's claim; it holds on a kind of network if the interval of part less plant is above zero."""
    found = marks(json.loads(MEASURED.read_text()))
    own = {kind: rows[PAPER] for kind, rows in found.items()}
    figures = []
    for (architecture, variant), mark in own.items():
        rows = found[architecture, variant]
        others = [rows[n].marks for n in literature(rows)]
        figures.append(
            f"{architecture}: part {mark.part:.1f}, plant {mark.plant:.1f}, difference {signed(mark.difference)}; of "
            f"{len(others)} other methods {others.count(PART)} mark the part, {others.count(PLANT)} the plant, "
            f"{others.count(BETWEEN)} undecided"
        )
    shown = [mark.marks == PART for mark in own.values()]
    return [
        Claim(
            "Q5",
            "On double-12c the method marks the coloured part, not the whole plant",
            counted(shown, "kinds"),
            "; ".join(figures) or "–",
            verdict_of(shown),
            "channels that answer to the plant's outline are among the identified",
            effects=tuple((" ".join(kind), mark.difference) for kind, mark in own.items()),
        )
    ]
