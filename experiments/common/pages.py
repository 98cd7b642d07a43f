"""The parts every experiment's README shares: generated text between two marks, tables, paired intervals."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from interpnet.support.io import write_text

END = "<!-- end -->"


@cache
def commit() -> str:
    """Return the short name of the commit when this was first asked, the code that runs; ``unknown`` without git."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git is on the path
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"


def measured_before(file: Path) -> list[dict[str, Any]]:
    """Return the lines that a script wrote before and goes on from; none where there is no such file."""
    lines: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    return lines


def begin(command: str) -> str:
    """Return the mark that opens what ``python -m command`` writes."""
    return f"<!-- begin: written by python -m {command} -->"


def fill(path: Path, command: str, text: str) -> None:
    """Replace what stands between the marks of ``command`` in a Markdown file; the rest is written by hand."""
    page, mark = path.read_text(), begin(command)
    start = page.index(mark) + len(mark)
    write_text(path, f"{page[:start]}\n\n{text.strip()}\n\n{page[page.index(END, start) :]}")


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table.

    Examples
    --------
    >>> print(markdown(["a", "b"], [["x", 1]]))
    | a | b |
    | --- | --- |
    | x | 1 |
    """
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def paired(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return mean, lower and upper end of Student's interval of differences paired over seeds (or networks).

    Examples
    --------
    >>> [round(v, 2) for v in paired([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, -math.inf, math.inf
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * spread
    return mean, mean - half, mean + half


def signed(values: tuple[float, float, float], digits: int = 1) -> str:
    """Return ``+1.2 (−0.3 to +2.7)``.

    Examples
    --------
    >>> signed((1.23, -0.31, 2.74))
    '+1.2 (−0.3 to +2.7)'
    """
    mean, low, high = (f"{v:+.{digits}f}".replace("-", "−") for v in values)
    return f"{mean} ({low} to {high})"
