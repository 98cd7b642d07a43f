"""The scores under each normalisation, and the mu-lasso's solutions with a given number of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.common.paths import along
from experiments.common.subjects import Subject, batches
from interpnet.engine import ChannelIndex
from interpnet.gram import Gram
from interpnet.scores import collect_scores
from interpnet.support.types import Float64, Int64

#: Name of each scaling: how the library normalises the scores, and what is done to the columns after that.
SCALES = {
    "layer L1": ("layer", ""),
    "none": ("none", ""),
    "size": ("size", ""),
    "standardised": ("none", "standardise"),
    "layer L1, standardised": ("layer", "standardise"),
    "layer L1, centred": ("layer", "centre"),
}
PAPER = "layer L1"
COUNTS = (1, 2, 3, 5, 10)  # channels per class at which the scalings are compared


@dataclass(frozen=True)
class Scores:
    """Training and test scores (N, m) under one scaling, before the columns are centred or standardised."""

    train: Float64
    test: Float64
    channels: ChannelIndex
    columns: str = ""

    def scaled(self, rows: Int64 | None = None) -> tuple[Float64, Float64]:
        """Return what to subtract and divide by (m,), from the training images (or some of them): 0 and 1 if not."""
        X = self.train[rows] if rows is not None else self.train
        if not self.columns:
            return np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.columns == "centre":
            return X.mean(0), np.ones(X.shape[1])
        spread = X.std(0)
        # A channel that never changes stays out: its column becomes 0.
        return X.mean(0), np.where(spread > 1e-12 * max(1.0, float(spread.max())), spread, np.inf)


def scores(subject: Subject, name: str) -> Scores:
    """Return the subject's scores under a scaling."""
    how, columns = SCALES[name]
    train, test = (
        collect_scores(subject.model, batches(*part), normalisation=how, progress=False)
        for part in ((subject.train, subject.train_labels), (subject.test, subject.test_labels))
    )
    return Scores(train.X.astype(np.float64), test.X.astype(np.float64), train.channels, columns)


def late(found: Scores) -> Scores:
    """Return the scores with zeros in all layers but the last third, whose channels then cannot be chosen.

    Examples
    --------
    >>> X = np.ones((1, 4))
    >>> late(Scores(X, X, ChannelIndex((("a", 1), ("b", 1), ("c", 2))))).train.tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    layers = found.channels.layers
    kept = np.zeros(len(found.channels))
    for layer in layers[-max(1, len(layers) // 3) :]:
        kept[found.channels.slice(layer)] = 1.0
    return Scores(found.train * kept, found.test * kept, found.channels, found.columns)


def solutions(X: Float64, target: Float64) -> tuple[dict[int, Float64], float]:
    """Return for every count the weights (C, m), and the largest relative duality gap among them.

    Each class has its own radius: the largest, on a grid, before more channels than the count have a weight.
    """
    gram = Gram.from_scores(X, target)
    radii, found = along(gram, max(COUNTS) + 1)  # one more than is asked for
    chosen = {}
    gaps = []
    for k in COUNTS:
        at = before_more(np.count_nonzero(found, axis=2), k)
        w = found[at, np.arange(gram.n_classes)]
        chosen[k] = w
        gaps.append(relative_gaps(gram, w, radii[at]).max())
    return chosen, float(max(gaps))


def before_more(counts: Int64, most: int) -> Int64:
    """Return for each column the last row before one that exceeds ``most`` (the first row where all do).

    Examples
    --------
    >>> before_more(np.array([[1, 1], [2, 1], [4, 2], [2, 2]]), 2).tolist()
    [1, 3]
    """
    beyond = counts > most
    last = np.where(beyond.any(0), beyond.argmax(0) - 1, len(counts) - 1)
    return np.maximum(last, 0)


def relative_gaps(gram: Gram, w: Float64, mu: Float64) -> Float64:
    """Return each class's relative duality gap at weights (C, m) and radii (C,) (docs/method.md, section 2)."""
    gradient = w @ gram.G - gram.B.T  # of half the squared error
    gap = (w * gradient).sum(1) + mu * np.abs(gradient).max(1)
    relative: Float64 = np.maximum(gap, 0.0) / (gram.yy / 2)
    return relative
