"""Contact sheets: filters, activation maps and a plane of images as one picture each, uint8 (h, w, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpnet.errors import DataError
from interpnet.pictures._filters import Filters, filter_tiles
from interpnet.plotting import Picture, render, tile
from interpnet.support.checks import check_kinds, instance_of, optional, real_array, whole_number
from interpnet.support.types import Int64

_GAP = 140  # grey between maps: visible on a white page and on a dark one
_DARK_GAP = 24  # between filters, whose own mid-grey means zero
_GAP_PIXELS = 3
_TILE = 30  # a filter's tile is about as large, in pixels


def filter_sheet(found: Filters, *, most: int = 96, planes: int = 16) -> Picture:
    """Return the first filters of a convolution as one picture of enlarged tiles; see :func:`filter_tiles`.

    RGB filters and those over one input channel lie row by row. Of others each row is a filter, each column one of
    the first ``planes`` input channels, and mid-grey is zero in all of them.

    Examples
    --------
    >>> filter_sheet(Filters("0", np.ones((2, 2, 3, 3), np.float32), (1, 1), 1, True)).shape
    (63, 63, 3)
    """
    check_kinds(filter_sheet, locals())
    if most < 1 or planes < 1:
        raise DataError(f"most={most}, planes={planes}; expected at least 1 of each")
    tiles = filter_tiles(found)[:most]
    rows = list(tiles)
    columns = _columns(len(tiles))
    if not found.rgb:
        rows = [np.repeat(plane[..., None], 3, -1) for t in tiles for plane in t[:planes]]
        if tiles.shape[1] > 1:
            columns = min(planes, tiles.shape[1])
    side = max(rows[0].shape[:2])
    zoom = int(np.clip(_TILE // side, 3, 10))
    pictures = [np.rint(255 * t).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1) for t in rows]
    # Filters of one weight are a matrix: no gaps between its entries.
    return tile(pictures, columns, pad=_GAP_PIXELS if side > 1 else 0, background=_DARK_GAP)


def _columns(n: int) -> int:
    """Return how many columns make a sheet a little wider than high."""
    return max(1, round(float(np.ceil(np.sqrt(1.6 * n)))))


def map_sheet(maps: Any, *, most: int = 64, size: int = 56, columns: int | None = None) -> Picture:
    """Return the activation maps (C, h, w) of one image as one picture, each scaled by its own largest value.

    In the colours of inferno: dark is zero (or the lowest, if negative), bright yellow the largest. (C, h) maps are
    drawn as lines. The first ``most`` channels are shown, the longer side of each map has ``size`` pixels, and
    ``columns`` maps lie in a row.

    Examples
    --------
    >>> map_sheet(np.ones((3, 2, 2)), size=4, columns=3).shape
    (4, 16, 3)
    """
    check_kinds(map_sheet, locals())
    whole_number(most, "most", least=1)
    optional(whole_number, columns, "columns", least=1)
    array = real_array(maps, "maps", error=DataError).astype(np.float64)
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3 or not len(array):
        raise DataError(f"maps have shape {np.shape(maps)}; expected (C, h, w), the maps of one image")
    shown = array[:most]
    return tile([render(m, size=size) for m in shown], columns or _columns(len(shown)), pad=2, background=_GAP)


def picture_plane(
    points: Any, pictures: Sequence[Picture], *, thumb: int = 40, background: int = 255
) -> tuple[Picture, Int64]:
    """Return images laid out where their points lie in the plane, none over another.

    The plane is divided into cells, about twice as many as there are images; one after the other, each image
    takes the free cell nearest to its point.

    Parameters
    ----------
    points : array (N, 2)
        As :func:`tsne` gives them; the second axis points up.
    pictures : sequence of N (h, w, 3) uint8 arrays
        Each at most ``thumb`` pixels high and wide, the side of a cell; empty cells have the grey ``background``.

    Returns
    -------
    picture, cells : (h, w, 3) uint8 array, (N, 2) int64 array
        And row and column of each image's cell.

    Examples
    --------
    >>> dot = np.zeros((2, 2, 3), np.uint8)
    >>> picture_plane([[0.0, 0.0], [1.0, 1.0]], [dot, dot], thumb=2)[1].tolist()
    [[1, 0], [0, 1]]
    """
    check_kinds(picture_plane, locals())
    whole_number(background, "background", least=0, most=255)
    at = real_array(points, "points", error=DataError).astype(np.float64)
    if not np.isfinite(at).all():
        raise DataError("points hold NaN or infinity; expected finite places in the plane")
    if at.shape != (len(pictures), 2) or not len(pictures):
        raise DataError(f"{len(pictures)} pictures and points of shape {at.shape} came; expected (N, 2), N at least 1")
    for one in pictures:
        instance_of(one, "a picture", np.ndarray, error=DataError)
    if max(max(p.shape[:2]) for p in pictures) > thumb:
        raise DataError(f"a picture is larger than its cell of thumb={thumb} pixels; shrink it first")
    # With half of the cells free, images lie near their points and gaps between groups can be seen.
    side = int(np.ceil(np.sqrt(2 * len(pictures))))
    span = np.ptp(at, axis=0)
    unit = (at - at.min(0)) / np.where(span > 0, span, 1)
    wanted = np.stack([1 - unit[:, 1], unit[:, 0]], 1) * (side - 1)
    rows, columns = np.divmod(np.arange(side * side), side)
    free = np.ones(side * side, bool)
    cells = np.empty((len(pictures), 2), np.int64)
    canvas = np.full((side * thumb, side * thumb, 3), background, np.uint8)
    for i, picture in enumerate(pictures):
        distance = (rows - wanted[i, 0]) ** 2 + (columns - wanted[i, 1]) ** 2
        cell = int(np.argmin(np.where(free, distance, np.inf)))
        free[cell] = False
        cells[i] = rows[cell], columns[cell]
        height, width = picture.shape[:2]
        top = (thumb - height) // 2 + cells[i, 0] * thumb
        left = (thumb - width) // 2 + cells[i, 1] * thumb
        canvas[top : top + height, left : left + width] = picture
    # Empty cells round all images are cut off.
    first = cells.min(0)
    top, left = first * thumb
    bottom, right = (cells.max(0) + 1) * thumb
    return canvas[top:bottom, left:right], cells - first
