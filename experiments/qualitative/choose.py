"""Which channel stands for a third of a network's layers in one image: a rule, so that nobody picks the pretty ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from interpnet.engine import Channel
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable
from interpnet.support.types import Float64

LEVELS = ("low", "middle", "high")  # thirds of the layers


class Choice(NamedTuple):
    """The channel chosen for a level; ``relevant`` is False where the class relies on none in that third."""

    level: str
    channel: Channel
    relevant: bool


def correlations(table: ScoreTable, cls: int) -> Float64:
    """Return the correlation of every channel's score with belonging to a class (m,); 0 for a constant score."""
    target = (table.labels == cls).astype(np.float64)
    target -= target.mean()
    scores = table.X.astype(np.float64)
    scores -= scores.mean(0)
    norm = np.sqrt((scores**2).sum(0) * (target**2).sum())
    shares: Float64 = np.divide(target @ scores, norm, out=np.zeros(len(norm)), where=norm > 0)
    return shares


def choose(found: Interpretation, table: ScoreTable, x: npt.ArrayLike, cls: int) -> list[Choice]:
    """Return a channel for each third of the layers, low to high, for an image's scores (m,) and its predicted class.

    The one with nonzero weight for ``cls`` and the largest positive response, weight times score; where a third has
    none, the channel whose score correlates most with belonging to the class over the images of ``table``.
    """
    response = found.response(x, cls)
    sizes = [n for _, n in found.channels.sizes]
    # 0, 1 or 2 for every channel: the third of the layers, in the order of execution.
    level = np.repeat([3 * i // len(sizes) for i in range(len(sizes))], sizes)
    chosen = []
    for i, name in enumerate(LEVELS):
        here = np.flatnonzero(level == i)
        best = here[np.argmax(response[here])]  # weight times score (docs/method.md, section 4)
        relevant = bool(response[best] > 0)
        if not relevant:  # the class relies on none here
            best = here[np.argmax(correlations(table, cls)[here])]
        chosen.append(Choice(name, found.channels[int(best)], relevant))
    return chosen
