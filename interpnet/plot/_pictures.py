"""Figures of a network as a whole: filters, activation maps, labelled pictures, maps of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.errors import DataError
from interpnet.pictures import Filters, filter_tiles
from interpnet.plot._grid import Cell, as_picture, grid
from interpnet.plotting import Picture, enlarge, render, style
from interpnet.support.checks import check_kinds, listed, optional, real_array, shown, whole_number
from interpnet.support.types import Float64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 16  # rows and columns at most
_TILES = 96
_ROWS = 16
_BRIGHT = 0.99  # the share of a map's pixels that its scale reaches
_LARGE = 7  # pictures in a row, at most


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
    drawn = found.weights[: len(tiles), : None if found.rgb else planes]
    return style.with_data(figure, ("filter", "input", "row", "column", "weight"), _entries(drawn))


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
    first = array[:most]
    cells = [Cell(render(m, size=112), f"channel {c}", f"max {m.max():.3g}") for c, m in enumerate(first)]
    if image is not None:
        cells.insert(0, Cell(enlarge(image, 112), "image"))
    text = style.plain(layer, 30)
    if len(first) < len(array):
        text += f", {len(first)} of {len(array)} channels"
    figure = grid(cells, min(10, len(cells)), 0.84, heading=text, letters=7.5)
    return style.with_data(figure, *by_pixel(first, [f"channel {c}" for c in range(len(first))]))


def pictures(
    panels: Sequence[Any],
    titles: Sequence[str] = (),
    *,
    captions: Sequence[str] = (),
    rows: Sequence[str] = (),
    columns: int = 6,
    heading: str = "",
) -> Figure:
    """Draw images, each with a line above and a line below it: maximised pictures, nearest images, patches.

    Parameters
    ----------
    panels : sequence
        Images (C, H, W) in [0, 1], or pictures uint8 (h, w, 3).
    titles, captions : sequence of str, optional
        As many as panels, or none.
    rows : sequence of str, optional
        Names of rows of equal length, in which the panels then lie; without them ``columns`` lie in a row.
    """
    check_kinds(pictures, locals())
    panels = listed(panels, "panels", error=DataError)
    whole_number(columns, "columns", least=1)
    for name, words in (("titles", titles), ("captions", captions)):
        if not panels or len(words) not in {0, len(panels)}:
            raise DataError(f"{len(panels)} pictures and {len(words)} {name} came; expected as many, and at least one")
    if rows:
        if len(panels) % len(rows):
            raise DataError(f"{len(panels)} pictures came for {len(rows)} rows; expected as many in each row")
        columns = len(panels) // len(rows)
    above = list(titles) or [""] * len(panels)
    below = list(captions) or [""] * len(panels)
    cells = [Cell(_picture(panel), *words) for panel, *words in zip(panels, above, below, strict=True)]
    side = 1.45 if columns <= _LARGE else 0.95
    names = [style.plain(name, 24) for name in rows]
    figure = grid(cells, min(columns, len(cells)), side, heading=heading, rows=names)
    return style.with_data(figure, ("picture", "title", "caption"), zip(range(len(cells)), above, below, strict=True))


def attribution(maps: Mapping[str, Any], image: Any = None, *, heading: str = "") -> Figure:
    """Draw maps (H, W) of an image side by side, by any methods, for any classes, each on its own scale.

    What is above zero is drawn, the more opaque the larger, up to the 99th percentile: single bright pixels would leave
    the rest dark. Below each map stands its scale. A map without any value above zero is the bare picture.

    Parameters
    ----------
    maps : mapping
        The maps by name: ``{"gradient": map, "guided": map}``. Or rows of them, with the same names in each:
        ``{"cat": {"gradient": map, "guided": map}, "dog": {...}}``.
    image : array (C, H, W) in [0, 1], optional
        Drawn first, and dimmed below each map.

    Examples
    --------
    >>> drawn = attribution({"gradient": np.eye(4), "guided": np.ones((4, 4))}, np.ones((3, 4, 4)))
    >>> [text.get_text() for text in drawn.axes[0].texts]
    ['image', 'gradient', '0 to 1', 'guided', '0 to 1']
    """
    check_kinds(attribution, locals())
    if not isinstance(maps, Mapping) or not maps:
        raise DataError(f"maps is {shown(maps)}; expected at least one map by its name: {{'gradient': map}}")
    nested = [isinstance(value, Mapping) for value in maps.values()]
    rows: dict[str, Mapping[str, Any]] = dict(maps) if all(nested) else {"": maps}
    names = list(next(iter(rows.values())))
    if (any(nested) and not all(nested)) or not names or any(list(row) != names for row in rows.values()):
        raise DataError("maps holds rows of different names; expected maps, or rows that hold the same names each")
    arrays = [[_map(row[name], f"{label} {name}".strip()) for name in names] for label, row in rows.items()]
    if len({array.shape for row in arrays for array in row}) > 1:
        raise DataError("maps have different shapes; expected those of one image")
    cells = []
    for row in arrays:
        if image is not None:
            cells.append(Cell(enlarge(image, 240), "image"))
        for name, array in zip(names, row, strict=True):
            positive = np.maximum(array, 0)
            end = float(np.quantile(positive, _BRIGHT)) or float(positive.max())
            drawn = render(np.minimum(positive, end), image, size=240)
            cells.append(Cell(drawn, name, f"0 to {end:.3g}" if end > 0 else "nothing"))
    columns = len(names) + (image is not None)
    figure = grid(cells, columns, 1.6, heading=heading, rows=[style.plain(r, 24) for r in rows] if any(nested) else ())
    table = [array for row in arrays for array in row]
    return style.with_data(figure, *by_pixel(table, [f"{r}: {n}" if r else n for r in rows for n in names]))


def _map(value: Any, name: str) -> Float64:
    array = real_array(value, name, error=DataError).astype(np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise DataError(f"map {name!r} has shape {array.shape}; expected (H, W), finite")
    return array


def _picture(panel: Any) -> Picture:
    """Return a panel as a picture; one that is a picture already as it is."""
    if isinstance(panel, np.ndarray) and panel.dtype == np.uint8 and panel.ndim == 3 and panel.shape[2] == 3:
        return panel
    return enlarge(panel, 192)


def by_pixel(maps: Any, names: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return maps (n, h, w) as a table with a row for each pixel and a column for each map, to four digits."""
    array = np.asarray(maps, np.float64)
    _, height, width = array.shape
    values = array.reshape(len(array), -1).T.tolist()
    places = [(row, column) for row in range(height) for column in range(width)]
    rows = [(*at, *(float(f"{v:.4g}") for v in own)) for at, own in zip(places, values, strict=True)]
    return ("row", "column", *names), rows


def _entries(array: Any) -> Iterator[tuple[Any, ...]]:
    """Yield each entry of an array behind its place."""
    for at, value in np.ndenumerate(array):
        yield (*at, float(value))
