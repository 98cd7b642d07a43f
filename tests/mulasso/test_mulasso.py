"""The mu-lasso against its definition, scikit-learn's Lasso, SPAMS, and the edge cases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from sklearn.utils.estimator_checks import parametrize_with_checks

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, one_hot
from interpnet.mulasso import MuLasso, mulasso_path

MUS = (5.0, 10.0, 50.0, 200.0)
BOTH = pytest.mark.parametrize("positive", [False, True])


def problem(N: int = 60, m: int = 12, C: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return correlated, non-negative scores and real targets."""
    rng = np.random.default_rng(seed)
    X = np.abs(rng.standard_normal((N, m)) + rng.standard_normal((N, 1)))
    return X, X @ (rng.standard_normal((m, C)) + 0.7) / m + 0.3 * rng.standard_normal((N, C))


def objective(X: np.ndarray, Y: np.ndarray, coef: np.ndarray) -> np.ndarray:
    return 0.5 * ((X @ coef.T - Y) ** 2).sum(axis=0)


def relative_gap(gram: Gram, coef: np.ndarray, mu: float, *, positive: bool) -> np.ndarray:
    """Return the certificate from its definition, one class at a time."""
    gaps = []
    for w, b, yy in zip(coef, gram.B.T, gram.yy, strict=True):
        g = gram.G @ w - b
        pull = max(0.0, (-g).max()) if positive else np.abs(g).max()
        gaps.append((w @ g + mu * pull) / (yy / 2))
    return np.array(gaps)


def spams_solution(gram: Gram, mu: float, *, positive: bool) -> np.ndarray:
    """Return SPAMS's solution from the Gram matrix; of the first argument it uses the columns' norms."""
    spams = pytest.importorskip("spams", reason="spams-bin is not installed")
    m, C = gram.B.shape
    targets = np.zeros((m, C), order="F")
    targets[0] = np.sqrt(gram.yy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coef = spams.lasso(
            targets,
            Q=np.asfortranarray(gram.G),
            q=np.asfortranarray(gram.B),
            L=m,
            lambda1=mu,
            mode=0,
            pos=positive,
            numThreads=1,
            max_length_path=20 * m,
        )
    return coef.toarray().T


def gram_objective(gram: Gram, coef: np.ndarray) -> np.ndarray:
    return 0.5 * ((coef @ gram.G) * coef).sum(axis=1) - (coef * gram.B.T).sum(axis=1) + gram.yy / 2


# --- against others -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("mu", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("shape", [(60, 12), (15, 40)])
def test_agrees_with_sklearn_lasso_at_the_matching_alpha(positive, mu, shape) -> None:
    X, Y = problem(*shape)
    model = MuLasso(mu, positive=positive, tol=1e-12).fit(X, Y)
    assert model.mu_active_.any()
    for j in np.flatnonzero(model.mu_active_):
        correlation = X.T @ (Y[:, j] - X @ model.coef_[j])
        alpha = (correlation.max() if positive else np.abs(correlation).max()) / len(X)
        peer = Lasso(alpha, fit_intercept=False, positive=positive, tol=1e-13, max_iter=1_000_000).fit(X, Y[:, j])
        assert np.abs(peer.coef_).sum() == pytest.approx(mu, rel=1e-5)
        np.testing.assert_allclose(model.decision_function(X)[:, j], peer.predict(X), atol=1e-5)
        ours, theirs = (objective(X, Y[:, [j]], w[None])[0] for w in (model.coef_[j], peer.coef_))
        assert ours == pytest.approx(theirs, rel=1e-6)


@BOTH
@pytest.mark.parametrize("mu", [0.05, 0.3, 0.8, 3.0])
@pytest.mark.parametrize("shape", [(60, 12), (15, 40), (500, 60)])
def test_agrees_with_spams(positive, mu, shape) -> None:
    X, Y = problem(*shape)
    gram = Gram.from_scores(X, Y)
    peer = spams_solution(gram, mu, positive=positive)
    coef = MuLasso(mu, positive=positive, tol=1e-12).fit(X, Y).coef_
    np.testing.assert_allclose(objective(X, Y, coef), objective(X, Y, peer), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(X @ coef.T, X @ peer.T, atol=1e-5)


@pytest.fixture
def real_gram(shared_data) -> Gram:
    with np.load(shared_data / "solver" / "cifar10_resnet20_gram.npz") as data:
        return Gram(data["G"], data["B"], data["yy"], 50_000)


@pytest.mark.shared
@BOTH
def test_real_channel_scores(real_gram, positive) -> None:
    coef = mulasso_path(real_gram, MUS, positive=positive, tol=1e-9)
    for mu, at_mu in zip(MUS, coef, strict=True):
        assert (relative_gap(real_gram, at_mu, mu, positive=positive) <= 1e-9).all()
        assert (np.abs(at_mu).sum(axis=1) <= mu * (1 + 1e-12)).all()
        peer = spams_solution(real_gram, mu, positive=positive)
        np.testing.assert_allclose(gram_objective(real_gram, at_mu), gram_objective(real_gram, peer), rtol=1e-8)
        difference = at_mu - peer  # mean square difference of the predictions over the images, without the images
        assert (((difference @ real_gram.G) * difference).sum(axis=1) / real_gram.n <= 1e-9).all()


@pytest.mark.shared
def test_real_channel_scores_beyond_the_least_squares_solution(real_gram) -> None:
    # Collinear groups (condition number beyond 1e19), and the multiplier falls below 1e-11 of its start.
    two = Gram(real_gram.G, real_gram.B[:, 5:7], real_gram.yy[5:7], real_gram.n)
    model = MuLasso(1000.0).fit_gram(two)
    assert (relative_gap(two, model.coef_, 1000.0, positive=False) <= 1e-6).all()


# --- the estimator ------------------------------------------------------------------------------

# What scikit-learn's own suite asks and we do otherwise, each with the reason.
EXCEPTIONS = {
    "check_classifiers_classes": "decision_function is (N, 2) for two classes, not (N,): one column a class",
    "check_classifiers_train": "decision_function is (N, 2) for two classes, not (N,): one column a class",
    "check_class_weight_classifiers": "no intercept: the heaviest class cannot take all of centred random blobs",
    "check_supervised_y_2d": "a matrix y is a matrix of targets, also with one column, never labels",
}


# At mu = 10 one check more fails, check_sample_weight_equivalence_on_dense_data: its few images leave the ball slack,
# many least squares solutions are optimal, and rounding picks one. What is unique then is tested below.
@parametrize_with_checks([MuLasso(1.0)], expected_failed_checks=lambda _: EXCEPTIONS)
def test_scikit_learn_conventions(estimator, check) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite feeds deliberately odd data
        check(estimator)


def test_labels_of_any_type_and_accuracy() -> None:
    X, Y = problem(C=3)
    names = np.array(["cat", "dog", "owl"])[Y.argmax(axis=1)]
    model = MuLasso(2.0).fit(X, names)
    assert model.classes_.tolist() == ["cat", "dog", "owl"]
    assert set(model.predict(X)) <= {"cat", "dog", "owl"}
    assert model.score(X, names) == pytest.approx((model.predict(X) == names).mean())


def test_labels_equal_their_one_hot_matrix_but_predict_differs() -> None:
    X, Y = problem()
    labels = Y.argmax(axis=1)
    target = one_hot(labels).astype(float)
    by_label = MuLasso(1.0).fit(X, labels)
    by_matrix = MuLasso(1.0).fit(X, target)
    np.testing.assert_allclose(by_label.coef_, by_matrix.coef_, atol=1e-12)
    assert np.array_equal(by_label.predict(X), by_matrix.predict(X).argmax(axis=1))
    np.testing.assert_allclose(by_matrix.predict(X), X @ by_matrix.coef_.T)
    residual = ((by_matrix.predict(X) - target) ** 2).sum(axis=0)
    total = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    assert by_matrix.score(X, target) == pytest.approx((1 - residual / total).mean())


def test_gram_torch_and_memory_map_give_the_same_weights(tmp_path) -> None:
    X, Y = problem()
    X32 = X.astype(np.float32)
    expected = MuLasso(1.0).fit(X32, Y).coef_
    assert np.array_equal(MuLasso(1.0).fit(torch.from_numpy(X32), torch.from_numpy(Y)).coef_, expected)
    mapped = np.memmap(tmp_path / "X.f32", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X32
    assert np.array_equal(MuLasso(1.0).fit(mapped, Y).coef_, expected)
    model = MuLasso(1.0).fit_gram(Gram.from_scores(X32, Y), classes=["a", "b", "c"])
    assert np.array_equal(model.coef_, expected)
    assert set(model.predict(X32)) <= {"a", "b", "c"}


def test_certificate_is_recomputed_at_the_returned_point() -> None:
    X, Y = problem()
    gram = Gram.from_scores(X, Y)
    model = MuLasso(0.3).fit(X, Y)
    np.testing.assert_allclose(
        model.relative_gap_, np.maximum(relative_gap(gram, model.coef_, 0.3, positive=False), 0), atol=1e-14
    )
    np.testing.assert_allclose(model.relative_gap_ * gram.yy / 2, model.dual_gap_)


def test_warning_names_gap_tolerance_and_remedy() -> None:
    X, Y = problem()
    with pytest.warns(ConvergenceWarning, match=r"gap is .* for class \d at mu=0.8 .* above tol=1e-06; raise max_iter"):
        model = MuLasso(0.8, max_iter=1).fit(X, Y)
    assert (model.relative_gap_ > 1e-6).any()
    assert (np.abs(model.coef_).sum(axis=1) <= 0.8 * (1 + 1e-12)).all()
    honest = relative_gap(Gram.from_scores(X, Y), model.coef_, 0.8, positive=False)
    np.testing.assert_allclose(model.relative_gap_, honest, rtol=1e-9)


# --- edge cases ---------------------------------------------------------------------------------


def test_constraint_not_active_gives_least_squares() -> None:
    X, Y = problem()
    model = MuLasso(1e3).fit(X, Y)
    assert not model.mu_active_.any()
    np.testing.assert_allclose(model.coef_.T, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-9)


def test_constraint_not_active_and_singular() -> None:
    X, Y = problem(N=10, m=30)
    model = MuLasso(1e3).fit(X, Y)
    assert not model.mu_active_.any()
    np.testing.assert_allclose(X @ model.coef_.T, Y, atol=1e-7)


@BOTH
def test_zero_and_duplicate_columns(positive) -> None:
    X, Y = problem()
    plain = MuLasso(0.8, positive=positive).fit(X, Y)
    padded = np.concatenate([X, np.zeros((60, 2)), X[:, :5], X[:, :5]], axis=1)
    model = MuLasso(0.8, positive=positive).fit(padded, Y)
    assert not model.coef_[:, 12:14].any()
    np.testing.assert_allclose(model.decision_function(padded), plain.decision_function(X), atol=1e-7)
    np.testing.assert_allclose(objective(padded, Y, model.coef_), objective(X, Y, plain.coef_), rtol=1e-9)


def test_opposite_columns() -> None:
    X, Y = problem()
    model = MuLasso(0.8).fit(np.hstack([X, -X]), Y)
    np.testing.assert_allclose(
        objective(np.hstack([X, -X]), Y, model.coef_),
        objective(X, Y, MuLasso(0.8).fit(X, Y).coef_),
        rtol=1e-9,
    )


def test_all_columns_zero() -> None:
    model = MuLasso(1.0).fit(np.zeros((4, 3)), np.ones((4, 1)))
    assert not model.coef_.any()
    assert model.dual_gap_.tolist() == [0]
    assert not model.mu_active_.any()


def test_one_class_only_as_a_target_matrix() -> None:
    X, _ = problem()
    model = MuLasso(0.5).fit(X, np.ones((60, 1)))
    assert model.coef_.shape == (1, 12)
    assert model.predict(X).shape == (60, 1)


def test_class_without_an_image() -> None:
    X, _ = problem()
    model = MuLasso(0.5).fit_gram(Gram.from_scores(X, np.arange(60) % 2, n_classes=3))
    assert not model.coef_[2].any()
    assert model.coef_[:2].any(axis=1).all()
    assert model.relative_gap_[2] == 0
    assert not model.mu_active_[2]


@BOTH
@pytest.mark.parametrize("mu", [0.5, 5.0, 50.0])
def test_collinear_layer_groups(positive, mu) -> None:
    # As per-layer normalisation makes them: non-negative, each layer's columns sum to one in every row.
    rng = np.random.default_rng(3)
    layers = [rng.gamma(2.0, size=(300, width)) for width in (4, 8, 8, 16)]
    X = np.hstack([layer / layer.sum(axis=1, keepdims=True) for layer in layers])
    labels = (X[:, 3] + X[:, 10] + 0.1 * rng.random(300)).argsort().argsort() * 4 // 300
    gram = Gram.from_scores(X, labels, n_classes=4)
    assert np.linalg.cond(gram.G) > 1e14
    model = MuLasso(mu, positive=positive, tol=1e-9).fit(X, labels)
    assert (relative_gap(gram, model.coef_, mu, positive=positive) <= 1e-9).all()
    peer = spams_solution(gram, mu, positive=positive)
    assert (gram_objective(gram, model.coef_) <= gram_objective(gram, peer) + 1e-8 * gram.yy).all()


@pytest.mark.parametrize("N", [1, 2, 30])
def test_single_column(N) -> None:
    X, Y = problem(N=N, m=1, C=1)
    least_squares = (X[:, 0] @ Y[:, 0]) / (X[:, 0] @ X[:, 0])
    for mu in (abs(least_squares) / 2, abs(least_squares) * 2):
        coef = MuLasso(mu).fit(X, Y).coef_
        assert coef[0, 0] == pytest.approx(np.clip(least_squares, -mu, mu), rel=1e-12)


def test_orthonormal_ties_are_shared_out() -> None:
    # Eight columns reach the bound at once; by symmetry each gets an eighth of the budget.
    model = MuLasso(2.0).fit(np.eye(8), np.ones((8, 1)))
    np.testing.assert_allclose(model.coef_, np.full((1, 8), 0.25), rtol=1e-12)


def test_path_in_any_order_equals_single_solutions() -> None:
    X, Y = problem()
    gram = Gram.from_scores(X, Y)
    mus = [0.8, 0.3, 100.0, 0.05, 0.8]
    path = mulasso_path(gram, mus)
    assert path.shape == (5, 3, 12)
    for mu, coef in zip(mus, path, strict=True):
        np.testing.assert_allclose(coef, MuLasso(mu).fit_gram(gram).coef_, atol=1e-10)


def test_inputs_are_left_alone() -> None:
    X, Y = problem()
    gram = Gram.from_scores(X, Y)
    before = gram.G.copy(), gram.B.copy()
    MuLasso(0.5).fit_gram(gram)
    assert np.array_equal(gram.G, before[0])
    assert np.array_equal(gram.B, before[1])


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mu": -1.0}, "mu is or holds -1.0; expected a number, or one per class, finite and above 0"),
        ({"mu": 0}, "mu is or holds 0; expected a number, or one per class, finite and above 0"),
        ({"mu": float("nan")}, "mu is or holds nan"),
        ({"mu": float("inf")}, "mu is or holds inf"),
        ({"mu": "10"}, "mu is '10'; expected a number"),
        ({"mu": [1.0, 2.0]}, r"mu has shape \(2,\); expected a number, or 3 numbers, one per class"),
        ({"mu": [[1.0, 2.0]]}, r"mu is \[\[1.0, 2.0\]\]; expected a number"),
        ({"mu": [1.0, [2.0]]}, "mu is .*; expected a number"),
        ({"mu": [1.0, 0.0, 2.0]}, "mu is or holds 0.0"),
        ({"mu": None}, "mu is None"),
        ({"class_weight": "even"}, "class_weight is 'even'; expected None, 'balanced'"),
        ({"class_weight": "balanced"}, "class_weight is 'balanced' and y a matrix of targets"),
        ({"warm_start": 1}, "warm_start is 1; expected True or False"),
        ({"device": "abacus"}, "device='abacus' is not a device"),
        ({"device": "meta"}, "device='meta' was asked for, which computes nothing; use device='cpu'"),
        ({"n_jobs": 0}, "n_jobs is 0"),
        ({"n_jobs": 1.5}, "n_jobs is 1.5"),
        ({"tol": 0.0}, "tol is 0.0"),
        ({"tol": float("nan")}, "tol is nan"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"max_iter": 2.5}, "max_iter is 2.5"),
        ({"positive": "yes"}, "positive is 'yes'"),
    ],
)
def test_parameters_that_are_refused(parameters, message) -> None:
    with pytest.raises(InterpNetError, match=message):
        MuLasso(**parameters).fit(*problem())


@pytest.mark.parametrize("mus", [[], [1.0, -1.0], [0.0], [[1.0]], ["a"], [np.nan]])
def test_radii_that_are_refused(mus) -> None:
    with pytest.raises(InterpNetError, match="mus is"):
        mulasso_path(Gram.from_scores(*problem()), mus)


def test_data_that_is_refused() -> None:
    X, Y = problem()
    labels = np.arange(60) % 2
    for column, value, what in ((4, np.nan, "NaN"), (0, np.inf, "infinity")):
        bad = X.copy()
        bad[7, column] = value
        with pytest.raises(DataError, match=f"X contains {what} at row 7, column {column}"):
            MuLasso().fit(bad, labels)
        with pytest.raises(DataError, match=f"X contains {what} at row 7, column {column}"):
            MuLasso().fit(X, labels).predict(bad)
    Y[3, 2] = np.nan
    with pytest.raises(DataError, match="L contains NaN at row 3, column 2"):
        MuLasso().fit(X, Y)
    with pytest.raises(DataError, match="60 rows but y has shape"):
        MuLasso().fit(X, Y[:59])
    with pytest.raises(ValueError, match="60 rows but y has shape"):
        MuLasso().fit(X, labels[:59])
    with pytest.raises(ValueError, match="Unknown label type"):
        MuLasso().fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="0 sample"):
        MuLasso().fit(X[:0], labels[:0])
    with pytest.raises(ValueError, match="12 features"):
        MuLasso().fit(X, labels).predict(X[:, :5])


def test_grams_that_are_refused() -> None:
    with pytest.raises(InterpNetError, match=r"gram is a ndarray; expected an interpnet\.Gram"):
        MuLasso().fit_gram(np.eye(3))
    with pytest.raises(InterpNetError, match="gram is a tuple"):
        mulasso_path((1, 2), [1.0])
    gram = Gram.from_scores(*problem())
    with pytest.raises(InterpNetError, match=r"classes have shape \(2,\); expected \(3,\)"):
        MuLasso().fit_gram(gram, classes=[1, 2])
    G = np.array([[1, 0.8, 0], [0.8, 1, 0.8], [0, 0.8, 1]])
    indefinite = Gram(G, np.zeros((3, 1)), np.ones(1), 3)
    for call in (MuLasso().fit_gram, lambda g: mulasso_path(g, [1.0])):
        with pytest.raises(InterpNetError, match="clearly not positive semidefinite"):
            call(indefinite)
