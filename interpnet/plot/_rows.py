"""Numbers with intervals in rows: the one drawing that measures, TCAV, shortcuts and repairs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from interpnet.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HIGHEST = 11.0  # inches
_LETTERS = 40  # of a row's name


class Row(NamedTuple):
    """A value with the ends of its interval."""

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    usual: float = float("nan")  # what it is compared with: a tick
    strong: bool = True  # drawn filled


def new_rows(count: int, width: float = 5.6, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with room for ``count`` rows; call it within the house style."""
    figure = style.new_figure(width, min(_HIGHEST, 1.15 + 0.24 * max(3, count)))
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=True).flat)


def draw_rows(axes: Axes, rows: Sequence[Row], label: str, *, reference: float | None = None, usual: str = "") -> None:
    """Draw rows into a panel, the first on top; ``usual`` says what the ticks are."""
    at = np.arange(len(rows))
    for y, row in zip(at, rows, strict=True):
        colour = style.BLUE if row.strong else style.MUTED
        axes.plot((row.low, row.high), (y, y), color=colour, linewidth=2.2, solid_capstyle="butt")
        fill: Any = "full" if row.strong else "none"
        axes.plot(row.value, y, "o", color=colour, markersize=5.5, fillstyle=fill)
    if usual:
        ticks: Any = {"color": style.VERMILLION, "markersize": 10, "markeredgewidth": 1.8}
        axes.plot([row.usual for row in rows], at, "|", label=usual, **ticks)
    if reference is not None:
        axes.axvline(reference, **style.REFERENCE)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label, parse_math=False)
    style.label_ticks(axes.yaxis, at.tolist(), [style.plain(row.name, _LETTERS) for row in rows], fontsize=8.5)
    style.row_lines(axes)


def table_of(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return rows as a table."""
    return ("name", "value", "low", "high", "usual"), [tuple(row[:5]) for row in rows]
