"""The README's tables, from results.json."""

from __future__ import annotations

import numpy as np

from experiments.common.pages import Page
from experiments.common.tables import Line, commits, emphasised, grouped, markdown, minutes, number
from experiments.localisation.table import CONTROLS

COLUMNS = {
    "class_rank": "class: rank ↓",
    "class_structure": "class: structure ↓",
    "weights_rank": "weights: rank ↓",
    "weights_rank_absolute": "of absolute values ↓",
    "weights_structure": "structure ↓",
    "weights_rank_after_the_top": "rank after the top layers",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}


def table(lines: list[Line]) -> str:
    """Return a table for each subject, the least class-sensitive method last; maps of zeros are added up."""
    parts = []
    for (subject,), here in grouped(lines, "subject").items():
        rows = []
        for (name,), networks in grouped(here, "method").items():
            means = [float(np.mean([x[k] for x in networks])) for k in COLUMNS]
            cells = [number(mean, ".2f") for mean in means]
            rows.append((means[0], [emphasised(name, weak=CONTROLS), *cells, sum(x["blank"] for x in networks)]))
        rows.sort(key=lambda row: row[0])
        seeds = len(grouped(here, "seed"))
        parts.append(
            f"**{subject}**: {seeds} network{'s' * (seeds > 1)}, {here[0]['images']} images each; "
            f"{minutes(here):.0f} minutes; commit {commits(here)}."
        )
        parts.append(markdown(["method", *COLUMNS.values(), "zero maps"], [row for _, row in rows]))
    return "\n\n".join(parts)


PAGE = Page("experiments.sanity.run", table, {})  # the README, from results.json
