"""What the estimator is given besides scores: weights, radii, target matrices, labels of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso
from interpnet.mulasso._solver._certified import solve
from interpnet.mulasso._targets import read_targets


def problem(N: int = 60, m: int = 12, C: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return correlated, non-negative scores and real targets."""
    rng = np.random.default_rng(seed)
    X = np.abs(rng.standard_normal((N, m)) + rng.standard_normal((N, 1)))
    return X, X @ (rng.standard_normal((m, C)) + 0.7) / m + 0.3 * rng.standard_normal((N, C))


# --- weights, radii, targets --------------------------------------------------------------------


def test_masked_values_are_no_values() -> None:
    hidden = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(DataError, match="X has 1 masked values"):
        MuLasso(mu=1.0).fit(hidden, [0, 1])
    with pytest.raises(DataError, match="the array has 1 masked values"):
        MuLasso(mu=1.0).fit(hidden.data, np.ma.array([0, 1], mask=[True, False]))


def test_sample_weight_counts_rows() -> None:
    X, Y = problem()
    labels = Y.argmax(axis=1)
    weight = np.arange(60) % 4
    copies = np.repeat(np.arange(60), weight)
    for y in (labels, Y):
        weighted = MuLasso(0.7, tol=1e-10).fit(X, y, weight)
        np.testing.assert_allclose(weighted.coef_, MuLasso(0.7, tol=1e-10).fit(X[copies], y[copies]).coef_, atol=1e-9)


def test_sample_weight_counts_rows_also_where_many_solutions_are_optimal() -> None:
    X, Y = problem(N=12, m=30)
    weight = np.arange(12) % 3
    copies = np.repeat(np.arange(12), weight)
    weighted = MuLasso(10.0).fit(X, Y, weight)
    repeated = MuLasso(10.0).fit(X[copies], Y[copies])
    assert not weighted.mu_active_.any()
    for model in (weighted, repeated):
        np.testing.assert_allclose(model.predict(X[copies]), Y[copies], atol=1e-6)


def test_balanced_classes_weigh_the_same() -> None:
    X, _ = problem()
    labels = np.array(["rare"] * 6 + ["often"] * 42 + ["some"] * 12)
    each = {"rare": 60 / (3 * 6), "often": 60 / (3 * 42), "some": 60 / (3 * 12)}
    weight = np.array([each[name] for name in labels])
    expected = MuLasso(0.7).fit(X, labels, weight).coef_
    np.testing.assert_allclose(MuLasso(0.7, class_weight="balanced").fit(X, labels).coef_, expected, atol=1e-10)
    np.testing.assert_allclose(MuLasso(0.7, class_weight=each).fit(X, labels).coef_, expected, atol=1e-10)
    # Row weights take part in the counts, as if rows were repeated.
    twice = MuLasso(0.7, class_weight="balanced").fit(X, labels, np.full(60, 2.0))
    np.testing.assert_allclose(twice.coef_, expected, atol=1e-10)


def test_a_class_without_weight_has_nothing_to_balance() -> None:
    found = read_targets(["a", "a", "b", "c"], 4, [1.0, 2.0, 1.0, 0.0], "balanced")
    # Weight 4 in two classes: 2 for each.
    np.testing.assert_allclose(found.weight, [2 / 3, 4 / 3, 2.0, 0.0])
    assert found.sample_weight.tolist() == [1, 2, 1, 0]


def test_weights_that_are_refused() -> None:
    X, Y = problem()
    labels = np.arange(60) % 3
    with pytest.raises(DataError, match=r"sample_weight has shape \(59,\); expected \(60,\)"):
        MuLasso().fit(X, Y, np.ones(59))
    with pytest.raises(DataError, match=r"sample_weight is -1\.0 at row 0"):
        MuLasso().fit(X, Y, np.full(60, -1.0))
    with pytest.raises(DataError, match=r"y has one class only, 2, among 60 images \(2 without weight\)"):
        MuLasso().fit(X, labels, labels == 2)
    with pytest.raises(DataError, match=r"class_weight is -1\.0 at row 1"):
        MuLasso(class_weight={1: -1.0}).fit(X, labels)
    with pytest.raises(DataError, match="sample_weight times class_weight is zero"):
        MuLasso(class_weight={0: 0, 1: 0, 2: 0}).fit(X, labels)
    with pytest.raises(InterpNetError, match="class_weight is 'balanced', but a Gram has no images left to weigh"):
        MuLasso(class_weight="balanced").fit_gram(Gram.from_scores(X, labels))


def test_a_radius_a_class() -> None:
    X, Y = problem(C=4)
    mu = np.array([0.3, 0.4, 0.3, 0.5])
    model = MuLasso(mu).fit(X, Y)
    for c in range(4):
        alone = MuLasso(mu[c]).fit(X, Y[:, [c]])
        np.testing.assert_allclose(model.coef_[c], alone.coef_[0], atol=1e-10)
        assert model.relative_gap_[c] <= 1e-6
        assert model.mu_active_[c] == alone.mu_active_[0]
    np.testing.assert_allclose(np.abs(model.coef_).sum(axis=1), mu, rtol=1e-12)
    assert (model.n_iter_ >= 1).all()


def test_the_warning_names_the_radius_of_the_class() -> None:
    X, Y = problem()
    with pytest.warns(ConvergenceWarning, match=r"at mu=0\.[89]"):
        MuLasso([0.8, 0.9, 0.8], max_iter=1).fit(X, Y)


def test_sparse_targets() -> None:
    X, Y = problem()
    Y *= np.random.default_rng(0).random(Y.shape) < 0.3
    expected = MuLasso(0.5).fit(X, Y)
    model = MuLasso(0.5).fit(X, sparse.csr_array(Y))
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-12)
    assert model.score(X, sparse.csr_array(Y)) == pytest.approx(expected.score(X, Y))


def test_warm_start_hands_over_the_last_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = problem()
    starts = []

    def watched(gram, mus, options, start):
        starts.append(start)
        return solve(gram, mus, options, start)

    monkeypatch.setattr("interpnet.mulasso._path.solve", watched)
    model = MuLasso(0.5, warm_start=True).fit(X, Y)
    first = model.coef_
    second = model.set_params(mu=0.6).fit(X, Y).coef_
    model.fit(X[:, :4], Y)  # another shape: nothing to start from
    MuLasso(0.5).fit(X, Y)
    assert starts[0] is None
    assert starts[1] is first
    assert starts[2:] == [None, None]
    np.testing.assert_allclose(second, MuLasso(0.6).fit(X, Y).coef_, atol=1e-8)


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([7] * 60, "y has one class only, 7, among 60 images; expected labels of at least two classes"),
        ([2**70, 1] * 30, f"label {2**70} at row 0 does not fit a 64-bit integer"),
        ([2**63, -1] * 30, "label 9.2233720368547758e.18 at row 0 is beyond 2.53, where floats merge"),
        (np.array([-(2**63) - 1, 0] * 30, dtype=object), "label -9223372036854775809 at row 0 does not fit"),
        (np.array([2**63, -1] * 30, dtype=object), "label 9223372036854775808 at row 0 does not fit"),
        ([0.0, np.nan] * 30, "y contains NaN at row 1; expected labels"),
        ([0.0, 1.0, -np.inf] * 20, "y contains infinity at row 2; expected labels"),
        ([0.5, 1.0] * 30, "Unknown label type"),
        ([0, None] * 30, "Unknown label type"),
        ([], r"y has shape \(0,\)"),
        (None, "requires y to be passed"),
        (np.zeros((60, 0)), r"L has shape \(60, 0\)"),
        (np.zeros((60, 1, 1)), r"L has shape \(60, 1, 1\)"),
    ],
)
def test_labels_that_are_refused(labels, message) -> None:
    with pytest.raises(ValueError, match=message):
        MuLasso().fit(problem()[0], labels)


@pytest.mark.parametrize(
    "names",
    [
        np.array([2**64 - 1, 2**64 - 2, 3], dtype=np.uint64),
        np.array([-(2**63), 2**63 - 1, 3]),
        np.array([2**62, -5, 3], dtype=object),
        np.array([2**63 + 1, 2**63, 3], dtype=object),
        np.array([True, False]),
        np.array(["a", "b", "c"], dtype=object),
    ],
)
def test_labels_at_the_ends_of_their_type_are_kept_apart(names) -> None:
    X, Y = problem()
    index = Y.argmax(axis=1) % len(names)
    model = MuLasso(1.0).fit(X, names[index])
    assert model.classes_.tolist() == sorted(names.tolist())
    expected = MuLasso(1.0).fit(X, index)
    assert np.array_equal(model.predict(X), names[expected.predict(X)])
