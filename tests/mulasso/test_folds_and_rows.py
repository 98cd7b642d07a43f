"""Folds, halves, labels and rows: which images count, what is refused before they are read, and blocks of rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import (
    MuLasso,
    MuLassoCV,
    Stability,
    _folds,
    _half_samples,
    _linear_model,
    stability_selection,
)
from interpnet.mulasso._arguments import Options
from interpnet.mulasso._folds import assign_folds, held_out_accuracy
from interpnet.mulasso._half_samples import block_grams, draw_halves, selected_share
from interpnet.mulasso._targets import Targets, read_targets


def data(n: int = 48, m: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % 2)
    return rng.random((n, m)) + 0.4 * np.eye(m)[labels], labels


GRAM = Gram.from_scores(*data())
HALVES = [Gram.from_scores(data()[0][k::2], data()[1][k::2], n_classes=2) for k in range(2)]


# --- folds and halves ---------------------------------------------------------------------------------------


def targets(labels: list[int], **given: Any) -> Targets:
    return read_targets(np.array(labels), len(labels), given.get("sample_weight"), given.get("class_weight"))


def test_folds_by_hand() -> None:
    target = targets([0, 1, 0, 1, 0, 1])
    one = (np.array([0, 1, 2, 3]), np.array([4, 5]))
    assert assign_folds([one], target, 6, 0).tolist() == [-1, -1, -1, -1, 0, 0]
    two = (np.array([2, 3, 4, 5]), np.array([0, 1]))
    assert assign_folds([one, two], target, 6, 0).tolist() == [1, 1, -1, -1, 0, 0]
    for cv, message in (
        ([], r"cv is \[\], which has no folds"),
        ([(np.array([], dtype=int), np.arange(6))], "fold 0 trains on 0 and tests on 6 of 6"),
        ([one, (np.arange(6), np.array([0]))], "fold 1 trains on 6 and tests on 1 of 6"),
        ([one, one], "fold 1 holds images out that an earlier fold did"),
    ):
        with pytest.raises(DataError, match=message):
            assign_folds(cv, target, 6, 0)
    # Targets without labels are not stratified.
    plain = Targets(np.ones((6, 2)), np.arange(2), labels=False, weight=None, sample_weight=None)
    assert np.bincount(assign_folds(3, plain, 6, 0)).tolist() == [2, 2, 2]
    assert np.bincount(assign_folds(np.int64(2), target, 6, 0)).tolist() == [3, 3]


def test_accuracies_of_a_fold_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folds, "_ROWS", 4)
    X = np.random.default_rng(0).standard_normal((11, 3))
    labels = np.arange(11) % 2
    weight = np.arange(1.0, 12.0)
    target = targets(labels.tolist(), sample_weight=weight, class_weight={0: 9.0, 1: 1.0})
    coef = np.random.default_rng(1).standard_normal((2, 2, 3))
    rows = np.array([0, 2, 3, 4, 5, 7, 8, 9, 10])
    found = held_out_accuracy(X, target, rows, coef, None)
    for t in range(2):
        right = (X[rows] @ coef[t].T).argmax(axis=1) == labels[rows]
        assert found[t] == pytest.approx((weight[rows] * right).sum() / weight[rows].sum())


def test_numbers_of_blocks_and_pairs_at_their_bounds() -> None:
    assert len(draw_halves(1000, 1, 0, "n_blocks")[0]) == 500
    assert [half.tolist() for half in draw_halves(2, 1, 0, "n_blocks")] == [[0]]
    for n_blocks, message in (
        (1002, "n_blocks is 1002; expected a whole number from 2 to 1000"),
        (1, "n_blocks is 1; expected a whole number from 2 to 1000"),
    ):
        with pytest.raises(InterpNetError, match=message):
            draw_halves(n_blocks, 1, 0, "n_blocks")
    with pytest.raises(InterpNetError, match="seed is -1"):
        draw_halves(4, 1, -1, "n_blocks")
    for half in draw_halves(12, 20, 3, "n_blocks"):
        assert half.tolist() == sorted(half.tolist())


def test_what_is_wrong_is_said_before_the_scores_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = data()
    monkeypatch.setattr(_half_samples, "part_grams", lambda *_, **__: pytest.fail("the scores were read"))
    given: dict[str, Any] = {"class_weight": None, "sample_weight": None}
    # mu even before X is looked at.
    with pytest.raises(InterpNetError, match="mu is or holds 0"):
        block_grams(object(), labels, 0, 4, 0, **given)
    with pytest.raises(InterpNetError, match=r"X has shape \(48,\); expected \(N, m\)"):
        block_grams(X[:, 0], labels, 1.0, 4, 0, **given)
    with pytest.raises(InterpNetError, match=r"mu has shape \(3,\); expected a number, or 2"):
        block_grams(X, labels, [1.0] * 3, 4, 0, **given)
    with pytest.raises(InterpNetError, match=r"^y: Unknown label type"):
        block_grams(X, labels + 0.5, 1.0, 4, 0, **given)
    with pytest.raises(InterpNetError, match=r"^y: '<' not supported between"):
        block_grams(X, np.array(["a", 1] * 24, dtype=object), 1.0, 4, 0, **given)


def test_the_bar_counts_every_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tuple[Any, ...]] = []
    steps: list[int] = []

    @contextmanager
    def bar(description: str, total: int, *, unit: str, enabled: bool) -> Any:
        bars.append((description, total, unit, enabled))
        yield steps.append

    monkeypatch.setattr(_half_samples, "progress_bar", bar)
    halves = [np.array([0])]
    for progress in (True, False):
        selected_share(halves, HALVES, 0.5, Options(), progress=progress)
    assert bars == [("stability", 2, "solutions", True), ("stability", 2, "solutions", False)]
    assert steps == [1] * 4
    stability_selection(*data(), mu=0.5, n_pairs=1, n_blocks=2)
    Stability.from_grams(HALVES, mu=0.5, n_pairs=1)
    stability_selection(*data(), mu=0.5, n_pairs=1, n_blocks=2, progress=False)
    Stability.from_grams(HALVES, mu=0.5, n_pairs=1, progress=False)
    assert [enabled for *_, enabled in bars[2:]] == [True, True, False, False]


def test_a_result_keeps_plain_values() -> None:
    found = Stability(np.array([[1, 0]]), 2, 1.0, True)
    assert (found.frequency.dtype, found.frequency.tolist()) == (np.float64, [[1.0, 0.0]])
    assert stability_selection(*data(), mu=np.float32(0.5), n_pairs=1, n_blocks=2).mu == 0.5
    with pytest.raises(InterpNetError, match="n_subsamples is 0"):
        Stability(np.ones((1, 1)), 0, 1.0, False)
    with pytest.raises(InterpNetError, match="mu is or holds 0"):
        Stability(np.ones((1, 1)), 2, 0.0, False)


# --- labels and weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([-(2**63), 2**63 - 1], np.int64),
        ([0, 2**64 - 1], np.uint64),
        ([0, 2**63], np.uint64),
    ],
)
def test_whole_numbers_in_the_type_that_holds_them(labels: list[Any], dtype: Any) -> None:
    given = np.array(labels, dtype=object)
    assert read_targets(given, 2, None, None).classes.dtype == dtype


def test_truths_are_no_whole_numbers() -> None:
    with pytest.raises(ValueError, match="Unknown label type"):
        read_targets(np.array([True, False], dtype=object), 2, None, None)


@pytest.mark.parametrize("label", [2**64, -(2**63) - 1])
def test_whole_numbers_beyond_every_type(label: int) -> None:
    with pytest.raises(DataError, match=f"label {label} at row 1 does not fit a 64-bit integer"):
        read_targets(np.array([0, label], dtype=object), 2, None, None)


def test_floats_merge_from_2_to_the_53_on() -> None:
    assert read_targets(np.array([0.0, 2.0**53 - 1]), 2, None, None).classes.tolist() == [0.0, 2.0**53 - 1]
    for label in (2.0**53, -(2.0**53)):
        with pytest.raises(DataError, match="at row 1 is beyond 2"):
            read_targets(np.array([0.0, label]), 2, None, None)


def test_targets_without_labels() -> None:
    target = read_targets(np.ones((3, 2)), 3, [1.0, 0.0, 2.0], None)
    assert (target.classes.tolist(), target.labels) == ([0, 1], False)
    assert target.weight.tolist() == target.sample_weight.tolist() == [1.0, 0.0, 2.0]
    with pytest.raises(DataError, match="sample_weight is zero for all 3 rows"):
        read_targets(np.ones((3, 2)), 3, [0.0, 0.0, 0.0], None)
    for wrong in ("even", 5, ["balanced"]):
        with pytest.raises(InterpNetError, match="class_weight is"):
            read_targets([0, 1], 2, None, wrong)


# --- rows in blocks -----------------------------------------------------------------------------------------


def test_decisions_in_blocks_and_what_is_wrong_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = data()
    model = MuLasso(0.8).fit(X, labels)
    monkeypatch.setattr(_linear_model, "ROWS", 10)
    np.testing.assert_allclose(model.decision_function(X), X @ model.coef_.T)
    bad = X.copy()
    bad[23, 4] = np.inf
    with pytest.raises(DataError, match="X contains infinity at row 23, column 4"):
        model.predict(bad)


@pytest.mark.parametrize("matrix", [False, True])
def test_scores_weigh_their_rows(matrix: bool) -> None:
    X, labels = data()
    y = np.random.default_rng(0).random((48, 2)) if matrix else labels
    model = MuLasso(0.3).fit(X, y)
    weight = np.where(np.arange(48) < 20, 1.0, 0.0)
    assert model.score(X, y, weight) == pytest.approx(model.score(X[:20], y[:20]))
    assert model.score(X, y, weight) != model.score(X, y)


def test_a_tensor_on_a_device_is_checked_by_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    # As for a CUDA tensor on a machine without one: the predicate alone is changed.
    monkeypatch.setattr(_linear_model, "stays_on_device", lambda X: isinstance(X, torch.Tensor))
    X, labels = data()
    model = MuLasso(0.8)
    given = torch.from_numpy(X)
    assert model._scores(given, reset=True) is given
    assert model.n_features_in_ == 6
    assert model._scores(given, reset=False) is given
    with pytest.raises(ValueError, match="5 features"):
        model._scores(given[:, :5], reset=False)
    model.fit(given, labels)
    np.testing.assert_allclose(model.coef_, MuLasso(0.8).fit(X, labels).coef_)


def test_scores_of_the_estimators_are_checked_before_they_are_read() -> None:
    X, labels = data()
    for kind in (MuLasso, MuLassoCV):
        with pytest.raises(InterpNetError, match="max_iter is 0"):
            kind(max_iter=0).fit(X * np.nan, labels)
    assert MuLassoCV(random_state=2**32 - 1)._options() == Options()
    with pytest.raises(InterpNetError, match="random_state is 4294967296"):
        MuLassoCV(random_state=2**32)._options()
    assert MuLassoCV([0.8, 0.2, 0.8, 0.4], cv=2).fit(X, labels).mus_.tolist() == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("kind", [MuLasso, MuLassoCV])
def test_what_a_fit_from_grams_keeps(kind: Any) -> None:
    model = MuLasso(0.8).fit_gram(GRAM, classes=["a", "b"])
    if kind is MuLassoCV:
        model = MuLassoCV([0.2, 0.8]).fit_grams(HALVES, classes=["a", "b"])
    assert model.n_features_in_ == 6
    assert model.classes_.tolist() == ["a", "b"]
    assert set(model.predict(data()[0])) == {"a", "b"}
    for name in ("dual_gap_", "relative_gap_", "mu_active_", "n_iter_"):
        assert getattr(model, name).shape == (2,)
    np.testing.assert_allclose(model.dual_gap_, model.relative_gap_ * GRAM.yy / 2)
