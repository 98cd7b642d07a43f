"""Figures of a network as a whole: filters, activation maps, labelled pictures, a map of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError
from interpnet.pictures._filters import Filters, filter_tiles
from interpnet.plotting import enlarge, style
from interpnet.support.checks import check_kinds, real_array, whole_number, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours without the yellow and the black: the others with four marks each can be distinguished.
_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, "#cc79a7")
_MARKS = ("o", "s", "^", "D")
_MOST_MARKED = len(_COLOURS) * len(_MARKS)


def plot_filters(found: Filters, *, most: int = 96, planes: int = 16) -> Figure:
    """Draw the first ``most`` filters of a convolution; mid-grey is zero, each is scaled by its largest |weight|.

    RGB tiles where they are colours, else a grey tile for each of the first ``planes`` input channels.

    Examples
    --------
    >>> plot_filters(Filters("0", np.ones((2, 3, 5, 5), np.float32), (1, 1), 1, True)).axes[0].get_title()
    'filter 0'
    """
    check_kinds(plot_filters, locals())
    whole_number(most, "most", least=1)
    whole_number(planes, "planes", least=1)
    tiles = filter_tiles(found)[:most]
    panels = list(tiles)
    if not found.rgb:
        panels = [plane for row in tiles for plane in row[:planes]]
    columns = min(len(panels), 12)
    width = 0.62
    height = 0.78  # with room for the title
    # One row per filter where each has several tiles.
    stacked = len(panels) > len(tiles)
    if stacked:
        columns = len(panels) // len(tiles)
        width = height = 0.34
    rows = -(-len(panels) // columns)
    with style.house_style():
        figure = style.new_figure(max(3.6, 0.9 + width * columns), 0.9 + height * rows)
        cells = _cells(figure, rows, columns, len(panels))
        for i, (cell, panel) in enumerate(zip(cells, panels, strict=True)):
            _show(cell, panel, "" if stacked else f"filter {i}", 7, 2, cmap="gray", vmin=0, vmax=1)
        if stacked:
            for row in style.spread(rows, 16):
                cells[row * columns].set_ylabel(str(row), rotation=0, ha="right", va="center", fontsize=8)
            for column in style.spread(columns, 16):
                cells[(rows - 1) * columns + column].set_xlabel(str(column), fontsize=8)
            figure.supxlabel("input channel", fontsize=9.5)
            figure.supylabel("filter", fontsize=9.5)
        n, _, height, width = found.weights.shape
        text = f"{n} filters of {height}×{width}"
        if len(tiles) < n:
            text = f"{len(tiles)} of {text}"
        _heading(figure, f"{style.plain(found.layer, 40)}: {text}")
    return figure


def plot_activation_maps(maps: Any, layer: str, *, image: Any = None, most: int = 48) -> Figure:
    """Draw the activation maps (C, h, w) of one image at one layer, each on its own scale, given below it.

    The ``image`` (C, H, W) in [0, 1] is drawn first where it is given; then the first ``most`` channels.
    """
    check_kinds(plot_activation_maps, locals())
    whole_number(most, "most", least=1)
    array = real_array(maps, "maps", error=DataError).astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError("maps hold NaN or infinity; expected finite activations")
    if array.ndim != 3 or not array.size:
        raise DataError(f"maps have shape {array.shape}; expected (C, h, w), the maps of one image with two axes each")
    shown = array[:most]
    panels: list[tuple[Any, str, str]] = []
    if image is not None:
        panels.append((enlarge(image, 96), "image", ""))
    panels += [(m, f"channel {c}", f"max {m.max():.3g}") for c, m in enumerate(shown)]
    columns = min(10, len(panels))
    rows = -(-len(panels) // columns)
    with style.house_style():
        figure = style.new_figure(max(3.0, 0.95 * columns), 0.5 + 1.2 * rows)
        for cell, (values, title, below) in zip(_cells(figure, rows, columns, len(panels)), panels, strict=True):
            # A map of zeros must not be scaled to full brightness.
            high = max(float(np.max(values)), 1e-12)
            low = min(0.0, float(np.min(values)))
            _show(cell, values, title, 7.5, 2, cmap="inferno", vmin=low, vmax=high)
            cell.set_xlabel(below, fontsize=7, labelpad=2, color=style.MUTED)
        text = style.plain(layer, 48)
        if len(shown) < len(array):
            text += f", {len(shown)} of {len(array)} channels"
        _heading(figure, text)
    return figure


def plot_pictures(pictures: Sequence[Any], titles: Sequence[str], *, columns: int = 6, heading: str = "") -> Figure:
    """Draw pictures (C, H, W) in [0, 1] with a line of text above each, and a heading above all.

    For maximised pictures, nearest images, patches.
    """
    check_kinds(plot_pictures, locals())
    whole_number(columns, "columns", least=1)
    if not len(pictures) or len(pictures) != len(titles):
        raise DataError(f"{len(pictures)} pictures and {len(titles)} titles came; expected as many, and at least one")
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    with style.house_style():
        figure = style.new_figure(max(2.4, 1.55 * columns), 0.35 * bool(heading) + 1.85 * rows)
        for cell, picture, title in zip(_cells(figure, rows, columns, len(pictures)), pictures, titles, strict=True):
            _show(cell, enlarge(picture, 192), style.plain(title, 22), 8, 3)
        if heading:
            _heading(figure, style.plain(heading, 80))
    return figure


def _cells(figure: Figure, rows: int, columns: int, n: int) -> list[Axes]:
    """Return the first n axes of a grid, without ticks and frames; the others are hidden."""
    cells: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for i, cell in enumerate(cells):
        cell.set_xticks([])
        cell.set_yticks([])
        for side in cell.spines.values():
            side.set_visible(False)
        cell.set_visible(i < n)
    return cells[:n]


def _show(cell: Axes, picture: Any, title: str, fontsize: float, pad: float, **options: Any) -> None:
    """Draw one picture, its pixels as squares, with a title above it that may hold any text."""
    cell.imshow(picture, interpolation="nearest", aspect="equal", **options)
    if title:
        cell.set_title(title, fontsize=fontsize, fontweight="normal", loc="center", pad=pad, parse_math=False)


def _heading(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=10.5, fontweight="bold", parse_math=False)


def plot_embedding(points: Any, labels: Any, classes: Sequence[str], *, predictions: Any = None) -> Figure:
    """Draw a map of embeddings: a mark per image, its class by colour and shape, what was misclassified ringed.

    ``points`` (N, 2) are as :func:`interpnet.pictures.tsne` gives them; ``labels`` (N,) are numbers of ``classes``,
    negative where there is none; ``predictions`` (N,) are the network's. With more than 24 classes, which no colours
    tell apart, the colour says only right or wrong.
    """
    check_kinds(plot_embedding, locals())
    at = real_array(points, "points", error=DataError).astype(np.float64)
    own = whole_numbers(labels, "labels", error=DataError)
    if predictions is None:
        predicted = own
    else:
        predicted = whole_numbers(predictions, "predictions", error=DataError)
    if at.ndim != 2 or at.shape[1] != 2 or own.shape != (len(at),) or predicted.shape != own.shape:
        raise DataError(
            f"points have shape {at.shape}, labels {own.shape}, predictions "
            f"{None if predictions is None else predicted.shape}; expected (N, 2), (N,) and (N,)"
        )
    if own.size and max(own.max(), predicted.max()) >= len(classes):
        raise DataError(
            f"labels or predictions reach {max(own.max(), predicted.max())} with {len(classes)} names in classes; "
            "expected a name for every class"
        )
    wrong = predicted != own
    # Smaller marks for more images, so that they do not cover each other.
    size = float(np.clip(9000 / max(len(at), 1), 10, 42))
    present = np.unique(own).tolist()
    with style.house_style():
        figure = style.new_figure(8.6, 5.6)
        axes = figure.subplots()

        def scatter(chosen: npt.NDArray[np.bool_], label: str, **options: Any) -> None:
            axes.scatter(at[chosen, 0], at[chosen, 1], label=label, **{"s": size, "linewidths": 0, **options})

        if len(present) <= _MOST_MARKED:
            for turn, c in enumerate(present):
                name = classes[c] if 0 <= c < len(classes) else "no label"
                mark = _MARKS[(turn // len(_COLOURS)) % len(_MARKS)]
                colour = _COLOURS[turn % len(_COLOURS)]
                scatter(own == c, style.plain(name, 22), marker=mark, color=colour, alpha=0.85)
            if wrong.any():
                rings = {"s": 3.2 * size, "facecolors": "none", "edgecolors": style.INK, "linewidths": 1.2}
                scatter(wrong, "misclassified", **rings)
        else:
            scatter(~wrong, "image" if predictions is None else "correct", color=style.BLUE, alpha=0.8)
            if wrong.any():
                scatter(wrong, "wrong", marker="X", color=style.VERMILLION, alpha=0.85)
        axes.set(xlabel="t-SNE, first axis (no unit)", ylabel="t-SNE, second axis (no unit)")
        axes.set_aspect("equal", adjustable="datalim")
        style.label_ticks(axes.xaxis, [], [])
        style.label_ticks(axes.yaxis, [], [])
        legend = figure.legend(loc="outside right upper", fontsize=8.5, markerscale=1.1)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure
