"""What holds of every mu-lasso solution: feasible, certified, invariant, monotone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interpnet.gram import Gram
from interpnet.mulasso import MuLasso, mulasso_path
from interpnet.mulasso._solver import _schedule
from interpnet.mulasso._solver._active_set_descent import finish
from interpnet.mulasso._solver._block_pivoting import PivotResult

BOUNDED = settings(max_examples=80, derandomize=True)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Gram, float, bool]:
    """Draw a Gram (of any rank, with duplicate and zero columns, at any scale), a radius and a sign rule."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    N = draw(st.integers(1, 40))
    m = draw(st.integers(1, 25))
    C = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["low rank", "ties", "collinear groups", "nearly duplicate"]))
    if kind == "ties":
        X = rng.integers(-1, 2, (N, m)).astype(float)
    elif kind == "collinear groups":
        X = rng.gamma(1.0, size=(N, m))
        for start in range(0, m, 5):
            X[:, start : start + 5] /= X[:, start : start + 5].sum(axis=1, keepdims=True)
    else:
        rank = draw(st.integers(1, m))
        X = rng.standard_normal((N, rank)) @ rng.standard_normal((rank, m))
        if kind == "nearly duplicate":
            X = X[:, rng.integers(0, m, m)] + 1e-4 * rng.standard_normal((N, m))
    X[:, rng.random(m) < 0.1] = 0.0
    for column in np.flatnonzero(rng.random(m) < 0.2):
        X[:, column] = X[:, rng.integers(m)] * rng.choice([-1.0, 1.0])
    Y = rng.standard_normal((N, C)) if draw(st.booleans()) else np.eye(C)[rng.integers(0, C, N)]
    scale = 10.0 ** draw(st.integers(-8, 8))
    unit = 10.0 ** draw(st.integers(-8, 8))
    gram = Gram.from_scores(X * scale, Y * unit)
    mu = draw(st.sampled_from([0.01, 0.1, 0.5, 1.0, 4.0])) * unit / scale
    return gram, mu, draw(st.booleans())


def relative_gap(gram: Gram, coef: np.ndarray, mu: float, *, positive: bool) -> np.ndarray:
    g = coef @ gram.G - gram.B.T
    pull = np.maximum(0, (-g).max(axis=1)) if positive else np.abs(g).max(axis=1)
    return ((coef * g).sum(axis=1) + mu * pull) / np.maximum(gram.yy / 2, np.finfo(float).tiny)


def objective(gram: Gram, coef: np.ndarray) -> np.ndarray:
    return 0.5 * ((coef @ gram.G) * coef).sum(axis=1) - (coef * gram.B.T).sum(axis=1) + gram.yy / 2


@BOUNDED
@given(problems())
def test_feasible_and_certified(case) -> None:
    gram, mu, positive = case
    model = MuLasso(mu, positive=positive, tol=1e-9).fit_gram(gram)  # a ConvergenceWarning would be an error
    assert (np.abs(model.coef_).sum(axis=1) <= mu * (1 + 1e-12)).all()
    assert (relative_gap(gram, model.coef_, mu, positive=positive) <= 1e-9).all()
    if positive:
        assert (model.coef_ >= 0).all()
    half = np.maximum(gram.yy / 2, np.finfo(float).tiny)
    assert (objective(gram, model.coef_) <= gram.yy / 2 + 1e-12 * half).all()


@BOUNDED
@given(problems(), st.booleans())
def test_the_finish_alone_certifies_from_any_start(case, from_zero) -> None:
    gram, mu, positive = case
    for b, yy in zip(gram.B.T[gram.yy > 0], gram.yy[gram.yy > 0], strict=True):
        one = Gram(gram.G, b[:, None].copy(), np.array([yy]), gram.n)
        start = np.zeros(gram.m) if from_zero else np.full(gram.m, mu / gram.m)
        goal = 1e-9 * yy / 2
        coef, gap, _ = finish(gram.G, b, mu, start, positive=positive, goal=goal, max_iter=2000)
        assert gap <= goal
        assert (relative_gap(one, coef[None], mu, positive=positive) <= 1.1e-9).all()
        assert np.abs(coef).sum() <= mu * (1 + 1e-12)


def hand_on_all(G, b, mu, guess, **_):
    none = torch.zeros(len(b), dtype=torch.bool)
    return PivotResult(torch.zeros_like(b), none, none.long(), torch.zeros_like(b, dtype=torch.int8))


def hand_on_one(G, b, mu, guess, **_):
    return None, 1


# The routes a class can take; small problems would all take the first by themselves.
ROUTES = {
    "together": {"_ALONE": frozenset()},  # as on a GPU: however many columns are active
    "each class alone": {"_NARROW": 0, "_MIDDLE": 0},
    "in groups": {"_NARROW": 0},
    "the homotopy": {"pivot_narrow": hand_on_all, "pivot_wide": hand_on_one},
}


@pytest.mark.parametrize("route", ROUTES)
@settings(BOUNDED, max_examples=40)
@given(case=problems())
def test_every_route_comes_to_the_same_objective(route, case) -> None:
    gram, mu, positive = case
    mus = [0.3 * mu, mu]
    expected = mulasso_path(gram, mus, positive=positive, tol=1e-10)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ROUTES[route].items():
            patch.setattr(_schedule, name, value)
        path = mulasso_path(gram, mus, positive=positive, tol=1e-10)
    half = np.maximum(gram.yy / 2, np.finfo(float).tiny)
    for ours, theirs in zip(path, expected, strict=True):
        assert (np.abs(objective(gram, ours) - objective(gram, theirs)) <= 1e-9 * half).all()


@BOUNDED
@given(problems(), st.integers(0, 1000))
def test_order_of_columns_does_not_matter(case, seed) -> None:
    gram, mu, positive = case
    order = np.random.default_rng(seed).permutation(gram.m)
    shuffled = Gram(gram.G[np.ix_(order, order)], gram.B[order], gram.yy, gram.n)
    coef = MuLasso(mu, positive=positive, tol=1e-10).fit_gram(gram).coef_
    other = np.empty_like(coef)
    other[:, order] = MuLasso(mu, positive=positive, tol=1e-10).fit_gram(shuffled).coef_
    half = np.maximum(gram.yy / 2, np.finfo(float).tiny)
    assert (np.abs(objective(gram, coef) - objective(gram, other)) <= 1e-9 * half).all()
    # The predictions are unique; their squared distance is at most twice the sum of the gaps.
    difference = coef - other
    assert (((difference @ gram.G) * difference).sum(axis=1) <= 1e-8 * half).all()


@BOUNDED
@given(problems(), st.floats(-6, 6))
def test_scaling_scores_scales_the_weights(case, power) -> None:
    gram, mu, positive = case
    factor = 2.0 ** round(power)  # a power of two: the arithmetic is the same to the last bit
    scaled = Gram(gram.G * factor**2, gram.B * factor, gram.yy, gram.n)
    coef = MuLasso(mu, positive=positive).fit_gram(gram).coef_
    np.testing.assert_allclose(MuLasso(mu / factor, positive=positive).fit_gram(scaled).coef_ * factor, coef, rtol=1e-9)


@BOUNDED
@given(problems())
def test_path_is_monotone_and_continuous(case) -> None:
    gram, mu, positive = case
    mus = mu * np.linspace(0, 1.5, 17)[1:]
    path = mulasso_path(gram, mus, positive=positive, tol=1e-9)
    half = np.maximum(gram.yy / 2, np.finfo(float).tiny)
    values = np.array([objective(gram, coef) for coef in path])
    assert (np.diff(values, axis=0) <= 1e-9 * half).all()  # a larger ball holds a better point
    assert (np.diff(values, n=2, axis=0) >= -1e-8 * half).all()  # and the value is convex in the radius
    norms = np.abs(path).sum(axis=2)
    shrinks = np.diff(norms, axis=0) < -1e-6 * mu
    # Only where the smaller ball held a best point already: of dependent columns, best points of many norms.
    assert (values[:-1] - values[-1] <= 1e-9 * half)[shrinks].all()
    # Half-way along a chord of the ball's radii is feasible for the middle radius: predictions cannot jump.
    fitted = path[1:] - path[:-1]
    step = ((fitted @ gram.G) * fitted).sum(axis=2)
    reach = np.diff(mus)[:, None] * np.sqrt(np.diagonal(gram.G).max()) * np.sqrt(gram.yy)
    assert (step <= 4 * reach + 1e-8 * half).all()


@BOUNDED
@given(problems())
def test_same_objective_as_spams(case) -> None:
    spams = pytest.importorskip("spams", reason="spams-bin is not installed")
    gram, mu, positive = case
    # SPAMS has absolute thresholds inside: give it the problem in units of about one.
    root = np.sqrt(max(np.diagonal(gram.G).max(), np.finfo(float).tiny))
    unit = np.sqrt(gram.yy.max() + 1e-300)
    targets = np.zeros((gram.m, gram.n_classes), order="F")
    targets[0] = np.sqrt(gram.yy) / unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = spams.lasso(
            targets,
            Q=np.asfortranarray(gram.G / root**2),
            q=np.asfortranarray(gram.B / root / unit),
            L=gram.m,
            lambda1=mu * root / unit,
            mode=0,
            pos=positive,
            numThreads=1,
        )
    peer = peer.toarray().T * unit / root
    half = np.maximum(gram.yy / 2, np.finfo(float).tiny)
    ours, theirs = (objective(gram, w) for w in (MuLasso(mu, positive=positive, tol=1e-9).fit_gram(gram).coef_, peer))
    feasible = np.abs(peer).sum(axis=1) <= mu * (1 + 1e-6)
    certified = feasible & (relative_gap(gram, peer, mu, positive=positive) <= 1e-6)
    assert (ours[feasible] <= (theirs + 1e-6 * half)[feasible]).all()
    assert (np.abs(ours - theirs)[certified] <= 1e-6 * half[certified]).all()
