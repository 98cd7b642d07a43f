"""Certificates by hand, what the seeds decide, and what reaches the solver of halves and folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from interpnet.gram import Gram, random_parts
from interpnet.mulasso import MuLasso, MuLassoCV, Stability, stability_selection
from interpnet.mulasso._half_samples import block_grams, draw_halves
from interpnet.mulasso._selection_curve import choose, default_mus, mean_and_se, squared_error
from interpnet.mulasso._solver._batched_systems import pull_of
from interpnet.mulasso._solver._certified import duality_gap, objective_at_zero
from interpnet.mulasso._targets import read_targets


def tensor(*rows: Any) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# G = I. For each case: b, w, mu, whether w >= 0 is asked for; the gap and the pull by hand.
GAPS = {
    # Every column pulls below zero, which weights not below zero cannot follow: w.g = 2, pull 0.
    "positive, nothing pulls": ([-1.0, -2.0], [1.0, 0.0], 3.0, True, 2.0, 0.0),
    # The same without the sign: g = (2, 2), the pull is 2 and the gap 2 + 3 * 2.
    "signed, both pull below": ([-1.0, -2.0], [1.0, 0.0], 3.0, False, 8.0, 2.0),
    # At zero: g = -b, the gap is mu * the largest pull.
    "positive, at zero": ([1.0, -4.0], [0.0, 0.0], 3.0, True, 3.0, 1.0),
    "signed, at zero": ([1.0, -4.0], [0.0, 0.0], 3.0, False, 12.0, 4.0),
    "positive, at zero and nothing pulls": ([-1.0, -4.0], [0.0, 0.0], 3.0, True, 0.0, 0.0),
    # The optimum inside the ball: w = b.
    "signed, optimal inside": ([1.0, -0.5], [1.0, -0.5], 3.0, False, 0.0, 0.0),
    "positive, optimal inside": ([1.0, -0.5], [1.0, 0.0], 3.0, True, 0.0, 0.0),
    # The optimum on the ball: mu = 1, b = (3, 1): w = (1, 0), g = (-2, -1), gap = -2 + 1 * 2.
    "signed, optimal on the ball": ([3.0, 1.0], [1.0, 0.0], 1.0, False, 0.0, 2.0),
}


@pytest.mark.parametrize("case", GAPS)
def test_gaps_by_hand(case: str) -> None:
    b, w, mu, positive, gap, pull = GAPS[case]
    found = duality_gap(torch.eye(2).double(), tensor(b), tensor(w), torch.tensor([mu]).double(), positive=positive)
    assert [float(value) for value in found] == [gap, pull]
    # The gap is never below what is left to gain: f(w) - f(best) over a fine grid.
    grid = np.linspace(-mu, mu, 61)
    best = min(
        0.5 * (x * x + y * y) - b[0] * x - b[1] * y
        for x in grid
        for y in grid
        if abs(x) + abs(y) <= mu + 1e-12 and (not positive or min(x, y) >= 0)
    )
    assert gap >= 0.5 * (w[0] ** 2 + w[1] ** 2) - b[0] * w[0] - b[1] * w[1] - best - 1e-12


def test_pulls_have_the_sign_that_weights_may_have() -> None:
    values = tensor([1.0, -3.0, 0.0])
    assert pull_of(values, positive=True).tolist() == [[1.0, -3.0, 0.0]]
    assert pull_of(values, positive=False).tolist() == [[1.0, 3.0, 0.0]]


def test_the_objective_at_zero_is_half_the_squares() -> None:
    gram = Gram(np.eye(2), np.array([[1.0, 0.0], [0.5, 0.0]]), np.array([4.0, 0.0]), 3)
    assert objective_at_zero(gram)[0] == 2.0
    assert objective_at_zero(gram)[1] == np.finfo(np.float64).tiny


# --- seeds ------------------------------------------------------------------------------------------------


def data(n: int = 96, m: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % classes)
    return rng.random((n, m)) + 0.4 * np.eye(m)[labels], labels


def test_the_seed_decides_the_halves() -> None:
    drawn = [[half.tolist() for half in draw_halves(12, 6, seed, "n_blocks")] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_seed_decides_the_blocks() -> None:
    X, labels = data()
    made = [block_grams(X, labels, 0.5, 4, seed, class_weight=None, sample_weight=None) for seed in (0, 0, 1)]
    assert all(np.array_equal(a.G, b.G) for a, b in zip(made[0], made[1], strict=True))
    assert not all(np.array_equal(a.G, b.G) for a, b in zip(made[0], made[2], strict=True))
    part = random_parts(labels, 4, 1)
    for p, gram in enumerate(made[2]):
        np.testing.assert_allclose(gram.G, X[part == p].T @ X[part == p])


def test_the_seed_of_grams_decides_the_halves_alone() -> None:
    X, labels = data()
    blocks = block_grams(X, labels, 0.5, 8, 0, class_weight=None, sample_weight=None)
    found = [Stability.from_grams(blocks, mu=0.5, n_pairs=3, seed=seed, progress=False) for seed in (0, 0, 3)]
    assert np.array_equal(found[0].frequency, found[1].frequency)
    assert not np.array_equal(found[0].frequency, found[2].frequency)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_frequencies_by_a_loop_over_halves(positive: bool, class_weight: str | None) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [48, 16])
    X = rng.standard_normal((64, 5)) - 0.5 * np.eye(5)[labels]
    found = stability_selection(
        X, labels, mu=0.4, n_pairs=3, n_blocks=4, positive=positive, class_weight=class_weight, seed=2, progress=False
    )
    part = random_parts(labels, 4, 2)
    counts = np.zeros((2, 5))
    weight = np.ones(64)
    if class_weight:
        weight = 64 / (2 * np.bincount(labels)[labels])
    for half in draw_halves(4, 3, 2, "n_blocks"):
        for rows in (np.isin(part, half), ~np.isin(part, half)):
            gram = Gram.from_scores(X[rows], labels[rows], n_classes=2, sample_weight=weight[rows])
            counts += MuLasso(0.4, positive=positive).fit_gram(gram).coef_ != 0
    np.testing.assert_allclose(found.frequency, counts / 6)
    assert (found.n_subsamples, found.mu, found.positive) == (6, 0.4, positive)


@pytest.mark.filterwarnings("ignore:the chosen mu is")
def test_the_seed_decides_the_folds() -> None:
    X, labels = data()
    paths = [MuLassoCV([0.1, 0.5, 1.0], random_state=s).fit(X, labels).error_path_ for s in (0, 0, 1)]
    assert np.array_equal(paths[0], paths[1])
    assert not np.allclose(paths[0], paths[2])


# --- folds ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the chosen mu is")
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("sample_weight", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_errors_and_accuracies_of_the_folds_by_a_loop(
    class_weight: str | None, sample_weight: bool, positive: bool
) -> None:
    X, labels = data(n=90)
    labels = np.where(np.arange(90) < 20, 0, labels)
    weight = np.random.default_rng(3).random(90) + 0.5 if sample_weight else np.ones(90)
    both = weight.copy()
    if class_weight:
        totals = np.bincount(labels, weights=weight)
        both *= weight.sum() / (3 * totals[labels])
    mus = np.array([0.2, 0.6, 1.5])
    model = MuLassoCV(mus, cv=3, class_weight=class_weight, positive=positive, random_state=5)
    model.fit(X, labels, sample_weight=weight if sample_weight else None)
    L = np.eye(3)[labels]
    for k, (train, test) in enumerate(
        StratifiedKFold(3, shuffle=True, random_state=5).split(np.empty((90, 0)), labels)
    ):
        gram = Gram.from_scores(X[train], L[train], sample_weight=both[train])
        for t, mu in enumerate(mus):
            w = MuLasso(mu, positive=positive, tol=1e-9).fit_gram(gram).coef_
            values = X[test] @ w.T
            error = (both[test][:, None] * (values - L[test]) ** 2).sum(0) / both[test].sum()
            np.testing.assert_allclose(model.error_path_[k, t], error, rtol=1e-4, atol=1e-6)
            right = values.argmax(1) == labels[test]
            assert model.accuracy_path_[k, t] == pytest.approx((weight[test] * right).sum() / weight[test].sum())
            assert model.n_channels_path_[k, t].tolist() == np.count_nonzero(w, axis=1).tolist()
    everything = Gram.from_scores(X, L, sample_weight=both)
    np.testing.assert_allclose(
        model.coef_, MuLasso(model.mu_, positive=positive, tol=1e-9).fit_gram(everything).coef_, atol=1e-5
    )


def test_rules_by_hand() -> None:
    """Three folds at four radii: means 4, 2.5, 2, 2.25; the best has a standard error of 0.577."""
    errors = np.array([[4.0, 2.0, 1.0, 2.0], [4.0, 2.5, 2.0, 2.25], [4.0, 3.0, 3.0, 2.5]])
    mean, se = mean_and_se(errors)
    np.testing.assert_allclose(mean, [4.0, 2.5, 2.0, 2.25])
    np.testing.assert_allclose(se, np.array([0.0, 0.5, 1.0, 0.25]) / np.sqrt(3))
    best, one_se = choose(errors)
    assert (int(best), int(one_se)) == (2, 1)
    mean, se = mean_and_se(errors[:1])
    assert se.tolist() == [0.0] * 4
    # Each class by its own errors.
    both = np.stack([errors, errors[:, ::-1]], 2)
    best, one_se = choose(both)
    assert best.tolist() == [2, 1]
    assert one_se.tolist() == [1, 0]


@pytest.mark.parametrize("m", [4, 40])
def test_squared_errors_without_the_scores(m: int) -> None:
    """Few weights and many: both ways to the same sum."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, m))
    L = rng.standard_normal((30, 2))
    coef = rng.standard_normal((3, 2, m))
    coef[0, 0, 2:] = 0
    coef[1, 1] = 0
    gram = Gram.from_scores(X, L)
    expected = [[((X @ coef[t, c] - L[:, c]) ** 2).sum() for c in range(2)] for t in range(3)]
    np.testing.assert_allclose(squared_error(gram, coef), expected)


def test_radii_follow_what_one_channel_weighs() -> None:
    """G = diag(4, 1), B = (2, 0.5) and (-3, 0): the best single channels weigh 0.5 and 0.75, their median is 0.625."""
    gram = Gram(np.diag([4.0, 1.0]), np.array([[2.0, -3.0], [0.5, 0.0]]), np.array([9.0, 9.0]), 5)
    np.testing.assert_allclose(default_mus(gram, positive=False), 0.625 * np.geomspace(0.1, 50, 20))
    # Weights not below zero: the second class has no channel, so the first's 0.5 counts alone.
    np.testing.assert_allclose(default_mus(gram, positive=True), 0.5 * np.geomspace(0.1, 50, 20))
    silent = Gram(np.zeros((2, 2)), np.zeros((2, 1)), np.ones(1), 5)
    np.testing.assert_allclose(default_mus(silent, positive=False), np.geomspace(0.1, 50, 20))


def test_balanced_weights_by_hand() -> None:
    labels = np.array(["b", "a", "b", "b"])
    found = read_targets(labels, 4, None, "balanced")
    assert found.classes.tolist() == ["a", "b"]
    np.testing.assert_allclose(found.weight, [2 / 3, 2.0, 2 / 3, 2 / 3])
    assert found.sample_weight is None
    # With weights for counts: a weighs 3, b 1 + 2 + 0.
    found = read_targets(labels, 4, [1.0, 3.0, 2.0, 0.0], "balanced")
    np.testing.assert_allclose(found.weight, [1.0, 3.0, 2.0, 0.0])
    np.testing.assert_allclose(found.sample_weight, [1.0, 3.0, 2.0, 0.0])
    found = read_targets(labels, 4, None, {"a": 5.0, "b": 0.5})
    np.testing.assert_allclose(found.weight, [0.5, 5.0, 0.5, 0.5])
