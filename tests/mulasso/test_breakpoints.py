"""The exact path: break points against hand computation, scikit-learn's LARS, and the solver at radii between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path_gram

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import _breakpoints as breakpoints
from interpnet.mulasso import mulasso_breakpoints, mulasso_path
from interpnet.mulasso._solver._homotopy import homotopy

QUICK = settings(max_examples=40, derandomize=True)


def random_gram(seed: int, N: int = 40, m: int = 15, C: int = 3) -> Gram:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m)) + rng.standard_normal((N, 1))
    return Gram.from_scores(X, rng.standard_normal((N, C)))


def test_two_independent_columns_by_hand() -> None:
    # Correlations 3 and 2: the first joins at once; its correlation is 3 - w and meets 2 at w = 1. Then both grow: the
    # correlation falls to 0 at w = (3, 2), mu = 5.
    path = mulasso_breakpoints(Gram(np.eye(2), np.array([[3.0], [2.0]]), np.array([20.0]), 5), 10.0)[0]
    np.testing.assert_allclose(path.mu, [0, 1, 5])
    np.testing.assert_allclose(path.multiplier, [3, 2, 0], atol=1e-12)
    np.testing.assert_allclose(path.coef.toarray(), [[0, 0], [1, 0], [3, 2]])
    np.testing.assert_allclose(path.at(3.0), [2, 1])
    np.testing.assert_allclose(path.at(8.0), [3, 2])
    np.testing.assert_allclose(path.first(), [0, 1])


def test_a_negative_correlation_joins_only_where_signs_are_free() -> None:
    gram = Gram(np.eye(2), np.array([[-3.0], [2.0]]), np.array([20.0]), 5)
    signed, positive = (mulasso_breakpoints(gram, 10.0, positive=p)[0] for p in (False, True))
    np.testing.assert_allclose(signed.at(10.0), [-3, 2])
    np.testing.assert_allclose(positive.mu, [0, 2])
    assert positive.first().tolist() == [np.inf, 0.0]


@pytest.mark.parametrize("positive", [False, True])
def test_the_knots_are_those_of_lars(positive) -> None:
    gram = random_gram(1, m=30)
    for c, path in enumerate(mulasso_breakpoints(gram, 1e3, positive=positive, tol=1e-10)):
        alphas, _, coefs = lars_path_gram(
            Xy=gram.B[:, c], Gram=gram.G, n_samples=1, method="lasso", positive=positive, alpha_min=0.0
        )
        np.testing.assert_allclose(path.multiplier, alphas, rtol=1e-7, atol=1e-7 * alphas[0])
        # (scikit-learn's last point is not the least squares solution where weights may not be negative.)
        last = len(alphas) - 1 if positive else len(alphas)
        np.testing.assert_allclose(path.coef.toarray()[:last], coefs.T[:last], rtol=1e-6, atol=1e-7)


@QUICK
@given(st.integers(0, 10_000), st.floats(0.01, 1.2), st.booleans())
def test_between_break_points_the_solution_is_linear(seed, share, positive) -> None:
    gram = random_gram(seed, N=25, m=12, C=2)
    for c, path in enumerate(mulasso_breakpoints(gram, 1.0, positive=positive, tol=1e-10)):
        assert path.mu[0] == 0
        assert (np.diff(path.mu) > 0).all()
        assert (np.diff(path.multiplier) <= 1e-9 * path.multiplier[0]).all()
        assert path.relative_gap.max() <= 1e-10
        mu = share * float(path.mu[-1])
        if mu > path.mu[-1] and path.multiplier[-1] > 1e-9 * path.multiplier[0]:
            with pytest.raises(InterpNetError, match="expected at most"):
                path.at(mu)
            continue
        if mu > 0:
            exact = mulasso_path(gram, [mu], positive=positive, tol=1e-10)[0, c]
            np.testing.assert_allclose(path.at(mu), exact, atol=1e-7)


def test_the_support_changes_at_break_points_only() -> None:
    path = mulasso_breakpoints(random_gram(3), 1e3, tol=1e-10)[0]
    inside = [
        np.flatnonzero(path.at(a + s * (b - a))) for a, b in zip(path.mu, path.mu[1:], strict=False) for s in (0.3, 0.7)
    ]
    for one, other in zip(inside[::2], inside[1::2], strict=True):
        assert one.tolist() == other.tolist()
    assert all(a.tolist() != b.tolist() for a, b in zip(inside[::2], inside[2::2], strict=False))


def test_a_class_without_images_and_a_choice_of_classes() -> None:
    gram = Gram(np.eye(2), np.array([[0.0, 1.0], [0.0, 0.5]]), np.array([0.0, 2.0]), 3)
    nothing, something = mulasso_breakpoints(gram, 1.0)
    assert (len(nothing), nothing.at(0.7).tolist()) == (1, [0.0, 0.0])
    (only,) = mulasso_breakpoints(gram, 1.0, classes=[1])
    np.testing.assert_array_equal(only.mu, something.mu)


def test_duplicate_columns_are_followed_or_said_to_be_lost() -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((30, 5)), 2, axis=1)
    gram = Gram.from_scores(X, rng.standard_normal((30, 1)))
    path = mulasso_breakpoints(gram, 0.5, tol=1e-9)[0]
    exact = mulasso_path(gram, [0.3], tol=1e-9)[0, 0]
    np.testing.assert_allclose(X @ path.at(0.3), X @ exact, atol=1e-7)


def test_a_path_that_breaks_off_is_said(monkeypatch) -> None:
    def short(*args, max_steps, **options):
        return homotopy(*args, max_steps=2, **options)

    monkeypatch.setattr(breakpoints, "homotopy", short)
    with pytest.warns(ConvergenceWarning, match="could not be followed"):
        mulasso_breakpoints(random_gram(4), 1e3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": 0.0}, "mu is or holds 0.0"),
        ({"mu": float("nan")}, "mu is or holds nan"),
        ({"mu": [1.0]}, "expected a number"),
        ({"mu": 1.0, "classes": [3]}, "a class in classes is 3; expected a whole number from 0 to 2"),
        ({"mu": 1.0, "tol": 0}, "tol is 0"),
        ({"mu": 1.0, "positive": "yes"}, "positive is 'yes'"),
    ],
)
def test_wrong_arguments(options, message) -> None:
    with pytest.raises(InterpNetError, match=message):
        mulasso_breakpoints(random_gram(0), **options)
