"""The rankings: for every class, all channels in the order in which they are removed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from experiments.common.paths import along, entry
from experiments.rankings.contributions import LRP_RULES, Known
from experiments.rankings.removal import class_means
from interpnet.gram import Gram, one_hot
from interpnet.interpretation import interpret
from interpnet.reliance import PRICE
from interpnet.support.types import Float64, Int64

OURS = "mu-lasso"  # the paper's ranking
_RESPONSE = f"{OURS}, weight × score"
_POSITIVE = f"{OURS}, w ≥ 0"
_STANDARDISED = f"{OURS}, standardised, w ≥ 0"
VARIANTS = (_RESPONSE, _POSITIVE, _STANDARDISED)
RELIANCE = "reliance"  # the ranking that is asked about
CONTRIBUTION = "contribution"
_SPECIFIC = "specific contribution"  # less what the channel costs the class that it costs most
_MEAN = f"{_SPECIFIC}, price {PRICE:g} of the mean"  # less that many times what it costs the others on average
_THINNED = f"{_SPECIFIC}, thinned"
#: What the ranking is made of: reliance is the last two together.
RELIANCES = (RELIANCE, CONTRIBUTION, _SPECIFIC, f"{_SPECIFIC}, price 2", _THINNED, _MEAN)
D_PRIME = "d′ of scores"
CORRELATION = "correlation with the label"
GRADIENT = "gradient × activation"
#: What reliance is to beat.
RIVALS = (OURS, D_PRIME, CORRELATION, GRADIENT)
#: What is changed to test why the mu-lasso is beaten, and the ranking that changes it.
TESTS = {"no weight below 0": _POSITIVE, "standardised, no weight below 0": _STANDARDISED}
RANDOM = "random"  # every image loses channels of its own draw
GREEDY = "greedy oracle"  # see oracles.py
SHAPLEY = "Neuron Shapley"
ORACLES = (GREEDY, SHAPLEY)
#: Up to so many channels there is the mu-lasso's path, which says when a channel comes in; and logistic regression.
NARROW = 1_000
_LOGISTIC = 4_000
_RADII = 64  # of the path


def falling(values: Float64) -> Int64:
    """Return the columns of each row by falling value; equals keep their order."""
    return np.argsort(-values, axis=1, kind="stable")


#: The rankings by one number for every class and channel (C, m), the largest first. LRP is missing where it is refused.
VALUES: dict[str, Callable[[Known], Float64]] = {
    RELIANCE: lambda k: k.thinned.specific(PRICE, others="mean"),
    CONTRIBUTION: lambda k: k.contributions.mean,
    _SPECIFIC: lambda k: k.contributions.specific(1.0),
    f"{_SPECIFIC}, price 2": lambda k: k.contributions.specific(2.0),
    _THINNED: lambda k: k.thinned.specific(1.0),
    _MEAN: lambda k: k.contributions.specific(PRICE, others="mean"),
    "mean activation": lambda k: k.means["activation"],
    "activation difference": lambda k: differences(k.means["activation"], k.means["squares"], k.counts)[0],
    "activation difference, d′": lambda k: differences(k.means["activation"], k.means["squares"], k.counts)[1],
    D_PRIME: lambda k: differences(of_classes(k, scores(k)), of_classes(k, scores(k) ** 2), k.counts)[1],
    CORRELATION: lambda k: correlations(scores(k), target(k)),
    "filter norm": lambda k: np.tile(k.weight_norm, (len(k.counts), 1)),
    GRADIENT: lambda k: k.means["gradient"],
    f"{GRADIENT}, absolute": lambda k: k.means["absolute"],
    "LRP, epsilon": lambda k: k.means[LRP_RULES[0]],
    "LRP, positive": lambda k: k.means[LRP_RULES[1]],
    "ridge": lambda k: np.abs(ridge(scores(k), target(k))),
    "logistic regression": lambda k: np.abs(logistic(scores(k), k.subject.train_labels, len(k.counts))),
}


def rankings(k: Known, length: int) -> dict[str, Int64]:
    """Return (C, m) orders of all rankings but random and the oracles, the first ``length`` of them meaningful."""
    missing = set()
    if LRP_RULES[0] not in k.means:
        missing |= {"LRP, epsilon", "LRP, positive"}
    if len(k.table.channels) > _LOGISTIC:
        missing |= {"logistic regression"}
    values = {name: falling(value(k)) for name, value in VALUES.items() if name not in missing}
    return {**of_mulasso(k, length), **values}


def scores(k: Known) -> Float64:
    """Return the method's scores (N, m)."""
    return k.table.X.astype(np.float64)


def of_classes(k: Known, values: Float64) -> Float64:
    """Return the class means (C, m) of values by image (N, m)."""
    return class_means(values, k.subject.train_labels)


def target(k: Known) -> Float64:
    """Return the labels, a column per class (N, C)."""
    return one_hot(k.subject.train_labels, len(k.counts)).astype(np.float64)


def of_mulasso(k: Known, length: int) -> dict[str, Int64]:
    """Return the method's order and its variants: by weight, then by entry, then by correlation with the class.

    With more than :data:`NARROW` channels there is no path, and no order by it: by weight, then by correlation.
    """
    X = scores(k)
    labels = target(k)
    channels = k.table.channels
    gram = k.table.gram()
    correlation = correlations(X, labels)
    size = np.abs(correlation)  # of channels that never enter the path
    w = interpret(gram, channels=channels, mu=k.subject.mu).coef
    response = np.maximum(w * of_classes(k, X), 0.0)
    positive = interpret(gram, channels=channels, mu=k.subject.mu, positive=True).coef
    nowhere = np.zeros_like(w)
    if len(channels) > NARROW:
        return {
            OURS: behind(np.abs(w), nowhere, size),
            _RESPONSE: behind(response, nowhere, size),
            _POSITIVE: behind(positive, nowhere, correlation),
        }
    scaled = Gram.from_scores(StandardScaler().fit_transform(X), labels)
    radius = entry_radius(gram, length)
    return {
        OURS: behind(np.abs(w), radius, size),
        _RESPONSE: behind(response, radius, size),
        _POSITIVE: behind(positive, entry_radius(gram, length, positive=True), correlation),
        _STANDARDISED: behind(nowhere, entry_radius(scaled, length, positive=True), correlation),
    }


def differences(means: Float64, squares: Float64, counts: Float64) -> tuple[Float64, Float64]:
    """Return mean inside the class minus mean outside (C, m), and the same over the pooled standard deviation.

    From the means over the classes' images (C, m) of the values and of their squares, and the numbers of images (C,).

    Examples
    --------
    >>> found, standardised = differences(np.array([[2.0], [0.0]]), np.array([[5.0], [0.0]]), np.array([2.0, 2.0]))
    >>> found.tolist(), standardised.round(3).tolist()
    ([[2.0], [-2.0]], [[2.828], [-2.828]])
    """
    n = counts[:, None]
    outside, outside_squares = (((n * v).sum(0) - n * v) / (n.sum() - n) for v in (means, squares))
    variances = squares - means**2 + outside_squares - outside**2
    pooled = np.sqrt(np.maximum(variances / 2, 0.0))  # rounding may make a variance negative
    found = means - outside
    return found, np.divide(found, pooled, out=np.zeros_like(found), where=pooled > 1e-12)


def correlations(values: Float64, target: Float64) -> Float64:
    """Return Pearson's correlation of each column with each class's indicator (C, m); 0 for a constant column."""
    found: Float64 = _unit(target).T @ _unit(values)
    return found


def _unit(values: Float64) -> Float64:
    centred = values - values.mean(0)
    size = np.linalg.norm(centred, axis=0)
    found: Float64 = np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-12)
    return found


def entry_radius(gram: Gram, length: int, *, positive: bool = False) -> Float64:
    """Return the mu at which each channel first has a weight for each class (C, m), to the grid of the path."""
    return entry(*along(gram, length, positive=positive, steps=_RADII))


def behind(first: Float64, radius: Float64, last: Float64) -> Int64:
    """Return the channels by falling ``first`` where it is above 0, then by radius, then by falling ``last``."""
    return np.stack([np.lexsort((-z, r, -a)) for a, r, z in zip(first, radius, last, strict=True)])


def ridge(X: Float64, target: Float64) -> Float64:
    """Return ridge weights (C, m) on the method's scores, the penalty chosen by leave-one-out."""
    return np.asarray(RidgeCV(alphas=np.geomspace(1e-6, 1e2, 17)).fit(X, target).coef_)


def logistic(X: Float64, labels: Int64, n_classes: int) -> Float64:
    """Return multinomial logistic regression's weights (C, m) on standardised scores, C = 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(max_iter=300).fit(StandardScaler().fit_transform(X), labels)
    weights = np.zeros((n_classes, X.shape[1]))
    weights[fitted.classes_] = fitted.coef_
    return weights
