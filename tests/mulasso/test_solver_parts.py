"""The solver's parts by hand: batched systems, the exchange of dependent columns, the steps of the descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interpnet.mulasso._solver import _active_set_descent
from interpnet.mulasso._solver._active_set_descent import _descend, _direction, _violators, finish
from interpnet.mulasso._solver._batched_systems import (
    active_block,
    dense_image,
    factorise,
    image,
    refined_solve,
    rows_product,
)
from interpnet.mulasso._solver._block_pivoting_wide import _join
from interpnet.mulasso._solver._simplex_exchange import _exchange, shortest


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def definite(m: int, seed: int = 0) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((m + 5, m))
    return X.T @ X


# --- batched systems ----------------------------------------------------------------------------------------


def test_blocks_have_ones_where_slots_are_unused() -> None:
    G = tensor([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 4.0]])
    act = torch.tensor([[2, 0], [1, 1]])
    used = tensor([[1.0, 1.0], [0.0, 1.0]])
    assert active_block(G, act, used).tolist() == [[[4.0, 0.1], [0.1, 2.0]], [[1.0, 0.0], [0.0, 3.0]]]
    factor, info = factorise(G, act, used)
    assert info.tolist() == [0, 0]
    np.testing.assert_allclose(factor[1], np.diag([1.0, np.sqrt(3.0)]))
    assert factorise(tensor([[1.0, 2.0], [2.0, 1.0]]), torch.tensor([[0, 1]]), tensor([[1.0, 1.0]]))[1].tolist() == [2]


def test_two_rounds_of_refinement() -> None:
    # With factors of 1.25 G every solve is a fifth short: what is left after two rounds is 0.2 cubed.
    G = torch.from_numpy(definite(4))
    act = torch.arange(4)[None]
    used = torch.ones(1, 4, dtype=torch.float64)
    right = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 4, 2)))
    exact = np.linalg.solve(G.numpy(), right[0].numpy())
    factor = np.sqrt(1.25) * torch.linalg.cholesky(G)[None]
    np.testing.assert_allclose(refined_solve(G, act, used, factor, right)[0], 0.992 * exact, rtol=1e-10)


def test_images_of_weights() -> None:
    G = definite(6)
    coef = np.array([[0.0, 2.0, 0.0, -1.0, 0.0, 0.0], [0.0] * 6, [1.0, 0.0, 3.0, 0.0, 0.0, 0.5]])
    np.testing.assert_allclose(dense_image(torch.from_numpy(G), torch.from_numpy(coef)), coef @ G, atol=1e-12)
    act = torch.tensor([[1, 3, 0], [2, 2, 2], [0, 5, 2]])
    weight = tensor([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.5, 3.0]])
    np.testing.assert_allclose(image(torch.from_numpy(G), act, weight), coef @ G, atol=1e-12)
    found = rows_product(torch.from_numpy(G), torch.tensor([3, 1]), tensor([-1.0, 2.0]))
    np.testing.assert_allclose(found, coef[0] @ G)


# --- the exchange of dependent columns ----------------------------------------------------------------------


def test_a_gain_of_rounding_is_none() -> None:
    # A unit of the second column replaces 1 + more units of the first.
    one = np.ones(1)
    for more, place in ((0.5e-9, [0]), (2e-9, [1])):
        found, sign = shortest(np.array([[1 + more]]), one, one, positive=False)
        assert (found.tolist(), sign.tolist()) == (place, [1.0])
    # With the other sign the column enters below zero; weights of one sign cannot.
    found, sign = shortest(np.array([[-2.0]]), one, one, positive=False)
    assert (found.tolist(), sign.tolist()) == ([1], [-1.0])
    assert shortest(np.array([[-2.0]]), one, one, positive=True)[0].tolist() == [0]


def test_what_was_given_is_left_alone() -> None:
    table = np.array([[2.0, 0.5], [1.0, 3.0]])
    weight = np.array([1.0, -2.0])
    sign = np.array([1.0, -1.0])
    before = table.copy()
    shortest(table, weight, sign, positive=False)
    assert np.array_equal(table, before)
    assert (weight.tolist(), sign.tolist()) == ([1.0, -2.0], [1.0, -1.0])


def test_a_table_after_an_exchange() -> None:
    # The columns as vectors: inside A, outside A T. After the exchange T is rewritten in terms of the new inside.
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 3))
    T = rng.standard_normal((3, 2))
    outside = A @ T
    inside = A.copy()
    inside[:, 1] = outside[:, 0]
    outside[:, 0] = A[:, 1]
    _exchange(T, 1, 0)
    np.testing.assert_allclose(inside @ T, outside)


# --- the descent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("several", "w", "pull", "slope", "found"),
    [
        (False, [0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 0.0, 2.0], 0.0, [1]),
        # Beyond the level of the support, -slope / |w|: 2.
        (False, [0.5, -0.5, 0.0, 0.0], [9.0, 9.0, 2.0, 2.5], -2.0, [3]),
        (False, [0.5, -0.5, 0.0, 0.0], [9.0, 9.0, 2.0, 1.5], -2.0, []),
        # A level below zero is none.
        (False, [0.5, 0.5, 0.0, 0.0], [9.0, 9.0, 0.0, -1.0], 2.0, []),
        # Several: one for every eight of the support, the first of equals first.
        (True, [1.0] * 24 + [0.0] * 5, [0.0] * 24 + [1.0, 4.0, 3.0, 4.0, 2.0], 0.0, [25, 27, 26]),
        (True, [1.0] * 7 + [0.0] * 3, [0.0] * 7 + [1.0, 4.0, 3.0], 0.0, [8]),
        (False, [1.0] * 24 + [0.0] * 5, [0.0] * 24 + [1.0, 4.0, 3.0, 4.0, 2.0], 0.0, [25]),
    ],
)
def test_which_columns_join(several: bool, w: list[float], pull: list[float], slope: float, found: list[int]) -> None:
    assert _violators(np.array(w), np.array(pull), slope, several=several).tolist() == found


def test_directions_end_on_the_sphere_or_inside() -> None:
    block = definite(3)
    b = np.array([3.0, -1.0, 2.0])
    sign = np.array([1.0, -1.0, 1.0])
    here = np.array([0.01, -0.02, 0.03])
    free = np.linalg.solve(block, b)
    # Room for everything: Newton's step, as if there were no ball.
    for level in (0.0, 0.5):
        direction, tight = _direction(block, block @ here - b, sign, 1e3, level)
        assert not tight
        np.testing.assert_allclose(here + direction, free, rtol=1e-9)
    # None at all: the best point with the same signed sum, whatever the multiplier was taken for.
    for level in (0.0, 0.5):
        direction, tight = _direction(block, block @ here - b, sign, 0.01, level)
        assert tight
        v = np.linalg.solve(block, sign)
        target = float(sign @ here) + 0.01
        multiplier = (float(sign @ free) - target) / float(sign @ v)
        np.testing.assert_allclose(here + direction, free - multiplier * v, rtol=1e-8, atol=1e-10)
    # A matrix that Cholesky refuses is shifted until it does not.
    direction, tight = _direction(np.ones((2, 2)), np.array([-1.0, -1.0]), np.ones(2), 1e3, 0.0)
    assert not tight
    assert direction.sum() == pytest.approx(1.0, rel=1e-6)


def test_descents_by_hand() -> None:
    G = np.eye(3)
    b = np.array([3.0, 1.0, -2.0])
    # Inside the ball: all weights at once.
    w = np.zeros(3)
    _descend(G, b, 10.0, w, np.arange(3), np.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(w, b, rtol=1e-9)
    # On it: w = (2.5, 0, -1.5) is the best of the face of columns 0 and 2 for mu = 4.
    w = np.array([0.5, 0.0, -0.5])
    _descend(G, b, 4.0, w, np.array([0, 2]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(w, [2.5, 0.0, -1.5], rtol=1e-9)
    # A weight that would change its sign goes to zero; the column leaves, and the rest is as good as it can be.
    w = np.array([0.5, -0.25, 0.0])
    _descend(G, b, 10.0, w, np.array([0, 1]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(w, [3.0, 0.0, 0.0], rtol=1e-9)
    # A column that joins with the wrong sign is taken back before anything moves.
    w = np.array([0.5, 0.0, 0.0])
    _descend(G, b, 10.0, w, np.array([0, 1]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(w, [3.0, 0.0, 0.0], rtol=1e-9)
    _descend(G, b, 10.0, w, np.zeros(0, dtype=np.int64), np.zeros(0))
    np.testing.assert_allclose(w, [3.0, 0.0, 0.0], rtol=1e-9)


def descend(b: list[float], mu: float, start: list[float], **options: Any) -> tuple[np.ndarray, float, int]:
    settings = {"positive": False, "goal": 1e-12, "max_iter": 100} | options
    return finish(np.eye(len(b)), np.array(b), mu, np.array(start), **settings)


def test_rounds_of_the_descent_by_hand() -> None:
    # At the optimum nothing is done.
    assert descend([3.0, 1.0], 1.0, [1.0, 0.0])[1:] == (0.0, 0)
    # One round per column that joins.
    for mu, rounds in ((1.0, 1), (3.0, 2), (6.0, 3)):
        w, gap, taken = descend([4.0, 2.5, -1.0], mu, [0.0, 0.0, 0.0])
        assert taken == rounds
        assert gap <= 1e-12
        level = {1.0: 3.0, 3.0: 1.75, 6.0: 0.5}[mu]
        np.testing.assert_allclose(w, np.sign([4.0, 2.5, -1.0]) * np.maximum(np.abs([4.0, 2.5, -1.0]) - level, 0))
    # No more than may be taken: the point so far, with its gap (f at w = (2.5, 0, 0): g = (-1.5, -2.5, 1)).
    w, gap, taken = descend([4.0, 2.5, -1.0], 2.5, [0.0, 0.0, 0.0], max_iter=1)
    assert taken == 1
    np.testing.assert_allclose(w, [2.5, 0.0, 0.0])
    assert gap == pytest.approx(-1.5 * 2.5 + 2.5 * 2.5)
    assert descend([4.0, 2.5], 2.5, [0.0, 0.0], max_iter=0)[1:] == (4.0 * 2.5, 0)


def test_starts_are_made_feasible() -> None:
    # Scaled into the ball; without the signs that may not be; without empty columns.
    w, gap, _ = descend([4.0, 1.0], 1.0, [2.0, -2.0], max_iter=0)
    assert (w.tolist(), gap) == ([0.5, -0.5], pytest.approx((0.5 * -3.5 - 0.5 * -1.5) + 3.5))
    w, _, _ = descend([4.0, 1.0], 1.0, [0.5, -2.0], max_iter=0, positive=True)
    assert w.tolist() == [0.5, 0.0]
    start = np.array([0.25, 0.5])
    w, _, _ = finish(np.diag([1.0, 0.0]), np.array([4.0, 0.0]), 1.0, start, positive=False, goal=0.0, max_iter=0)
    assert (w.tolist(), start.tolist()) == ([0.25, 0.0], [0.25, 0.5])


def test_a_goal_that_cannot_be_reached_is_given_up_after_26_rounds_without_gain() -> None:
    w, gap, rounds = descend([3.0, 1.0], 1.0, [1.0, 0.0], goal=-1.0)
    assert (w.tolist(), gap, rounds) == ([1.0, 0.0], 0.0, 26)
    # A hundredth of the goal is kept in hand.
    start = [1.0, 0.0]
    gap = descend([1.0 + 1e-3, 0.0], 2.0, start, max_iter=0)[1]
    assert gap == pytest.approx(1e-3)
    assert descend([1.0 + 1e-3, 0.0], 2.0, start, goal=gap / 0.98)[2] == 0
    assert descend([1.0 + 1e-3, 0.0], 2.0, start, goal=gap)[2] == 1


def test_four_rounds_on_one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps that are half as long as they should be.
    real = _active_set_descent._direction

    def half(*given: Any) -> tuple[np.ndarray, bool]:
        direction, tight = real(*given)
        return direction / 2, tight

    monkeypatch.setattr(_active_set_descent, "_direction", half)
    w = np.zeros(2)
    _descend(np.eye(2), np.array([3.0, 1.0]), 10.0, w, np.arange(2), np.ones(2))
    np.testing.assert_allclose(w, [3.0 * 15 / 16, 15 / 16], rtol=1e-9)


def test_columns_join_one_by_one_where_many_bring_little() -> None:
    # The gap falls by less than a tenth in each round: a round per column, and more rounds than are borne without gain.
    b = np.linspace(2.0, 1.0, 60)
    w, gap, rounds = finish(np.eye(60), b, 1e3, np.zeros(60), positive=False, goal=1e-9, max_iter=1000)
    assert rounds == 60
    assert gap <= 1e-9
    np.testing.assert_allclose(w, b, rtol=1e-9)


def test_weights_of_one_sign() -> None:
    # The second column pulls hardest, but below zero. The others share the ball at the level 1.75.
    w, gap, rounds = descend([4.0, -9.0, 2.5], 3.0, [0.0, 0.0, 0.0], positive=True)
    np.testing.assert_allclose(w, [2.25, 0.0, 0.75], rtol=1e-9)
    assert (rounds, gap <= 1e-12) == (2, True)
    # Where nothing pulls, nothing joins.
    assert descend([-4.0, -9.0], 3.0, [0.0, 0.0], positive=True)[1:] == (0.0, 0)


def test_the_point_of_smallest_gap_is_returned() -> None:
    # From the optimum nothing gets better; from a far start the last point is the best.
    w, gap, _ = descend([3.0, 1.0], 1.0, [0.0, 1.0], goal=0.0, max_iter=3)
    np.testing.assert_allclose(w, [1.0, 0.0], atol=1e-12)
    assert gap <= 1e-12


def test_the_multiplier_so_far_is_taken_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # At (2.5, -1.5) on the sphere of 4 the gradient is (-0.5, 0.5): the multiplier is 0.5, and nothing is left to do.
    levels: list[float] = []
    real = _active_set_descent._direction

    def watched(block: Any, gradient: Any, sign: Any, room: float, level: float) -> tuple[np.ndarray, bool]:
        levels.append(level)
        return real(block, gradient, sign, room, level)

    monkeypatch.setattr(_active_set_descent, "_direction", watched)
    w = np.array([2.5, -1.5])
    _descend(np.eye(2), np.array([3.0, -2.0]), 4.0, w, np.arange(2), np.array([1.0, -1.0]))
    assert levels == [pytest.approx(0.5)] * 4
    np.testing.assert_allclose(w, [2.5, -1.5], rtol=1e-12)
    # Beyond the optimum inside the ball there is none.
    levels.clear()
    _descend(np.eye(2), np.array([3.0, -2.0]), 9.0, np.array([3.5, -2.5]), np.arange(2), np.array([1.0, -1.0]))
    assert levels[0] == 0.0


def test_of_equals_the_first_join() -> None:
    # Three hundred columns, every third twice as strong: sorting must not shuffle them.
    strength = np.where(np.arange(300) % 3 == 0, 2.0, 1.0)
    first = np.flatnonzero(strength == 2).tolist() + np.flatnonzero(strength == 1).tolist()
    active, _ = _join(np.zeros(0, dtype=np.int64), np.zeros(0), strength, strength, 0.0, 300)
    assert active.tolist() == first
    w = np.concatenate([np.ones(80), np.zeros(300)])
    assert (_violators(w, np.concatenate([np.zeros(80), strength]), 0.0, several=True) - 80).tolist() == first[:10]
