"""Arrays that are measured once and kept in the working folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from interpnet.support.io import atomic_path
from interpnet.support.types import Float64


def kept(file: Path, measure: Callable[[], Float64]) -> Float64:
    """Return an array from a file, or measure it and write the file, in float32."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # numpy adds its own ending to a name, not to an open file.
        with atomic_path(file) as part, part.open("wb") as opened:
            np.save(opened, measure().astype(np.float32))
    found: Float64 = np.load(file).astype(np.float64)
    return found
