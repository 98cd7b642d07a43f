"""Which channels of a layer are pictured: those that classes rely on, or those whose scores differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from interpnet.engine import Site
from interpnet.errors import DataError, ModelError
from interpnet.reliance import Contributions, collect_contributions
from interpnet.scores import ScoreTable
from interpnet.support.types import Float64, Int64

from ..run.split import Split
from ..run.subject import Subject

# Each image takes a backward pass too. Enough of a class to tell its channels from noise, few enough to wait for.
_IMAGES = 64
_BATCH = 16
_FEWEST = 4  # of a class, and
_FEWEST_CLASSES = 2
_NAMED = 3  # classes beside a channel


class Shares(NamedTuple):
    """What the channels of the pictured layers contribute to classes."""

    contributions: Contributions | None
    why: str  # there are none; "" where there are


def contributed(subject: Subject, split: Split, table: ScoreTable, layers: Sequence[Site]) -> Shares:
    """Collect contributions of the layers' channels on some images of each class; none where that cannot be."""
    classes, counts = np.unique(table.labels, return_counts=True)
    if (counts >= _FEWEST).sum() < _FEWEST_CLASSES or (classes < 0).any():
        return Shares(None, f"fewer than {_FEWEST_CLASSES} classes have {_FEWEST} images")
    each = max(_FEWEST, _IMAGES // len(classes))
    chosen = np.sort(np.concatenate([np.flatnonzero(table.labels == c)[:each] for c in classes]))
    # A backward pass keeps every map of its batch.
    config = subject.config
    careful = replace(subject, config=replace(config, batch_size=min(config.batch_size, _BATCH)))
    try:
        found = collect_contributions(
            subject.model,
            careful.batches(split, table.indices[chosen]),
            layers=[site.name for site in layers],
            images=None,
            output=subject.output,
            device=subject.device,
            total=len(chosen),
        )
    except (ModelError, DataError) as error:
        return Shares(None, str(error))
    return Shares(found, "")


def class_shares(found: Contributions, layer: str) -> Float64:
    """Return each channel's share of what its layer contributes to each class and to no other (C, channels).

    The specific contribution with price 1, less its standard error, over the sum of the layer's positive ones; zero
    where it is not positive, and for a class with fewer than four images.
    """
    columns = found.channels.slice(layer)
    counted = (found.counts >= _FEWEST)[:, None]
    values = np.where(counted, found.specific(1.0)[:, columns], 0.0)
    errors = np.where(counted, found.specific_stderr(1.0)[:, columns], 0.0)
    total = np.maximum(values, 0.0).sum(1, keepdims=True)
    shares: Float64 = np.maximum(values - errors, 0.0) / np.maximum(total, 1e-30)
    return shares


def by_classes(shares: Float64) -> list[int]:
    """Return the channels that some class relies on: first each class's largest, those of large shares first.

    Examples
    --------
    >>> by_classes(np.array([[0.6, 0.4, 0.0, 0.0], [0.1, 0.0, 0.9, 0.0]]))
    [2, 0, 1]
    """
    order: list[int] = []
    ranked = np.argsort(-shares, axis=1, kind="stable")
    for rank in range(shares.shape[1]):
        firsts = [(shares[c, ranked[c, rank]], int(ranked[c, rank])) for c in range(len(shares))]
        order += [channel for share, channel in sorted(firsts, key=lambda one: -one[0]) if share > 0]
        if not any(share > 0 for share, _ in firsts):
            break
    return list(dict.fromkeys(order))


def by_spread(table: ScoreTable, layer: str) -> list[int]:
    """Return the channels of a layer whose scores differ most between images, in falling order; none that is dead.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> n = np.zeros(2, np.int64)
    >>> X = np.array([[0.5, 0.0, 0.5], [0.9, 0.0, 0.1]], np.float32)
    >>> by_spread(ScoreTable(X, n, n, ChannelIndex((("a", 3),)), n, 2), "a")
    [0, 2]
    """
    block = np.asarray(table.X[:, table.channels.slice(layer)], np.float64)
    alive = np.flatnonzero(block.max(0) > 0)
    spread = np.round(block.std(0), 12)
    return [int(c) for c in alive[np.argsort(-spread[alive], kind="stable")]]


def leading(shares: Float64) -> tuple[Int64, Float64]:
    """Return for each channel up to three classes (channels, 3) that rely on it, and their shares; -1 for none.

    Examples
    --------
    >>> leading(np.array([[0.6, 0.0], [0.1, 0.0], [0.5, 0.0]]))[0].tolist()
    [[0, 2, -1], [-1, -1, -1]]
    """
    order = np.argsort(-shares, axis=0, kind="stable")[:_NAMED].T
    values = np.take_along_axis(shares.T, order, 1)
    # A class with less than half of the largest share is not what the channel is for.
    named = (values > 0) & (values >= 0.5 * values[:, :1])
    classes = np.where(named, order, -1)
    missing = _NAMED - classes.shape[1]
    classes = np.pad(classes, ((0, 0), (0, missing)), constant_values=-1).astype(np.int64)
    return classes, np.pad(np.where(named, values, 0.0), ((0, 0), (0, missing)))
