"""Contact sheets: filters, activation maps and a plane of images as one picture each, uint8 (h, w, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError
from interpnet.pictures._filters import Filters, filter_tiles
from interpnet.plotting import Picture, render, tile

_GAP = 140  # grey between maps: visible on a white page and on a dark one
_DARK_GAP, _GAP_PIXELS = 24, 3  # between filters, whose own mid-grey means zero
_PLANES = 2
_TILE, _SMALLEST_ZOOM, _LARGEST_ZOOM = 30, 3, 10


def filter_sheet(found: Filters, *, most: int = 96, planes: int = 16) -> Picture:
    """Return the first filters of a convolution as one picture of enlarged tiles; see :func:`filter_tiles`.

    RGB filters and those over one input channel lie row by row. Of others each row is a filter, each column
    an input channel, and mid-grey is zero in all of them.

    Parameters
    ----------
    found : Filters
    most : int
        Filters shown.
    planes : int
        Input channels shown of deeper filters.

    Returns
    -------
    (h, w, 3) array, uint8

    Examples
    --------
    >>> filter_sheet(Filters("0", np.ones((2, 2, 3, 3), np.float32), (1, 1), 1, True)).shape
    (63, 63, 3)
    """
    if most < 1 or planes < 1:
        raise DataError(f"most={most}, planes={planes}; expected at least 1 of each")
    tiles = filter_tiles(found)[:most]
    if found.rgb:
        rows, columns = [np.asarray(t) for t in tiles], _columns(len(tiles))
    else:
        columns = _columns(len(tiles)) if tiles.shape[1] == 1 else min(planes, tiles.shape[1])
        rows = [np.repeat(plane[..., None], 3, -1) for t in tiles for plane in t[:planes]]
    side = max(rows[0].shape[:2])
    zoom = int(np.clip(_TILE // side, _SMALLEST_ZOOM, _LARGEST_ZOOM))
    pictures = [np.rint(255 * t).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1) for t in rows]
    return tile(pictures, columns, pad=_GAP_PIXELS if side > 1 else 0, background=_DARK_GAP)


def _columns(n: int) -> int:
    """Return how many columns make a sheet a little wider than high."""
    return max(1, round(float(np.ceil(np.sqrt(1.6 * n)))))


def map_sheet(maps: Any, *, most: int = 64, size: int = 56, columns: int | None = None) -> Picture:
    """Return the activation maps of one image as one picture, each scaled by its own largest value.

    Parameters
    ----------
    maps : array (C, h, w)
        As :func:`activation_maps` gives them for one image; (C, h) maps are drawn as lines.
    most : int
        Channels shown, from the first on.
    size : int
        Longer side of each map, in pixels.
    columns : int, optional
        Maps in a row.

    Returns
    -------
    (h, w, 3) array, uint8
        In the colours of inferno: dark is zero (or the lowest, if negative), bright yellow the largest.

    Raises
    ------
    DataError
        No map, or values that are not finite.

    Examples
    --------
    >>> map_sheet(np.ones((3, 2, 2)), size=4, columns=3).shape
    (4, 16, 3)
    """
    array = np.asarray(maps, np.float64)
    if array.ndim == _PLANES:
        array = array[:, None, :]
    if array.ndim != _PLANES + 1 or not len(array):
        raise DataError(f"maps have shape {np.shape(maps)}; expected (C, h, w), the maps of one image")
    shown = array[:most]
    return tile([render(m, size=size) for m in shown], columns or _columns(len(shown)), pad=2, background=_GAP)


def picture_plane(
    points: Any, pictures: Sequence[Picture], *, thumb: int = 40, background: int = 255
) -> tuple[Picture, npt.NDArray[np.int64]]:
    """Return images laid out where their points lie in the plane, none over another.

    The plane is divided into cells, about twice as many as there are images; one after the other, each image
    takes the free cell nearest to its point.

    Parameters
    ----------
    points : array (N, 2)
        As :func:`tsne` gives them; the second axis points up.
    pictures : sequence of N (h, w, 3) uint8 arrays
        Each at most ``thumb`` pixels high and wide.
    thumb : int
        Side of a cell in pixels.
    background : int
        Grey value of empty cells.

    Returns
    -------
    picture : (h, w, 3) array, uint8
    cells : (N, 2) array, int64
        Row and column of each image's cell.

    Raises
    ------
    DataError
        Another number of pictures than of points, none, or one larger than a cell.

    Examples
    --------
    >>> dot = np.zeros((2, 2, 3), np.uint8)
    >>> picture_plane([[0.0, 0.0], [1.0, 1.0]], [dot, dot], thumb=2)[1].tolist()
    [[1, 0], [0, 1]]
    """
    at = np.asarray(points, np.float64)
    if at.shape != (len(pictures), 2) or not len(pictures):
        raise DataError(f"{len(pictures)} pictures and points of shape {at.shape} came; expected (N, 2), N at least 1")
    if max(max(p.shape[:2]) for p in pictures) > thumb:
        raise DataError(f"a picture is larger than its cell of thumb={thumb} pixels; shrink it first")
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
        top, left = (thumb - height) // 2 + cells[i, 0] * thumb, (thumb - width) // 2 + cells[i, 1] * thumb
        canvas[top : top + height, left : left + width] = picture
    used = cells.min(0), cells.max(0) + 1
    return canvas[used[0][0] * thumb : used[1][0] * thumb, used[0][1] * thumb : used[1][1] * thumb], cells - used[0]
