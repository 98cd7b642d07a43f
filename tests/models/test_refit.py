"""A linear layer fitted again towards its old weights: by hand, and beside numpy, scipy and scikit-learn in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression

from interpnet.errors import DataError, InterpNetError
from interpnet.models import Layer, logistic_towards, ridge_towards


def problem(seed: int, n: int = 40, f: int = 5, c: int = 3) -> tuple[torch.Tensor, torch.Tensor, Layer, torch.Tensor]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, f)) * rng.uniform(0.1, 9, f) + rng.normal(size=f)
    layer = Layer(torch.from_numpy(rng.normal(size=(c, f)) / 5), torch.from_numpy(rng.normal(size=c)))
    return torch.from_numpy(z), torch.from_numpy(rng.integers(0, max(c, 2), n)), layer, torch.from_numpy(rng.random(n))


def standardised(z: np.ndarray, share: np.ndarray) -> np.ndarray:
    mean = share @ z
    u = (z - mean) / np.sqrt(share @ (z - mean) ** 2)
    return np.c_[u, np.ones(len(z))]


def test_ridge_by_hand() -> None:
    # Two images at -1 and 1: mean 0, spread 1. Targets 2 and -2 beyond the old outputs of 0: D = 2 / (1 + strength).
    z = torch.tensor([[1.0], [-1.0]])
    old = Layer(torch.zeros(1, 1).double(), torch.zeros(1).double())
    new = ridge_towards(z, torch.tensor([[2.0], [-2.0]]), old, 3.0)
    assert float(new.weight) == pytest.approx(0.5)
    # A target that is always 2 goes into the bias.
    new = ridge_towards(z, torch.tensor([[2.0], [2.0]]), old, 3.0)
    assert (float(new.weight), float(new.bias)) == (pytest.approx(0.0), pytest.approx(0.5))


def test_logistic_by_hand() -> None:
    # One feature at -1 and 1, one output: the gradient is zero where sigmoid(-D) = strength * D.
    z = torch.tensor([[1.0], [-1.0]])
    old = Layer(torch.zeros(1, 1).double(), torch.zeros(1).double())
    new = logistic_towards(z, torch.tensor([1, 0]), old, 0.1)
    assert expit(-float(new.weight)) == pytest.approx(0.1 * float(new.weight), rel=1e-5)
    assert float(new.bias) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_ridge_is_the_least_squares_of_numpy(seed: int) -> None:
    z, _, old, weights = problem(seed)
    targets = torch.from_numpy(np.random.default_rng(seed + 9).normal(size=(40, 3)))
    new = ridge_towards(z, targets, old, 0.3, weights=weights)
    share = (weights / weights.sum()).numpy()
    u = standardised(z.numpy(), share)
    lacking = (targets - old(z)).numpy()
    # The penalty as further rows of the regression.
    rows = np.r_[np.sqrt(share)[:, None] * u, np.sqrt(0.3) * np.eye(6)]
    change = np.linalg.lstsq(rows, np.r_[np.sqrt(share)[:, None] * lacking, np.zeros((6, 3))], rcond=None)[0]
    np.testing.assert_allclose(new(z).numpy(), old(z).numpy() + u @ change, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("c", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_logistic_is_the_minimum_that_scipy_finds(seed: int, c: int) -> None:
    z, labels, old, weights = problem(seed, c=c)
    new = logistic_towards(z, labels, old, 0.05, weights=weights)
    share = (weights / weights.sum()).numpy()
    u = standardised(z.numpy(), share)
    y = labels.numpy()

    def loss(flat: np.ndarray) -> float:
        change = flat.reshape(c, -1)
        logits = old(z).numpy() + u @ change.T
        if c == 1:
            each = np.logaddexp(0, logits[:, 0]) - y * logits[:, 0]
        else:
            each = -log_softmax(logits, 1)[np.arange(len(y)), y]
        return float(share @ each + 0.025 * (change**2).sum())

    found = optimize.minimize(loss, np.zeros(c * 6), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(new(z).numpy(), old(z).numpy() + u @ found.x.reshape(c, -1).T, rtol=1e-4, atol=1e-4)


def test_towards_nothing_it_is_the_ridge_of_scikit_learn() -> None:
    z, labels, _, _ = problem(1)
    old = Layer(torch.zeros(3, 5).double(), torch.zeros(3).double())
    new = logistic_towards(z, labels, old, 0.01)
    u = standardised(z.numpy(), np.full(40, 1 / 40))
    # A column of ones, so that its intercept is drawn to zero, too; C counts images.
    theirs = LogisticRegression(C=1 / (0.01 * 40), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(u, labels)
    np.testing.assert_allclose(new(z).numpy(), u @ theirs.coef_.T, rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_units_of_features_do_not_matter(seed: int, scale: float, shift: float) -> None:
    z, labels, old, _ = problem(seed)
    # The same layer on features in other units.
    other = Layer(old.weight / scale, old.bias - (old.weight / scale * shift).sum(1))
    moved = z * scale + shift
    one, two = logistic_towards(z, labels, old, 0.1), logistic_towards(moved, labels, other, 0.1)
    torch.testing.assert_close(one(z), two(moved), rtol=1e-3, atol=1e-3)
    targets = torch.nn.functional.one_hot(labels, 3).double()
    one, two = ridge_towards(z, targets, old, 0.1), ridge_towards(moved, targets, other, 0.1)
    torch.testing.assert_close(one(z), two(moved), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("c", [1, 3])
def test_a_strong_pull_leaves_the_old_layer(c: int) -> None:
    z, labels, old, _ = problem(0, c=c)
    for new in (logistic_towards(z, labels, old, 1e8), ridge_towards(z, old(z) + 1, old, 1e8)):
        torch.testing.assert_close(new.weight, old.weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(new.bias, old.bias, rtol=0, atol=1e-6)


def test_classes_without_an_image_keep_their_weights() -> None:
    z, labels, old, _ = problem(0)
    new = logistic_towards(z, labels % 2, old, 0.001)
    assert torch.equal(new.weight[2], old.weight[2])
    assert not torch.allclose(new.weight[0], old.weight[0])


def test_without_a_bias_the_bias_stays() -> None:
    z, labels, old, _ = problem(0)
    for new in (
        logistic_towards(z, labels, old, 0.01, has_bias=False),
        ridge_towards(z, old(z) + 1, old, 0.01, has_bias=False),
    ):
        assert torch.equal(new.bias, old.bias)
        assert not torch.allclose(new.weight, old.weight)


def test_a_constant_feature_gets_no_weight_of_its_own() -> None:
    z, labels, old, _ = problem(0)
    z[:, 2] = 4.0
    new = logistic_towards(z, labels, old, 0.01)
    torch.testing.assert_close(new.weight[:, 2], old.weight[:, 2])


Z, LABELS, OLD, WEIGHTS = problem(0)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"features": Z[:, :4]}, DataError, r"features: shape \(40, 4\) came; expected \(images, 5\)"),
        ({"features": Z[:0]}, DataError, "at least one image"),
        ({"features": Z * float("nan")}, DataError, "features hold NaN"),
        ({"labels": LABELS[:9]}, DataError, r"labels: shape \(9,\) came; expected 40 class numbers, 0 to 2"),
        ({"labels": LABELS + 5}, DataError, "expected 40 class numbers, 0 to 2"),
        ({"labels": LABELS - 1}, DataError, "expected 40 class numbers"),
        ({"strength": 0.0}, InterpNetError, "strength"),
        ({"strength": float("nan")}, InterpNetError, "strength"),
        ({"weights": WEIGHTS[:9]}, DataError, "weights: shape"),
        ({"weights": -WEIGHTS}, DataError, "expected 40 numbers from 0"),
        ({"weights": WEIGHTS * 0}, DataError, "not all 0"),
        ({"iterations": 0}, InterpNetError, "iterations"),
    ],
)
def test_wrong_arguments_are_refused_by_name(changed: dict[str, object], error: type[Exception], message: str) -> None:
    good: dict[str, object] = {"features": Z, "labels": LABELS, "layer": OLD, "strength": 0.1}
    with pytest.raises(error, match=message):
        logistic_towards(**{**good, **changed})  # type: ignore[arg-type]


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"targets: shape \(40, 2\) came; expected finite numbers of shape \(40, 3\)"):
        ridge_towards(Z, torch.zeros(40, 2), OLD, 0.1)
    with pytest.raises(DataError, match="expected finite numbers"):
        ridge_towards(Z, torch.full((40, 3), torch.nan), OLD, 0.1)
