"""What the search for shortcuts leaves in ``shortcuts/``: its file, and the names of the pictures; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interpnet.shortcuts import Findings, read_findings
from interpnet.support.io import read_json, read_object

#: In the run folder.
SHORTCUTS_FILE = "shortcuts/shortcuts.json"


def load_shortcuts(run: Path) -> Findings | None:
    """Read what a search found from a run folder, ``None`` where nothing was searched; an unknown format is refused."""
    path = run / SHORTCUTS_FILE
    if not path.is_file():
        return None
    return read_findings(read_json(path))


def load_shown(run: Path) -> Mapping[str, Any]:
    """Read what the run pictured of classes that draw images, and of groups; empty where nothing was searched."""
    path = run / SHORTCUTS_FILE
    if not path.is_file():
        return {}
    # A run of an older version has none.
    found: Mapping[str, Any] = read_object(path).get("shown", {})
    return found


def picture_names(index: int, number: int) -> tuple[str, str, str]:
    """Return the files in ``shortcuts/`` of a class's example: the image, the donor, the image with the donor's part.

    Examples
    --------
    >>> picture_names(7, 0)
    ('c0007_0_image.png', 'c0007_0_donor.png', 'c0007_0_made.png')
    """
    image, donor, made = (f"c{index:04d}_{number}_{what}.png" for what in ("image", "donor", "made"))
    return image, donor, made
