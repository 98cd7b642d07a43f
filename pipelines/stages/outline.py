"""Places in images: a square around a point, the box of a region, and the outline of either on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_OUTLINE = (255, 140, 0)
_SIDE = 1 / 4  # of the image's shorter side: as the search's patches
_MARGIN = 1 / 32  # of the image's side, around a box

Picture = npt.NDArray[np.uint8]
Region = npt.NDArray[np.bool_]


def square_at(place: Sequence[int], shape: tuple[int, int]) -> Region:
    """Return (H, W): the square around a row and column, moved into the image where it would leave it.

    Examples
    --------
    >>> square_at((0, 7), (8, 8)).nonzero()
    (array([0, 0, 1, 1]), array([6, 7, 6, 7]))
    """
    side = max(2, round(_SIDE * min(shape)))
    region = np.zeros(shape, dtype=bool)
    row, column = (min(max(at - side // 2, 0), n - side) for at, n in zip(place, shape, strict=True))
    region[row : row + side, column : column + side] = True
    return region


def box_of(region: Region) -> Region:
    """Return (H, W): the box around a region (H, W) that is not empty, with a little room.

    Examples
    --------
    >>> box_of(np.eye(40, dtype=bool)[[9, 9, *range(38)]]).sum()
    np.int64(1600)
    """
    box = np.zeros_like(region)
    ends = []
    for axis, n in enumerate(region.shape):
        there = np.flatnonzero(region.any(1 - axis))
        room = round(_MARGIN * n)
        ends.append(slice(max(there[0] - room, 0), there[-1] + 1 + room))
    box[tuple(ends)] = True
    return box


def outlined(picture: Picture, region: Region) -> Picture:
    """Return a picture (h, w, 3) with the edge of a region (H, W) of its image drawn on it, within the region.

    Examples
    --------
    >>> region = np.zeros((3, 3), dtype=bool)
    >>> region[1:, 1:] = True
    >>> (outlined(np.zeros((12, 12, 3), np.uint8), region)[6, :, 0] > 0).nonzero()[0].tolist()
    [4, 5, 10, 11]
    """
    height, width = picture.shape[:2]
    rows, columns = (np.arange(n) * of // n for n, of in zip((height, width), region.shape, strict=True))
    enlarged = region[np.ix_(rows, columns)]
    line = max(2, max(height, width) // 64)
    drawn = picture.copy()
    # A dark line beside it shows on a bright image.
    drawn[enlarged & ~_eroded(enlarged, line + 1)] = 0
    drawn[enlarged & ~_eroded(enlarged, line)] = _OUTLINE
    return drawn


def _eroded(region: Region, by: int) -> Region:
    """Return what is left of a region without what lies within ``by`` pixels of its edge, or of the picture's."""
    from scipy.ndimage import binary_erosion

    left: Region = binary_erosion(region, np.ones((3, 3), dtype=bool), iterations=by)
    return left
