"""The radius chosen on held-out images: errors from Grams alone, the rules, and the curve as a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.planted import MUS, labelled, planted

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso, MuLassoCV
from interpnet.mulasso._selection_curve import (
    SelectionCurve,
    affordable,
    choose,
    choose_by_accuracy,
    default_mus,
    mean_and_se,
    squared_error,
)

# --- the measurements ---------------------------------------------------------------------------


@pytest.mark.parametrize("m", [5, 40])
def test_squared_error_from_the_gram_is_that_from_the_scores(m) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((70, m))
    L = rng.standard_normal((70, 3))
    coef = rng.standard_normal((4, 3, m)) * (rng.random((4, 3, m)) < np.array([0.0, 0.05, 0.3, 1.0])[:, None, None])
    expected = ((X[None, :, :] @ coef.transpose(0, 2, 1) - L) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared_error(Gram.from_scores(X, L), coef), expected, rtol=1e-12)


def test_squared_error_of_a_perfect_fit_is_not_negative() -> None:
    X = np.random.default_rng(0).standard_normal((9, 2)) * 1e4
    gram = Gram.from_scores(X, X @ np.ones((2, 1)))
    assert 0 <= squared_error(gram, np.ones((1, 1, 2)))[0, 0] < 1e-4


def test_errors_channels_and_accuracy_are_those_of_fits_without_the_fold() -> None:
    X, labels = labelled()
    weight = np.linspace(0.5, 2.0, len(X))
    folds = [(np.flatnonzero(np.arange(240) % 3 != k), np.flatnonzero(np.arange(240) % 3 == k)) for k in range(3)]
    model = MuLassoCV(MUS, cv=folds).fit(X, labels, weight)
    L = np.eye(3)[labels]
    for k, (train, test) in enumerate(folds):
        for t, mu in enumerate(MUS):
            apart = MuLasso(mu).fit(X[train], labels[train], weight[train])
            residual = X[test] @ apart.coef_.T - L[test]
            error = (weight[test, None] * residual**2).sum(axis=0) / weight[test].sum()
            np.testing.assert_allclose(model.error_path_[k, t], error, atol=1e-7)
            assert model.n_channels_path_[k, t].tolist() == np.count_nonzero(apart.coef_, axis=1).tolist()
            right = apart.score(X[test], labels[test], weight[test])
            assert model.accuracy_path_[k, t] == pytest.approx(right)
    np.testing.assert_allclose(model.curve_.error_mean, model.error_path_.mean(axis=(0, 2)))
    spread = model.error_path_.mean(axis=2).std(axis=0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(model.curve_.error_se, spread)
    np.testing.assert_allclose(model.curve_.accuracy_mean, model.accuracy_path_.mean(axis=0))
    np.testing.assert_allclose(model.curve_.channels_mean, model.n_channels_path_.mean(axis=(0, 2)))


def test_fitted_weights_are_those_of_the_plain_estimator_at_the_chosen_radius() -> None:
    X, labels = labelled()
    names = np.array(["cat", "dog", "owl"])[labels]
    model = MuLassoCV(MUS).fit(X, names)
    plain = MuLasso(model.mu_).fit(X, names)
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-9)
    assert model.classes_.tolist() == ["cat", "dog", "owl"]
    assert model.score(X, names) == plain.score(X, names) > 0.8
    assert (model.relative_gap_ <= 1e-6).all()


# --- the choice ---------------------------------------------------------------------------------


def test_choice_by_hand() -> None:
    # Means 4, 2, 1, 3; at the smallest (1) the folds are 0.5 and 1.5, so the standard error is 0.5.
    errors = np.array([[4.0, 2.0, 0.5, 3.0], [4.0, 2.0, 1.5, 3.0]])
    mean, se = mean_and_se(errors)
    assert mean.tolist() == [4, 2, 1, 3]
    np.testing.assert_allclose(se, [0, 0, 0.5, 0])
    assert [int(i) for i in choose(errors)] == [2, 2]
    errors[:, 1] = 1.5  # exactly one standard error above
    assert [int(i) for i in choose(errors)] == [2, 1]
    both = np.stack([errors, errors[:, ::-1]], axis=2)
    assert [i.tolist() for i in choose(both)] == [[2, 1], [1, 1]]
    assert [int(i) for i in choose(errors[:1])] == [2, 2]  # one fold has no standard error


def test_planted_channels_are_found() -> None:
    X, L = planted(noise=1.0)
    best = MuLassoCV(np.geomspace(0.1, 10, 15), rule="best").fit(X, L)
    assert 0.8 <= best.mu_ <= 1.4  # the planted weights have an l1 norm of 1
    model = MuLassoCV(np.geomspace(0.1, 10, 15)).fit(X, L)
    assert model.mu_ == model.mu_one_se_ < model.mu_best_ == best.mu_
    for c in range(3):
        assert set(np.argsort(-np.abs(model.coef_[c]))[:2]) == {2 * c, 2 * c + 1}
    assert np.count_nonzero(model.coef_) < np.count_nonzero(best.coef_)
    assert model.accuracy_path_ is None
    assert model.curve_.accuracy_mean is None


def test_choice_by_accuracy_by_hand() -> None:
    # Means 0.5, 0.7, 0.8, 0.9; at 0.9 the folds are 0.8 and 1.0, so the standard error is 0.1; at 0.8 it is 0.2.
    accuracy = np.array([[0.5, 0.7, 0.6, 0.8], [0.5, 0.7, 1.0, 1.0]])
    everything = np.ones(4, dtype=bool)
    assert choose_by_accuracy(accuracy, everything) == 2
    assert choose_by_accuracy(accuracy, np.array([True, True, False, True])) == 3
    # Without the last, 0.8 is the best and 0.7 within its standard error; 0.5 is not.
    assert choose_by_accuracy(accuracy, np.array([True, True, True, False])) == 1
    assert choose_by_accuracy(accuracy, np.array([True, False, False, False])) == 0
    assert affordable(np.array([3.0, 4.0, 2.0, 9.0]), 2.5).tolist() == [True, False, True, False]
    assert affordable(np.array([3.0, 4.0]), 4.0).tolist() == [True, True]
    assert affordable(np.array([3.0, 4.0]), None).tolist() == [True, True]


@pytest.mark.parametrize("most", [None, 3.0])
def test_the_accuracy_names_fewer_channels_than_the_error(most) -> None:
    X, labels = labelled()
    model = MuLassoCV(MUS, rule="accuracy", most_channels=most).fit(X, labels)
    curve = model.curve_
    mean = curve.accuracy_mean
    allowed = curve.channels_mean <= (most or np.inf)
    allowed[0] = True
    best = int(np.argmax(np.where(allowed, mean, -1)))
    within = [
        mu for mu, a, ok in zip(MUS, mean, allowed, strict=True) if ok and a >= mean[best] - curve.accuracy_se[best]
    ]
    assert model.mu_ == curve.chosen == min(within)
    assert (curve.rule, curve.most) == ("accuracy", most)
    assert curve.allowed.tolist() == allowed.tolist()
    by_error = MuLassoCV(MUS).fit(X, labels)
    assert model.mu_ <= by_error.mu_
    if most is None:
        assert (model.mu_best_, model.mu_one_se_) == (by_error.mu_best_, by_error.mu_one_se_)
        assert model.mu_ == curve.enough
    else:
        assert max(model.mu_best_, model.mu_one_se_) <= max(np.array(MUS)[allowed])
    np.testing.assert_allclose(model.coef_, MuLasso(model.mu_).fit(X, labels).coef_, atol=1e-8)


def test_the_accuracy_needs_labels_and_scores() -> None:
    X, L = planted()
    with pytest.raises(InterpNetError, match="y is a matrix of targets; expected one label per image"):
        MuLassoCV(rule="accuracy").fit(X, L)
    grams = [Gram.from_scores(X[i::2], L[i::2]) for i in range(2)]
    with pytest.raises(InterpNetError, match="Grams have no images left to name"):
        MuLassoCV(rule="accuracy").fit_grams(grams)


def test_one_radius_a_class() -> None:
    X, L = planted()
    L[:, 1] *= 4  # needs four times the budget
    model = MuLassoCV(np.geomspace(0.1, 10, 15), per_class=True, rule="best").fit(X, L)
    assert model.mu_.shape == (3,)
    assert model.mu_[1] > 2.5 * model.mu_[[0, 2]].max()
    assert (model.mu_one_se_ <= model.mu_best_).all()
    np.testing.assert_allclose(model.coef_, MuLasso(model.mu_).fit(X, L).coef_, atol=1e-8)
    single = [MuLassoCV(np.geomspace(0.1, 10, 15), rule="best").fit(X, L[:, [c]]).mu_ for c in range(3)]
    assert model.mu_.tolist() == single
    assert model.curve_.to_json()["chosen"] == model.mu_.tolist()


def test_choice_and_default_grid_follow_the_scale_of_the_scores() -> None:
    X, labels = labelled()
    one, other = (MuLassoCV(cv=3).fit(X * scale, labels) for scale in (1.0, 2.0**-7))
    np.testing.assert_allclose(other.mus_, one.mus_ * 2.0**7, rtol=1e-12)
    np.testing.assert_allclose(other.error_path_, one.error_path_, rtol=1e-6)
    assert other.mu_ == pytest.approx(one.mu_ * 2.0**7)
    np.testing.assert_allclose(other.predict(X * 2.0**-7), one.predict(X))


def test_default_grid_by_hand() -> None:
    # What a column alone explains is B^2 / G. Class 0: 25 and 16, so column 0, weight 5; class 1: 16 and 0.25, so
    # column 0, weight 4; class 2: 1 and 25, so column 1, weight 2.5.
    B = np.array([[5.0, -4.0, 1.0], [8.0, 1.0, 10.0], [0.0, 0.0, 0.0]])
    gram = Gram(np.diag([1.0, 4.0, 0.0]), B, np.full(3, 99.0), 9)
    mus = default_mus(gram, positive=False)
    assert len(mus) == 20
    np.testing.assert_allclose(mus[[0, -1]], [0.1 * 4, 50 * 4])
    np.testing.assert_allclose(np.diff(np.log(mus)), np.log(500) / 19)
    np.testing.assert_allclose(default_mus(gram, positive=True)[0], 0.1 * 2.5)  # class 1 has column 1, weight 0.25
    nothing = Gram(np.eye(1), np.zeros((1, 1)), np.ones(1), 2)
    assert default_mus(nothing, positive=False)[0] == 0.1


def test_an_end_of_the_grid_is_said() -> None:
    X, L = planted()
    with pytest.warns(UserWarning, match=r"chosen mu is 0\.3, at an end of the 3 radii tried \(0\.1 to 0\.3\)"):
        MuLassoCV([0.1, 0.2, 0.3], rule="best").fit(X, L)
    L[:, 1] = np.random.default_rng(5).standard_normal(300)  # nothing to find: the less the better
    with pytest.warns(UserWarning, match=r"chosen mu is 0\.1 and 0\.3, at an end"):
        MuLassoCV([0.1, 0.2, 0.3], rule="best", per_class=True).fit(X, L)
    assert MuLassoCV([0.2]).fit(X, L).mu_ == 0.2  # one radius is no choice


# --- the curve as a file ------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [False, True])
def test_curve_goes_to_json_and_back(per_class) -> None:
    X, labels = labelled()
    curve = MuLassoCV(MUS, per_class=per_class).fit(X, labels).curve_
    again = SelectionCurve.from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False)))
    assert again.to_json() == curve.to_json()
    assert again.mus.tolist() == MUS
    assert (again.rule, again.n_folds, again.most) == ("one_se", 5, None)
    earlier = curve.to_json()
    del earlier["most"]
    assert SelectionCurve.from_json(earlier).to_json() == curve.to_json()
    assert np.array_equal(again.error_mean, curve.error_mean)
