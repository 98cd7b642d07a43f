"""A folder of images with masks: squares of some colours on grey noise, four frames of each film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 10, 10), "green": (10, 230, 10), "blue": (10, 10, 230)}


def write_squares(folder: Path, names: dict[str, str], *, n: int = 80, side: int = 24) -> None:
    """Write a category ``squares`` into a folder; ``names`` are what each colour is called."""
    category = folder / "squares"
    for kind in ("images", "masks"):
        (category / kind).mkdir(parents=True)
    draws = np.random.default_rng(0)
    for i in range(n):
        pixels = draws.integers(90, 110, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), np.uint8)
        for number, colour in enumerate(names, 1):
            row, column = draws.integers(0, side - 4, 2)
            # Not all alike: of equal values none is above a threshold among them.
            pixels[row : row + 4, column : column + 4] = np.array(COLOURS[colour]) + draws.integers(-9, 9, (4, 4, 3))
            mask[row : row + 4, column : column + 4] = number
        name = f"film{i // 4}_{i % 4}.png"
        Image.fromarray(pixels).save(category / "images" / name)
        Image.fromarray(mask).save(category / "masks" / name)
    (category / "names.txt").write_text("\n".join(["-", *names.values()]) + "\n", encoding="utf-8")
