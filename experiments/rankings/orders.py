"""The rankings: for every class, all channels in the order in which they are removed."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from experiments.common.paths import along, entry
from experiments.rankings.contributions import Contributions
from interpnet.gram import Gram, one_hot
from interpnet.interpretation import interpret
from interpnet.support.types import Float64, Int64

OURS = "mu-lasso"  # the ranking that is asked about
_ENTRY = f"{OURS}, order of entry"  # these are its variants, which are compared with it as well
_RESPONSE = f"{OURS}, weight × score"
_POSITIVE = f"{OURS}, w ≥ 0"
_WITH_TWINS = f"{OURS}, w ≥ 0, with twins"
_CENTRED = f"{OURS}, centred"
_STANDARDISED = f"{OURS}, standardised"
_STANDARDISED_POSITIVE = f"{OURS}, standardised, w ≥ 0"
VARIANTS = (_ENTRY, _RESPONSE, _POSITIVE, _WITH_TWINS, _CENTRED, _STANDARDISED, _STANDARDISED_POSITIVE)
#: What is changed to test a reason, and the ranking that changes it.
TESTS = {
    "no weight below 0": _POSITIVE,
    "that and correlated twins": _WITH_TWINS,
    "centred columns": _CENTRED,
    "standardised, no weight below 0": _STANDARDISED_POSITIVE,
}
RANDOM = "random"  # one order per draw
GREEDY = "greedy oracle"  # see removal.py
DRAWS = 5  # of random orders
#: A channel's twins: correlated with it at least this much over the training images; at most so many of them.
TWIN = 0.8
TWINS = 3


def falling(values: Float64) -> Int64:
    """Return the columns of each row by falling value; equals keep their order."""
    return np.argsort(-values, axis=1, kind="stable")


def rankings(found: Contributions, labels: Int64, mu: float, length: int, seed: int) -> dict[str, Int64]:
    """Return (C, m) orders of all rankings but the greedy one, the first ``length`` of them meaningful."""
    X = found.table.X.astype(np.float64)
    target = one_hot(labels, found.table.n_classes).astype(np.float64)
    orders = {**of_mulasso(found, X, target, mu, length), **of_others(found, X, labels, target)}
    rng = np.random.default_rng([seed, 7])
    for draw in range(DRAWS):
        orders[f"{RANDOM} {draw}"] = np.stack([rng.permutation(X.shape[1]) for _ in range(target.shape[1])])
    return orders


def of_mulasso(found: Contributions, X: Float64, target: Float64, mu: float, length: int) -> dict[str, Int64]:
    """Return the method's order and its variants: by weight, then by entry, then by correlation with the class."""
    channels = found.table.channels
    gram = found.table.gram()
    centred = Gram.from_scores(X - X.mean(0), target)
    scaled = Gram.from_scores(StandardScaler().fit_transform(X), target)
    w, positive = (interpret(gram, channels=channels, mu=mu, positive=p).coef for p in (False, True))
    with_mean = interpret(centred, channels=channels, mu=mu).coef
    response = np.maximum(w * class_means(X, target), 0.0)
    nothing = np.zeros_like(w)  # no weight decides: order of entry alone
    correlation = correlations(X, target)
    size = np.abs(correlation)  # of channels that never enter the path
    radius = entry_radius(gram, length)
    scaled_radius = entry_radius(scaled, length)
    nonnegative = behind(positive, entry_radius(gram, length, positive=True), correlation)
    return {
        OURS: behind(np.abs(w), radius, size),
        _ENTRY: behind(nothing, radius, size),
        _RESPONSE: behind(response, radius, size),
        _POSITIVE: nonnegative,
        _WITH_TWINS: with_twins(nonnegative, X),
        _CENTRED: behind(np.abs(with_mean), entry_radius(centred, length), size),
        _STANDARDISED: behind(nothing, scaled_radius, size),
        _STANDARDISED_POSITIVE: behind(nothing, entry_radius(scaled, length, positive=True), correlation),
    }


def of_others(found: Contributions, X: Float64, labels: Int64, target: Float64) -> dict[str, Int64]:
    """Return the rankings that the method is compared with."""
    n_classes = target.shape[1]
    difference, standardised = differences(found.means, target)
    values = {
        "mean activation": class_means(found.means, target),
        "activation difference": difference,
        "activation difference, d′": standardised,
        "correlation with the label": correlations(X, target),
        "filter norm": np.tile(found.weight_norm, (n_classes, 1)),
        "gradient × activation, absolute": class_means(np.abs(found.taylor), target),
        "gradient × activation": class_means(found.taylor, target),
        "LRP, epsilon": class_means(found.relevance["lrp_epsilon"], target),
        "LRP, positive": class_means(found.relevance["lrp_epsilon_plus_flat"], target),
        "ridge": np.abs(ridge(X, target)),
        "logistic regression": np.abs(logistic(X, labels, n_classes)),
    }
    return {name: falling(value) for name, value in values.items()}


def class_means(values: Float64, target: Float64) -> Float64:
    """Return the mean of each column over each class's rows (C, m)."""
    means: Float64 = target.T @ values / target.sum(0)[:, None]
    return means


def differences(values: Float64, target: Float64) -> tuple[Float64, Float64]:
    """Return mean inside the class minus mean outside (C, m), and the same over the pooled standard deviation.

    Examples
    --------
    >>> found, standardised = differences(np.array([[1.0], [3.0], [0.0], [0.0]]), np.eye(2)[[0, 0, 1, 1]])
    >>> found.tolist(), standardised.round(3).tolist()
    ([[2.0], [-2.0]], [[2.828], [-2.828]])
    """
    inside, outside = (class_means(values, t) for t in (target, 1 - target))
    spread = [class_means(values**2, t) - class_means(values, t) ** 2 for t in (target, 1 - target)]
    pooled = np.sqrt(np.maximum(sum(spread) / 2, 0.0))  # rounding may make a variance negative
    found = inside - outside
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
    return entry(*along(gram, length, positive=positive))


def behind(first: Float64, radius: Float64, last: Float64) -> Int64:
    """Return the channels by falling ``first`` where it is above 0, then by radius, then by falling ``last``."""
    return np.stack([np.lexsort((-z, r, -a)) for a, r, z in zip(first, radius, last, strict=True)])


def with_twins(order: Int64, X: Float64) -> Int64:
    """Return the order with each channel followed by its twins, most correlated first."""
    together = _unit(X).T @ _unit(X)
    np.fill_diagonal(together, 0.0)  # no channel is its own twin
    near = falling(together)[:, :TWINS]
    rows = []
    for row in order:
        chosen: dict[int, None] = {}
        for channel in row.tolist():
            chosen.setdefault(channel)
            for twin in near[channel].tolist():
                if together[channel, twin] >= TWIN:
                    chosen.setdefault(twin)
        rows.append(list(chosen))
    return np.array(rows)


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
