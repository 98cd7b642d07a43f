"""Block pivoting round by round: guesses, rounds and what is handed on, against one class at a time in numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from interpnet.mulasso._solver import _block_pivoting, _block_pivoting_narrow, _block_pivoting_wide
from interpnet.mulasso._solver._block_pivoting import pivot, room_for
from interpnet.mulasso._solver._block_pivoting_narrow import pivot_narrow
from interpnet.mulasso._solver._block_pivoting_wide import _by_lapack, _by_torch, _independent, _join, pivot_wide

BOTH = pytest.mark.parametrize("positive", [False, True])


class Ended(NamedTuple):
    coef: np.ndarray | None  # (m,), None where the class was handed on
    rounds: int
    guess: np.ndarray  # (m,) signs after the last round


def by_rounds(
    G: np.ndarray,
    b: np.ndarray,
    mu: float,
    guess: np.ndarray,
    *,
    positive: bool,
    most: int = 80,
    widest: int = 10**6,
    alone: bool = False,
) -> Ended:
    """Exchange as docs/method.md, section 2.5, says; a class ``alone`` lets fewer join after rounds without gain."""
    m = len(b)
    signs = {int(j): float(guess[j]) for j in np.flatnonzero(guess)}
    strength = b if positive else np.abs(b)
    if not signs:
        signs = {int(j): float(np.sign(b[j])) for j in np.argsort(-strength)[:2] if strength[j] > 0}
    fewest = 10**9
    patience = 8
    rounds = 0
    while rounds < most and patience > 0 and len(signs) <= widest:
        rounds += 1
        A = sorted(signs)
        s = np.array([signs[j] for j in A])
        block = G[np.ix_(A, A)]
        if not A and not alone:
            # In step no system is solved for a class without a column.
            break
        level = 0.0
        if A:
            level = max(0.0, float(s @ np.linalg.solve(block, b[A]) - mu) / float(s @ np.linalg.solve(block, s)))
        w = np.linalg.solve(block, b[A] - level * s)
        correlation = b - G[:, A] @ w
        pull = correlation if positive else np.abs(correlation)
        bound = level * (1 + 1e-10) + 1e-13 * np.abs(b).max()
        joins = [j for j in range(m) if j not in signs and pull[j] > bound]
        stay = [j for j, value in zip(A, w, strict=True) if value * signs[j] > 0]
        wrong = len(joins) + len(A) - len(stay)
        if wrong == 0:
            coef = np.zeros(m)
            coef[A] = w
            return Ended(coef, rounds, np.zeros(m))
        patience -= 1
        if wrong < fewest:
            patience = 8
            fewest = wrong
        room = len(stay) // 3
        if level == 0:
            room = int(len(stay) * np.clip(mu / (2 * np.abs(w).sum() + 1e-300), 1, 1 if positive else 3))
        room = max(2, room)
        if alone:
            room = max(1, room // 2 ** (8 - patience))
        joins = sorted(joins, key=lambda j: -pull[j])[:room]
        signs = {j: signs[j] for j in stay} | {j: float(np.sign(correlation[j])) for j in joins}
    left = np.zeros(m)
    for j, sign in signs.items():
        left[j] = sign
    return Ended(None, rounds, left)


def correlated(seed: int, N: int = 60, m: int = 40, C: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return G (m, m) and b (C, m) of columns that share a factor."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m)) + 1.5 * rng.standard_normal((N, 1))
    return X.T @ X, rng.standard_normal((C, N)) @ X


def radii(seed: int, C: int) -> np.ndarray:
    return 10 ** np.random.default_rng(seed + 1).uniform(-1.5, 1.0, C)


@pytest.fixture(params=[pivot, pivot_narrow])
def in_step(request: pytest.FixtureRequest) -> Any:
    """Both ways of solving for all classes in step, that of devices and that of the CPU."""
    return request.param


def run_pivot(in_step: Any, G: np.ndarray, b: np.ndarray, mu: np.ndarray, guess: np.ndarray, **options: Any) -> Any:
    limits = {"max_rounds": 20_000, "widest": len(G)} | options
    tensors = (torch.from_numpy(x) for x in (G, b, mu, guess.astype(np.int8)))
    return in_step(*tensors, **limits)


@BOTH
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [{}, {"max_rounds": 3}, {"widest": 7}, {"widest": 2}])
def test_all_classes_in_step_do_what_each_would_do_alone(
    in_step: Any, seed: int, positive: bool, limits: dict[str, int]
) -> None:
    G, b = correlated(seed)
    mu = radii(seed, len(b))
    guess = np.zeros_like(b)
    # One class begins with signs, some of them wrong.
    guess[3, ::5] = 1
    found = run_pivot(in_step, G, b, mu, guess, positive=positive, **limits)
    for c in range(len(b)):
        peer = by_rounds(
            G,
            b[c],
            mu[c],
            guess[c],
            positive=positive,
            most=limits.get("max_rounds", 80),
            widest=limits.get("widest", 40),
        )
        assert int(found.rounds[c]) == peer.rounds
        assert bool(found.ended[c]) == (peer.coef is not None)
        # A class that ended has no guess to hand on, one that did not has no weights.
        assert found.guess[c].tolist() == peer.guess.tolist()
        np.testing.assert_allclose(found.coef[c], 0 * b[c] if peer.coef is None else peer.coef, rtol=1e-7, atol=1e-9)


@BOTH
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("most", [20_000, 3])
def test_one_class_alone_does_what_the_rules_say(seed: int, positive: bool, most: int) -> None:
    G, b = correlated(seed, m=60)
    mu = float(radii(seed, 1)[0])
    guess = np.zeros(60, dtype=np.int8)
    guess[: 10 * (seed % 3)] = 1
    coef, rounds = pivot_wide(torch.from_numpy(G), b[0], mu, guess, positive=positive, max_rounds=most)
    peer = by_rounds(G, b[0], mu, guess, positive=positive, most=min(most, 80), alone=True)
    assert rounds == peer.rounds
    assert (coef is None) == (peer.coef is None)
    if coef is not None:
        np.testing.assert_allclose(coef, peer.coef, rtol=1e-7, atol=1e-9)


# --- exchanges without end --------------------------------------------------------------------------------


def whole(seed: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return G and b (1, m) of small whole numbers on which the exchanges run in circles."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, (m + 1, m)).astype(float)
    return X.T @ X, (rng.integers(-5, 6, m + 1).astype(float) @ X)[None]


@pytest.mark.parametrize(("seed", "m", "mu", "rounds"), [(503, 3, 1.0, 9), (182, 4, 3.0, 14), (871, 5, 3.0, 11)])
def test_circles_in_step_end_after_eight_rounds_without_gain(
    in_step: Any, seed: int, m: int, mu: float, rounds: int
) -> None:
    G, b = whole(seed, m)
    found = run_pivot(in_step, G, b, np.array([mu]), 0 * b, positive=False)
    assert (found.rounds.tolist(), found.ended.tolist()) == ([rounds], [False])
    assert found.guess[0].tolist() == by_rounds(G, b[0], mu, 0 * b[0], positive=False).guess.tolist()


@pytest.mark.parametrize(("seed", "m", "mu", "rounds"), [(859, 6, 3.0, 13), (1010, 6, 3.0, 14), (1921, 6, 3.0, 12)])
def test_circles_alone_end_after_eight_rounds_without_gain(seed: int, m: int, mu: float, rounds: int) -> None:
    G, b = whole(seed, m)
    given = (torch.from_numpy(G), b[0], mu, np.zeros(m, dtype=np.int8))
    assert pivot_wide(*given, positive=False, max_rounds=10**6) == (None, rounds)
    assert pivot_wide(*given, positive=False, max_rounds=rounds - 1) == (None, rounds - 1)


def test_with_all_patience_there_are_eighty_rounds(in_step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block_pivoting, "PATIENCE", 10**6)
    monkeypatch.setattr(_block_pivoting_narrow, "PATIENCE", 10**6)
    G, b = whole(503, 3)
    assert run_pivot(in_step, G, b, np.ones(1), 0 * b, positive=False).rounds.tolist() == [80]
    # Alone fewer would join each time, and the circles would end.
    monkeypatch.setattr(_block_pivoting_wide, "PATIENCE", 10**6)
    monkeypatch.setattr(_block_pivoting_wide, "room_for", lambda *_, **__: 2**100)
    found = pivot_wide(torch.from_numpy(G), b[0], 1.0, np.zeros(3, dtype=np.int8), positive=False, max_rounds=10**6)
    assert found == (None, 80)


# --- the pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("active", "level", "mu", "total", "positive", "room"),
    [
        (9, 0.5, 9.0, 1.0, False, 3),  # the radius binds: a third
        (5, 0.5, 9.0, 1.0, False, 2),  # at least two
        (9, 0.0, 1.0, 1.0, False, 9),  # it does not, and is near: as many again
        (9, 0.0, 4.0, 1.0, False, 18),  # half of the radius is twice what there is
        (9, 0.0, 99.0, 1.0, False, 27),  # at most three times as many
        (9, 0.0, 99.0, 1.0, True, 9),  # weights of one sign stay few
        (0, 0.0, 99.0, 0.0, False, 2),
    ],
)
def test_how_many_columns_may_join(
    active: int, level: float, mu: float, total: float, positive: bool, room: int
) -> None:
    assert room_for(active, level, mu, total, positive=positive) == room


def test_the_hardest_pullers_join_with_the_sign_of_their_correlation() -> None:
    correlation = np.array([1.0, -5.0, 2.0, -2.0, 0.5])
    active, sign = _join(np.array([4]), np.array([-1.0]), correlation, np.abs(correlation), 1.0, 3)
    # Of equals the first; the bound itself is not beyond it.
    assert (active.tolist(), sign.tolist()) == ([4, 1, 2, 3], [-1, -1, 1, -1])
    active, sign = _join(np.array([4]), np.array([-1.0]), correlation, np.abs(correlation), 1.0, 2)
    assert (active.tolist(), sign.tolist()) == ([4, 1, 2], [-1, -1, 1])


@pytest.mark.parametrize("factorise", [_by_lapack, _by_torch])
def test_factors_solve_what_numpy_solves(factorise: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 9))
    G = X.T @ X
    active = np.array([1, 2, 4, 7])
    block = G[np.ix_(active, active)]
    factor = factorise(torch.from_numpy(G), np.add.outer(active * 9, active))
    L = np.linalg.cholesky(block)
    right = rng.standard_normal((4, 3))
    np.testing.assert_allclose(factor.diagonal, np.diagonal(block))
    np.testing.assert_allclose(factor.root, np.diagonal(L))
    np.testing.assert_allclose(factor.down(right), np.linalg.solve(L, right))
    np.testing.assert_allclose(factor.back(right), np.linalg.solve(L.T, right))
    np.testing.assert_allclose(factor.inverse(right), np.linalg.solve(block, right))
    b = rng.standard_normal(4)
    s = np.array([1.0, -1.0, 1.0, 1.0])
    # Weights u - level * v whose signed sum is mu; from a radius beyond that of u on the level is 0.
    u = np.linalg.solve(block, b)
    v = np.linalg.solve(block, s)
    weight, level = factor.solve(b, s, float(s @ u) - 0.25)
    assert level == pytest.approx(0.25 / (s @ v))
    np.testing.assert_allclose(weight, u - level * v)
    weight, level = factor.solve(b, s, float(s @ u) + 1.0)
    assert level == 0
    np.testing.assert_allclose(weight, u)
    assert np.array_equal(G, X.T @ X)


@pytest.mark.parametrize("factorise", [_by_lapack, _by_torch])
def test_factors_say_how_far_they_came(factorise: Any) -> None:
    # The third column depends on the second; the fourth would not be reached.
    G = np.diag([4.0, 1.0, 1.0, 9.0])
    G[1, 2] = G[2, 1] = 1.0
    G[2, 2] = 0.5
    where = np.add.outer(4 * np.arange(4), np.arange(4))
    factor = factorise(torch.from_numpy(G), where)
    assert factor.info == 3
    assert factor.independent().tolist() == [True, True, False, True]
    np.testing.assert_allclose(factor.root[:2], [2, 1])


@pytest.mark.parametrize(("left", "kept"), [(2e-8, [True, True, True]), (0.5e-8, [True, False, True])])
def test_a_column_all_but_dependent_is_left_out(left: float, kept: list[bool]) -> None:
    # Of the second column's square of 4 the share ``left`` is its own.
    G = np.array([[1.0, 2.0, 0.0], [2.0, 4.0 * (1 + left), 0.0], [0.0, 0.0, 1.0]])
    found = _independent(torch.from_numpy(G), np.arange(3))
    assert found is not None
    assert found[0].tolist() == kept
    assert len(found[1].root) == sum(kept)


def test_dependent_columns_go_one_after_the_other_sixty_three_times_at_most() -> None:
    ones = torch.ones(65, 65, dtype=torch.float64)
    found = _independent(ones, np.arange(64))
    assert found is not None
    assert found[0].tolist() == [True] + [False] * 63
    assert _independent(ones, np.arange(65)) is None
    # A class that comes to nothing says so, and how many rounds it took.
    guess = np.ones(65, dtype=np.int8)
    assert pivot_wide(ones, np.ones(65), 0.5, guess, positive=True, max_rounds=10) == (None, 1)


def test_a_shorter_vector_takes_the_place_of_the_column_it_depends_on() -> None:
    # Column 1 is twice column 0: half the weight gives the same predictions.
    G = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    guess = np.ones(2, dtype=np.int8)
    coef, rounds = pivot_wide(G, np.array([2.0, 4.0]), 0.5, guess, positive=False, max_rounds=10)
    assert (coef.tolist(), rounds) == ([0.0, 0.5], 2)
    # The other way round it is short already.
    coef, rounds = pivot_wide(G.flip(0, 1), np.array([4.0, 2.0]), 0.5, guess, positive=False, max_rounds=10)
    assert (coef.tolist(), rounds) == ([0.5, 0.0], 1)


def test_a_pull_that_is_rounding_of_a_dependence_is_let_be() -> None:
    # Column 1 is column 0 up to 1e-9 of its square and pulls harder by 5e-10: a unit of it saves nothing.
    G = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-9]], dtype=torch.float64)
    guess = np.ones(2, dtype=np.int8)
    coef, rounds = pivot_wide(G, np.array([1.0, 1.0 + 5e-10]), 0.5, guess, positive=False, max_rounds=10)
    assert (coef.tolist(), rounds) == ([0.5, 0.0], 1)


def test_a_weight_of_exactly_zero_leaves(in_step: Any) -> None:
    # G = I and b = (2, 0, 1): the second column was guessed and weighs nothing, the third pulls.
    b = np.array([[2.0, 0.0, 1.0]])
    guess = np.array([[1, 1, 0]])
    found = run_pivot(in_step, np.eye(3), b, np.array([9.0]), guess, positive=False)
    assert (found.coef.tolist(), found.rounds.tolist()) == ([[2.0, 0.0, 1.0]], [2])
    # With nothing but that to mend it takes a round too.
    b[0, 2] = 0.0
    found = run_pivot(in_step, np.eye(3), b, np.array([9.0]), guess, positive=False)
    assert (found.coef.tolist(), found.rounds.tolist()) == ([[2.0, 0.0, 0.0]], [2])
    eye = torch.eye(3, dtype=torch.float64)
    coef, rounds = pivot_wide(eye, b[0], 9.0, guess[0].astype(np.int8), positive=False, max_rounds=9)
    assert (coef.tolist(), rounds) == ([2.0, 0.0, 0.0], 2)
