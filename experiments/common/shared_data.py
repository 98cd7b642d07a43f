"""Where the shared networks and images are that some experiments need."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def shared_data() -> Path:
    """Return the folder in INTERPNET_SHARED_DATA, else ../shared/data; exit with a line where there is none."""
    folder = Path(os.environ.get("INTERPNET_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        sys.exit(f"{folder} is not here: set INTERPNET_SHARED_DATA to the folder of shared networks and images")
    return folder
