"""Pictures of many tiles on the page of filters: a convolution's filters, maps, images by the map of the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interpnet.pictures import Filters, filter_sheet
from interpnet.plotting import Picture

from .load import clean
from .pictures import data_uri

_FILTERS = 96  # of a convolution over colours or one channel
_PLANES = 24  # filters, and input channels of each, of other convolutions
THUMB = 44


@dataclass(frozen=True)
class Sheet:
    """A picture of many tiles."""

    name: str
    source: str  # a data URI
    width: int  # in CSS pixels
    caption: str
    alt: str


def sheet(name: str, picture: Picture, caption: str, alt: str) -> Sheet:
    """Return a picture as a sheet as wide as it is."""
    return Sheet(clean(name), data_uri(picture), picture.shape[1], caption, alt)


def sheet_of_filters(bank: Filters) -> Sheet:
    """Return the filters of a convolution with what they are."""
    n, c, height, width = bank.weights.shape
    facts = f"{n} filters of {height}×{width} over {c} input channel{'s' if c > 1 else ''}"
    if bank.groups > 1:
        facts += f" ({bank.groups} groups)"
    if max(bank.stride) > 1:
        facts += f", stride {max(bank.stride)}"
    shown = ""
    if not bank.rgb and c > 1:
        shown = f" A row is a filter, a column an input channel; the first {min(n, _PLANES)} × {min(c, _PLANES)}."
    elif n > _FILTERS:
        shown = f" Shown: the first {_FILTERS}."
    picture = filter_sheet(bank, most=_FILTERS if bank.first or c == 1 else _PLANES, planes=_PLANES)
    return sheet(bank.layer, picture, f"{facts}.{shown}", f"filters of {bank.layer}")


def on_the_page(plane: Picture, cells: npt.NDArray[np.int64]) -> Picture:
    """Return a plane of pictures with its empty cells transparent: on a dark page they are dark."""
    used = np.zeros((plane.shape[0] // THUMB, plane.shape[1] // THUMB), np.uint8)
    used[cells[:, 0], cells[:, 1]] = 255
    alpha = used.repeat(THUMB, 0).repeat(THUMB, 1)
    return np.concatenate([plane, alpha[..., None]], 2)
