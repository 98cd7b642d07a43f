"""Figures of a network as a whole: filters, activation maps, labelled pictures, a map of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError
from interpnet.pictures._filters import Filters, filter_tiles
from interpnet.plotting import enlarge
from interpnet.plotting.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SKY,
    VERMILLION,
    house_style,
    label_ticks,
    new_figure,
    plain,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours without the yellow and the black: five of them twice over with other marks are told apart.
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, SKY, "#cc79a7")
_MARKS = ("o", "s", "^", "D")
_MOST_MARKED = len(_COLOURS) * len(_MARKS)
_IMAGE_AXES = 3


def plot_filters(found: Filters, *, most: int = 96, planes: int = 16) -> Figure:
    """Draw the filters of a convolution: RGB tiles where they are colours, else a grey tile an input channel.

    Parameters
    ----------
    found : Filters
        As :func:`interpnet.pictures.filters` gives them.
    most, planes : int
        Filters and input channels shown.

    Returns
    -------
    matplotlib.figure.Figure
        Mid-grey is zero; each filter is scaled by its largest |weight|.

    Examples
    --------
    >>> plot_filters(Filters("0", np.ones((2, 3, 5, 5), np.float32), (1, 1), 1, True)).axes[0].get_title()
    'filter 0'
    """
    tiles = filter_tiles(found)[:most]
    stacked = not found.rgb and tiles.shape[1] > 1
    if stacked:
        panels = [plane for row in tiles for plane in row[:planes]]
        columns = min(planes, tiles.shape[1])
    else:
        panels = list(tiles) if found.rgb else [row[0] for row in tiles]
        columns = min(len(panels), 12)
    rows = -(-len(panels) // columns)
    scale = 0.34 if stacked else 0.62
    with house_style():
        figure = new_figure(max(3.6, 0.9 + scale * columns), 0.9 + (scale + (0 if stacked else 0.16)) * rows)
        cells = _cells(figure, rows, columns, len(panels))
        for i, (cell, panel) in enumerate(zip(cells, panels, strict=True)):
            cell.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
            if not stacked:
                cell.set_title(f"filter {i}", fontsize=7, fontweight="normal", loc="center", pad=2)
        if stacked:
            for row in spread(rows, 16):
                cells[row * columns].set_ylabel(str(row), rotation=0, ha="right", va="center", fontsize=8)
            for column in spread(columns, 16):
                cells[(rows - 1) * columns + column].set_xlabel(str(column), fontsize=8)
            figure.supxlabel("input channel", fontsize=9.5)
            figure.supylabel("filter", fontsize=9.5)
        figure.suptitle(_heading(found, len(tiles)), fontsize=10.5, fontweight="bold", parse_math=False)
    return figure


def _heading(found: Filters, shown: int) -> str:
    n, _, height, width = found.weights.shape
    return f"{plain(found.layer, 40)}: {f'{shown} of {n}' if shown < n else n} filters of {height}×{width}"


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _cells(figure: Figure, rows: int, columns: int, n: int) -> list[Axes]:
    """Return the first n axes of a grid, bare; the others are hidden."""
    cells: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for i, cell in enumerate(cells):
        _bare(cell)
        cell.set_visible(i < n)
    return cells[:n]


def plot_activation_maps(maps: Any, layer: str, *, image: Any = None, most: int = 48) -> Figure:
    """Draw the activation maps of one image at one layer, each on its own scale, given below it.

    Parameters
    ----------
    maps : array (C, h, w)
        One image's, as :func:`interpnet.pictures.activation_maps` gives them.
    layer : str
        Their layer's name.
    image : array (C, H, W) in [0, 1], optional
        The image, drawn first.
    most : int
        Channels shown, from the first on.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        Not the maps of one image.
    """
    array = np.asarray(maps, np.float64)
    if array.ndim != _IMAGE_AXES or not array.size:
        raise DataError(f"maps have shape {array.shape}; expected (C, h, w), the maps of one image with two axes each")
    shown = array[:most]
    panels: list[tuple[Any, str, str]] = [] if image is None else [(enlarge(image, 96), "image", "")]
    panels += [(m, f"channel {c}", f"max {m.max():.3g}") for c, m in enumerate(shown)]
    columns = min(10, len(panels))
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(max(3.0, 0.95 * columns), 0.5 + 1.2 * rows)
        for cell, (values, title, below) in zip(_cells(figure, rows, columns, len(panels)), panels, strict=True):
            high = max(float(np.max(values)), 1e-12)
            low = min(0.0, float(np.min(values)))
            cell.imshow(values, cmap="inferno", vmin=low, vmax=high, interpolation="nearest", aspect="equal")
            cell.set_title(title, fontsize=7.5, fontweight="normal", loc="center", pad=2)
            cell.set_xlabel(below, fontsize=7, labelpad=2, color=MUTED)
        suffix = f", {len(shown)} of {len(array)} channels" if len(shown) < len(array) else ""
        figure.suptitle(f"{plain(layer, 48)}{suffix}", fontsize=10.5, fontweight="bold", parse_math=False)
    return figure


def plot_pictures(pictures: Sequence[Any], titles: Sequence[str], *, columns: int = 6, heading: str = "") -> Figure:
    """Draw pictures with a line of text above each: maximised pictures, nearest images, patches.

    Parameters
    ----------
    pictures : sequence of arrays (C, H, W) in [0, 1]
    titles : sequence of as many str
    columns : int
    heading : str
        Above all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        No picture, or another number of titles.
    """
    if not len(pictures) or len(pictures) != len(titles):
        raise DataError(f"{len(pictures)} pictures and {len(titles)} titles came; expected as many, and at least one")
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    with house_style():
        figure = new_figure(max(2.4, 1.55 * columns), 0.35 * bool(heading) + 1.85 * rows)
        for cell, picture, title in zip(_cells(figure, rows, columns, len(pictures)), pictures, titles, strict=True):
            cell.imshow(enlarge(picture, 192), interpolation="nearest")
            cell.set_title(plain(title, 22), fontsize=8, fontweight="normal", loc="center", pad=3, parse_math=False)
        if heading:
            figure.suptitle(plain(heading, 80), fontsize=10.5, fontweight="bold", parse_math=False)
    return figure


def plot_embedding(points: Any, labels: Any, classes: Sequence[str], *, predictions: Any = None) -> Figure:
    """Draw a map of embeddings: a mark an image, its class by colour and shape, what was misclassified ringed.

    With more than 24 classes, which no colours tell apart, the colour says only right or wrong.

    Parameters
    ----------
    points : array (N, 2)
        As :func:`interpnet.pictures.tsne` gives them.
    labels : array (N,) int
        Classes; negative where there is none.
    classes : sequence of str
        Names of the classes.
    predictions : array (N,) int, optional
        The network's; an image whose prediction is not its label is ringed.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        Shapes that do not fit.
    """
    at, own = np.asarray(points, np.float64), np.asarray(labels, np.int64)
    told = None if predictions is None else np.asarray(predictions, np.int64)
    if at.ndim != 2 or at.shape[1] != 2 or own.shape != (len(at),) or (told is not None and told.shape != own.shape):
        raise DataError(
            f"points have shape {at.shape}, labels {own.shape}, predictions "
            f"{None if told is None else told.shape}; expected (N, 2), (N,) and (N,)"
        )
    wrong = np.zeros(len(at), bool) if told is None else told != own
    present = [int(c) for c in np.unique(own)]
    with house_style():
        figure = new_figure(8.6, 5.6)
        axes = figure.subplots()
        size = float(np.clip(9000 / max(len(at), 1), 10, 42))
        by_class = len(present) <= _MOST_MARKED
        if by_class:
            _by_class(axes, at, own, present, classes, size)
        else:
            _by_correctness(axes, at, wrong, size, told is not None)
        if by_class and wrong.any():
            axes.scatter(
                at[wrong, 0],
                at[wrong, 1],
                s=3.2 * size,
                facecolors="none",
                edgecolors=INK,
                linewidths=1.2,
                label="misclassified",
            )
        axes.set(xlabel="t-SNE, first axis (no unit)", ylabel="t-SNE, second axis (no unit)")
        axes.set_aspect("equal", adjustable="datalim")
        label_ticks(axes.xaxis, [], [])
        label_ticks(axes.yaxis, [], [])
        legend = figure.legend(loc="outside right upper", fontsize=8.5, markerscale=1.1)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _by_class(
    axes: Axes,
    at: npt.NDArray[np.float64],
    own: npt.NDArray[np.int64],
    present: list[int],
    classes: Sequence[str],
    size: float,
) -> None:
    for turn, c in enumerate(present):
        name = classes[c] if 0 <= c < len(classes) else "no label"
        mark = _MARKS[(turn // len(_COLOURS)) % len(_MARKS)]
        axes.scatter(
            at[own == c, 0], at[own == c, 1], s=size, marker=mark, color=_COLOURS[turn % len(_COLOURS)], linewidths=0,
            label=plain(name, 22), alpha=0.85,
        )  # fmt: skip


def _by_correctness(
    axes: Axes, at: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], size: float, told: bool
) -> None:
    axes.scatter(
        at[~wrong, 0], at[~wrong, 1], s=size, color=BLUE, linewidths=0, alpha=0.8, label="correct" if told else "image"
    )
    if wrong.any():
        axes.scatter(
            at[wrong, 0], at[wrong, 1], s=size, marker="X", color=VERMILLION, linewidths=0, alpha=0.85, label="wrong"
        )
