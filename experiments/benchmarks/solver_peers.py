"""The peers of the solver: each takes a problem, and gives a function of the radius and the sign rule.

A peer in Lagrangian form is *told* the multiplier of our solution, which it is not timed for. Needs `spams-bin`,
`spgl1` and `scm2cpp-learn`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from sklearn.linear_model import lars_path_gram
from sklearn.linear_model._cd_fast import enet_coordinate_descent_gram
from threadpoolctl import threadpool_limits

from experiments.benchmarks.solver_problems import Problem
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso, mulasso_path
from interpnet.support.types import Float64

Solver = Callable[[float, bool], Float64]
# The relative gap (scm2cpp-learn: the change of the weights) at which coordinate descent stops, its most rounds over
# the columns, and the seconds after which it gives up on further classes.
_TOLERANCE = 1e-9
_DESCENTS = 20_000
_SECONDS = 20.0


def certificate(gram: Gram, coef: Float64, mu: float, *, positive: bool) -> tuple[float, float]:
    """Return the sum of objectives and the worst relative gap, from their definitions and nothing of the solver's."""
    total = 0.0
    worst = 0.0
    for w, b, yy in zip(coef, gram.B.T, gram.yy, strict=True):
        support = np.flatnonzero(w)
        g = w[support] @ gram.G[support] - b
        pull = _pull(-g, positive=positive)
        total += float((w @ g - b @ w + yy) / 2)
        gaps = [(float(w @ g) + mu * pull) / (yy / 2), (np.abs(w).sum() - mu) / mu]
        # Weights that are not numbers solve nothing.
        worst = max(worst, float(np.nan_to_num(gaps, nan=np.inf).max()))
    return total, worst


def _pull(correlation: Float64, *, positive: bool) -> float:
    """Return how much a further weight would win at most; none below 0 where weights are nonnegative."""
    if positive:
        return max(0.0, float(correlation.max()))
    return float(np.abs(correlation).max())


def ours(problem: Problem, threads: int) -> Solver:
    """From the Gram matrix, through the public function."""
    return lambda mu, positive: mulasso_path(problem.gram, [mu], positive=positive, tol=1e-9, n_jobs=threads)[0]


def spams_gram(problem: Problem, threads: int) -> Solver:
    """SPAMS from the Gram matrix, its arrays prepared beforehand; it reads the columns' norms of the first one."""
    gram = problem.gram
    targets = np.zeros(gram.B.shape, order="F")
    targets[0] = np.sqrt(gram.yy)
    return _spams(problem, threads, targets, Q=np.asfortranarray(gram.G), q=np.asfortranarray(gram.B))


def spams_scores(problem: Problem, threads: int) -> Solver | None:
    """SPAMS from the score matrix, as the method's reimplementations call it."""
    if problem.X is None:
        return None
    L = np.asfortranarray(np.eye(problem.gram.n_classes)[problem.labels])
    return _spams(problem, threads, L, D=np.asfortranarray(problem.X, dtype=np.float64))


def _spams(problem: Problem, threads: int, targets: Float64, **arrays: Float64) -> Solver:
    import spams

    most = {"L": problem.gram.m, "max_length_path": 20 * problem.gram.m, "numThreads": threads}
    return lambda mu, positive: spams.lasso(targets, lambda1=mu, mode=0, pos=positive, **most, **arrays).toarray().T


def ours_scores(problem: Problem, threads: int) -> Solver | None:
    """From the score matrix: the Gram matrix is summed first, which collecting the scores does along the way."""
    X = problem.X
    if X is None:
        return None
    options: dict[str, Any] = {"tol": 1e-9, "n_jobs": threads}
    return lambda mu, positive: np.asarray(MuLasso(mu, positive=positive, **options).fit(X, problem.labels).coef_)


def spgl1(problem: Problem, _threads: int) -> Solver:
    """SPGL1 (projected gradient with its own stopping rule) on a square root of the Gram matrix."""
    from spgl1 import spg_lasso

    root, rights = _root(problem.gram)

    def one(y: Float64, mu: float) -> Float64:
        try:
            return np.asarray(spg_lasso(root, y, mu, opt_tol=1e-9, iter_lim=20_000)[0])
        except IndexError:  # version 0.0.3 ends so at its limit of iterations, without a result: counted as w = 0
            return np.zeros(len(y))

    # It has no sign rule, and is asked for signed solutions only.
    return lambda mu, _: np.array([one(y, mu) for y in rights])


def sklearn_lars(problem: Problem, _threads: int) -> Solver:
    """scikit-learn's LARS on the Gram matrix, down to the multiplier of our solution, which it is given."""
    gram = problem.gram
    most = {"n_samples": gram.n, "method": "lasso", "max_iter": 20 * gram.m}

    def run(mu: float, positive: bool) -> Float64:
        pairs = zip(gram.B.T, multipliers(gram, mu, positive=positive), strict=True)
        options = {"Gram": gram.G, "positive": positive, **most}
        paths = (lars_path_gram(Xy=b, alpha_min=level / gram.n, **options)[2] for b, level in pairs)
        return np.array([path[:, -1] for path in paths])

    return run


def sklearn_gram(problem: Problem, _threads: int) -> Solver:
    """scikit-learn's coordinate descent on the Gram matrix, with its screening, at the multiplier of our solution.

    What ``Lasso(precompute=G)`` runs, without its checks of X, and to the gap that we stop at.
    """
    gram = problem.gram
    descend = _descent(gram)

    def run(mu: float, positive: bool) -> Float64:
        levels = multipliers(gram, mu, positive=positive)
        return _each(gram, lambda c: descend(c, np.zeros(gram.m), levels[c], positive=positive))

    return run


def sklearn_gram_search(problem: Problem, _threads: int) -> Solver:
    """Run the same where the multiplier is not known: halved until the l1 norm passes mu, then found by Brent's method.

    Each descent starts from the weights of the one before.
    """
    gram = problem.gram
    descend = _descent(gram)

    def one(c: int, mu: float, positive: bool) -> Float64:
        weights = [np.zeros(gram.m)]

        def beyond(level: float) -> float:
            weights.append(descend(c, weights[-1].copy(), level, positive=positive))
            return float(np.abs(weights[-1]).sum()) - mu

        high = _pull(gram.B[:, c], positive=positive)
        low = high / 2
        while beyond(low) < 0:
            high = low
            low = high / 2
            if low < 1e-12 * gram.yy[c]:  # the constraint does not bind
                return weights[-1]
        brentq(beyond, low, high, xtol=1e-13 * high, rtol=1e-12, maxiter=60, disp=False)
        return weights[-1] * min(1.0, mu / float(np.abs(weights[-1]).sum()))

    return lambda mu, positive: _each(gram, lambda c: one(c, mu, positive))


def _descent(gram: Gram) -> Callable[..., Float64]:
    """Return scikit-learn's coordinate descent for one class, from given weights at a given multiplier."""
    rights = np.ascontiguousarray(gram.B.T)
    # Of the targets it reads their sum of squares alone; its relative gap is half of ours.
    targets = np.sqrt(gram.yy)[:, None]
    rest = (_DESCENTS, _TOLERANCE / 2, np.random.RandomState(0), False)

    def descend(c: int, start: Float64, level: float, *, positive: bool) -> Float64:
        given = (start, level, 0.0, gram.G, rights[c], targets[c])
        return np.asarray(enet_coordinate_descent_gram(*given, *rest, positive, True)[0])

    return descend


def scm2cpp(problem: Problem, _threads: int) -> Solver:
    """Run the coordinate descent of scm2cpp-learn on the Gram matrix, at the multiplier of our solution.

    It has no sign rule, and makes weights of columns without scores that are no numbers: those are left out.
    """
    from scm2cpp_learn import CovLasso

    gram = problem.gram
    live = np.flatnonzero(np.diagonal(gram.G) > 0)
    rights = np.ascontiguousarray(gram.B.T[:, live])
    # One model has the matrix; it reads its correlations anew in each fit.
    model = CovLasso(gram=gram.G[np.ix_(live, live)], corr=rights[0], nobs=1)

    def run(mu: float, positive: bool) -> Float64:
        levels = multipliers(gram, mu, positive=positive)

        def one(c: int) -> Float64:
            model.c0 = rights[c]
            coef = np.zeros(gram.m)
            coef[live] = model.fit(levels[c], tol=_TOLERANCE, max_sweeps=_DESCENTS)
            return coef

        return _each(gram, one)

    return run


def _each(gram: Gram, one: Callable[[int], Float64]) -> Float64:
    """Return the weights (C, m), class by class; what has none after some time stays at 0 and is off."""
    coef = np.zeros((gram.n_classes, gram.m))
    end = time.perf_counter() + _SECONDS
    # These are serial; threads in their few products with the whole matrix only wait for each other.
    with threadpool_limits(1):
        for c in range(gram.n_classes):
            if time.perf_counter() > end:
                break
            coef[c] = one(c)
    return coef


PEERS: dict[str, Callable[[Problem, int], Solver | None]] = {
    "SPAMS, Gram": spams_gram,
    "sklearn Gram CD, told": sklearn_gram,
    "sklearn Gram CD": sklearn_gram_search,
    "scm2cpp-learn, told": scm2cpp,
    "SPAMS, X": spams_scores,
    "ours, X": ours_scores,
    "SPGL1": spgl1,
    "sklearn lars_path_gram, told": sklearn_lars,
}


def _root(gram: Gram) -> tuple[Float64, Float64]:
    """Return R (m, m) and y (C, m) with R'R = G and R'y = B: the same least squares problems with m rows."""
    values, vectors = np.linalg.eigh(gram.G)
    size = np.sqrt(np.maximum(values, 0))  # rounding may make an eigenvalue negative
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 1e-7 * size.max())
    return size[:, None] * vectors.T, (gram.B.T @ vectors) * inverse


_LEVELS: dict[tuple[int, float, bool], list[float]] = {}


def multipliers(gram: Gram, mu: float, *, positive: bool) -> list[float]:
    """Return the multiplier of every class's solution: peers in Lagrangian form get it, and are not timed for it."""
    key = (id(gram), mu, positive)
    if key not in _LEVELS:
        g = gram.B.T - mulasso_path(gram, [mu], positive=positive, tol=1e-9)[0] @ gram.G
        _LEVELS[key] = [max(_pull(r, positive=positive), 1e-12) for r in g]
    return _LEVELS[key]
