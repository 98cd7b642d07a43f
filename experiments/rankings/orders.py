"""The rankings: for every class, all channels in the order in which they are removed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from experiments.common.paths import along, entry
from experiments.rankings.contributions import Contributions
from interpnet.gram import Gram, one_hot
from interpnet.interpretation import interpret
from interpnet.support.types import Float64, Int64

#: The ranking that is asked about, and its variants, which are compared with it as well.
OURS = "mu-lasso"
VARIANTS = (
    "mu-lasso, order of entry", "mu-lasso, weight × score", "mu-lasso, w ≥ 0",
    "mu-lasso, w ≥ 0, with twins", "mu-lasso, centred", "mu-lasso, standardised", "mu-lasso, standardised, w ≥ 0",
)  # fmt: skip
RANDOM = "random"
GREEDY = "greedy oracle"
DRAWS = 5
#: A channel's twins: correlated with it at least this much over the training images; at most so many of them.
TWIN, TWINS = 0.8, 3


def falling(values: Float64) -> Int64:
    """Return the columns of each row by falling value; equals keep their order."""
    return np.argsort(-values, axis=1, kind="stable")


def rankings(found: Contributions, labels: Int64, mu: float, length: int, seed: int) -> dict[str, Int64]:
    """Return (C, m) orders of all rankings but the greedy one, the first ``length`` of them meaningful."""
    X, C = found.table.X.astype(np.float64), found.table.n_classes
    target = one_hot(labels, C).astype(np.float64)
    gram, channels = found.table.gram(), found.table.channels
    centred = Gram.from_scores(X - X.mean(0), target)
    scaled = Gram.from_scores(StandardScaler().fit_transform(X), target)
    w, positive = (interpret(gram, channels=channels, mu=mu, positive=p).coef for p in (False, True))
    with_mean = interpret(centred, channels=channels, mu=mu).coef
    nothing = np.zeros_like(w)
    correlation = correlations(X, target)
    radius = entry_radius(gram, length, positive=False)
    ours = behind(np.abs(w), radius, np.abs(correlation))
    nonnegative = behind(positive, entry_radius(gram, length, positive=True), correlation)
    response = np.maximum(w * class_means(X, target), 0.0)
    difference, standardised = differences(found.means, target)
    own: Callable[[Float64], Float64] = lambda values: class_means(values, target)  # noqa: E731
    orders = {
        OURS: ours,
        VARIANTS[0]: behind(nothing, radius, np.abs(correlation)),
        VARIANTS[1]: behind(response, radius, np.abs(correlation)),
        VARIANTS[2]: nonnegative,
        VARIANTS[3]: with_twins(nonnegative, X),
        VARIANTS[4]: behind(np.abs(with_mean), entry_radius(centred, length, positive=False), np.abs(correlation)),
        VARIANTS[5]: behind(nothing, entry_radius(scaled, length, positive=False), np.abs(correlation)),
        VARIANTS[6]: behind(nothing, entry_radius(scaled, length, positive=True), correlation),
        "mean activation": falling(own(found.means)),
        "activation difference": falling(difference),
        "activation difference, d′": falling(standardised),
        "correlation with the label": falling(correlation),
        "filter norm": falling(np.tile(found.weight_norm, (C, 1))),
        "gradient × activation, absolute": falling(own(np.abs(found.taylor))),
        "gradient × activation": falling(own(found.taylor)),
        "LRP, epsilon": falling(own(found.relevance["lrp_epsilon"])),
        "LRP, positive": falling(own(found.relevance["lrp_epsilon_plus_flat"])),
        "ridge": falling(np.abs(ridge(X, target))),
        "logistic regression": falling(np.abs(logistic(X, labels, C))),
    }
    rng = np.random.default_rng([seed, 7])
    for draw in range(DRAWS):
        orders[f"{RANDOM} {draw}"] = np.stack([rng.permutation(X.shape[1]) for _ in range(C)])
    return orders


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
    inside, outside = class_means(values, target), class_means(values, 1 - target)
    spread = [class_means(values**2, t) - class_means(values, t) ** 2 for t in (target, 1 - target)]
    pooled = np.sqrt(np.maximum(sum(spread) / 2, 0.0))
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


def entry_radius(gram: Gram, length: int, *, positive: bool) -> Float64:
    """Return the mu at which each channel first has a weight for each class (C, m), to the grid of the path."""
    return entry(*along(gram, length, positive=positive))


def behind(first: Float64, radius: Float64, last: Float64) -> Int64:
    """Return the channels by falling ``first`` where it is above 0, then by growing radius, then by falling ``last``.

    Examples
    --------
    >>> behind(np.array([[0.0, 0, 2, 0]]), np.array([[5.0, 1, 3, np.inf]]), np.array([[9.0, 9, 9, 9]])).tolist()
    [[2, 1, 0, 3]]
    """
    return np.stack([np.lexsort((-z, r, -a)) for a, r, z in zip(first, radius, last, strict=True)])


def with_twins(order: Int64, X: Float64) -> Int64:
    """Return the order with each channel followed by its twins, most correlated first."""
    together = _unit(X).T @ _unit(X)
    np.fill_diagonal(together, 0.0)
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
