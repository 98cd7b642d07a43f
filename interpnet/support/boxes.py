"""Boxes around things in images, and the pixels that they hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from interpnet.errors import DataError
from interpnet.support.checks import real_array
from interpnet.support.types import Bools, Float64


def checked_boxes(value: Any, each: str) -> Float64:
    """Return boxes (N, 4) as float64, or raise :class:`DataError`; ``each`` says of what there is one.

    A box is left, top, right and bottom in pixels.

    Examples
    --------
    >>> checked_boxes([[0, 0, 2, 1]], "images")
    array([[0., 0., 2., 1.]])
    """
    boxes = real_array(value, "boxes", error=DataError).astype(np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise DataError(
            f"boxes: shape {boxes.shape} came; expected ({each}, 4) finite numbers: left, top, right and bottom in "
            "pixels of the image that the network sees"
        )
    return boxes


def inside_boxes(boxes: Float64, height: int, width: int) -> Bools:
    """Return (N, H, W): the pixels whose middles boxes (N, 4) hold, ``left <= x + 0.5 < right``; (0, 0, 2, 2) has four.

    Examples
    --------
    >>> inside_boxes(np.array([[1.0, 0.0, 3.0, 1.0]]), 2, 3).astype(int).tolist()
    [[[0, 1, 1], [0, 0, 0]]]
    """
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    rows = np.arange(height)[None, :, None] + 0.5
    columns = np.arange(width)[None, None, :] + 0.5
    inside: Bools = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return inside
