"""The folds that a mu-lasso is chosen on, the weights of images and classes, and every kind of scores and targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.planted import MUS, labelled
from scipy import sparse
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, ShuffleSplit, StratifiedKFold

from interpnet.gram import Gram, part_grams
from interpnet.mulasso import MuLasso, MuLassoCV, mulasso_path
from interpnet.mulasso._selection_curve import squared_error


@pytest.mark.parametrize(
    "cv",
    [
        4,
        None,
        KFold(4),
        StratifiedKFold(4),
        PredefinedSplit(np.arange(240) % 4),
        [(np.arange(240) % 4 != k, np.arange(240) % 4 == k) for k in range(4)],
    ],
)
def test_folds_of_every_kind(cv) -> None:
    X, labels = labelled()
    model = MuLassoCV(MUS, cv=cv).fit(X, labels)
    assert model.error_path_.shape == (5 if cv is None else 4, 6, 3)
    assert model.curve_.n_folds == len(model.error_path_)


def test_rows_that_no_fold_holds_out_are_trained_on() -> None:
    X, labels = labelled()
    fold = np.where(np.arange(240) < 60, -1, np.arange(240) % 2)
    model = MuLassoCV(MUS, cv=PredefinedSplit(fold)).fit(X, labels)
    coef = mulasso_path(Gram.from_scores(X[fold != 1], labels[fold != 1]), MUS)
    error = squared_error(Gram.from_scores(X[fold == 1], labels[fold == 1]), coef) / (fold == 1).sum()
    np.testing.assert_allclose(model.error_path_[1], error, atol=1e-8)
    np.testing.assert_allclose(model.coef_, MuLasso(model.mu_).fit(X, labels).coef_, atol=1e-8)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (ShuffleSplit(3, random_state=0), "cv: fold 1 holds images out that an earlier fold did"),
        (ShuffleSplit(1, test_size=0.2, train_size=0.5), "cv: fold 0 trains on 120 and tests on 48 of 240 images"),
        ([(np.arange(240), np.arange(120))], "cv: fold 0 trains on 240 and tests on 120 of 240"),
        ([(np.arange(240), [])], "cv: fold 0 trains on 240 and tests on 0"),
        (1, "at least one train/test split"),
        (241, "n_splits=241"),
        (GroupKFold(3), "groups"),
        ("five", "cv"),
    ],
)
def test_folds_that_are_refused(cv, message) -> None:
    with pytest.raises(ValueError, match=message):
        MuLassoCV(MUS, cv=cv).fit(*labelled())


def test_seed_decides_the_folds() -> None:
    X, labels = labelled()
    one, again, other = (MuLassoCV(MUS, random_state=s).fit(X, labels).error_path_ for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_weights_equal_repeated_rows() -> None:
    X, labels = labelled()
    weight = 1 + np.arange(240) % 3
    copies = np.repeat(np.arange(240), weight)
    fold = np.arange(240) // 48
    weighted = MuLassoCV(MUS, cv=PredefinedSplit(fold)).fit(X, labels, weight)
    repeated = MuLassoCV(MUS, cv=PredefinedSplit(fold[copies])).fit(X[copies], labels[copies])
    np.testing.assert_allclose(weighted.error_path_, repeated.error_path_, atol=1e-8)
    np.testing.assert_allclose(weighted.accuracy_path_, repeated.accuracy_path_)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-8)


def test_balanced_classes() -> None:
    X, labels = labelled()
    keep = np.flatnonzero((labels > 0) | (np.arange(240) % 4 == 0))
    X = X[keep]
    labels = labels[keep]
    each = len(labels) / (3 * np.bincount(labels))
    fold = np.arange(len(labels)) % 3
    model = MuLassoCV(MUS, cv=PredefinedSplit(fold), class_weight="balanced").fit(X, labels)
    by_hand = MuLassoCV(MUS, cv=PredefinedSplit(fold)).fit(X, labels, each[labels])
    np.testing.assert_allclose(model.error_path_, by_hand.error_path_, atol=1e-9)
    assert model.mu_ == by_hand.mu_
    apart = MuLasso(MUS[2]).fit(X[fold != 1], labels[fold != 1], each[labels[fold != 1]])
    # Images count alike in the accuracy: class weights say what is fitted, not what is counted.
    assert model.accuracy_path_[1, 2] == pytest.approx(apart.score(X[fold == 1], labels[fold == 1]))
    assert model.accuracy_path_[1, 2] != pytest.approx(by_hand.accuracy_path_[1, 2])
    weight = np.linspace(0.2, 3.0, len(labels))
    both = weight * (weight.sum() / (3 * np.bincount(labels, weights=weight)))[labels]
    model = MuLassoCV(MUS, cv=PredefinedSplit(fold), class_weight="balanced").fit(X, labels, weight)
    apart = MuLasso(MUS[2]).fit(X[fold != 1], labels[fold != 1], both[fold != 1])
    right = apart.score(X[fold == 1], labels[fold == 1], weight[fold == 1])
    assert model.accuracy_path_[1, 2] == pytest.approx(right)


def test_memory_map_tensor_and_sparse_targets(tmp_path) -> None:
    X, labels = labelled()
    X = X.astype(np.float32)
    mapped = np.memmap(tmp_path / "X.f32", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    expected = MuLassoCV(MUS).fit(X, labels)
    for given in (mapped, torch.from_numpy(X)):
        model = MuLassoCV(MUS).fit(given, labels)
        assert np.array_equal(model.error_path_, expected.error_path_)
        assert np.array_equal(model.accuracy_path_, expected.accuracy_path_)
    L = np.eye(3)[labels]
    dense, thin = (MuLassoCV(MUS).fit(mapped, target) for target in (L, sparse.csr_array(L)))
    np.testing.assert_allclose(dense.error_path_, thin.error_path_, atol=1e-12)
    assert MuLassoCV(MUS, accuracy=False).fit(mapped, labels).accuracy_path_ is None


def test_on_a_device(device: str) -> None:
    X, labels = labelled()
    expected = MuLassoCV(MUS).fit(X, labels)
    for given in (X, torch.from_numpy(X).to(device)):
        model = MuLassoCV(MUS, device=device).fit(given, labels)
        np.testing.assert_allclose(model.error_path_, expected.error_path_, atol=1e-7)
        np.testing.assert_allclose(model.accuracy_path_, expected.accuracy_path_)
        assert np.array_equal(model.predict(given), expected.predict(X))


def test_from_the_grams_of_the_folds() -> None:
    X, labels = labelled()
    fold = np.arange(240) % 4
    expected = MuLassoCV(MUS, cv=PredefinedSplit(fold)).fit(X, labels)
    grams = part_grams(X, labels, fold)
    model = MuLassoCV(MUS).fit_grams(grams, classes=["a", "b", "c"])
    np.testing.assert_allclose(model.error_path_, expected.error_path_, atol=1e-12)
    assert model.accuracy_path_ is None
    assert model.mu_ == expected.mu_
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-12)
    assert set(model.predict(X)) <= {"a", "b", "c"}
    plain = [Gram(g.G, g.B, g.yy, g.n) for g in grams]
    np.testing.assert_allclose(MuLassoCV(MUS).fit_grams(plain).error_path_, model.error_path_, atol=1e-12)
    assert all(gram.is_definite for gram in plain)  # tested once, fold by fold, and remembered
