"""What the homotopy knows of every class between its steps, by hand: slots, safe points, drift, who gives up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interpnet.mulasso._solver._homotopy import _Walk
from interpnet.mulasso._solver._homotopy_state import ActiveSet, GramRows


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def correlated(seed: int, N: int, m: int, C: int) -> tuple[np.ndarray, np.ndarray]:
    """Return G (m, m) and b (C, m) of columns that share a factor."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m)) + rng.standard_normal((N, 1))
    return X.T @ X, rng.standard_normal((C, N)) @ X


def test_slots_by_hand() -> None:
    empty = ActiveSet.empty(torch.ones(2, 5, dtype=torch.float64), 3)
    assert (empty.column.shape, empty.inverse.shape) == ((2, 3), (2, 3, 3))
    assert (empty.column.dtype, empty.used.dtype, empty.sign.dtype) == (torch.int64, torch.bool, torch.float64)
    assert not any(bool(x.any()) for x in (empty.column, empty.used, empty.sign, empty.offset, empty.slope))
    # Each array is its own.
    empty.sign[0, 0] = 1
    assert not empty.offset.any()
    assert not empty.slope.any()
    full = ActiveSet(*(torch.ones(2, 2, dtype=kind) for kind in (torch.int64, torch.bool, *[torch.float64] * 3)), None)
    full.inverse = torch.ones(2, 2, 2, dtype=torch.float64)
    wide = full.widened(1)
    for name in ("column", "used", "sign", "offset", "slope"):
        assert getattr(wide, name).tolist() == [[1, 1, 0], [1, 1, 0]]
    assert wide.inverse[1].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    wide.free(torch.tensor([1]), torch.tensor([0]))
    for name in ("used", "sign", "offset", "slope"):
        assert getattr(wide, name).tolist() == [[1, 1, 0], [0, 1, 0]]
    assert wide.inverse.tolist() == [[[1, 1, 0], [1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]]


def test_rows_of_the_gram_are_kept_as_they_are_needed() -> None:
    rng = np.random.default_rng(0)
    G = torch.from_numpy(rng.standard_normal((100, 100)))
    rows = GramRows(G)
    added: list[int] = []
    for columns in ([7, 3, 7], [3], list(range(50, 90)), [0, 99, 7]):
        rows.add(torch.tensor(columns))
        added = sorted({*added, *columns})
        assert rows._count == len(added)
        assert rows._known.nonzero()[:, 0].tolist() == added
        column = torch.tensor([added, added[::-1]])
        weight = torch.from_numpy(rng.standard_normal((2, len(added))))
        expected = [weight[i].numpy() @ G.numpy()[column[i]] for i in range(2)]
        np.testing.assert_allclose(rows.image(column, weight), expected)
    # Never more than there are, and twice as many where more are needed.
    assert len(rows._rows) == 64
    rows.add(torch.arange(100))
    assert len(rows._rows) == rows._count == 100
    # A weight given twice for a column counts twice.
    np.testing.assert_allclose(rows.image(torch.tensor([[5, 5]]), tensor([[1.0, 2.0]]))[0], 3 * G[5])


def walk_of(b: list[list[float]], mus: list[list[float]], G: torch.Tensor | None = None, **options: Any) -> _Walk:
    rows = tensor(b)
    matrix = torch.eye(rows.shape[1], dtype=torch.float64) if G is None else G
    return _Walk(matrix, rows, tensor(mus), options.get("positive", False), None)


def set_active(walk: _Walk, offset: list[float], slope: list[float], sign: list[float]) -> None:
    """Make columns 0, 1, ... active in every class, with the given lines of weights."""
    n = len(offset)
    walk.active.column[:, :n] = torch.arange(n)
    walk.active.used[:, :n] = True
    walk.active.sign[:, :n] = tensor(sign)
    walk.active.offset[:, :n] = tensor(offset)
    walk.active.slope[:, :n] = tensor(slope)


@pytest.mark.parametrize(
    ("offset", "slope", "multiplier", "point", "broken"),
    [
        ([3.0, -2.0], [1.0, -0.5], 2.0, [1.0, -1.0], False),
        # A weight about to leave may be on the wrong side of zero by 1e-5 of the largest.
        ([1.0, 0.9e-5], [0.0, 0.0], 1.0, [1.0, 0.0], False),
        ([1.0, 1.1e-5], [0.0, 0.0], 1.0, [1.0, 0.0], True),
        # And by 1e-11 of the numbers that it is the difference of.
        ([1e8 + 1e-3, -1e8 + 0.9e-3], [1e8, -1e8], 1.0, [1e-3, 0.0], False),
        ([1e8 + 1e-3, -1e8 + 1.3e-3], [1e8, -1e8], 1.0, [1e-3, 0.0], True),
        # Nothing is written before the first column joins.
        ([2.0, -1.0], [1.0, 1.0], float("inf"), [2.0, -1.0], False),
    ],
)
def test_points_by_hand(
    offset: list[float], slope: list[float], multiplier: float, point: list[float], broken: bool
) -> None:
    walk = walk_of([[5.0, 5.0, 5.0]], [[1.0]])
    set_active(walk, offset, slope, [1.0, -1.0])
    found, fault = walk._point(torch.tensor([0]), tensor([multiplier]))
    np.testing.assert_allclose(found[0], [*point, 0.0], rtol=1e-4)
    assert fault.tolist() == [broken]


@pytest.mark.parametrize(("radius", "kept"), [(1.0, True), (1 / (1 + 0.9e-5), True), (1 / (1 + 1.1e-5), False)])
def test_a_point_outside_the_ball_is_not_written(radius: float, kept: bool) -> None:
    walk = walk_of([[5.0, 5.0]], [[radius]])
    set_active(walk, [0.75, -0.25], [0.0, 0.0], [1.0, -1.0])
    walk.progress.safe[0] = tensor([0.5, 0.0])
    walk._write(torch.tensor([0]), tensor([1.0]), torch.tensor([0]))
    assert walk.result.coef[0, 0].tolist() == ([0.75, -0.25] if kept else [0.5, 0.0])
    assert walk.result.stalled.tolist() == [not kept]


def test_giving_up_leaves_the_safe_point_at_the_radii_to_come() -> None:
    walk = walk_of([[1.0, 0.0], [2.0, 0.0]], [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]])
    walk.progress.safe[:] = tensor([[0.5, 0.0], [0.6, 0.0]])
    walk.progress.target[:] = torch.tensor([1, 0])
    walk.progress.ids = torch.tensor([1, 0])
    walk.give_up(torch.tensor([0]))
    assert walk.result.stalled.tolist() == [False, True]
    assert walk.progress.alive.tolist() == [False, True]
    assert walk.result.coef[:, 1, 0].tolist() == [0.0, 0.5, 0.5]
    assert not walk.result.coef[:, 0].any()


def test_what_is_safe_and_who_runs_in_circles() -> None:
    walk = walk_of([[3.0, 0.0]] * 4, [[9.0] * 4])
    set_active(walk, [2.0], [1.0], [1.0])
    walk.progress.multiplier[:] = tensor([1.0, 1.0, 1.0, 3.0])
    walk.progress.safe[:, 0] = 0.25
    walk.progress.idle[:] = torch.tensor([52, 53, 0, 0])  # m + 50 = 52 steps of length zero are borne
    walk.progress.alive[2] = False
    walk.secure()
    # Class 3 has a weight of the wrong sign: what was safe stays safe.
    assert walk.progress.safe[:, 0].tolist() == [1.0, 1.0, 0.25, 0.25]
    assert walk.progress.alive.tolist() == [True, False, False, False]
    assert walk.result.stalled.tolist() == [False, True, False, True]


def test_steps_of_length_zero_are_counted() -> None:
    walk = walk_of([[3.0, 0.0]] * 3, [[9.0] * 3])
    walk.progress.multiplier[:] = tensor([1.0, 1.0, 1.0])
    walk.progress.idle[:] = 4
    walk.progress.alive[2] = False
    walk._move_to(tensor([0.5, 1.0 - 1e-14, 0.5]))
    assert walk.progress.idle.tolist()[:2] == [0, 5]
    assert walk.progress.multiplier.tolist() == [0.5, 1.0 - 1e-14, 1.0]
    assert walk.result.steps.tolist() == [1, 1, 0]


@pytest.mark.parametrize(("alive", "left"), [([0, 1, 2], 4), ([1, 3], 2), ([2], 1)])
def test_finished_classes_are_dropped_once_they_are_half(alive: list[int], left: int) -> None:
    walk = walk_of([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]], [[9.0] * 4])
    walk.progress.alive[:] = False
    walk.progress.alive[alive] = True
    walk.active.offset[:, 0] = tensor([1.0, 2.0, 3.0, 4.0])
    walk.compact()
    kept = alive if left < 4 else [0, 1, 2, 3]
    assert walk.progress.ids.tolist() == kept
    assert walk.every.tolist() == list(range(left))
    assert walk.correlation.at_zero[:, 0].tolist() == [c + 1.0 for c in kept]
    assert walk.active.offset[:, 0].tolist() == [c + 1.0 for c in kept]


def started(steps: int, classes: int = 3) -> _Walk:
    """Return a walk some events on its way."""
    G, b = correlated(2, 60, 20, classes)
    walk = walk_of(b.tolist(), [[1e3] * classes], torch.from_numpy(G))
    for _ in range(steps):
        assert walk.advance()
    return walk


@pytest.mark.parametrize("what", ["slope", "offset"])
@pytest.mark.parametrize(("drift", "mended"), [(0.9e-6, False), (1.1e-6, True)])
def test_what_has_drifted_is_computed_again(what: str, drift: float, mended: bool) -> None:
    walk = started(9)
    column = walk.active.column
    used = walk.active.used
    slot = int(used[1].nonzero()[0])
    # On the active set the correlations' slope is the sign and their offset 0.
    size = drift if what == "slope" else drift * float(walk.progress.multiplier[1])
    getattr(walk.correlation, what)[1, column[1, slot]] += size
    walk.active.inverse[1] *= 1.5
    walk.active.offset[:2] *= 1.5
    walk.active.slope[1] *= 1.5
    before = walk.active.offset.clone()
    walk.refresh()
    assert bool((walk.active.offset[1] != before[1]).any()) == mended
    # The others, of which class 0 has weights that are wrong but correlations that fit, are as they were.
    assert np.array_equal(walk.active.offset[[0, 2]], before[[0, 2]])
    if not mended:
        return
    G = walk.G.numpy()
    b = walk.correlation.at_zero[1].numpy()
    A = column[1, used[1]].numpy()
    s = walk.active.sign[1, used[1]].numpy()
    inverse = np.linalg.inv(G[np.ix_(A, A)])
    np.testing.assert_allclose(walk.active.inverse[1][used[1]][:, used[1]], inverse, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(walk.active.offset[1, used[1]], inverse @ b[A], rtol=1e-9)
    np.testing.assert_allclose(walk.active.slope[1, used[1]], inverse @ s, rtol=1e-9)
    for unused in (walk.active.offset, walk.active.slope):
        assert not unused[1][~used[1]].any()
    assert not walk.active.inverse[1][~used[1]].any()
    assert not walk.active.inverse[1][:, ~used[1]].any()
    np.testing.assert_allclose(walk.correlation.offset[1], b - G[:, A] @ inverse @ b[A], atol=1e-9)
    np.testing.assert_allclose(walk.correlation.slope[1], G[:, A] @ inverse @ s, atol=1e-9)


def test_a_class_that_has_ended_is_not_computed_again() -> None:
    walk = started(5)
    walk.correlation.slope[1] += 1.0
    walk.progress.alive[1] = False
    before = walk.active.offset.clone()
    walk.refresh()
    assert np.array_equal(walk.active.offset, before)


def test_a_class_whose_columns_depend_on_each_other_is_given_up() -> None:
    walk = started(5)
    walk.correlation.slope[[0, 2]] += 1.0
    slots = walk.active.used[0].nonzero()[:2, 0]
    walk.active.column[0, slots[1]] = walk.active.column[0, slots[0]]
    walk.active.inverse[2] *= 1.5
    walk.refresh()
    assert walk.progress.alive.tolist() == [False, True, True]
    assert walk.result.stalled.tolist() == [True, False, False]
    used = walk.active.used[2]
    A = walk.active.column[2, used].numpy()
    expected = np.linalg.inv(walk.G.numpy()[np.ix_(A, A)])
    np.testing.assert_allclose(walk.active.inverse[2][used][:, used], expected, rtol=1e-9, atol=1e-12)


def test_the_floor_is_a_share_of_the_largest_correlation() -> None:
    walk = walk_of([[1000.0, 2.0], [0.0, -4.0]], [[1.0, 1.0]])
    np.testing.assert_allclose(walk.progress.floor, [1e-11, 4e-14], rtol=1e-12)


def test_a_drop_gives_columns_that_were_found_dependent_another_chance() -> None:
    never = float("-inf")
    walk = walk_of([[3.0, 2.0, 1.0, 0.0]] * 2, [[9.0, 9.0]], torch.diag(tensor([1.0, 1.0, 1.0, 0.0])))
    set_active(walk, [1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    walk.correlation.bar[:] = tensor([never, never, never, never])
    no = torch.tensor([False, False])
    walk._book(no, torch.tensor([True, False]), torch.tensor([1, 0]), tensor([1.0, 1.0]))
    # Column 0 is active and column 3 empty.
    assert walk.correlation.bar.tolist() == [[never, 0.0, 0.0, never], [never] * 4]
    assert walk.active.used[:, :2].tolist() == [[True, False], [True, True]]
    walk._book(torch.tensor([True, False]), no, torch.tensor([2, 2]), tensor([-1.0, -1.0]))
    assert walk.active.used[:, :3].tolist() == [[True, False, True], [True, True, False]]
    assert walk.active.sign[:, 2].tolist() == [-1.0, 0.0]
