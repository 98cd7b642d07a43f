"""An image before and after something of another one was put into it, or taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a report reads findings without torch
    from torch import Tensor


@dataclass(frozen=True)
class Example:
    """An image before and after it got the part of another."""

    rest: int  # number of the image, as the loader counts it
    donor: int  # of the one whose part it got
    before: int  # the class it was taken for
    after: int  # the class it is taken for now
    odds_before: float  # log-odds of the suspicious class
    odds_after: float
    # (3, C, H, W): the image, the donor, the image with the donor's part; None where it was read from a file
    pictures: Tensor | None
    # (2, H, W) bool: where the part is in the donor and in the image with it; None for one that is everywhere
    places: Tensor | None = None
