"""Small image files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    """Return pixels that are the same in every run."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def two_classes(root: Path) -> Path:
    """Write a folder of three and two 10x12 images."""
    for name, count in (("cat", 3), ("dog", 2)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(noise(10, 12, 3)).save(root / name / f"{number}.png")
    return root


def one_image(tmp_path: Path, name: str = "a.png") -> tuple[Path, str]:
    """Return where to write the only image of a folder, and the folder's data specification."""
    (tmp_path / "one" / "x").mkdir(parents=True)
    return tmp_path / "one" / "x" / name, f"imagefolder:{tmp_path / 'one'}"
