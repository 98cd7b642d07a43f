"""What every figure keeps to: labelled axes, no word over another or beyond the edge, no empty or lost text."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from interpnet.plotting.style import any_letters

_NUMBER = re.compile(r"[−+-]?[0-9.]+(e[−+-]?[0-9]+)?%?")
_SLACK = 1.0  # pixels, of the 100 in an inch


def words(figure: Figure) -> list[str]:
    """Return what a reader can read in a figure."""
    return [t.get_text() for t in _texts(_drawn(figure))]


def faults(figure: Figure) -> list[str]:
    """Return what is wrong with a figure, in words; nothing where it is right."""
    _drawn(figure)
    found = [f"no {axis}label beside the numbers of {axes.get_title()!r}" for axes, axis in _unlabelled(figure)]
    texts = [t for t in _texts(figure) if t.get_text().strip()]
    if not texts:
        found.append("no text")
    boxes = np.array([t.get_window_extent().extents for t in texts]).reshape(-1, 4)
    width, height = figure.get_size_inches() * figure.dpi
    for text, (left, low, right, high) in zip(texts, boxes, strict=True):
        if left < -_SLACK or low < -_SLACK or right > width + _SLACK or high > height + _SLACK:
            found.append(f"{text.get_text()!r} is cut off")
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    shared = np.minimum(high, boxes[None, :, 2:]) - np.maximum(low, boxes[None, :, :2])
    # The boxes of slanted labels overlap where the words do not.
    slanted = np.array([bool(t.get_rotation() % 90) for t in texts])
    over = (shared > _SLACK).all(2) & ~(slanted[:, None] & slanted)
    for i, k in np.argwhere(np.triu(over, 1)):
        found.append(f"{texts[i].get_text()!r} lies over {texts[k].get_text()!r}")
    return found


def _drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure)
    with any_letters():
        figure.draw_without_rendering()
    return figure


def _texts(figure: Figure) -> list[Text]:
    """Return the texts that are drawn: not those of ticks beyond the ends of their axis."""
    lost = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.get_visible() and axes.axison else []
            for tick in [*axis.majorTicks, *axis.minorTicks]:
                if tick not in drawn:
                    lost |= {tick.label1, tick.label2}
        if not axes.get_visible():
            lost |= set(axes.findobj(Text))
        elif not axes.axison:
            lost |= {axes.xaxis.label, axes.yaxis.label}
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text() and t not in lost]


def _unlabelled(figure: Figure) -> list[tuple]:
    found = []
    above = {"x": figure.get_supxlabel(), "y": figure.get_supylabel()}
    for axes in figure.axes:
        if not axes.get_visible() or not axes.axison:
            continue
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            shown = [t.get_text() for t in axis.get_ticklabels() if t.get_visible() and t.get_text()]
            if shown and all(map(_NUMBER.fullmatch, shown)) and not (axis.get_label_text() or above[name]):
                found.append((axes, name))
    return found
