"""What reaches the solver and what is said of it: options, radii, warnings and where they point, break points."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import (
    MuLasso,
    MuLassoCV,
    Stability,
    _breakpoints,
    _path,
    mulasso_breakpoints,
    mulasso_path,
    stability_selection,
)
from interpnet.mulasso._arguments import Options, check_grams, checked_radii, class_labels, class_radii, plain_radii
from interpnet.mulasso._breakpoints import BreakPoints
from interpnet.mulasso._breakpoints import _path as path_of
from interpnet.mulasso._path import solve_warned
from interpnet.mulasso._solver._certified import Solution

OPTIONS = {"positive": True, "tol": 1e-3, "max_iter": 55, "device": "cpu", "n_jobs": 2}


def data(n: int = 48, m: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % 2)
    return rng.random((n, m)) + 0.4 * np.eye(m)[labels], labels


GRAM = Gram.from_scores(*data())
HALVES = [Gram.from_scores(data()[0][k::2], data()[1][k::2], n_classes=2) for k in range(2)]


# --- options and radii --------------------------------------------------------------------------------------


def test_options_are_plain_values() -> None:
    options = Options(np.True_, np.float32(0.5), np.int64(7))
    assert [type(value) for value in (options.positive, options.tol, options.max_iter)] == [bool, float, int]
    assert Options() == Options(False, 1e-6, 20_000, None, None)
    assert [Options(n_jobs=n).n_jobs for n in (1, -1, np.int64(3))] == [1, -1, 3]


def test_a_device_without_float64_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.engine.resolve_device", torch.device)
    assert Options(device="cuda").device == "cuda"
    with pytest.raises(InterpNetError, match="device is 'mps'; expected 'cpu' or 'cuda': the solver works in float64"):
        Options(device="mps")


@pytest.mark.parametrize(
    "call",
    [
        lambda **options: MuLasso(2.0, **options).fit(*data()),
        lambda **options: MuLasso(2.0, **options).fit_gram(GRAM),
        lambda **options: MuLassoCV([0.5, 1.0], cv=2, **options).fit(*data()),
        lambda **options: MuLassoCV([0.5, 1.0], **options).fit_grams(HALVES),
        lambda **options: mulasso_path(GRAM, [2.0], **options),
        lambda **options: stability_selection(*data(), mu=0.5, n_pairs=1, n_blocks=2, **options),
        lambda **options: Stability.from_grams(HALVES, mu=0.5, n_pairs=1, **options),
    ],
)
def test_every_option_reaches_the_solver(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = _path.solve

    def watched(gram: Gram, mus: np.ndarray, options: Options, start: Any) -> Solution:
        seen.append(options)
        return real(gram, mus, options, start)

    monkeypatch.setattr(_path, "solve", watched)
    call(**OPTIONS)
    assert seen
    assert set(seen) == {Options(**OPTIONS)}


def test_radii_by_hand() -> None:
    assert checked_radii(3, "mu", "a number", (0,)).dtype == np.float64
    for bad in (True, 1j, "1", [], np.zeros(0)):
        with pytest.raises(InterpNetError, match="expected one, finite and above 0"):
            checked_radii(bad, "mu", "one", (0, 1))
    with pytest.raises(InterpNetError, match=r"mu is or holds -2\.0; expected one"):
        checked_radii([1.0, -2.0, 0.0], "mu", "one", (0, 1))
    assert class_radii(2, 3).tolist() == [2.0, 2.0, 2.0]
    assert class_radii([1, 2, 3], 3).tolist() == [1.0, 2.0, 3.0]
    # One number in a list is no number for all.
    with pytest.raises(InterpNetError, match=r"mu has shape \(1,\); expected a number, or 3 numbers"):
        class_radii([2.0], 3)
    assert plain_radii(np.float32(2)) == 2.0
    assert type(plain_radii(np.float32(2))) is float
    assert plain_radii([1, 2]).dtype == np.float64


def test_labels_of_classes() -> None:
    assert class_labels(None, 3).tolist() == [0, 1, 2]
    assert class_labels(["a", "b"], 2).tolist() == ["a", "b"]
    for labels in (["a"], [["a", "b"]], "ab"):
        with pytest.raises(InterpNetError, match=r"expected \(2,\), one label per class"):
            class_labels(labels, 2)


def test_every_gram_is_checked() -> None:
    indefinite = Gram(np.array([[1, 0.8, 0], [0.8, 1, 0.8], [0, 0.8, 1]]), np.zeros((3, 1)), np.ones(1), 3)
    good = Gram(np.eye(3), np.zeros((3, 1)), np.ones(1), 3)
    with pytest.raises(InterpNetError, match="not positive semidefinite"):
        check_grams(good, indefinite)
    for call in (
        lambda: mulasso_breakpoints(indefinite, 1.0),
        lambda: MuLassoCV([1.0]).fit_grams([good, indefinite]),
        lambda: Stability.from_grams([good, indefinite], mu=1.0, n_pairs=1),
    ):
        with pytest.raises(InterpNetError, match="not positive semidefinite"):
            call()


# --- warnings -----------------------------------------------------------------------------------------------


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function without the check of shapes that the tests wrap it in, which is a frame of its own."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    "call",
    [
        lambda: MuLasso(0.8, max_iter=1).fit(*data()),
        lambda: MuLasso(0.8, max_iter=1).fit_gram(GRAM),
        lambda: MuLassoCV([0.8], cv=2, max_iter=1).fit(*data()),
        lambda: MuLassoCV([0.8], max_iter=1).fit_grams(HALVES),
        lambda: bare(mulasso_path)(GRAM, [0.8], max_iter=1),
        lambda: bare(stability_selection)(*data(), mu=0.8, n_pairs=1, n_blocks=2, max_iter=1),
        lambda: Stability.from_grams(HALVES, mu=0.8, n_pairs=1, max_iter=1),
    ],
)
def test_warnings_point_at_the_callers_line(call: Callable[[], Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    found = [w for w in caught if w.category is ConvergenceWarning]
    assert found
    assert {w.filename for w in found} == {__file__}


def solved(relative: list[list[float]]) -> Solution:
    gaps = np.array(relative)
    zeros = np.zeros((*gaps.shape, 2))
    return Solution(zeros, gaps, gaps, np.ones(gaps.shape[1], dtype=np.int64), gaps > 0)


@pytest.mark.parametrize(
    ("relative", "mus", "message"),
    [
        # The worst is named by its class and its own radius; how many classes miss, at whichever radius.
        (
            [[2e-3, 1e-9, 0.0], [0.0, 3e-3, 0.0]],
            [1.0, 2.0],
            r"gap is 3\.00e-03 for class b at mu=2 \(missed by 2 of 3 classes\), above tol=0\.001; .* \(now 9\) or tol",
        ),
        ([[5e-3, 0.0, 2e-3]], [[4.0, 5.0, 6.0]], r"gap is 5\.00e-03 for class a at mu=4 \(missed by 2 of 3"),
        ([[5e-3, 0.0, np.nan]], [[4.0, 5.0, 6.0]], r"gap is nan for class c at mu=6 \(missed by 2 of 3"),
    ],
)
def test_words_of_a_missed_tolerance(
    relative: list[list[float]], mus: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    solution = solved(relative)
    monkeypatch.setattr(_path, "solve", lambda *_: solution)
    gram = Gram(np.eye(2), np.ones((2, 3)), np.full(3, 9.0), 5)
    options = Options(tol=1e-3, max_iter=9)
    with pytest.warns(ConvergenceWarning, match=message):
        found = solve_warned(gram, np.array(mus), options, depth=1, classes=np.array(["a", "b", "c"]))
    assert found is solution


def test_a_tolerance_that_is_just_reached_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_path, "solve", lambda *_: solved([[1e-3, 0.0]]))
    gram = Gram(np.eye(2), np.ones((2, 2)), np.full(2, 9.0), 5)
    solve_warned(gram, np.array([1.0]), Options(tol=1e-3), depth=1)  # a warning would be an error


@pytest.mark.parametrize("kind", [MuLasso, MuLassoCV])
def test_warnings_name_the_class_by_its_label(kind: Any) -> None:
    X, labels = data()
    names = np.array(["cat", "dog"])
    mu = {"mu": 0.8} if kind is MuLasso else {"mus": [0.8], "cv": 2}
    with pytest.warns(ConvergenceWarning, match="for class (cat|dog) at mu"):
        kind(max_iter=1, **mu).fit(X, names[labels])


# --- break points -------------------------------------------------------------------------------------------


def points(gap: float = 0.0) -> BreakPoints:
    coef = sparse.csr_matrix(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 2.0]]))
    return BreakPoints(np.array([0.0, 1.0, 5.0]), np.array([3.0, 2.0, gap]), coef, np.zeros(3))


def test_weights_at_and_between_break_points() -> None:
    path = points()
    assert [path.at(mu).tolist() for mu in (0.5, 1, 2.0, 5.0, 9.0)] == [[0.5, 0], [1, 0], [1.5, 0.5], [3, 2], [3, 2]]
    assert len(path) == 3
    assert path.first().tolist() == [0.0, 1.0]
    # Beyond the end where the multiplier is not yet rounding.
    assert points(3e-9).at(9.0).tolist() == [3, 2]
    open_end = points(4e-9)
    assert open_end.at(5.0).tolist() == [3, 2]
    with pytest.raises(InterpNetError, match=r"mu is 5\.1; expected at most 5, where this path ends"):
        open_end.at(5.1)


def test_events_that_are_one_break_point() -> None:
    # G = I, b = (3, 2): break points at 1 and 5. Zero, a copy up to rounding and what lies beyond the end are none.
    gram = Gram(np.eye(2), np.array([[9.0, 3.0], [9.0, 2.0]]), np.array([200.0, 20.0]), 5)
    found = path_of(gram, 1, np.array([1e-13, 1.0 - 1e-13, 1.0, 5.0 + 1e-9, 0.0, 5.0]), Options())
    np.testing.assert_allclose(found.mu, [0.0, 1.0, 5.0], rtol=1e-12)
    np.testing.assert_allclose(found.multiplier, [3.0, 2.0, 0.0], atol=1e-12)
    assert found.relative_gap[0] == 0.0
    assert found.coef.nnz == 3
    # 1e-11 of the largest radius apart they are two.
    assert len(path_of(gram, 1, np.array([1.0, 1.0 + 1e-10, 5.0]), Options())) == 4


def test_gaps_of_break_points_are_those_of_the_weights_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    gram = Gram(np.eye(2), np.array([[3.0], [2.0]]), np.array([20.0]), 5)

    def off(one: Gram, mus: np.ndarray, options: Options) -> Any:
        assert (mus.tolist(), options.tol) == ([5.0], 0.5)
        # The second weight is below 1e-9 of the radius.
        return Solution(np.array([[[4.0, 4e-9]]]), mus, mus, mus, mus)

    monkeypatch.setattr(_breakpoints, "solve", off)
    # At (4, 0): the correlation is (-1, 2), the gap 5 * 2 + 4 = 14, relative to 10.
    with pytest.warns(ConvergenceWarning, match=r"gap is 1\.40e\+00 for class 0 at mu=5, above tol=0\.5"):
        found = path_of(gram, 0, np.array([5.0]), Options(tol=0.5))
    assert found.coef.toarray().tolist() == [[0.0, 0.0], [4.0, 0.0]]
    assert (found.multiplier.tolist(), found.relative_gap.tolist()) == ([3.0, 2.0], [0.0, 1.4])
    monkeypatch.setattr(_breakpoints, "solve", lambda *_: Solution(np.array([[[4.0, 6e-9]]]), *[np.zeros(1)] * 4))
    assert path_of(gram, 0, np.array([5.0]), Options(tol=1.4 + 1e-6)).coef.nnz == 2


def test_warnings_of_break_points_point_at_the_callers_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _breakpoints.homotopy
    monkeypatch.setattr(_breakpoints, "homotopy", lambda *a, max_steps, **o: real(*a, max_steps=1, **o))
    b = np.array([[3.0, 0.0, 1.0], [2.0, 0.0, 3.0]])
    gram = Gram(np.eye(2), b, np.full(3, 20.0), 5)
    with pytest.warns(ConvergenceWarning, match="the path of class 2, 0 could not be followed to mu=5 ") as caught:
        mulasso_breakpoints(gram, 5.0, classes=[2, 0])
    assert caught[0].filename == __file__
