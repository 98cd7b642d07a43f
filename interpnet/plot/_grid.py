"""Pictures side by side with words above and below each, in one pair of axes: quick also for hundreds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from interpnet.plotting import Picture, style, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE = 1.55  # the height of a line of words, in its letters' size
_LETTER = 0.62  # the width of a letter, in its size
_POINTS = 72  # in an inch
_MARGIN = 0.12  # inches
_HEADING = 10.5  # points
_BOLD = 0.7  # the width of a letter of a heading, in its size
_LONGEST = 60  # letters of a heading
_SHARP = 48  # pixels of a picture's longer side, at least, where all are one


class Cell(NamedTuple):
    """A picture with at most a line above it and one below."""

    picture: Picture  # (h, w, 3) uint8
    above: str = ""
    below: str = ""


def grid(
    cells: Sequence[Cell],
    columns: int,
    side: float,
    *,
    heading: str = "",
    letters: float = 8.0,
    rows: Sequence[str] = (),
    tops: Sequence[str] = (),
    corner: str = "",
    gap: float = 0.08,
) -> Figure:
    """Return a figure of pictures, row by row, the longer side of each ``side`` inches long.

    ``rows`` and ``tops`` are words to the left of the rows and above the columns, ``corner`` stands where they meet.
    ``letters`` is the size of words in points, ``gap`` lies between pictures, in inches.
    """
    line = _LINE * letters / _POINTS
    above = line * any(cell.above for cell in cells)
    below = line * any(cell.below for cell in cells)
    most = max(4, int((side + gap) * _POINTS / (letters * _LETTER)))
    left = _MARGIN + gap
    if rows:
        left += max(len(name) for name in (*rows, corner)) * letters * _LETTER / _POINTS
    count = -(-len(cells) // columns)
    widest = max(cell.picture.shape[1] / max(cell.picture.shape[:2]) for cell in cells) * side
    tallest = max(cell.picture.shape[0] / max(cell.picture.shape[:2]) for cell in cells) * side
    step = above + tallest + below + gap
    top = _MARGIN + line * bool(len(tops))
    if heading:
        top += _LINE * _HEADING / _POINTS + gap
    inside = left + columns * (side + gap) + _MARGIN
    title = style.plain(heading, _LONGEST)
    width = max(inside, len(title) * _HEADING * _BOLD / _POINTS + 2 * _MARGIN)
    left += (width - inside) / 2
    height = top + count * step + _MARGIN
    # Narrow pictures stand in the middle of their column.
    inset = (side - widest) / 2
    with style.house_style():
        figure = style.new_figure(width, height)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        # Inches from the upper left corner.
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        alone = cells
        if len(cells) > columns and not above + below + inset and len({cell.picture.shape for cell in cells}) == 1:
            # One picture of all of them is drawn much quicker.
            alone = []
            zoom = -(-_SHARP // max(cells[0].picture.shape[:2]))
            large = [cell.picture.repeat(zoom, 0).repeat(zoom, 1) for cell in cells]
            per_inch = max(large[0].shape[:2]) / side
            sheet = tile(large, columns, pad=max(1, round(gap * per_inch)))
            right = left + columns * (side + gap) - gap
            axes.imshow(sheet, extent=(left, right, top + count * step - gap, top), aspect="auto")
        for i, cell in enumerate(alone):
            row, column = divmod(i, columns)
            tall, wide = (side * n / max(cell.picture.shape[:2]) for n in cell.picture.shape[:2])
            x = left + column * (side + gap) + inset + (widest - wide) / 2
            y = top + row * step + above + (tallest - tall) / 2
            axes.imshow(cell.picture, extent=(x, x + wide, y + tall, y), interpolation="nearest", aspect="auto")
            middle = x + wide / 2
            words = ((cell.above, y - 0.03, "bottom", style.INK), (cell.below, y + tall + 0.03, "top", style.MUTED))
            for text, at, side_of, colour in words:
                if text:
                    shown = style.plain(text, most)
                    axes.text(middle, at, shown, ha="center", va=side_of, size=letters, color=colour, parse_math=False)
        # imshow sets the limits to its picture.
        axes.set(xlim=(0, width), ylim=(height, 0))
        for i, name in enumerate(rows):
            at = top + i * step + above + tallest / 2
            axes.text(left - gap, at, name, ha="right", va="center", size=letters, parse_math=False)
        if corner:
            axes.text(left - gap, top - 0.03, corner, ha="right", va="bottom", size=letters, parse_math=False)
        for i, name in enumerate(tops):
            at = left + i * (side + gap) + side / 2
            axes.text(at, top - 0.03, style.plain(name, most), ha="center", va="bottom", size=letters, parse_math=False)
        if heading:
            axes.text(width / 2, _MARGIN, title, ha="center", va="top", size=_HEADING, weight="bold", parse_math=False)
    return figure


def as_picture(tile: np.ndarray) -> Picture:
    """Return a tile (h, w) or (h, w, 3) in [0, 1] as a picture."""
    levels = np.rint(255 * np.clip(tile, 0, 1)).astype(np.uint8)
    if levels.ndim == 2:
        levels = np.repeat(levels[..., None], 3, -1)
    picture: Picture = levels
    return picture
