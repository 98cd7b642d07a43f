"""The README's tables and figure, from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
