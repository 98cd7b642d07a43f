"""The channels named for a class as rows of its table; NaN stands for unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from interpnet.engine import Channel
from interpnet.interpretation import Interpretation

from ..run.config import MU_LASSO, RELIANCE, RunConfig
from ..run.selection import seldom
from .load import RunData, clean, reading
from .numbers import NAN, number, with_interval
from .pictures import Pictures, Strip

_PATCHES = 9  # in a row of the table, as the style sheet has room for
_MEAN_SIZE = 96  # pixels
_STRIP_SIZES = (64, 48)
_WORTH_SAYING = 0.05  # of a heatmap
REGIONS = {
    "petals": "petals",
    "stem": "stem",
    "plant": "whole plant",
    "background": "surroundings",
    "shortcut": "planted cue",
}

Place = tuple[str, int]  # layer and index


class Alone(NamedTuple):
    """What changes when one channel alone is removed: of the class itself and of the others."""

    own: float = NAN  # recall
    others: float = NAN
    own_log_odds: float = NAN
    own_log_odds_stderr: float = NAN
    others_log_odds: float = NAN


@dataclass(frozen=True)
class ChannelRow:
    """One channel named for one class."""

    rank: int
    layer: str
    index: int
    family: str
    weight: float  # NaN where the regression does not name it
    share: float  # of the class's largest weight
    frequency: float  # the share of half samples that name it
    relied: bool  # whether it is among those that the class relies on
    reliance: float  # the contribution less the price; known of every channel
    reliance_share: float  # of the class's largest
    stderr: float
    carried: float  # the contribution that the reliance is made of
    contribution: float  # to the class's log-odds in the whole network
    alone: Alone
    count: int | None  # images averaged in its picture
    field: tuple[int, ...]  # the sides of the crops
    whole_image: bool
    by_padding: bool  # it answers to the edge of any image
    mean: str | None  # pictures are data URIs; None where there is none
    patches: str | None
    n_patches: int
    regions: tuple[tuple[str, float], ...]  # the share of its heatmap in each
    concepts: tuple[str, ...] | None = None  # it detects, each with its overlap; None where none were given

    @property
    def label(self) -> str:
        """``layer[index]``."""
        return f"{self.layer}[{self.index}]"

    @property
    def predicts(self) -> bool:
        """Whether the regression names it."""
        return not math.isnan(self.weight)

    @property
    def price(self) -> float:
        """What is subtracted for what it contributes to others."""
        return self.carried - self.reliance

    @property
    def unused(self) -> bool:
        """Whether it predicts the class, and the network's log-odds of the class do not rise by it."""
        # A negative weight speaks against the class: nothing is expected of it in the class's own images.
        return self.weight > 0 and self.contribution <= 0

    @property
    def seldom(self) -> bool:
        """Whether other images would often have named another channel."""
        return seldom(self.frequency)


@dataclass(frozen=True)
class Limits:
    """How many pictures a page takes before it says that the rest lies beside it."""

    channels: int = 1200
    examples: int = 120

    @classmethod
    def of(cls, settings: RunConfig) -> Limits:
        """Return the limits of a run's report: what somebody asked for is shown."""
        own = cls()
        examples = settings.max_examples + settings.misclassified
        return cls(max(own.channels, settings.max_pictured), max(own.examples, examples))

    def per_class(self, run: RunData) -> int | None:
        """Return the number of channels of each class that have pictures; ``None`` where all have."""
        if sum(run.pictured) <= self.channels:
            return None
        return max(1, self.channels // len(run.pictured))

    def strip_size(self, run: RunData) -> int:
        """Return the side of a patch in pixels, smaller where there are many."""
        large, small = _STRIP_SIZES
        return large if sum(run.pictured) <= self.channels // 4 else small


def channel_rows(run: RunData, cls: int, pictures: Pictures, limits: Limits) -> tuple[ChannelRow, ...]:
    """Join what names each channel with what is known of it: its effect alone, and its pictures."""
    with reading(run.folder / "explanations" / "classes.json", "explain", run.folder):
        entries = run.picture_entry(cls).get("channels", ())
        shown = {(clean(entry["layer"]), int(entry["index"])): entry for entry in entries}
        values = _Values.of(run, cls, shown)
        alone = _alone(run, cls, shown)
        most = limits.per_class(run) or len(values.places)
        rows = []
        for rank, place in enumerate(values.places):
            entry = shown.get(place, {})
            mean = None
            strip = Strip(None, 0)
            if entry and rank < most:
                mean = pictures.embed(entry["mean"], _MEAN_SIZE)
                strip = pictures.strip(entry["patches"][:_PATCHES], limits.strip_size(run), _PATCHES)
            row = ChannelRow(
                rank=rank + 1,
                layer=place[0],
                index=place[1],
                family=clean(entry.get("family", "")),
                **values.row(place),
                alone=alone.get(place, Alone()),
                count=entry.get("count"),
                field=tuple(map(int, entry.get("field", ()))),
                whole_image=bool(entry.get("whole_image")),
                by_padding=bool(entry.get("by_padding")),
                mean=mean,
                patches=strip.source,
                n_patches=strip.n,
                regions=_regions(run, cls, *place),
                concepts=names_text(run.words[place]) if place in run.words else None,
            )
            rows.append(row)
        return tuple(rows)


class _Measured(NamedTuple):
    """What was measured of one channel for one class."""

    reliance: float = NAN
    stderr: float = NAN
    carried: float = NAN
    contribution: float = NAN


@dataclass(frozen=True)
class _Values:
    """What names the channels of a class, by channel."""

    places: tuple[Place, ...]  # of all that are named: those relied on first
    weights: Mapping[Place, float]
    frequencies: Mapping[Place, float]
    relied: Mapping[Place, float]
    measured: Mapping[Place, _Measured]

    @classmethod
    def of(cls, run: RunData, c: int, shown: Mapping[Place, Any]) -> _Values:
        weights = _named(run.weights, c)
        relied = _named(run.relied, c)
        if not run.named:
            # The weights were lost, and the pictures keep what they stand for.
            weights = _kept(shown, "weight")
            relied = _kept(shown, "reliance")
        frequencies = {}
        if run.frequencies is not None and run.weights is not None:
            columns = run.weights.columns(c)
            frequencies = dict(zip(weights, run.frequencies.frequency[c, columns].tolist(), strict=True))
        places = tuple(dict.fromkeys([*relied, *weights]))
        return cls(places, weights, frequencies, relied, _measured(run, c, places))

    def row(self, place: Place) -> dict[str, Any]:
        """Return the fields of a :class:`ChannelRow` that it is named by."""
        weight = self.weights.get(place, NAN)
        measured = self.measured.get(place, _Measured(self.relied.get(place, NAN)))
        heaviest = max(map(abs, self.weights.values()), default=1.0)
        largest = max(self.relied.values(), default=1.0)
        return {
            "weight": weight,
            "share": abs(weight) / heaviest,
            "frequency": self.frequencies.get(place, NAN),
            "relied": place in self.relied,
            "reliance_share": min(abs(measured.reliance) / largest, 1.0),
            **measured._asdict(),
        }


def _named(found: Interpretation | None, c: int) -> dict[Place, float]:
    if found is None:
        return {}
    return {(channel.layer, channel.index): value for channel, value in found.relevant(c)}


def _kept(shown: Mapping[Place, Any], name: str) -> dict[Place, float]:
    return {place: float(entry[name]) for place, entry in shown.items() if entry.get(name)}


def _measured(run: RunData, c: int, places: Iterable[Place]) -> dict[Place, _Measured]:
    """Return what was measured of some channels, where contributions were collected of images of the class."""
    whole = run.contributions
    if whole is None or run.relied is None or run.relied.price is None or not whole.counts[c]:
        return {}
    price = run.relied.price
    others = str(run.relied.info.get("others", "largest"))
    # What the order was made from.
    found = run.averaged or whole
    columns = [found.channels.position(Channel(*place)) for place in places]
    values = (found.specific(price, others=others), found.specific_stderr(price, others=others), found.mean, whole.mean)
    rows = np.stack([of_class[c] for of_class in values])
    return {place: _Measured(*rows[:, column].tolist()) for place, column in zip(places, columns, strict=True)}


def _alone(run: RunData, cls: int, shown: Mapping[Place, Any]) -> dict[Place, Alone]:
    """Return what removing each channel alone changes; the studies themselves know better than what was pictured."""
    effects = {}
    for place, entry in shown.items():
        effect = entry.get("effect")
        if effect:
            effects[place] = Alone(-number(effect["own"]), number(effect["others"]))
    for study in reversed(list(run.studies.values())):
        for single in study.single.get(cls, []):
            effects[clean(single.channel.layer), single.channel.index] = Alone(
                -single.own_drop,
                single.others_change,
                -single.log_odds_drop,
                single.log_odds_stderr,
                single.others_log_odds_change,
            )
    return effects


def agreement(run: RunData, cls: int) -> tuple[int, int, int] | None:
    """Return how many channels both ways name, only the reliance, only the weights; None where one way was taken."""
    if len(run.named) < 2:
        return None
    relied = set(run.named[RELIANCE].columns(cls).tolist())
    predicting = set(run.named[MU_LASSO].columns(cls).tolist())
    return len(relied & predicting), len(relied - predicting), len(predicting - relied)


def _regions(run: RunData, cls: int, layer: str, index: int) -> tuple[tuple[str, float], ...]:
    """Return (region, share of the channel's heatmap) for the regions a reader wants, NaN where it is silent."""
    if run.places is None:
        return ()
    shares = run.places.shares.get((cls, layer, index), {})
    names = [name for name in REGIONS if name in shares] or list(shares)
    # Most plants' classes do not differ in the stem, and nothing is there.
    names = [name for name in names if name != "stem" or shares[name] >= _WORTH_SAYING]
    return tuple((REGIONS.get(name, name), shares[name]) for name in names)


def names_text(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a channel, each with its overlap and interval.

    Examples
    --------
    >>> names_text({"names": [{"concept": "sky", "iou": 0.123, "low": 0.1, "high": 0.15}]})
    ('sky 0.12 (0.10 to 0.15)',)
    """
    return tuple(map(_name_text, entry["names"]))


def _name_text(name: Mapping[str, Any]) -> str:
    return f"{clean(name['concept'])} {with_interval(name['iou'], name['low'], name['high'])}"
