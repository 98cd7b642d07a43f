"""A contact sheet: a row per channel, a column per picture, the number measured under each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import Tensor

from experiments.methods.sheet import level, save
from experiments.qualitative.maps import UPSAMPLED
from interpnet.plotting.style import INK, MUTED, house_style, new_figure, plain

# In pixels of the sheet: a picture's side, the gap between two, and the height of the words under it and of the head.
TILE = 160
GAP = 8
WORDS = 42
HEAD = 30
DPI = 100
# In pixels of the image: the side of the detail; and of the sheet: what parts one image's rows from the next one's.
_WINDOW = 40
_APART = 14
NOTE = (
    "Grid: share of the signal's energy at the frequencies of stride 2.  * the class relies on no channel of this third"
)


class Row(NamedTuple):
    """What a row of the sheet shows."""

    image: Tensor  # (3, H, W): In [0, 1]
    channel: str  # Under the image: level and channel, and the class
    title: str
    maps: dict[str, Tensor]  # (H, W): The pictures, by name
    words: dict[str, str]  # What stands under each


def fitted(picture: Tensor, side: int = TILE) -> np.ndarray:
    """Return a picture (C, H, W) as (side, side, C): enlarged in whole pixels, or reduced by averaging.

    A reduced map shows no grid that is not there; a grid finer than the screen is left to the detail.
    """
    times, rest = divmod(side, picture.shape[-1])
    if rest == 0:
        large = picture.repeat_interleave(times, -1).repeat_interleave(times, -2)
    else:
        large = F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]
    pixels: np.ndarray = large.permute(1, 2, 0).numpy()
    return pixels


def window(heat: Tensor, size: int = _WINDOW) -> tuple[int, int]:
    """Return the corner of the window of ``size`` pixels (less on a smaller map) with the largest sum."""
    sums = F.avg_pool2d(heat[None, None], min(size, *heat.shape), 1)[0, 0]
    at = int(sums.argmax())
    return at // sums.shape[1], at % sums.shape[1]


def coloured(heat: Tensor) -> Tensor:
    """Return a nonnegative map (H, W) as colours (3, H, W), dark to bright."""
    values, colours = level(heat.double().numpy())
    return torch.from_numpy(colours(values)[..., :3]).permute(2, 0, 1).float()


class Cell(NamedTuple):
    """A picture (TILE, TILE, 3) with the words under it; ``box`` (x, y, side) in its pixels marks the detail."""

    picture: np.ndarray
    words: str = ""
    box: tuple[float, float, float] | None = None


def cells(row: Row, names: list[str]) -> list[Cell]:
    """Return a row's pictures with their words: the image, its maps, and where they are large a detail of each pair."""
    side = row.image.shape[-1]
    heats = {name: row.maps[name] for name in names}
    y, x = window(heats["guided, plain"])
    box = (x * TILE / side - 0.5, y * TILE / side - 0.5, _WINDOW * TILE / side)
    large = side >= 2 * _WINDOW
    drawn = [Cell(fitted(row.image), f"{row.channel}\n{row.title}")]
    for name, heat in heats.items():
        # Reduced before it is coloured: averaged colours are no averages.
        reduced = torch.from_numpy(fitted(heat[None])[..., 0])
        marked = box if large and name.startswith("guided") else None
        drawn.append(Cell(fitted(coloured(reduced)), row.words.get(name, ""), marked))
    if large:
        details = (heats[name][y : y + _WINDOW, x : x + _WINDOW] for name in ("guided, plain", "guided, resampled"))
        drawn += [Cell(fitted(coloured(part))) for part in details]
    return drawn


def draw(rows: list[Row], together: int, title: str, path: Path) -> None:
    """Write the sheet; ``together`` rows belong to one image, and a wider gap parts them from the next."""
    names = [UPSAMPLED, "guided, plain", "guided, resampled", "DeconvNet, resampled"]
    drawn = [cells(row, names) for row in rows]
    heads = ["image", *names, f"plain, {_WINDOW} pixels", f"resampled, {_WINDOW} pixels"]
    across = len(drawn[0])
    down = len(drawn)
    width = across * (TILE + GAP) + GAP
    height = HEAD + 18 + down * (TILE + WORDS + GAP) + (down // together - 1) * _APART + 22
    with house_style():
        figure = new_figure(width / DPI, height / DPI)
        figure.set_layout_engine("none")  # every position is a whole pixel, so that no map is resampled
        figure.text(GAP / width, 6 / height, NOTE, va="bottom", fontsize=7, color=MUTED)
        figure.text(GAP / width, 1 - 6 / height, title, va="top", fontsize=9, fontweight="bold", color=INK)
        for j in range(across):
            x = GAP + j * (TILE + GAP)
            figure.text((x + TILE / 2) / width, 1 - HEAD / height, heads[j], ha="center", va="top", fontsize=8)
            for i in range(down):
                cell = drawn[i][j]
                top = HEAD + 16 + i * (TILE + WORDS + GAP) + (i // together) * _APART
                axes = figure.add_axes((x / width, 1 - (top + TILE) / height, TILE / width, TILE / height))
                axes.imshow(cell.picture.clip(0, 1), interpolation="nearest")
                if cell.box is not None:
                    axes.add_patch(Rectangle(cell.box[:2], cell.box[2], cell.box[2], fill=False, ec="white", lw=0.7))
                axes.set_axis_off()
                lines = "\n".join(plain(line, 33) for line in cell.words.split("\n"))
                below = 1 - (top + TILE + 3) / height
                style: dict[str, Any] = {"fontsize": 7, "linespacing": 1.15, "color": (MUTED, INK)[j > 0]}
                figure.text((x + TILE / 2) / width, below, lines, ha="center", va="top", **style)
        save(figure, path, DPI)
