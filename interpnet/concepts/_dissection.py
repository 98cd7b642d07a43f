"""What a dissection found: for every channel its overlap with every concept, and which concepts it is named by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.support.brief import brief
from interpnet.support.sealed import read_sealed, write_sealed
from interpnet.support.types import Bools, Float64, Int64

_FORMAT = "interpnet-dissection-2"
_ARRAYS = ("iou", "low", "high", "null", "floor", "thresholds", "top", "images_with", "cover")


@dataclass(frozen=True)
class Name:
    """A concept that a channel detects."""

    concept: str
    category: str
    iou: float
    low: float  # ends of the 95 % interval over images
    high: float


@dataclass(frozen=True)
class LayerSummary:
    """How many channels of a layer have a name."""

    layer: str
    channels: int
    named: int
    concepts: int  # different ones
    categories: dict[str, int]  # named channels by the category of their first name
    floors: dict[str, float]  # of each category; NaN without a copy with random weights


@brief
@dataclass(frozen=True, eq=False)
class Dissection:
    """Overlaps of m channels with K concepts.

    Attributes
    ----------
    channels : ChannelIndex
        The m channels.
    concepts, categories : tuple of str
        The K concepts, and the category of each.
    iou : array (m, K) float64
        Pixels that are above the channel's threshold and show the concept, over pixels that are or do, in all images
        of the concept's category. NaN where there is neither.
    low, high : array (m, K) float64
        Ends of 95 % intervals over images; NaN where the overlap is below ``least``.
    null : array (m,) float64
        The largest overlap of each channel with any concept when every image has another image's masks, over ``draws``
        draws.
    floor : array (m, K) float64
        What the layer's channels stay below in a copy of the network with random weights, with the concepts of the same
        category: all but 1 % of them, shared equally among categories. NaN without such a copy.
    thresholds : array (m,) float32
        Which a share ``quantile`` of each channel's activations is above.
    top : array (m, t) int64
        The images where each channel is largest, the largest first, counted through all categories in their order.
    images : dict
        The number of images of each category.
    images_with, cover : arrays (K,)
        How many images show each concept, and the mean share of its category's images that it covers.
    quantile, least : float
        Of activations above the thresholds; the least overlap of a name.
    draws : int
    """

    channels: ChannelIndex
    concepts: tuple[str, ...]
    categories: tuple[str, ...]
    iou: Float64
    low: Float64
    high: Float64
    null: Float64
    floor: Float64
    thresholds: Any
    top: Int64
    images: dict[str, int]
    images_with: Int64
    cover: Float64
    quantile: float
    least: float
    draws: int

    @property
    def best(self) -> Int64:
        """(m,): the concept that each channel overlaps most; 0 where none is known."""
        found: Int64 = np.where(np.isnan(self.iou), -np.inf, self.iou).argmax(1)
        return found

    @property
    def reach(self) -> Float64:
        """(K,): about the largest overlap that the thresholds allow, were all pixels above them the concept's.

        A share ``quantile`` of all pixels, over those that the concept covers: of a road on a third of every picture no
        channel marks more than a fraction.
        """
        total = sum(self.images.values())
        share = np.array([total / self.images[category] for category in self.categories])
        found: Float64 = np.minimum(1.0, self.quantile * share / self.cover)
        return found

    @property
    def named(self) -> Bools:
        """(m,): whether each channel has a name; see :meth:`names`."""
        return np.array(self._detected.any(1), dtype=np.bool_)

    @property
    def _first(self) -> Int64:
        """(m,): the concept of each channel's first name; where it has none, the one that it overlaps most."""
        # The largest overlap may be no name: floors differ between categories.
        open_to = self._detected | ~self.named[:, None]
        found: Int64 = np.where(open_to & ~np.isnan(self.iou), self.iou, -np.inf).argmax(1)
        return found

    @property
    def _detected(self) -> Bools:
        """(m, K): an overlap of at least ``least``, whose interval lies above those of borrowed masks and the floor."""
        beyond = np.fmax(self.null[:, None], self.floor)
        return np.array((self.iou > self.least) & (self.low > beyond), dtype=np.bool_)

    def names(self, channel: Channel | int) -> tuple[Name, ...]:
        """Return the concepts that a channel detects, the best first; none is an answer.

        One with an overlap above ``least`` and an interval that lies above what the channel reaches with the masks of
        other images, and above the floor of the layer and the concept's category.
        """
        row = self._row(channel)
        found = np.flatnonzero(self._detected[row])
        order = found[np.argsort(-self.iou[row, found], kind="stable")]
        return tuple(
            Name(
                self.concepts[c],
                self.categories[c],
                float(self.iou[row, c]),
                float(self.low[row, c]),
                float(self.high[row, c]),
            )
            for c in order
        )

    def detectors(self, concept: str) -> list[tuple[Channel, float]]:
        """Return the channels that detect a concept with their overlaps, the best first."""
        if concept not in self.concepts:
            raise InterpNetError(f"unknown concept {concept!r}; known are {', '.join(map(repr, self.concepts[:20]))}")
        c = self.concepts.index(concept)
        rows = np.flatnonzero(self._detected[:, c])
        order = rows[np.argsort(-self.iou[rows, c], kind="stable")]
        return [(self.channels[int(row)], float(self.iou[row, c])) for row in order]

    def layers(self) -> tuple[LayerSummary, ...]:
        """Return a summary of each layer, in order."""
        named = self.named
        first = self._first
        found = []
        for layer in self.channels.layers:
            rows = np.arange(len(named))[self.channels.slice(layer)]
            own = first[rows[named[rows]]]
            categories = [self.categories[c] for c in own]
            counted = {name: categories.count(name) for name in sorted(set(categories))}
            floors = dict(zip(self.categories, self.floor[rows[0]].tolist(), strict=True))
            found.append(LayerSummary(layer, len(rows), len(own), len(set(own.tolist())), counted, floors))
        return tuple(found)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a channel, for a table: its names or an empty string, and the figures of one concept.

        That of its first name; where it has none, the one that it overlaps most.
        """
        first = self._first
        named = self.named
        found: list[dict[str, Any]] = []
        for row, channel in enumerate(self.channels):
            c = int(first[row])
            found.append(
                {
                    "layer": channel.layer,
                    "channel": channel.index,
                    "name": self._shown(self.names(row)) if named[row] else "",
                    "best concept": self.concepts[c],
                    "category": self.categories[c],
                    "iou": float(self.iou[row, c]),
                    "low": float(self.low[row, c]),
                    "high": float(self.high[row, c]),
                    "other images' masks": float(self.null[row]),
                    "random weights": float(self.floor[row, c]),
                }
            )
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the dissection as one ``.npz`` file, atomically, with checksums and without pickling."""
        meta = {
            "format": _FORMAT,
            "channels": self.channels.to_json(),
            "concepts": list(self.concepts),
            "categories": list(self.categories),
            "images": self.images,
            "quantile": self.quantile,
            "least": self.least,
            "draws": self.draws,
        }
        write_sealed(path, {name: getattr(self, name) for name in _ARRAYS}, meta, small=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dissection:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file is a :class:`RunFolderError`."""
        with read_sealed(path, _ARRAYS, "dissection", _FORMAT) as (meta, arrays):
            return cls(
                channels=ChannelIndex.from_json(meta["channels"]),
                concepts=tuple(meta["concepts"]),
                categories=tuple(meta["categories"]),
                images=dict(meta["images"]),
                quantile=meta["quantile"],
                least=meta["least"],
                draws=meta["draws"],
                **arrays,
            )

    @staticmethod
    def _shown(names: Sequence[Name]) -> str:
        return ", ".join(name.concept for name in names)

    def _row(self, channel: Channel | int) -> int:
        if isinstance(channel, Channel):
            return self.channels.position(channel)
        if not 0 <= channel < len(self.channels):
            raise InterpNetError(f"channel {channel} is none of the {len(self.channels)}")
        return int(channel)
