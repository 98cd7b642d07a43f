"""The table of what the campaigns found, for the terminal and for docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from experiments.common.pages import fill
from experiments.common.tables import Line, markdown
from experiments.reliability.campaign import BAD, GOOD

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def faults(lines: list[Line]) -> list[Line]:
    """Return the cases that ended badly."""
    return [line for line in lines if line["verdict"] in BAD]


def summary(lines: list[Line]) -> str:
    """Return one row per campaign: cases, how many of them ended badly, and how often each verdict was given."""
    rows = []
    for name in dict.fromkeys(line["campaign"] for line in lines):
        ours = [line for line in lines if line["campaign"] == name]
        counts = Counter(line["verdict"] for line in ours)
        good, bad = (
            ", ".join(f"{counts[word]} {word}" for word in words if counts[word]) or "0" for words in (GOOD, BAD)
        )
        rows.append([name.replace("_", " "), str(len(ours)), bad, good])
    return markdown(["campaign", "cases", "bad", "good"], rows)


def committed() -> list[Line]:
    """Return every case of the committed results, in the order of the campaigns."""
    from experiments.reliability.run import CAMPAIGNS, RESULTS

    files = [RESULTS / f"{name}.json" for name in CAMPAIGNS]
    return [line for file in files if file.exists() for line in json.loads(file.read_text(encoding="utf-8"))]


def page() -> None:
    """Write the table, the verdicts and what did not hold into docs/reliability.md."""
    lines = committed()
    parts = [summary(lines)]
    bad = faults(lines)
    if bad:
        rows = [[line["campaign"], line["verdict"], line["what"], line["detail"].replace("\n", " ")] for line in bad]
        parts += ["What did not hold:", markdown(["campaign", "verdict", "case", "what happened"], rows)]
    commits = sorted({line["commit"] for line in lines})
    parts.append(f"Measured at commit {', '.join(commits)}.")
    fill(PAGE, "experiments.reliability page", "\n\n".join(parts))
