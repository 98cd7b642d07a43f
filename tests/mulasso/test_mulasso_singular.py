"""Columns that depend on each other: the exchange against linear programming, and solutions on real layer sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from interpnet.gram import Gram
from interpnet.mulasso import mulasso_path
from interpnet.mulasso._solver import _schedule
from interpnet.mulasso._solver._simplex_exchange import shortest

QUICK = settings(max_examples=60, derandomize=True)


def least_l1(columns: np.ndarray, prediction: np.ndarray, *, positive: bool) -> float:
    """Return the smallest l1 norm of weights with ``columns @ w = prediction``, by an independent solver."""
    n = columns.shape[1]
    both = columns if positive else np.hstack([columns, -columns])
    found = linprog(np.ones(both.shape[1]), A_eq=both, b_eq=prediction, bounds=(0, None), method="highs")
    assert found.success, n
    return float(found.fun)


@QUICK
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 6), st.booleans())
def test_the_exchange_finds_the_shortest_weights(seed, K, n, positive) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((K, n))
    sign = np.ones(K) if positive else rng.choice([-1.0, 1.0], K)
    weight = sign * rng.uniform(0.1, 2.0, K)
    place, s = shortest(table, weight, sign, positive=positive)
    columns = np.hstack([np.eye(K), table])
    w = np.linalg.solve(columns[:, place], weight)
    assert (w * s >= -1e-9).all()
    best = least_l1(columns, weight, positive=positive)
    np.testing.assert_allclose(np.abs(w).sum(), best, rtol=1e-7)


def test_the_exchange_leaves_what_is_shortest_already() -> None:
    place, s = shortest(np.array([[0.4], [0.4]]), np.array([3.0, 1.0]), np.ones(2), positive=False)
    assert place.tolist() == [0, 1]
    assert s.tolist() == [1, 1]
    # One unit of the third replaces 0.9 of each: the second reaches zero first and leaves.
    place, s = shortest(np.array([[0.9], [0.9]]), np.array([3.0, 1.0]), np.ones(2), positive=False)
    assert place.tolist() == [0, 2]
    assert s.tolist() == [1, 1]


def layered(seed: int, n_layers: int = 8, width: int = 9, N: int = 400) -> Gram:
    """Return the Gram of float32 scores that sum to one in each layer; its rank is n_layers * (width - 1) + 1."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((N, 5))
    parts = []
    for _ in range(n_layers):
        part = np.exp(0.5 * factors @ rng.standard_normal((5, width)) + 0.3 * rng.standard_normal((N, width)))
        parts.append(part / part.sum(1, keepdims=True))
    labels = (factors[:, 0] + 0.3 * rng.standard_normal(N) > 0).astype(int)
    return Gram.from_scores(np.hstack(parts).astype(np.float32), labels)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_dependent_layers_at_every_radius(seed, positive) -> None:
    gram = layered(seed)
    mus = np.geomspace(0.5, 500, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_schedule, "_NARROW", 4)  # so that most radii go through the exchange
        path = mulasso_path(gram, mus, positive=positive, tol=1e-9)  # a ConvergenceWarning would be an error
    for mu, coef in zip(mus, path, strict=True):
        assert np.abs(coef).sum(1).max() <= mu * (1 + 1e-12)
        g = coef @ gram.G - gram.B.T
        pull = np.maximum(0, (-g).max(1)) if positive else np.abs(g).max(1)
        assert (((coef * g).sum(1) + mu * pull) / (gram.yy / 2)).max() <= 1e-9
