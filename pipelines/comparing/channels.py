"""Which channels each class has gained and lost, and by which layers it goes: of networks with the same channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.support.types import Float64, Int64

from ..report.load import RunData
from .change import Change, among, of_errors
from .pair import Pair

_MOST_IMAGES = 1000  # by which channels are matched
_LEAST_MATCHED = 0.5  # of the channels, for their numbers to mean the same in both networks
_FEWEST = 20  # images by which channels can be matched


@dataclass(frozen=True)
class ChannelChange:
    """A channel named for a class in one run or both."""

    channel: Channel
    weights: tuple[float, float]  # 0 where it is not named
    # What it contributes to the class's log-odds on average; None where that was not measured in both.
    contribution: Change | None

    @property
    def state(self) -> str:
        """Whether the class has gained, lost or kept it."""
        first, second = self.weights
        return "kept" if first and second else "gained" if second else "lost"


@dataclass(frozen=True)
class ClassChannels:
    """The channels of one class, as one way names them: the strongest first."""

    name: str
    channels: tuple[ChannelChange, ...]

    def of(self, state: str) -> list[ChannelChange]:
        """Return those gained, lost or kept."""
        return [one for one in self.channels if one.state == state]


@dataclass(frozen=True)
class LayerShare:
    """A layer of one run: the channels named in it and its share of the weights, on average over classes."""

    layer: str
    channels: int
    named: float  # channels, per class
    share: float


@dataclass(frozen=True)
class WayChannels:
    """What one way names in both runs."""

    way: str
    classes: tuple[ClassChannels, ...]  # empty where channels do not correspond
    layers: tuple[tuple[LayerShare, ...], tuple[LayerShare, ...]]
    counts: tuple[float, float]  # channels named, per class
    by_class: dict[str, tuple[dict[str, float], dict[str, float]]] = field(default_factory=dict)  # shares of layers


@dataclass(frozen=True)
class Channels:
    """The channels of both runs."""

    correspond: bool  # whether a channel's number means the same in both
    why: str  # how that is known
    matched: float  # share of the channels that answer most like the one of their number; NaN where not measured
    ways: tuple[WayChannels, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "correspond": self.correspond,
            "why": self.why,
            "matched": self.matched if math.isfinite(self.matched) else None,
            "ways": {one.way: _way_json(one) for one in self.ways},
        }


def _way_json(one: WayChannels) -> dict[str, Any]:
    return {
        "channels_per_class": list(one.counts),
        "layers": [[vars(layer) for layer in run] for run in one.layers],
        "classes": [
            {
                "name": of.name,
                "layer_shares": list(one.by_class[of.name]),
                "channels": [
                    {
                        "layer": c.channel.layer,
                        "index": c.channel.index,
                        "state": c.state,
                        "weights": list(c.weights),
                        "contribution": None if c.contribution is None else c.contribution.to_json(),
                    }
                    for c in of.channels
                ],
            }
            for of in one.classes
        ]
        or [{"name": name, "layer_shares": list(shares)} for name, shares in one.by_class.items()],
    }


def channels_of(pair: Pair) -> Channels | None:
    """Compare the channels named for each class; ``None`` where no way named those of a class in both runs."""
    pair = _studied(pair)
    if not (pair.ways and pair.classes):
        return None
    correspond, why, matched = _correspond(pair)
    ways = tuple(_way(pair, way, correspond) for way in pair.ways)
    return Channels(correspond, why, matched, ways)


def _studied(pair: Pair) -> Pair:
    """Return the pair with the classes alone that both runs studied: of the others a run holds no channels."""
    both = pair.studied
    return replace(pair, classes=tuple(pair.classes[c] for c in both), at=(pair.at[0][both], pair.at[1][both]))


def _correspond(pair: Pair) -> tuple[bool, str, float]:
    """Return whether channels of the same number are the same, how that is known, and the share that is."""
    if not pair.same_channels:
        return False, "The networks have other layers or numbers of channels, so layers are compared.", math.nan
    if not pair.same_train:
        why = (
            "Both networks have the same layers. That a channel's number means the same in both was not checked, for "
            "the training images differ: of two trainings from other starts it means nothing."
        )
        return True, why, math.nan
    tables = [_table(run) for run in pair.runs]
    if tables[0] is None or tables[1] is None:
        return True, "That a channel's number means the same in both was not checked: scores are missing.", math.nan
    matched = matched_share(*_rows(tables[0], tables[1]), tables[0].channels)
    if not math.isfinite(matched):
        return True, "That a channel's number means the same in both was not checked: too few images.", math.nan
    said = f"{100 * matched:.0f} % of the channels answer to the training images most like the channel of their number"
    if matched < _LEAST_MATCHED:
        why = (
            f"Only {said}: the numbers mean something else in each network, as in two trainings from other starts, so "
            "layers are compared."
        )
        return False, why, matched
    return True, f"{said}, so channels are compared by number.", matched


def _table(run: RunData) -> ScoreTable | None:
    try:
        return ScoreTable.load(run.folder / "scores", verify=False)
    except RunFolderError:
        return None


def _rows(a: ScoreTable, b: ScoreTable) -> tuple[Float64, Float64]:
    """Return the scores of some images that both tables have."""
    _, mine, theirs = np.intersect1d(a.indices, b.indices, return_indices=True)
    some = np.linspace(0, len(mine) - 1, min(len(mine), _MOST_IMAGES)).astype(int)
    if not len(mine):
        some = some[:0]
    first, second = (np.asarray(table.X[np.sort(rows[some])]) for table, rows in ((a, mine), (b, theirs)))
    # Sorted for the disk, and back into the same order.
    places = [np.argsort(np.argsort(rows[some])) for rows in (mine, theirs)]
    return first[places[0]].astype(np.float64), second[places[1]].astype(np.float64)


def matched_share(first: Float64, second: Float64, channels: ChannelIndex) -> float:
    """Return the share of channels whose scores (n, m) go with those of the same number more than with any other.

    Within each layer, by correlation over the images; channels that never change are left out. NaN for fewer than 20
    images, or where no channel changes.

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=(50, 4))
    >>> layers = ChannelIndex((("a", 4),))
    >>> matched_share(scores, scores, layers), matched_share(scores, scores[:, [1, 0, 2, 3]], layers)
    (1.0, 0.5)
    """
    if len(first) < _FEWEST:
        return math.nan
    right = 0
    known = 0
    for layer in channels.layers:
        columns = channels.slice(layer)
        both = []
        for scores in (first[:, columns], second[:, columns]):
            centred = scores - scores.mean(0)
            norm = np.linalg.norm(centred, axis=0)
            both.append(np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0))
        alive = np.flatnonzero(both[0].any(0) & both[1].any(0))
        if len(alive):
            best = (both[0][:, alive].T @ both[1]).argmax(1)
            right += int((best == alive).sum())
            known += len(alive)
    return right / known if known else math.nan


def _way(pair: Pair, way: str, correspond: bool) -> WayChannels:
    found = [run.named[way] for run in pair.runs]
    coef = [one.coef[at] for one, at in zip(found, pair.at, strict=True)]
    layers = tuple(_layers(one, rows) for one, rows in zip(found, coef, strict=True))
    classes: tuple[ClassChannels, ...] = ()
    if correspond:
        classes = _classes(pair, found[0].channels, coef[0], coef[1])
    shares = [_shares(one, rows) for one, rows in zip(found, coef, strict=True)]
    by_class = {name: (shares[0][c], shares[1][c]) for c, name in enumerate(pair.classes)}
    counts = tuple(float((rows != 0).sum(1).mean()) for rows in coef)
    return WayChannels(way, classes, (layers[0], layers[1]), (counts[0], counts[1]), by_class)


def _shares(found: Interpretation, coef: Float64) -> list[dict[str, float]]:
    """Return each class's shares of |weight| by layer; layers without any are left out."""
    sums = np.stack([np.abs(coef[:, found.channels.slice(layer)]).sum(1) for layer in found.channels.layers], axis=1)
    total = sums.sum(1, keepdims=True)
    shares = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    return [
        {layer: float(value) for layer, value in zip(found.channels.layers, row, strict=True) if value > 0}
        for row in shares
    ]


def _layers(found: Interpretation, coef: Float64) -> tuple[LayerShare, ...]:
    rows = _shares(found, coef)
    with_any = [row for row in rows if row]
    result = []
    for layer, size in found.channels.sizes:
        share = sum(row.get(layer, 0.0) for row in with_any) / max(len(with_any), 1)
        named = float((coef[:, found.channels.slice(layer)] != 0).sum(1).mean())
        result.append(LayerShare(layer, size, named, share))
    return tuple(result)


def _classes(pair: Pair, index: ChannelIndex, first: Float64, second: Float64) -> tuple[ClassChannels, ...]:
    channels = list(index)
    cells = [(c, i) for c in range(len(first)) for i in np.flatnonzero((first[c] != 0) | (second[c] != 0)).tolist()]
    changes: Sequence[Change | None] = [None] * len(cells)
    means = _contributions(pair, np.array(cells, dtype=np.int64).reshape(-1, 2))
    if means is not None:
        (a, error_a), (b, error_b) = means
        errors = np.hypot(error_a, error_b)
        changes = among([of_errors(*row) for row in zip(a.tolist(), b.tolist(), errors.tolist(), strict=True)])
    rows: list[list[ChannelChange]] = [[] for _ in first]
    for (c, i), change in zip(cells, changes, strict=True):
        rows[c].append(ChannelChange(channels[i], (float(first[c, i]), float(second[c, i])), change))
    return tuple(
        ClassChannels(name, tuple(sorted(row, key=lambda one: -max(map(abs, one.weights)))))
        for name, row in zip(pair.classes, rows, strict=True)
    )


def _contributions(pair: Pair, cells: Int64) -> list[tuple[Float64, Float64]] | None:
    """Return both runs' mean contributions with standard errors, of cells (n, 2) of class and column.

    ``None`` where one of them has none.
    """
    found = []
    for run, at in zip(pair.runs, pair.at, strict=True):
        one: Contributions | None = run.contributions
        if one is None or one.channels.sizes != next(iter(run.named.values())).channels.sizes:
            return None
        # One table at a time: they have a row for each of many classes.
        rows, columns = at[cells[:, 0]], cells[:, 1]
        found.append((one.mean[rows, columns], one.stderr[rows, columns]))
    return found
