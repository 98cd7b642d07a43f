"""The README's tables, from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.pages import fill, markdown
from experiments.localisation.table import CONTROLS

COMMAND = "experiments.sanity.run"
_COLUMNS = {
    "class_rank": "class: rank ↓",
    "class_structure": "class: structure ↓",
    "weights_rank": "weights: rank ↓",
    "weights_rank_absolute": "of absolute values ↓",
    "weights_structure": "structure ↓",
    "weights_rank_after_the_top": "rank after the top layers",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}


def by_method(lines: list[dict[str, Any]], subject: str) -> dict[str, dict[str, float]]:
    """Return each method's scores on a subject, the mean over its networks; maps of zeros are added up."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["subject"] == subject:
            rows.setdefault(line["method"], []).append(line)
    return {
        name: {
            **{k: float(np.mean([x[k] for x in row])) for k in _COLUMNS},
            "blank": sum(x["blank"] for x in row),
        }
        for name, row in rows.items()
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return a table for each subject, the least class-sensitive method last."""
    parts = []
    for subject in dict.fromkeys(x["subject"] for x in lines):
        here = [x for x in lines if x["subject"] == subject]
        seeds = len({x["seed"] for x in here})
        rows = []
        scores = by_method(lines, subject)
        for name in sorted(scores, key=lambda n: scores[n]["class_rank"]):
            shown = f"*{name}*" if name in CONTROLS else name
            numbers = [f"{scores[name][k]:.2f}".replace("-", "−") for k in _COLUMNS]
            rows.append([shown, *numbers, int(scores[name]["blank"])])
        minutes = sum(x["seconds"] for x in here) / 60
        parts.append(
            f"**{subject}**: {seeds} network{'s' if seeds > 1 else ''}, {here[0]['images']} images each; "
            f"{minutes:.0f} minutes; commit {', '.join(sorted({x['commit'] for x in here}))}."
        )
        parts.append(markdown(["method", *_COLUMNS.values(), "zero maps"], rows))
    return "\n\n".join(parts)


def write_readme(path: Path, lines: list[dict[str, Any]]) -> None:
    """Put the tables between the README's marks."""
    fill(path, COMMAND, table(lines))
