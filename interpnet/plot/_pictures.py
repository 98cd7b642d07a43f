"""Figures of a network as a whole: filters, activation maps, labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.errors import DataError
from interpnet.pictures import Filters, filter_tiles
from interpnet.plot._grid import Cell, as_picture, grid
from interpnet.plotting import enlarge, render, style
from interpnet.support.checks import check_kinds, optional, real_array, whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 16  # rows and columns at most
_TILES = 96
_ROWS = 16


def filters(found: Filters, *, most: int | None = None, planes: int = 16) -> Figure:
    """Draw the first ``most`` filters of a convolution; mid-grey is zero, each is scaled by its largest |weight|.

    RGB tiles where they are colours, else a row of grey tiles for each of the first ``planes`` input channels. By
    default 96 tiles, or 16 rows.

    Examples
    --------
    >>> drawn = filters(Filters("0", np.ones((2, 3, 5, 5), np.float32), (1, 1), 1, True))
    >>> drawn.axes[0].texts[0].get_text()
    'filter 0'
    """
    check_kinds(filters, locals())
    optional(whole_number, most, "most", least=1)
    whole_number(planes, "planes", least=1)
    n, inputs, height, width = found.weights.shape
    flat = found.rgb or inputs == 1
    tiles = filter_tiles(found)[: most or (_TILES if flat else _ROWS)]
    text = f"{n} filter{'s' if n > 1 else ''} of {height}×{width}"
    if len(tiles) < n:
        text = f"{len(tiles)} of {text}"
    text = f"{style.plain(found.layer, 30)}: {text}"
    if flat:
        cells = [Cell(as_picture(tile if found.rgb else tile[0]), f"filter {i}") for i, tile in enumerate(tiles)]
        figure = grid(cells, min(len(cells), 12), 0.62, heading=text, letters=7)
    else:
        # A row for each filter, a column for each input channel.
        columns = min(inputs, planes)
        cells = [Cell(as_picture(plane)) for row in tiles for plane in row[:columns]]
        rows = [f"filter {name}" if name else "" for name in _some(len(tiles))]
        figure = grid(
            cells, columns, 0.34, heading=text, letters=7, rows=rows, tops=_some(columns), corner="input", gap=0.04
        )
    shown = found.weights[: len(tiles), : None if found.rgb else planes]
    return style.with_data(figure, ("filter", "input", "row", "column", "weight"), _entries(shown))


def _some(count: int) -> list[str]:
    """Return numbers for some of ``count`` rows or columns."""
    shown = style.spread(count, _LABELLED)
    return [str(i) if i in shown else "" for i in range(count)]


def activation_maps(maps: Any, layer: str, *, image: Any = None, most: int = 48) -> Figure:
    """Draw the activation maps (C, h, w) of one image at one layer, each on its own scale, given below it.

    The ``image`` (C, H, W) in [0, 1] is drawn first where it is given; then the first ``most`` channels.
    """
    check_kinds(activation_maps, locals())
    whole_number(most, "most", least=1)
    array = real_array(maps, "maps", error=DataError).astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError("maps hold NaN or infinity; expected finite activations")
    if array.ndim != 3 or not array.size:
        raise DataError(f"maps have shape {array.shape}; expected (C, h, w), the maps of one image with two axes each")
    shown = array[:most]
    cells = [Cell(render(m, size=112), f"channel {c}", f"max {m.max():.3g}") for c, m in enumerate(shown)]
    if image is not None:
        cells.insert(0, Cell(enlarge(image, 112), "image"))
    text = style.plain(layer, 30)
    if len(shown) < len(array):
        text += f", {len(shown)} of {len(array)} channels"
    figure = grid(cells, min(10, len(cells)), 0.84, heading=text, letters=7.5)
    return style.with_data(figure, *by_pixel(shown, [f"channel {c}" for c in range(len(shown))]))


def pictures(panels: Sequence[Any], titles: Sequence[str], *, columns: int = 6, heading: str = "") -> Figure:
    """Draw images (C, H, W) in [0, 1] with a line of text above each, and a heading above all.

    For maximised pictures, nearest images, patches.
    """
    check_kinds(pictures, locals())
    whole_number(columns, "columns", least=1)
    if not len(panels) or len(panels) != len(titles):
        raise DataError(f"{len(panels)} pictures and {len(titles)} titles came; expected as many, and at least one")
    cells = [Cell(enlarge(image, 192), title) for image, title in zip(panels, titles, strict=True)]
    figure = grid(cells, min(columns, len(cells)), 1.45, heading=heading)
    return style.with_data(figure, ("picture", "title"), enumerate(titles))


def by_pixel(maps: Any, names: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return maps (n, h, w) as a table with a row for each pixel and a column for each map, to six digits."""
    array = np.asarray(maps, np.float64)
    _, height, width = array.shape
    values = array.reshape(len(array), -1).T.tolist()
    places = [(row, column) for row in range(height) for column in range(width)]
    rows = [(*at, *(float(f"{v:.6g}") for v in own)) for at, own in zip(places, values, strict=True)]
    return ("row", "column", *names), rows


def _entries(array: Any) -> Iterator[tuple[Any, ...]]:
    """Yield each entry of an array behind its place."""
    for at, value in np.ndenumerate(array):
        yield (*at, float(value))
