"""The parts of a comparison, together."""

from __future__ import annotations

from dataclasses import dataclass

from .channels import Channels
from .looks import LookChange
from .pair import Pair
from .recalls import Recalls


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """What was found of two runs."""

    pair: Pair
    recalls: Recalls | None  # None where one of them looked at no test image
    looks: tuple[LookChange, ...] | None  # None where one of them was not searched for shortcuts
    channels: Channels | None  # None where one of them names none
