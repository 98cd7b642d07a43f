"""Who computes what, which way a class goes on when one fails, and what is certified at its end."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from interpnet.gram import Gram
from interpnet.mulasso._arguments import Options
from interpnet.mulasso._solver import _certified, _schedule
from interpnet.mulasso._solver._block_pivoting import PivotResult
from interpnet.mulasso._solver._certified import _feasible, _polished, solve
from interpnet.mulasso._solver._schedule import batch_size, batches, explore, share

CPU = torch.device("cpu")


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- who computes what --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("C", "m", "sizes"),
    [
        (10, 2**17, [2] * 5),  # two classes of 2^17 columns make 2^18 numbers; five parts become eight, of two at most
        (8, 2**17, [2] * 4),
        (12, 2**17, [2] * 6),
        (17, 2**17, [2] * 8 + [1]),
        (3, 100, [3]),  # little work stays together
        (2, 2**17, [1, 1]),
        (1, 2**17, [1]),  # half a part is little
        (2, 2**16, [2]),
        (1, 2**20, [1]),
        (7, 2**16, [2, 2, 2, 1]),
    ],
)
def test_how_classes_are_shared_out(C: int, m: int, sizes: list[int]) -> None:
    found = batches(C, batch_size(C, m, CPU))
    assert [part.stop - part.start for part in found] == sizes
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(C))


def test_a_device_holds_more_at_a_time() -> None:
    assert batch_size(256, 2**17, torch.device("cuda")) == 256
    assert batch_size(1024, 2**17, torch.device("cuda")) == 256
    assert batch_size(8, 2**17, torch.device("meta")) == 2


@pytest.mark.parametrize(
    ("threads", "items", "seconds", "worth", "alone"),
    [
        (1, 5, 0.0, 0.0, 5),  # one thread does all
        (3, 1, 0.0, 0.0, 1),  # one item needs no other
        (3, 5, 0.0, 0.0, 0),
        (3, 5, 0.0, 0.5, 5),  # too quick to be worth it
        (3, 5, 0.02, 0.01, 1),  # worth it after the first
        (1, 5, 0.02, 0.01, 5),
    ],
)
def test_which_thread_does_what(
    threads: int, items: int, seconds: float, worth: float, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(_schedule, "perf_counter", lambda: next(clock) * seconds)
    here = threading.get_ident()
    seen: list[tuple[int, bool, int]] = []
    before = torch.get_num_threads()
    share(
        lambda i: seen.append((i, threading.get_ident() == here, torch.get_num_threads())),
        range(items),
        threads,
        worth=worth,
    )
    assert sorted(item for item, _, _ in seen) == list(range(items))
    assert sum(mine for _, mine, _ in seen) == alone
    assert {count for _, _, count in seen} == {1}
    assert torch.get_num_threads() == before


def test_no_library_takes_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Handle:
        def limit(self, **options: Any) -> Any:
            asked.append(options)
            return nullcontext()

    monkeypatch.setattr(_schedule, "_blas", Handle)
    share(lambda item: None, [1, 2], 2)
    assert asked == [{"limits": 1, "user_api": "blas"}]


class Stub:
    """Stands for both ways of pivoting, and notes how they were called."""

    def __init__(self, ended: dict[float, list[bool]], alone: dict[float, bool]) -> None:
        self.ended = ended  # by radius, which classes end in step
        self.alone = alone  # by radius, whether a class ends alone
        self.together: list[tuple[float, list[list[int]], dict[str, Any]]] = []
        self.single: list[tuple[float, float, list[int], dict[str, Any]]] = []

    def pivot(self, G: torch.Tensor, b: torch.Tensor, mu: torch.Tensor, guess: torch.Tensor, **limits: Any) -> Any:
        self.together.append((float(mu[0]), guess.tolist(), limits))
        ended = torch.tensor(self.ended[float(mu[0])])
        coef = torch.where(ended[:, None], mu[:, None] * torch.ones_like(b), 0.0)
        handed_on = torch.where(ended[:, None], 0, -1) * torch.ones_like(guess)
        return PivotResult(coef, ended, torch.full((len(b),), 3), handed_on.to(torch.int8))

    def pivot_wide(self, G: torch.Tensor, b: np.ndarray, mu: float, guess: np.ndarray, **limits: Any) -> Any:
        self.single.append((float(b[0]), mu, guess.tolist(), limits))
        return (np.array([mu, -mu]) if self.alone[mu] else None), 5


def test_classes_leave_the_others_where_they_fail_and_go_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub({1.0: [True, True, True], 2.0: [True, False, True], 3.0: [True, True]}, {2.0: True, 3.0: True})
    monkeypatch.setattr(_schedule, "pivot_narrow", stub.pivot)
    monkeypatch.setattr(_schedule, "pivot_wide", stub.pivot_wide)
    b = tensor([[10.0, 0.0], [11.0, 0.0], [12.0, 0.0]])
    mus = tensor([[1.0] * 3, [2.0] * 3, [3.0] * 3])
    guess = torch.tensor([[1, 0], [0, 1], [0, 0]], dtype=torch.int8)
    coef, steps = explore(torch.eye(2).double(), b, mus, guess, Options(positive=True, max_iter=77), 1, 4)
    limits = {"positive": True, "max_rounds": 77}
    # The signs of a solution are the next guess; 48 active columns may be worked on in step.
    assert stub.together == [
        (1.0, [[1, 0], [0, 1], [0, 0]], {"widest": 48, **limits}),
        (2.0, [[1, 1]] * 3, {"widest": 48, **limits}),
        (3.0, [[1, 1]] * 2, {"widest": 48, **limits}),
    ]
    # Alone it begins at the radius where it left, from the guess it was handed on with.
    assert stub.single == [(11.0, 2.0, [-1, -1], limits), (11.0, 3.0, [1, -1], limits)]
    assert coef.tolist() == [
        [[1.0, 1.0]] * 3,
        [[2.0, 2.0], [2.0, -2.0], [2.0, 2.0]],
        [[3.0, 3.0], [3.0, -3.0], [3.0, 3.0]],
    ]
    assert steps.tolist() == [1 + 3 * 3, 1 + 2 * 3 + 2 * 5, 1 + 3 * 3]
    assert guess.tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("size", "sizes"), [(21, [16, 4]), (11, [10, 10]), (18, [16, 1, 3])])
def test_wide_classes_go_on_in_groups(
    threads: int, size: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 21 classes 20 are handed on with 60 active columns; of the groups the classes of the first end. Groups are of
    # one batch, and do not depend on the threads.
    seen: list[tuple[list[float], int]] = []

    def stub(G: torch.Tensor, b: torch.Tensor, mu: torch.Tensor, guess: torch.Tensor, **limits: Any) -> Any:
        seen.append((b[:, 0].tolist(), limits["widest"]))
        ended = (b[:, 0] == 0) | (limits["widest"] > 48) & (b[:, 0] <= sizes[0])
        signs = torch.where(ended[:, None], 0, 1) * torch.ones_like(guess)
        return PivotResult(torch.zeros_like(b), ended, torch.ones(len(b), dtype=torch.int64), signs.to(torch.int8))

    monkeypatch.setattr(_schedule, "pivot_narrow", stub)
    alone: list[float] = []
    monkeypatch.setattr(_schedule, "pivot_wide", lambda G, b, *_, **__: (alone.append(float(b[0])), (b, 1))[1])
    b = torch.arange(21.0, dtype=torch.float64)[:, None] * torch.ones(1, 60, dtype=torch.float64)
    given = (torch.eye(60).double(), b, torch.ones(1, 21).double(), torch.zeros(21, 60, dtype=torch.int8))
    explore(*given, Options(), threads, size)
    assert sorted(c for classes, widest in seen if widest == 48 for c in classes) == list(range(21))
    assert sorted(len(classes) for classes, widest in seen if widest == 112) == sorted(sizes)
    assert sorted(c for classes, widest in seen if widest == 112 for c in classes) == list(range(1, 21))
    assert sorted(alone) == list(range(sizes[0] + 1, 21))


def test_no_class_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub({1.0: [False, False]}, {1.0: True, 2.0: True})
    monkeypatch.setattr(_schedule, "pivot_narrow", stub.pivot)
    monkeypatch.setattr(_schedule, "pivot_wide", stub.pivot_wide)
    b = tensor([[10.0, 0.0], [11.0, 0.0]])
    mus = tensor([[1.0] * 2, [2.0] * 2])
    explore(torch.eye(2).double(), b, mus, torch.zeros(2, 2, dtype=torch.int8), Options(), 1, 4)
    assert [mu for mu, *_ in stub.together] == [1.0]
    assert [(c, mu) for c, mu, *_ in stub.single] == [(10.0, 1.0), (10.0, 2.0), (11.0, 1.0), (11.0, 2.0)]


def test_radii_that_fail_are_walked_to_and_the_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub({1.0: [True, False]}, {1.0: True, 2.0: False, 3.0: True, 4.0: True})
    stub.ended |= {2.0: [True], 3.0: [True], 4.0: [True]}
    monkeypatch.setattr(_schedule, "pivot_narrow", stub.pivot)
    monkeypatch.setattr(_schedule, "pivot_wide", stub.pivot_wide)
    walks: list[tuple[list[list[float]], dict[str, Any]]] = []
    real = _schedule.homotopy

    def watched(G: torch.Tensor, b: torch.Tensor, mus: torch.Tensor, **options: Any) -> Any:
        walks.append((mus.tolist(), options))
        assert b.tolist() == [[11.0, 4.0]]
        return real(G, b, mus, **options)

    monkeypatch.setattr(_schedule, "homotopy", watched)
    b = tensor([[10.0, 0.0], [11.0, 4.0]])
    mus = tensor([[t, t] for t in (1.0, 2.0, 3.0, 4.0)])
    coef, steps = explore(
        torch.eye(2).double(), b, mus, torch.zeros(2, 2, dtype=torch.int8), Options(max_iter=66), 1, 4
    )
    # Class 1 failed at radius 2 alone: the path is followed as far as that, and only that solution is taken from it.
    assert walks == [([[1.0], [2.0]], {"positive": False, "max_steps": 66})]
    assert coef[:, 1].tolist() == [[1.0, -1.0], [2.0, 0.0], [3.0, -3.0], [4.0, -4.0]]
    # What failed alone does not change the guess.
    assert [guess for _, _, guess, _ in stub.single] == [[-1, -1], [1, -1], [1, -1], [1, -1]]
    assert steps.tolist() == [1 + 4 * 3, 1 + 3 + 4 * 5 + 1]


def test_on_a_device_classes_stay_together_and_failures_go_to_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub({1.0: [True, False], 2.0: [True, True]}, {})
    monkeypatch.setattr(_schedule, "_ALONE", frozenset())
    monkeypatch.setattr(_schedule, "pivot", stub.pivot)
    monkeypatch.setattr(_schedule, "pivot_wide", stub.pivot_wide)
    b = tensor([[10.0, 0.0], [11.0, 4.0]])
    mus = tensor([[1.0, 1.0], [2.0, 2.0]])
    coef, _ = explore(torch.eye(2).double(), b, mus, torch.zeros(2, 2, dtype=torch.int8), Options(), 1, 4)
    assert [guess for _, guess, _ in stub.together] == [[[0, 0]] * 2, [[1, 1], [-1, -1]]]
    assert [limits["widest"] for *_, limits in stub.together] == [2, 2]
    assert not stub.single
    assert coef.tolist() == [[[1.0, 1.0], [1.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]]


# --- what is certified --------------------------------------------------------------------------------------


def test_weights_outside_the_ball_are_scaled_into_it() -> None:
    coef = tensor([[3.0, -1.0], [0.5, 0.0], [0.0, 0.0]])
    assert _feasible(coef, tensor([2.0, 2.0, 2.0])).tolist() == [[1.5, -0.5], [0.5, 0.0], [0.0, 0.0]]


def test_polished_weights_solve_the_system_on_their_support() -> None:
    G = torch.eye(3).double()
    b = tensor([[3.0, -2.0, 1.0]])
    # On columns 0 and 1 for mu = 3: the multiplier is 1.
    found = _polished(G, b, tensor([[0.1, -0.1, 0.0]]), tensor([3.0]))
    np.testing.assert_allclose(found, [[2.0, -1.0, 0.0]])
    # Beyond the support's least squares the multiplier is 0, not below.
    np.testing.assert_allclose(_polished(G, b, tensor([[0.1, -0.1, 0.0]]), tensor([9.0])), [[3.0, -2.0, 0.0]])
    # A weight whose sign the system contradicts: zeros.
    assert _polished(G, b, tensor([[0.1, 0.1, 0.0]]), tensor([9.0])).tolist() == [[0.0, 0.0, 0.0]]
    # No factorisation, no weights.
    assert not _polished(torch.ones(3, 3).double(), b, tensor([[1.0, 1.0, 0.0]]), tensor([9.0])).any()


def explored(coef: list[list[list[float]]], steps: list[int]) -> Any:
    """Return a stand-in for the search that has found ``coef`` (T, C, m)."""
    return lambda *_: (tensor(coef), torch.tensor(steps))


def gram_of(b: list[list[float]]) -> Gram:
    B = np.array(b).T
    return Gram(np.eye(len(B)), B, np.full(B.shape[1], 100.0), 5)


def test_what_misses_is_polished_and_what_misses_still_is_brought_home(monkeypatch: pytest.MonkeyPatch) -> None:
    gram = gram_of([[4.0, 1.0], [4.0, 1.0], [4.0, 1.0]])
    # mu = 3: the optimum is (3, 0). Found: it; a point on its support; and the wrong column.
    found = [[[3.0, 0.0], [2.5, 0.0], [0.0, 3.0]]]
    monkeypatch.setattr(_certified, "explore", explored(found, [7, 8, 9]))
    finished: list[float] = []
    real = _certified.finish

    def watched(*args: Any, **options: Any) -> Any:
        finished.append(args[2])
        assert options == {"positive": False, "goal": 1e-6 * 50.0, "max_iter": 20_000}
        return real(*args, **options)

    monkeypatch.setattr(_certified, "finish", watched)
    polished: list[list[float]] = []
    polish = _certified._polished

    def polishing(G: torch.Tensor, b: torch.Tensor, coef: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
        polished.extend(coef.tolist())
        return polish(G, b, coef, mu)

    monkeypatch.setattr(_certified, "_polished", polishing)
    solution = solve(gram, np.array([3.0]), Options())
    np.testing.assert_allclose(solution.coef[0], [[3.0, 0.0]] * 3, rtol=1e-6, atol=1e-6)
    assert solution.coef[0, 1].tolist() == [3.0, 0.0]
    # The polish counts no round, the descent one: its face is the whole support.
    assert polished == [[2.5, 0.0], [0.0, 3.0]]
    assert finished == [3.0]
    assert solution.n_iter.tolist()[:2] == [7, 8]
    assert solution.n_iter[2] > 9
    assert (solution.relative <= 1e-6).all()


def test_gaps_are_those_of_the_returned_weights() -> None:
    gram = gram_of([[4.0, 1.0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_certified, "explore", explored([[[0.0, 3.0]]], [1]))
        patch.setattr(_certified, "_polished", lambda G, b, coef, mu: coef * 0)
        solution = solve(gram, np.array([3.0]), Options(tol=10.0))
    # At (0, 3): g = (-4, 2), the gap 6 + 3 * 4; at zero, the worse polish, it would be 12: better, so it is taken.
    assert (solution.coef[0, 0].tolist(), solution.gap[0, 0]) == ([0.0, 0.0], 12.0)
    assert solution.relative[0, 0] == 12.0 / 50.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_certified, "explore", explored([[[2.5, 0.0]]], [1]))
        patch.setattr(_certified, "_polished", lambda G, b, coef, mu: coef * 0)
        solution = solve(gram, np.array([3.0]), Options(tol=10.0))
    # At (2.5, 0): g = (-1.5, -1), the gap -3.75 + 3 * 1.5 = 0.75, less than at zero.
    assert (solution.coef[0, 0].tolist(), solution.gap[0, 0]) == ([2.5, 0.0], 0.75)


@pytest.mark.parametrize(
    ("b", "mu", "active"),
    [
        ([4.0, 1.0], 3.0, True),
        ([4.0, 1.0], 5.0, False),  # exactly the least squares weights: nothing pulls
        ([4.0, 1.0], 6.0, False),
        ([4.0, 1.0], 5.0 - 1e-6, True),
        ([4.0, 1.0], 5.0 - 1e-13, False),  # a pull of rounding
        ([0.0, 0.0], 1.0, False),
    ],
)
def test_whether_the_ball_holds_the_solution_back(b: list[float], mu: float, active: bool) -> None:
    assert solve(gram_of([b]), np.array([mu]), Options()).active.tolist() == [[active]]


def test_inside_the_ball_nothing_is_held_back_whatever_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_certified, "explore", explored([[[2.5, 0.0]]], [1]))
    monkeypatch.setattr(_certified, "_polished", lambda G, b, coef, mu: coef)
    assert not solve(gram_of([[4.0, 1.0]]), np.array([3.0]), Options(tol=10.0)).active.any()
    assert solve(gram_of([[4.0, 1.0]]), np.array([2.5]), Options(tol=10.0)).active.all()


def test_radii_of_classes_in_any_order() -> None:
    gram = gram_of([[4.0, 1.0], [1.0, 4.0]])
    mus = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    solution = solve(gram, mus, Options())
    np.testing.assert_allclose(solution.coef[:, 0], [[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(solution.coef[:, 1], [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    assert solution.active.all()
    # A tolerance that is missed belongs to its radius.
    with pytest.MonkeyPatch.context() as patch:
        rows = [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 3.0]]]
        patch.setattr(_certified, "explore", explored(rows, [1, 1]))
        patch.setattr(_certified, "_polished", lambda G, b, coef, mu: coef * 0 + tensor([[0.0, 1.0]]))
        solution = solve(gram, mus, Options(tol=10.0))
    assert solution.gap[:, 0].tolist()[:2] == [0.0, 0.0]
    # At (0, 1) for mu = 2: g = (-4, 0), 2 * 4.
    assert solution.gap[2, 0] == 8.0


def test_a_start_is_the_first_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = _certified.explore

    def watched(G: torch.Tensor, b: torch.Tensor, mus: torch.Tensor, guess: torch.Tensor, *rest: Any) -> Any:
        seen.append((guess.tolist(), mus.tolist(), rest[1]))
        return real(G, b, mus, guess, *rest)

    monkeypatch.setattr(_certified, "explore", watched)
    gram = gram_of([[4.0, 1.0], [1.0, -4.0]])
    solve(gram, np.array([2.0, 1.0]), Options(n_jobs=3), np.array([[0.5, 0.0], [0.0, -2.0]]))
    solve(gram, np.array([2.0, 1.0]), Options())
    assert seen == [
        ([[1, 0], [0, -1]], [[1.0, 1.0], [2.0, 2.0]], 3),
        ([[0, 0], [0, 0]], [[1.0, 1.0], [2.0, 2.0]], torch.get_num_threads()),
    ]


@pytest.mark.parametrize("empty", [[1], [0, 2], [0, 1, 2]])
def test_classes_without_an_image_are_not_solved(empty: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    b = np.array([[4.0, 1.0], [1.0, 4.0], [3.0, 3.0]])
    whole = solve(gram_of(b.tolist()), np.array([[3.0, 2.0, 1.0]]), Options())
    b[empty] = 0.0
    seen: list[int] = []
    real = _certified.explore
    monkeypatch.setattr(_certified, "explore", lambda G, b, *rest: (seen.append(len(b)), real(G, b, *rest))[1])
    start = np.arange(6.0).reshape(3, 2)
    some = solve(gram_of(b.tolist()), np.array([[3.0, 2.0, 1.0]]), Options(), start)
    assert sum(seen) == 3 - len(empty)
    left = [c for c in range(3) if c not in empty]
    for name in ("coef", "gap", "relative", "active"):
        found = getattr(some, name)
        assert found[:, left].tolist() == getattr(whole, name)[:, left].tolist()
        assert not found[:, empty].any()
    assert some.n_iter[empty].tolist() == [0] * len(empty)
    assert (some.n_iter[left] > 0).all()
