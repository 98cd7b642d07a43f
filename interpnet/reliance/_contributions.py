"""Contributions of every channel to every class: sums over images, and what is read off them.

This file needs no torch: the report reads the contributions of a finished run without it. docs/method.md, section 8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, listed, number, one_of, real_array, text, whole_number
from interpnet.support.class_names import class_number
from interpnet.support.ranks import Ranks
from interpnet.support.sealed import read_sealed, write_sealed
from interpnet.support.types import Float64, Int64

# Written into every file; another format would need another reader.
_FORMAT = "interpnet-contributions-1"
_ARRAYS = ("counts", "margins", "moments", "level")
#: What channels are overwritten with: nothing, their mean, or values that were given.
FILLS = ("zero", "mean", "given")
#: How many sums of each class and channel are kept. With the mean, which is known only at the end, the products of
#: activation and gradient (P) and the sums of the gradient (G) are kept apart: P, P^2, G, PG, G^2.
MOMENTS = {"zero": 2, "given": 2, "mean": 5}


@brief
@dataclass(frozen=True, eq=False)
class Contributions:
    """What every channel contributes to the log-odds of each class, summed over the class's images.

    The contribution of a channel to an image is ``sum over positions of (A - reference) * dz/dA``, with z the log-odds
    of the image's class and A the channel's map: to first order, what z loses when the map is overwritten with the
    reference. Contributions of parts of a data set add up: ``a + b``.

    Attributes
    ----------
    channels : ChannelIndex
        What the m columns are.
    classes : tuple of str
        The names of the C outputs.
    counts : array (C,) int64
        Images of each class.
    margins : array (C,) float64
        Sums of their log-odds.
    moments : array (2 or 5, c, m) float64
        Sums of the contributions and of their squares over the images of the c classes that have any, in their order;
        where ``fill`` is "mean", sums of P, P^2, G, PG and G^2, of which a contribution is P - reference * G.
    level : array (m,) float64
        The reference; where ``fill`` is "mean", the sum over all ``images`` of each channel's mean activation.
    fill : {"zero", "mean", "given"}
    images : int
        Images seen, those included of which no contribution was taken.
    info : dict
        Anything else worth keeping (how the outputs belong together, the images' shape, ...).

    Examples
    --------
    >>> channels = ChannelIndex((("a", 2),))
    >>> sums = np.array([[[4.0, 2.0]], [[10.0, 2.0]]])
    >>> found = Contributions(channels, ("cat", "dog"), np.array([2, 0]), np.array([3.0, 0.0]), sums, np.zeros(2))
    >>> found.mean[0], found.stderr[0], found.log_odds
    (array([2., 1.]), array([1., 0.]), array([1.5, nan]))
    >>> found.ranking("cat")[0]
    (Channel(layer='a', index=0), 2.0)
    """

    channels: ChannelIndex
    classes: tuple[str, ...]
    counts: Int64
    margins: Float64
    moments: Float64
    level: Float64
    fill: str = "zero"
    images: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kinds(Contributions, vars(self), but=["classes", "counts", "margins", "moments", "level"])
        names = tuple(text(name, "a name in classes") for name in listed(self.classes, "classes"))
        object.__setattr__(self, "classes", names)
        one_of(self.fill, "fill", FILLS)
        whole_number(self.images, "images", least=0)
        counts = real_array(self.counts, "counts")
        if counts.dtype.kind not in "iu" or counts.shape != (len(names),) or (counts < 0).any():
            raise InterpNetError(f"counts is no ({len(names)},) array of numbers of images, one for every class")
        object.__setattr__(self, "counts", counts.astype(np.int64))
        m = len(self.channels)
        shapes = {
            "margins": (len(names),),
            "moments": (MOMENTS[self.fill], int((counts > 0).sum()), m),
            "level": (m,),
        }
        for name, shape in shapes.items():
            array = real_array(getattr(self, name), name).astype(np.float64)
            if array.shape != shape:
                raise InterpNetError(f"{name} has shape {array.shape}; expected {shape}")
            if not np.isfinite(array).all():
                raise InterpNetError(f"{name} holds NaN or infinity; every sum must be finite")
            object.__setattr__(self, name, array)

    @property
    def present(self) -> Int64:
        """The numbers of the classes with images (c,), in order."""
        return np.flatnonzero(self.counts)

    @property
    def reference(self) -> Float64:
        """What each channel is compared with (m,): zero, its mean activation, or the values that were given."""
        if self.fill == "mean":
            return self.level / max(self.images, 1)
        return self.level

    @property
    def mean(self) -> Float64:
        """The mean contribution to each class over its images (C, m); NaN for a class without images."""
        return self._spread(self._means())

    @property
    def stderr(self) -> Float64:
        """The standard error of :attr:`mean` (C, m); NaN for a class of fewer than two images."""
        return self._spread(self._errors())

    @property
    def log_odds(self) -> Float64:
        """The mean log-odds of each class over its images (C,); NaN for a class without images."""
        known = self.counts > 0
        means: Float64 = np.divide(self.margins, self.counts, out=np.full(len(known), np.nan), where=known)
        return means

    def class_index(self, cls: int | str) -> int:
        """Return the number of a class given by number or name; an unknown one is an error with close matches."""
        return class_number(cls, self.classes)

    def specific(self, price: float = 1.0, *, others: str = "largest") -> Float64:
        """Return each class's specific contributions (C, m); NaN for a class without images.

        ``S[j] = mean[j] - price * cost[j]``: what removing the channel costs the class, less ``price`` times what it
        costs the other classes k with images. ``others="largest"``: ``cost = max(0, max of mean[k])``, the class that
        it costs most. ``others="mean"``: the mean of ``max(0, mean[k])``.
        """
        means = self._means()
        cost, _ = self._cost(means, others)
        return self._spread(means - _price(price) * cost)

    def specific_stderr(self, price: float = 1.0, *, others: str = "largest") -> Float64:
        """Return the standard error of :meth:`specific` (C, m), the other classes that count taken as known.

        NaN for a class of fewer than two images, and where another class that counts has fewer than two.
        """
        price = _price(price)
        _, errors = self._cost(self._means(), others)
        return self._spread(np.hypot(self._errors(), price * errors))

    def _cost(self, means: Float64, others: str) -> tuple[Float64, Float64]:
        """Return what each channel costs the classes other than each (c, m), and its standard error."""
        one_of(others, "others", ("largest", "mean"))
        nothing = np.zeros(means.shape)
        if len(means) < 2:
            return nothing, nothing
        errors = self._errors()
        if others == "largest":
            value, other = self._strongest_other(means)
            return np.maximum(value, 0.0), np.where(value > 0, np.take_along_axis(errors, other, 0), 0.0)
        costs = np.maximum(means, 0.0)
        squares = np.where(means > 0, errors**2, 0.0)
        unknown = np.isnan(squares)
        squares[unknown] = 0.0
        # Rounding may leave a little below zero where a class alone counts.
        spread = np.maximum(squares.sum(0) - squares, 0.0)
        spread[unknown.sum(0) - unknown > 0] = np.nan
        n = len(means) - 1
        return (costs.sum(0) - costs) / n, np.sqrt(spread) / n

    def ranking(self, cls: int | str, price: float = 1.0) -> list[tuple[Channel, float]]:
        """Return all channels with their specific contribution to a class, the largest first.

        A class without images is an :class:`InterpNetError`.
        """
        j = self.class_index(cls)
        if not self.counts[j]:
            raise InterpNetError(f"class {self.classes[j]!r} has no image among those that contributions were taken of")
        row = self.specific(price)[j]
        channels = list(self.channels)
        # A stable order, so that equal values stand in the order of the channels on every machine.
        return [(channels[i], float(row[i])) for i in np.argsort(-row, kind="stable")]

    def __add__(self, other: Contributions) -> Contributions:
        if not isinstance(other, Contributions):
            return NotImplemented
        self._check_same(other)
        counts = self.counts + other.counts
        rows = np.cumsum(counts > 0) - 1
        moments = np.zeros((MOMENTS[self.fill], int((counts > 0).sum()), len(self.channels)))
        for part in (self, other):
            moments[:, rows[part.present]] += part.moments
        level = self.level
        if self.fill == "mean":
            level = self.level + other.level
        margins = self.margins + other.margins
        images = self.images + other.images
        return Contributions(self.channels, self.classes, counts, margins, moments, level, self.fill, images, self.info)

    def _check_same(self, other: Contributions) -> None:
        """Refuse to add what was collected in another way."""
        different = [name for name in ("channels", "classes", "fill") if getattr(self, name) != getattr(other, name)]
        if not different and self.fill == "given" and not np.array_equal(self.level, other.level):
            different = ["reference"]
        if not different:
            names = sorted(set(self.info) | set(other.info))
            different = [name for name in names if self.info.get(name) != other.info.get(name)]
        if different:
            name = different[0]
            mine = getattr(self, name, self.info.get(name))
            theirs = getattr(other, name, other.info.get(name))
            raise InterpNetError(
                f"contributions of different {name} cannot be added: {str(mine)[:60]} and {str(theirs)[:60]}; shards "
                "must come from the same network, layers and classes"
            )

    def _spread(self, rows: Float64) -> Float64:
        """Return the rows of the classes with images (c, m) as (C, m), NaN elsewhere."""
        values = np.full((len(self.classes), len(self.channels)), np.nan)
        values[self.present] = rows
        return values

    def _sums(self) -> tuple[Float64, Float64]:
        """Return the sums of the contributions and of their squares, both (c, m)."""
        if self.fill != "mean":
            return self.moments[0], self.moments[1]
        ref = self.reference
        P, PP, G, PG, GG = self.moments
        return P - ref * G, PP - 2 * ref * PG + ref**2 * GG

    def _means(self) -> Float64:
        means: Float64 = self._sums()[0] / self.counts[self.present, None]
        return means

    def _errors(self) -> Float64:
        sums, squares = self._sums()
        n = self.counts[self.present, None]
        # Rounding may leave a little below zero where all images agree.
        spread = np.maximum(squares - sums**2 / n, 0.0)
        error: Float64 = np.sqrt(np.divide(spread, n * (n - 1), out=np.full(spread.shape, np.nan), where=n > 1))
        return error

    def _strongest_other(self, means: Float64) -> tuple[Float64, Int64]:
        """Return the largest mean among the other classes (c, m), 0 where there is none, and whose row it is."""
        if len(means) < 2:
            return np.zeros(means.shape), np.zeros(means.shape, dtype=np.int64)
        first = means.argmax(0)[None]
        rest = means.copy()
        np.put_along_axis(rest, first, -np.inf, 0)
        second = rest.argmax(0)[None]
        own = np.arange(len(means))[:, None]
        other = np.where(own == first, second, first)
        return np.take_along_axis(means, other, 0), other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the contributions as one ``.npz`` file, atomically, with checksums and without pickling."""
        meta = {
            "format": _FORMAT,
            "channels": self.channels.to_json(),
            "classes": list(self.classes),
            "fill": self.fill,
            "images": self.images,
            "info": dict(self.info),
        }
        write_sealed(path, {name: getattr(self, name) for name in _ARRAYS}, meta, small=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Contributions:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file is a :class:`RunFolderError`."""
        with read_sealed(path, _ARRAYS, "contributions", _FORMAT) as (meta, arrays):
            return cls(
                ChannelIndex.from_json(meta["channels"]),
                fill=meta["fill"],
                images=meta["images"],
                info=meta["info"],
                classes=tuple(meta["classes"]),
                **arrays,
            )


def added_up(own: Contributions, ranks: Ranks) -> Contributions:
    """Return the sum of the contributions of all ranks, collected in the same way from other images, on every one."""
    if ranks.alone:
        return own
    how = {"channels": own.channels.to_json(), "fill": own.fill, "classes": list(own.classes), **own.info}
    ranks.agree("how contributions are collected", how)
    counts = ranks.sum(own.counts.copy())
    rows = np.cumsum(counts > 0) - 1
    moments = np.zeros((MOMENTS[own.fill], int((counts > 0).sum()), len(own.channels)))
    moments[:, rows[own.present]] = own.moments
    level = own.level.copy()
    if own.fill == "mean":
        ranks.sum(level)
    margins = ranks.sum(own.margins.copy())
    images = int(ranks.sum(np.array([own.images]))[0])
    sums = ranks.sum(moments)
    return Contributions(own.channels, own.classes, counts, margins, sums, level, own.fill, images, own.info)


def _price(price: float) -> float:
    return number(price, "price", least=0.0)
