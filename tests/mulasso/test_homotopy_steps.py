"""The homotopy by itself: every event against scikit-learn's LARS, and paths by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import lars_path_gram

from interpnet.mulasso._solver._homotopy import _Walk, homotopy

BOTH = pytest.mark.parametrize("positive", [False, True])


def correlated(seed: int, N: int, m: int, C: int) -> tuple[np.ndarray, np.ndarray]:
    """Return G (m, m) and b (C, m) of columns that share a factor."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m)) + rng.standard_normal((N, 1))
    return X.T @ X, rng.standard_normal((C, N)) @ X


def knots(G: np.ndarray, b: np.ndarray, *, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the multipliers (E,) of the path's knots and the weights there (E, m)."""
    alphas, _, coefs = lars_path_gram(
        Xy=b, Gram=G, n_samples=1, method="lasso", positive=positive, alpha_min=0.0, max_iter=10_000
    )
    weights = coefs.T.copy()
    if positive:
        # scikit-learn's last point is not the least squares solution where weights may not be negative.
        L = np.linalg.cholesky(G)
        weights[-1] = nnls(L.T, np.linalg.solve(L, b))[0]
    return alphas, weights


def at_radius(coefs: np.ndarray, mu: float) -> np.ndarray:
    """Return the weights (m,) at a radius, on the line between two knots."""
    norms = np.abs(coefs).sum(axis=1)
    e = min(int(np.searchsorted(norms, mu)), len(norms) - 1)
    share = min(1.0, (mu - norms[e - 1]) / (norms[e] - norms[e - 1]))
    return (1 - share) * coefs[e - 1] + share * coefs[e]


class Events:
    """What the homotopy reports, class by class."""

    def __init__(self) -> None:
        self.points: dict[int, list[np.ndarray]] = {}

    def __call__(self, ids: torch.Tensor, weight: torch.Tensor) -> None:
        for c, w in zip(ids.tolist(), weight.numpy().copy(), strict=True):
            self.points.setdefault(c, []).append(w)


def follow(G: np.ndarray, b: np.ndarray, mus: np.ndarray, **options: Any) -> tuple[Any, Events]:
    events = Events()
    settings = {"positive": False, "max_steps": 10_000} | options
    found = homotopy(torch.from_numpy(G), torch.from_numpy(b), torch.from_numpy(mus), on_event=events, **settings)
    return found, events


@BOTH
@pytest.mark.parametrize(("N", "m"), [(80, 30), (150, 90)])
def test_events_and_weights_are_those_of_lars(N: int, m: int, positive: bool) -> None:
    C = 5
    G, b = correlated(N, N, m, C)
    peers = [knots(G, b[c], positive=positive)[1] for c in range(C)]
    full = np.array([np.abs(coefs[-1]).sum() for coefs in peers])
    # Radii inside two neighbouring knots, many knots apart and, for some classes, beyond the path's end.
    mus = full * np.array([[0.01, 0.3, 0.9, 0.2, 0.05], [0.012, 0.6, 1.1, 0.21, 0.5], [0.4, 0.9, 1.5, 0.22, 2.0]])
    found, events = follow(G, b, mus, positive=positive)
    assert not found.stalled.any()
    for c, coefs in enumerate(peers):
        for t in range(3):
            expected = at_radius(coefs, min(mus[t, c], full[c]))
            np.testing.assert_allclose(found.coef[t, c], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
        # One event per knot before the last radius; the path's end, where nothing happens, is none.
        inside = int((np.abs(coefs[:-1]).sum(axis=1) < mus[2, c]).sum())
        assert int(found.steps[c]) == inside == len(events.points[c])
        np.testing.assert_allclose(events.points[c], coefs[:inside], rtol=1e-7, atol=1e-8)


def test_all_columns_of_a_wide_problem_find_a_slot() -> None:
    # 70 independent columns join one after the other: more than the slots there are at first, twice over.
    b = np.linspace(70.0, 1.0, 70)[None]
    found, events = follow(np.eye(70), b, np.array([[1e4]]))
    assert not found.stalled.any()
    assert found.coef[0, 0].tolist() == pytest.approx(b[0].tolist())
    assert int(found.steps[0]) == 70
    # At event k the first k columns weigh b - b_k.
    for k, point in enumerate(events.points[0]):
        np.testing.assert_allclose(point, np.maximum(b[0] - b[0, k], 0), atol=1e-10)


def test_a_path_cut_short_ends_at_its_last_safe_point() -> None:
    G, b = correlated(1, 150, 90, 3)
    mus = np.full((2, 3), 1e4)
    mus[0, 1] = 1e-6  # passed before the path is cut
    found, events = follow(G, b, mus, max_steps=40)
    assert found.steps.tolist() == [40, 40, 40]
    assert found.stalled.all()
    assert [len(events.points[c]) for c in range(3)] == [40, 40, 40]
    for c in range(3):
        # Points are made safe after every 32nd event.
        np.testing.assert_allclose(found.coef[1, c], events.points[c][31], rtol=1e-6, atol=1e-9)
    assert float(found.coef[0, 1].abs().sum()) == pytest.approx(1e-6)
    found, _ = follow(G, b, mus[1:], max_steps=5)
    assert found.steps.tolist() == [5, 5, 5]
    assert not found.coef.any()  # nothing is safe yet but w = 0
    assert found.stalled.all()


def test_a_class_that_needs_as_many_steps_as_there_are_is_cut_too() -> None:
    b = np.array([[3.0, 2.0, 1.0]])
    # Three joins, and a fourth look to see that the radius is reached.
    assert follow(np.eye(3), b, np.array([[6.0]]), max_steps=3)[0].stalled.tolist() == [True]
    found = follow(np.eye(3), b, np.array([[6.0]]), max_steps=4)[0]
    assert (found.stalled.tolist(), found.coef[0, 0].tolist()) == ([False], [3.0, 2.0, 1.0])


def test_inverses_are_looked_at_after_every_32_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("refresh", "secure", "compact"):
        real = getattr(_Walk, name)
        monkeypatch.setattr(_Walk, name, lambda walk, name=name, real=real: (called.append(name), real(walk))[1])
    b = np.linspace(70.0, 1.0, 70)[None]
    follow(np.eye(70), b, np.array([[1e4]]))
    assert called == ["refresh", "secure", "compact"] * 2


def test_a_column_that_depends_on_active_ones_is_tried_once_and_left() -> None:
    # Columns e1, e2 and 0.5 e1 + 0.2 e2 + 1e-6 e3; targets (3, 2, 3e5). With the first two active the third correlates
    # by 0.3 + 0.7 of the multiplier and reaches it at 1, but only 1e-12 of its square is its own.
    G = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.2], [0.5, 0.2, 0.29 + 1e-12]])
    found, events = follow(G, np.array([[3.0, 2.0, 2.2]]), np.array([[10.0]]))
    assert (found.stalled.tolist(), int(found.steps[0])) == ([False], 3)
    np.testing.assert_allclose(found.coef[0, 0], [3.0, 2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(events.points[0], [[0, 0, 0], [1, 0, 0], [2, 1, 0]], atol=1e-12)
    # With 1e-10 of its square of its own it joins, and takes weight from the others.
    G[2, 2] = 0.29 + 1e-10
    found, _ = follow(G, np.array([[3.0, 2.0, 2.2]]), np.array([[10.0]]))
    assert float(found.coef[0, 0, 2]) > 1


def test_a_copy_of_an_active_column_is_never_tried() -> None:
    G = np.eye(3)
    G[0, 2] = G[2, 0] = 1.0
    found, _ = follow(G, np.array([[3.0, 2.0, 3.0]]), np.array([[10.0]]))
    assert (found.stalled.tolist(), int(found.steps[0])) == ([False], 2)
    assert found.coef[0, 0].tolist() == [3.0, 2.0, 0.0]


def test_empty_columns_never_join() -> None:
    found, events = follow(np.diag([1.0, 0.0, 1.0]), np.array([[3.0, 0.0, -2.0]]), np.array([[10.0]]))
    assert found.coef[0, 0].tolist() == [3.0, 0.0, -2.0]
    assert len(events.points[0]) == 2


def test_a_column_that_correlates_by_rounding_does_not_join() -> None:
    # Below 1e-14 of the largest.
    for small, steps in ((1.5e-14, 2), (0.5e-14, 1)):
        found, _ = follow(np.eye(2), np.array([[1.0, small]]), np.array([[10.0]]))
        assert int(found.steps[0]) == steps


def test_a_class_that_nothing_correlates_with_has_ended_at_once() -> None:
    found, events = follow(np.eye(2), np.array([[0.0, 0.0], [1.0, 0.5]]), np.array([[0.2, 0.2], [0.3, 0.3]]))
    assert found.steps.tolist() == [0, 1]
    assert not found.stalled.any()
    assert found.coef[:, :, 0].tolist() == [[0.0, pytest.approx(0.2)], [0.0, pytest.approx(0.3)]]
    assert list(events.points) == [1]
