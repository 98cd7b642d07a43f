"""What ``interpnet repair`` leaves in ``repair/``: its file, and the names of what lies beside it; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.support.io import read_object

#: In the run folder.
REPAIR_FILE = "repair/repair.json"
WEIGHTS_FILE = "repair/repaired.safetensors"
#: The settings of an audit of the repaired network.
AUDIT_FILE = "repair/run.toml"
PAGE = "repair/report.html"
FORMAT = "interpnet-repair-1"


def load_repair(run: Path) -> dict[str, Any] | None:
    """Read what a repair found from a run folder, ``None`` where there was none; an unknown format is refused."""
    path = run / REPAIR_FILE
    if not path.is_file():
        return None
    facts = read_object(path)
    if facts.get("format") != FORMAT:
        raise RunFolderError(f"{str(path)!r} has format {facts.get('format')!r}; expected {FORMAT!r}")
    return facts


def picture_names(index: int, number: int) -> tuple[str, str]:
    """Return the files in ``repair/`` of a class's example: the image, and the image with the part.

    Examples
    --------
    >>> picture_names(7, 0)
    ('c0007_0_image.png', 'c0007_0_made.png')
    """
    return f"c{index:04d}_{number}_image.png", f"c{index:04d}_{number}_made.png"
