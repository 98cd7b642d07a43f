"""The scores under each normalisation, and the mu-lasso's solutions with a given number of channels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from experiments.rankings.subjects import Subject, batches
from interpnet.breakpoints import BreakPoints, mulasso_breakpoints
from interpnet.channels import ChannelIndex
from interpnet.gram import Gram
from interpnet.scores import collect_scores

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: Name of each scaling: (how the library normalises the scores, whether columns are standardised after that).
SCALES = {
    "layer L1": ("layer", False),
    "none": ("none", False),
    "size": ("size", False),
    "standardised": ("none", True),
    "layer L1, standardised": ("layer", True),
}
PAPER = "layer L1"
#: Channels a class at which the scalings are compared.
COUNTS = (1, 2, 3, 5, 10)
_DOUBLINGS = 40


@dataclass(frozen=True)
class Scores:
    """Training and test scores (N, m) under one scaling, before the columns are standardised."""

    train: Floats
    test: Floats
    channels: ChannelIndex
    standardise: bool

    def scaled(self, rows: Ints | None = None) -> tuple[Floats, Floats]:
        """Return what to subtract and divide by (m,), from the training images (or some of them): 0 and 1 if not."""
        X = self.train if rows is None else self.train[rows]
        if not self.standardise:
            return np.zeros(X.shape[1]), np.ones(X.shape[1])
        spread = X.std(0)
        # A channel that never changes stays out: its column becomes 0.
        return X.mean(0), np.where(spread > 1e-12 * max(1.0, float(spread.max())), spread, np.inf)


def scores(subject: Subject, name: str) -> Scores:
    """Return the subject's scores under a scaling."""
    how, standardise = SCALES[name]
    parts = ((subject.train, subject.train_labels), (subject.test, subject.test_labels))
    train, test = (
        collect_scores(subject.model, batches(*part), normalisation=how, progress=False) for part in parts
    )  # fmt: skip
    return Scores(train.X.astype(np.float64), test.X.astype(np.float64), train.channels, standardise)


def paths(X: Floats, target: Floats, most: int) -> list[BreakPoints]:
    """Return every class's path until more than ``most`` channels have a weight (or none is left to come in)."""
    gram = Gram.from_scores(X, target)
    # About the l1 norm of a fit by one channel; scalings differ by orders of magnitude.
    end = float(np.max(gram.yy / np.maximum(np.abs(gram.B).max(0), 1e-300)))
    for _ in range(_DOUBLINGS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the gap is kept with the results
            found = mulasso_breakpoints(gram, end)
        if all(sizes(p).max() > most or p.mu[-1] < end for p in found):
            break
        end *= 2
    return found


def sizes(path: BreakPoints) -> Ints:
    """Return how many channels have a weight at each break point."""
    return np.diff(path.coef.indptr)


def at_count(path: BreakPoints, count: int) -> tuple[Floats, float]:
    """Return the weights (m,) at the largest radius before more than ``count`` channels have one, and their gap."""
    beyond = np.flatnonzero(sizes(path) > count)
    e = int(beyond[0]) - 1 if len(beyond) else len(path) - 1
    return path.coef[[e]].toarray()[0], float(path.relative_gap[e])


def solutions(X: Floats, target: Floats) -> tuple[dict[int, Floats], float]:
    """Return for every count the weights (C, m), and the largest relative gap among them."""
    found = paths(X, target, max(COUNTS))
    rows = {k: [at_count(p, k) for p in found] for k in COUNTS}
    gap = max(g for row in rows.values() for _, g in row)
    return {k: np.stack([w for w, _ in row]) for k, row in rows.items()}, gap
