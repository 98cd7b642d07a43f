"""Channels that two classes share, and no third, although they have nothing else in common. docs/measures.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import DataError
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.shortcuts._evidence import TOP
from interpnet.shortcuts._shown import class_name, classes_counted
from interpnet.support.checks import check_kinds, number
from interpnet.support.types import Bools, Float64, Int64

#: What the pairs of 98 % of the networks without a shortcut stay below (experiments/cues/shared.json).
USUAL = 0.6
_FEWEST = 5  # images of a class
_CHANNELS = 5  # shown of a pair
_MOST = 10  # pairs
#: (channel) -> images in which its score is largest, as (numbers, labels), the largest first.
_Top = Callable[[int], tuple[Int64, Int64]]


@dataclass(frozen=True)
class SharedChannel:
    """A channel that two classes share, and no third as much."""

    channel: Channel
    shares: tuple[float, float]  # of what the layer says for or against each class
    next: float  # the largest share of a third class
    top_classes: tuple[tuple[int, int], ...]  # (class, count) of its top images over all classes, the most first
    images: tuple[int, ...]  # those images, as their loader counts them, the top one first


@dataclass(frozen=True)
class Shared:
    """Two classes that share channels of a layer although they are not alike otherwise."""

    indices: tuple[int, int]
    names: tuple[str, str]
    shared: float  # of what a layer says for or against each, beyond what it is for any third class, 0 to 1
    usual: float  # what the pairs of 98 % of the networks without a shortcut stay below
    alike: float  # what the two share in the layer's other channels
    typical: float  # the smaller of what each of them shares there with its typical class
    channels: tuple[SharedChannel, ...]  # first what they share most


def shared_channels(contributions: Contributions, table: ScoreTable, *, usual: float = USUAL) -> tuple[Shared, ...]:
    """Return the pairs of classes that share channels and have nothing else in common, those that share most first.

    In a layer, a class's shares are what each channel contributes for it, of all that the layer's channels contribute
    for or against it. A channel belongs to the two classes with the largest shares; what they share is the smaller of
    the two, beyond the largest of any third class. Their sum over the channels of a pair, in the layer where it is
    largest, is what the pair shares. It is held against what is usual in networks without a shortcut. Pairs that are
    alike in the layer's other channels, more than either is with a typical class, are left out: cats and dogs share
    fur.

    Parameters
    ----------
    contributions : Contributions
        Of ``collect_contributions(..., outputs="independent")``: to each class's own logit. What two classes share
        tells neither from the other, so that to log-odds of one against the other it contributes nothing. Classes of
        fewer than five images are left out.
    table : ScoreTable
        Of :func:`interpnet.collect_scores` at the same layers: the top images over all classes are its.
    usual : float
        What a pair must share, from 0 to 1.

    Returns
    -------
    tuple of Shared
        At most ten.

    Raises
    ------
    DataError
        A table of other channels, or with several labels an image; contributions to log-odds of exclusive classes.

    Examples
    --------
    The cat shares the second channel with the car:

    >>> channels = ChannelIndex((("a", 4),))
    >>> means = np.array([[3.0, 4.0, 1.0, 0.0], [4.0, 0.0, 0.0, 4.0], [0.0, 4.0, 4.0, 0.0]])
    >>> counts = np.full(3, 10)
    >>> sums = np.stack([10 * means, 10 * means**2])
    >>> found = Contributions(channels, ("cat", "dog", "car"), counts, np.ones(3), sums, np.zeros(4))
    >>> table = ScoreTable(np.eye(4, dtype=np.float32)[:3], np.arange(3), np.arange(3), channels, np.arange(3), 3)
    >>> [(one.names, round(one.shared, 3)) for one in shared_channels(found, table)]
    [(('cat', 'car'), 0.625)]
    """
    check_kinds(shared_channels, locals())
    number(usual, "usual", least=0, most=1)
    if table.channels.sizes != contributions.channels.sizes:
        raise DataError(
            f"table has {len(table.channels)} channels, and contributions has {len(contributions.channels)} or other "
            "layers; collect both at the same layers"
        )
    if contributions.info.get("outputs", "independent") != "independent":
        raise DataError(
            "contributions are to the log-odds of exclusive classes, to which a channel that two classes share "
            'contributes nothing; collect them with collect_contributions(..., outputs="independent")'
        )
    labels = table.labels
    if labels.ndim != 1:
        raise DataError("table has several labels an image; expected one class an image")

    def top(channel: int) -> tuple[Int64, Int64]:
        rows = np.argsort(-np.asarray(table.X[:, channel]), kind="stable")[:TOP]
        return table.indices[rows], labels[rows].astype(np.int64)

    names = contributions.classes
    return _pairs(contributions.mean, contributions.counts, contributions.channels, names, top, usual)


def _pairs(
    means: Float64, counts: Int64, channels: ChannelIndex, names: Sequence[str] | None, top: _Top, usual: float
) -> tuple[Shared, ...]:
    known = np.flatnonzero(counts >= _FEWEST)
    best: dict[tuple[int, int], Shared] = {}
    for layer in channels.layers:
        columns = channels.slice(layer)
        shares = shares_of(means[known][:, columns])
        for pair, (excess, own) in pairs_in(shares).items():
            classes = int(known[pair[0]]), int(known[pair[1]])
            if excess <= usual or (classes in best and excess <= best[classes].shared):
                continue
            alike, typical = likeness(shares, pair, own)
            if alike > typical:
                continue
            best[classes] = Shared(
                indices=classes,
                names=(class_name(classes[0], names), class_name(classes[1], names)),
                shared=excess,
                usual=usual,
                alike=alike,
                typical=typical,
                channels=_channels(shares, pair, own, columns.start, channels, top),
            )
    return tuple(sorted(best.values(), key=lambda one: -one.shared)[:_MOST])


def shares_of(contributions: Float64) -> Float64:
    """Return what each channel contributes for a class (C, m), as a share of all that a layer says for or against it.

    Examples
    --------
    >>> shares_of(np.array([[3.0, -1.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [[0.75, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    sums = np.abs(contributions).sum(1, keepdims=True)
    positive = np.maximum(contributions, 0.0)
    shares: Float64 = np.divide(positive, sums, out=np.zeros_like(positive), where=sums > 0)
    return shares


def pairs_in(shares: Float64) -> dict[tuple[int, int], tuple[float, Int64]]:
    """Return for pairs of classes (rows of shares) what they share beyond any third, and in which channels.

    In a channel it is the second largest share less the third largest; it belongs to the two largest classes.

    Examples
    --------
    >>> shares = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.25, 0.75, 0.0]])
    >>> {pair: excess for pair, (excess, _) in pairs_in(shares).items()}
    {(0, 1): 0.25, (0, 2): 0.5}
    """
    if len(shares) < 3:
        return {}
    order = np.argsort(-shares, axis=0, kind="stable")[:3]
    _, second, third = np.take_along_axis(shares, order, 0)
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for channel in np.flatnonzero(second > third):
        one, other = sorted(int(row) for row in order[:2, channel])
        members[one, other].append(int(channel))
    return {pair: (float((second - third)[own].sum()), np.array(own, dtype=np.int64)) for pair, own in members.items()}


def likeness(shares: Float64, pair: tuple[int, int], own: Int64) -> tuple[float, float]:
    """Return how much two classes share in the other channels of a layer, and what each shares with a typical class.

    The second is the smaller of the two medians over the classes other than itself.
    """
    rest: Bools = np.ones(shares.shape[1], dtype=bool)
    rest[own] = False
    others = shares[:, rest]
    one, other = (np.minimum(others, others[row]).sum(1) for row in pair)
    typical = min(float(np.median(np.delete(values, row))) for values, row in zip((one, other), pair, strict=True))
    return float(one[pair[1]]), typical


def _channels(
    shares: Float64, pair: tuple[int, int], own: Int64, start: int, channels: ChannelIndex, top: _Top
) -> tuple[SharedChannel, ...]:
    """Return the channels that a pair shares most, with their top images over all classes."""
    both = shares[list(pair)][:, own]
    third = np.delete(shares, pair, 0)[:, own].max(0)
    found = []
    for at in np.argsort(third - both.min(0), kind="stable")[:_CHANNELS]:
        channel = start + int(own[at])
        images, labels = top(channel)
        found.append(
            SharedChannel(
                channel=channels[channel],
                shares=(float(both[0, at]), float(both[1, at])),
                next=float(third[at]),
                top_classes=classes_counted(labels),
                images=tuple(int(i) for i in images),
            )
        )
    return tuple(found)
