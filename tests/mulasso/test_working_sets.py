"""Solving from rows: the same solutions as from the Gram, whatever the scores, with small working sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, RowGram, _memory
from interpnet.mulasso import MuLasso, MuLassoCV, _working_sets, mulasso_breakpoints, mulasso_path, stability_selection
from interpnet.mulasso._arguments import Options
from interpnet.mulasso._solver._certified import solve
from interpnet.mulasso._working_sets import solve_by_rows
from interpnet.support.types import Float64


def objective(gram: Gram, coef: Float64) -> Float64:
    """Return the objective (C,) of weights (C, m), relative to that of no weights."""
    value = 0.5 * np.einsum("cm,cm->c", coef @ gram.G, coef) - np.einsum("cm,mc->c", coef, gram.B) + 0.5 * gram.yy
    return value / np.maximum(gram.yy / 2, 1e-300)


def scores(n: int, m: int, seed: int, degenerate: bool) -> tuple[Float64, np.ndarray]:
    """Return scores like those of two layers, and labels; degenerate with empty, repeated and dependent columns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    X = rng.gamma(1.0, 1.0, (n, m))
    X[:, :3] += np.eye(3)[labels]
    if degenerate:
        X[:, 3] = 0.0
        X[:, 4] = X[:, 0]
        X[:, 5] = X[:, 0] + 2 * X[:, 1]
    half = m // 2
    X[:, :half] /= X[:, :half].sum(axis=1, keepdims=True)
    X[:, half:] /= X[:, half:].sum(axis=1, keepdims=True)
    return X.astype(np.float32), labels


@settings(max_examples=40)
@given(
    st.integers(4, 40),
    st.integers(8, 40),
    st.integers(0, 2**16),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.3, 3.0, 30.0, 1000.0]),
    st.sampled_from(["labels", "dense", "sparse"]),
    st.integers(1, 4),
)
def test_rows_give_the_solutions_of_the_gram(
    n: int, m: int, seed: int, degenerate: bool, positive: bool, weighted: bool, mu: float, kind: str, few: int
) -> None:
    X, labels = scores(n, m, seed, degenerate)
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 3, n).astype(float) + (np.arange(n) == 0) if weighted else None
    L = {"labels": labels, "dense": rng.standard_normal((n, 4)), "sparse": sparse.csr_array(np.eye(4)[labels])}[kind]
    classes = 5 if kind == "labels" else None  # of which two have no image
    options = Options(positive, 1e-9)
    gram = Gram.from_scores(X, L, n_classes=classes, sample_weight=weight)
    rows = RowGram.from_scores(X, L, n_classes=classes, sample_weight=weight, block=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_working_sets, "_FEW", few)
        patch.setattr(_working_sets, "_FEWEST", 1)
        patch.setattr(_working_sets, "_TIMES", 0)
        found = solve_by_rows(rows, np.array([mu, mu / 3]), options)
    known = solve(gram, np.array([mu, mu / 3]), options)
    assert found.relative.max() <= max(1e-9, known.relative.max())
    for t in range(2):
        np.testing.assert_allclose(objective(gram, found.coef[t]), objective(gram, known.coef[t]), rtol=0, atol=2e-9)
        assert (np.abs(found.coef[t]).sum(axis=1) <= [mu, mu / 3][t] * (1 + 1e-12)).all()
    if positive:
        assert (found.coef >= 0).all()


def test_a_last_working_set_is_as_large_as_it_must_be_and_no_larger() -> None:
    X, labels = scores(30, 24, 5, degenerate=False)
    gram = Gram.from_scores(X, labels)
    options = Options(tol=1e-9)
    known = solve(gram, np.array([2.0]), options)
    size = int((known.coef[0] != 0).sum(axis=1).max())
    assert 2 <= size < 20
    # Together the three classes need more: they are solved in halves, and columns without a weight make room.
    rows = RowGram.from_scores(X, labels)
    found = solve_by_rows(rows, np.array([2.0]), options, most=size + 2)
    assert found.relative.max() <= 1e-9
    np.testing.assert_allclose(objective(gram, found.coef[0]), objective(gram, known.coef[0]), rtol=0, atol=2e-9)
    with pytest.raises(InterpNetError, match=r"class [012] needs more than 1 of 24 channels at mu=2, .*a smaller mu"):
        solve_by_rows(rows, np.array([2.0]), options, most=1)


def test_beyond_least_squares_the_working_set_may_have_to_hold_as_many_columns_as_there_are_rows() -> None:
    X, labels = scores(12, 40, 1, degenerate=True)
    rows = RowGram.from_scores(X, labels)
    found = solve_by_rows(rows, np.array([1e4]), Options(tol=1e-6), most=14)
    assert found.relative.max() <= 1e-6
    assert not found.active.any()
    np.testing.assert_allclose(X @ found.coef[0].T, np.eye(3)[labels], atol=1e-3)
    with pytest.raises(InterpNetError, match=r"needs more than 6 of 40 channels at mu=10000"):
        solve_by_rows(rows, np.array([1e4]), Options(tol=1e-6), most=6)


def test_a_missed_tolerance_is_a_warning_with_the_gap_of_all_channels() -> None:
    X, labels = scores(30, 24, 5, degenerate=False)
    rows = RowGram.from_scores(X, labels)
    with pytest.warns(UserWarning, match=r"the relative duality gap is .* above tol=1e-18"):
        coef = mulasso_path(rows, [2.0], tol=1e-18)
    gram = Gram.from_scores(X, labels)
    np.testing.assert_allclose(
        objective(gram, coef[0]), objective(gram, mulasso_path(gram, [2.0])[0]), rtol=0, atol=1e-9
    )


def test_estimators_choose_rows_where_the_matrix_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = scores(60, 24, 7, degenerate=True)
    names = np.array(["a", "b", "c"])[labels]
    weight = np.linspace(0.5, 2, 60)
    usual = MuLasso(mu=2.0, tol=1e-9, class_weight="balanced").fit(X, names, weight)
    mus = [0.3, 1.0, 2.0, 4.0]
    chosen = MuLassoCV(mus, cv=3, tol=1e-9).fit(X, names, weight)
    by_rows: list[RowGram] = []
    original = _working_sets.solve_by_rows

    def noted(rows: RowGram, *args: object) -> object:
        by_rows.append(rows)
        return original(rows, *args)

    monkeypatch.setattr("interpnet.mulasso._path.solve_by_rows", noted)
    monkeypatch.setattr(_working_sets, "usable_memory", lambda: 1e9)
    monkeypatch.setattr(_memory, "physical_memory", lambda: 16.0 * 24**2 - 1)
    found = MuLasso(mu=2.0, tol=1e-9, class_weight="balanced").fit(X, names, weight)
    assert len(by_rows) == 1
    np.testing.assert_allclose(X @ found.coef_.T, X @ usual.coef_.T, atol=1e-6)
    np.testing.assert_array_equal(found.mu_active_, usual.mu_active_)
    again = MuLasso(mu=2.0, tol=1e-9, class_weight="balanced", warm_start=True).fit(X, names, weight)
    again.fit(X, names, weight)
    np.testing.assert_allclose(X @ again.coef_.T, X @ usual.coef_.T, atol=1e-6)
    assert by_rows[-1].passes == 2
    cv = MuLassoCV(mus, cv=3, tol=1e-9).fit(X, names, weight)
    assert cv.mu_ == chosen.mu_
    np.testing.assert_allclose(cv.error_path_, chosen.error_path_, rtol=1e-6)
    np.testing.assert_array_equal(cv.accuracy_path_, chosen.accuracy_path_)
    # The default radii follow the columns' sums of squares.
    np.testing.assert_allclose(MuLassoCV(cv=3).fit(X, names).mus_[[0, -1]], default_ends(X, names), rtol=1e-12)


def default_ends(X: Float64, names: np.ndarray) -> Float64:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_memory, "physical_memory", lambda: 1e12)
        return MuLassoCV(cv=3).fit(X, names).mus_[[0, -1]]


def test_halves_are_solved_from_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = scores(64, 10, 3, degenerate=False)
    usual = stability_selection(X, labels, mu=0.5, n_pairs=4, n_blocks=8)
    monkeypatch.setattr(_working_sets, "usable_memory", lambda: 1e9)
    monkeypatch.setattr(_memory, "physical_memory", lambda: 16.0 * 10**2)
    found = stability_selection(X, labels, mu=0.5, n_pairs=4, n_blocks=8)
    np.testing.assert_array_equal(found.frequency, usual.frequency)


def test_what_needs_the_matrix_says_so() -> None:
    X, labels = scores(12, 8, 1, degenerate=False)
    rows = RowGram.from_scores(X, labels)
    with pytest.raises(InterpNetError, match=r"gram is a RowGram; expected an interpnet.Gram"):
        mulasso_breakpoints(rows, 1.0)  # type: ignore[arg-type]


def test_classes_share_the_passes() -> None:
    X, labels = scores(60, 30, 2, degenerate=False)
    rows = RowGram.from_scores(X, labels)
    solve_by_rows(rows, np.array([1.0]), Options(tol=1e-9))
    alone = RowGram.from_scores(X, (labels == 0).astype(float)[:, None])
    solve_by_rows(alone, np.array([1.0]), Options(tol=1e-9))
    assert rows.passes <= alone.passes + 2
    with pytest.raises(DataError, match="X contains NaN at row 3, column 2"):
        RowGram.from_scores(np.where(np.arange(480).reshape(60, 8) == 26, np.nan, 1.0), labels)
