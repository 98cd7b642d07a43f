"""The look shared by all figures: Okabe-Ito colours, plain axes, labels that no text from data can upset."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, distinguishable with every common colour blindness.
VERMILLION = "#d55e00"
ORANGE = "#e69f00"
BLUE = "#0072b2"
SKY = "#56b4e9"
GREEN = "#009e73"
PURPLE = "#cc79a7"
# Exactly these three may be swapped for a page's own colours in the SVG (dark pages).
INK = "#1f2328"
MUTED = "#59636e"
GRID = "#d1d9e0"
# What is compared with: the intact network, no change.
REFERENCE: Any = {"color": INK, "linestyle": (0, (4, 3)), "linewidth": 1.1}

CONDITION_COLOURS = {
    "relevant": VERMILLION,
    "relevant-positive": ORANGE,
    "random": BLUE,
    "random-per-layer": SKY,
    "highest-activation": GREEN,
    "d-prime": PURPLE,
}

# Any, because matplotlib names the keys it takes only in its newer type stubs.
_RC: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def house_style() -> AbstractContextManager[None]:
    """Make the figures created inside look alike, whatever the caller's matplotlib settings are."""
    import matplotlib as mpl

    return mpl.rc_context(_RC)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of that size in inches that belongs to no window (works without a display)."""
    # The constrained layout makes room for labels of any length.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    # Where a notebook looks for a picture: it knows figures by itself only once pyplot was imported.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=100, facecolor="white")
    return written.getvalue()


def with_data(figure: Figure, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Figure:
    """Return a figure that carries the numbers it shows, as a table that is written beside it.

    Columns have different names: names come from data, and a class may be called "mean".
    """
    names: list[str] = []
    for name in header:
        times = 1
        different = name
        while different in names:
            times += 1
            different = f"{name} ({times})"
        names.append(different)
    figure._shown = (tuple(names), [tuple(row) for row in rows])  # type: ignore[attr-defined]  # noqa: SLF001
    return figure


@contextmanager
def any_letters() -> Iterator[None]:
    """Say nothing of letters that the drawing font lacks: names come from data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def two_panels(height: float, *, ratios: tuple[float, float]) -> tuple[Figure, Axes, Axes]:
    """Return a figure of the usual width with two panels side by side over the same rows."""
    figure = new_figure(9.2, height)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=ratios)
    right.tick_params(labelleft=False)
    return figure, left, right


def row_lines(axes: Axes, *, frame: bool = False) -> None:
    """Show a grid over values and no ticks beside the rows; ``frame`` keeps the line on the left."""
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(frame)


def plain(text: str, limit: int = 28) -> str:
    """Return ``text`` on one line, without control or direction marks, cut in the middle past ``limit``.

    Examples
    --------
    >>> plain("a" * 30, limit=9)
    'aaaa…aaaa'
    """
    # Control, format and separator characters: marks of direction would turn the rest of the line round.
    text = "".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in str(text))
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[: limit - 1 - head]}…{text[len(text) - head :]}"


def label_ticks(axis: Any, positions: Sequence[float], labels: Iterable[str], **options: Any) -> None:
    """Set tick labels from data; a ``$`` in a class name is a dollar sign, not mathematics."""
    axis.set_ticks(list(positions), labels=list(labels), parse_math=False, **options)


def class_ticks(axes: Axes, classes: Sequence[str], most: int = 24) -> None:
    """Name at most ``most`` of the classes below the columns of a table of cells."""
    shown = spread(len(classes), most)
    names = [plain(classes[i], 16) for i in shown]
    slanted = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
    label_ticks(axes.xaxis, shown, names, **slanted)
    axes.set_xlabel("class")


def plain_legend(legend: Any) -> None:
    """Take the words of a legend as they are: they come from data."""
    for words in legend.get_texts():
        words.set_parse_math(False)


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spread positions of ``count``, with the first one.

    Examples
    --------
    >>> spread(5, 10), spread(10, 4)
    ([0, 1, 2, 3, 4], [0, 3, 6, 9])
    """
    step = max(1, -(-count // max(1, most)))
    return list(range(0, count, step))


def empty_axes(axes: Axes, message: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes, color=MUTED, parse_math=False)
    axes.set_axis_off()
