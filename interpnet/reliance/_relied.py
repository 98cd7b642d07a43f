"""What a class was found to rely on: an order of channels, how many of them it takes, and why no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interpnet.engine import Channel
from interpnet.reliance._contributions import Contributions
from interpnet.support.brief import brief
from interpnet.support.types import Float64, Int64

#: Why a class's set ends where it does.
ENDS = {
    "share": "removing them takes the share of the log-odds that was asked for",
    "worth": "fewer would take that share, but each of these is worth enough of the log-odds by itself",
    "noise": "no further channel contributes clearly more than its standard error",
    "most": "no more channels were allowed",
    "not recognised": "without removal the class's log-odds are not above 0, so that no share of them can be taken",
    "no images": "the class has no image among those that contributions were taken of",
}


@brief
@dataclass(frozen=True, eq=False)
class Reliance:
    """The channels that each class relies on, with what removing them takes from its log-odds.

    Attributes
    ----------
    contributions : Contributions
        What the order was made from: averaged over networks that lost a share of their channels.
    fill : {"zero", "mean", "given"}
        What removed channels are overwritten with.
    price : float
        What a channel's mean contribution to the other classes counts against it.
    share, worth : float
        Which share of a class's mean log-odds removing its set should take, and which share a channel must contribute
        to be in the set even so.
    order : tuple of C arrays of columns
        The channels of clear specific contribution, the largest first.
    sizes : array (C,) int64
        How many of the order are the set.
    enough : array (C,) int64
        How many of them take the share already; the whole order where it does not.
    ends : tuple of str
        Why each set ends where it does, one of ``ENDS``.
    intact, left : array (C,) float64
        Mean log-odds of the class with nothing removed, and with its set removed; NaN for a class without images.
    """

    contributions: Contributions
    fill: str
    price: float
    share: float
    worth: float
    order: tuple[Int64, ...]
    sizes: Int64
    enough: Int64
    ends: tuple[str, ...]
    intact: Float64
    left: Float64

    @property
    def values(self) -> Float64:
        """The specific contributions (C, m) that the order follows."""
        return self.contributions.specific(self.price, others="mean")

    @property
    def stderr(self) -> Float64:
        """The standard errors of :attr:`values` (C, m)."""
        return self.contributions.specific_stderr(self.price, others="mean")

    def columns(self, cls: int | str) -> Int64:
        """Return the columns of a class's set, the largest specific contribution first."""
        j = self.contributions.class_index(cls)
        return self.order[j][: self.sizes[j]]

    def relevant(self, cls: int | str) -> list[tuple[Channel, float]]:
        """Return a class's channels with their specific contributions."""
        row = self.values[self.contributions.class_index(cls)]
        return [(self.contributions.channels[int(c)], float(row[c])) for c in self.columns(cls)]


def clear_order(values: Float64, stderr: Float64, most: int) -> Int64:
    """Return the columns of clear value (m,), above 0 and at least twice the standard error, the largest first.

    At most ``most`` of them; where value or error is NaN nothing is clear.

    Examples
    --------
    >>> clear_order(np.array([1.0, 3.0, -2.0, 0.1]), np.array([0.1, 0.1, 0.1, 0.1]), 5)
    array([1, 0])
    """
    columns = np.flatnonzero((values > 0) & (values >= 2 * stderr))
    # A stable order, so that the same channels are named on every machine.
    first: Int64 = columns[np.argsort(-values[columns], kind="stable")[:most]]
    return first
