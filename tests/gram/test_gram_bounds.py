"""How much rounding a Gram may carry and what is a fault, at the bounds; what is left of one; memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, _checks, _memory
from interpnet.gram._checks import check_definite, locate_bad, locate_nonfinite, remainder


def gram_of(G: Any, B: Any = None, yy: Any = None) -> Gram:
    matrix = np.asarray(G, dtype=np.float64)
    given = np.zeros((len(matrix), 1)) if B is None else np.array(B)
    return Gram(matrix, given, np.ones(given.shape[1]) if yy is None else np.array(yy), 9)


# --- what is a Gram -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(0, 1), (270, 3), (3, 270), (520, 519)])
@pytest.mark.parametrize(
    ("i_j", "j_i", "fault"),
    [
        (0.5 + 0.9e-8, 0.5, None),  # a difference of rounding, relative to 1
        (0.5 + 1.1e-8, 0.5, "is not symmetric"),
        (1 + 0.9e-5, 1 + 0.9e-5, None),
        (1 + 1.1e-5, 1 + 1.1e-5, r"is not positive semidefinite \(\|G_ij\| > sqrt"),
        (-1 - 1.1e-5, -1 - 1.1e-5, r"is not positive semidefinite \(\|G_ij\| > sqrt"),
    ],
)
def test_entries_at_their_bounds(at: tuple[int, int], i_j: float, j_i: float, fault: str | None) -> None:
    # In units of sqrt(G_ii G_jj) = 8; in other blocks of 256 rows too.
    G = np.diag(np.full(530, 1.0))
    i, j = at
    G[i, i] = 4.0
    G[j, j] = 16.0
    G[i, j] = 8 * i_j
    G[j, i] = 8 * j_i
    if fault is None:
        gram = gram_of(G)
        assert gram.G[i, j] == gram.G[j, i] == pytest.approx(4 * (i_j + j_i), rel=1e-14)
        # Exactly symmetric is taken as it is.
        assert (gram.G is G) == (i_j == j_i)
        return
    rows = sorted(at)
    columns = f"{rows[0]} and {rows[1]}" if rows[0] // 256 != rows[1] // 256 or fault[:6] == "is not" else ""
    with pytest.raises(InterpNetError, match=rf"Gram\.G {fault}.*columns {columns}"):
        gram_of(G)


@pytest.mark.parametrize(("share", "good"), [(0.9e-5, True), (1.1e-5, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_products_with_targets_at_their_bounds(share: float, good: bool, sign: int) -> None:
    # |B| is at most sqrt(G_ii yy_j) = 2 * 3 in column 1, class 2.
    B = np.zeros((2, 3))
    B[1, 2] = sign * 6 * (1 + share)
    yy = [1.0, 1.0, 9.0]
    if good:
        assert gram_of(np.diag([1.0, 4.0]), B, yy).B[1, 2] == B[1, 2]
        return
    with pytest.raises(InterpNetError, match=r"Gram\.B is -?6\.00007 at column 1, class 2, more than .* = 6 allows"):
        gram_of(np.diag([1.0, 4.0]), B, yy)


def test_zeros_on_the_diagonal_and_no_squares_are_fine() -> None:
    gram = gram_of(np.zeros((2, 2)), np.zeros((2, 1)), [0.0])
    assert (gram.m, gram.n_classes) == (2, 1)
    with pytest.raises(InterpNetError, match=r"B with C at least 1|expected \(2, C\) with C at least 1"):
        gram_of(np.eye(2), np.zeros((2, 0)))
    with pytest.raises(InterpNetError, match=r"Gram\.G has shape \(2,\)"):
        gram_of(np.ones(2))
    with pytest.raises(InterpNetError, match=r"Gram\.B has shape \(2,\)"):
        gram_of(np.eye(2), np.zeros(2), [1.0, 1.0])
    with pytest.raises(InterpNetError, match=r"its diagonal is -3 at column 2"):
        gram_of(np.diag([1.0, -1.0, -3.0]))
    with pytest.raises(InterpNetError, match=r"Gram\.yy is -3 at class 1"):
        gram_of(np.eye(1), np.zeros((1, 2)), [1.0, -3.0])


def test_arrays_are_made_writable_float64_rows() -> None:
    G = np.asfortranarray(np.array([[2.0, 1.0], [1.0, 2.0]]))
    G.setflags(write=False)
    gram = Gram(G, np.array([[1], [0]]), np.array([1], dtype=np.float32), np.int64(3))
    for array in (gram.G, gram.B, gram.yy):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert type(gram.n) is int
    assert gram.is_definite is False
    for n in (True, 0, -2, 2.5, "3"):
        with pytest.raises(InterpNetError, match=r"Gram\.n is"):
            Gram(np.eye(1), np.zeros((1, 1)), np.ones(1), n)


def test_nobody_says_that_a_matrix_is_definite() -> None:
    with pytest.raises(TypeError, match="positional arguments"):
        Gram(np.eye(1), np.zeros((1, 1)), np.ones(1), 1, True)  # type: ignore[call-arg]
    assert "definite" not in repr(gram_of(np.eye(1)))


@pytest.mark.parametrize(("low", "good"), [(-0.9e-6, True), (-1.1e-6, False)])
def test_how_far_below_zero_an_eigenvalue_may_be(low: float, good: bool) -> None:
    # The second and third column: eigenvalues ``low`` and 2 - low once they have length one.
    G = np.eye(4)
    G[1, 2] = G[2, 1] = 1 - low
    scale = np.array([1.0, 1e-3, 1e3, 0.0])
    G *= scale * scale[:, None]
    before = G.copy()
    if good:
        check_definite(G)
    else:
        with pytest.raises(InterpNetError, match="the block of its first 3 columns has a negative eigenvalue"):
            check_definite(G)
    assert np.array_equal(G, before)


def test_places_of_what_is_not_finite() -> None:
    assert locate_nonfinite(np.array([1e308, 1e308])) is None  # the sum overflows, the values do not
    assert locate_nonfinite(np.array([[0.0, 1.0], [np.nan, np.inf]])) == (1, 0)
    assert locate_nonfinite(np.array([1.0, np.inf, -np.inf])) == (1,)
    assert locate_bad("X", np.array([[0.0, -np.inf]]), 7) == (
        "X contains infinity at row 7, column 1; every value must be finite"
    )
    assert locate_bad("X", np.zeros((1, 1))) is None


# --- what is left of one ------------------------------------------------------------------------------------


def left(G: Any, part: Any, yy: float = 4.0, part_yy: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    whole = np.array(G, dtype=np.float64)
    some = np.array(part, dtype=np.float64)
    columns = np.ones((len(whole), 1))
    return remainder((whole, 3 * columns, np.array([yy])), (some, columns, np.array([part_yy])))


def test_remainders_of_rounding_are_nothing() -> None:
    G, B, yy = left(np.diag([4.0, 4.0, 4.0]), np.diag([1.0, 4.0 + 3.9e-12, 4.0 - 3.9e-12]))
    # Up to 1e-12 of the whole, of either sign.
    assert G.tolist() == np.diag([3.0, 0.0, 0.0]).tolist()
    assert (B[:, 0].tolist(), yy.tolist()) == ([2.0, 0.0, 0.0], [3.0])
    G, B, _ = left(np.diag([4.0, 4.0]), np.diag([1.0, 4.0 - 4.2e-12]))
    assert G[1, 1] > 0
    assert B[1, 0] == 2.0
    with pytest.raises(InterpNetError, match=r"what is left of Gram\.G is -4\.\d+e-12 at 1; expected to subtract"):
        left(np.diag([4.0, 4.0]), np.diag([1.0, 4.0 + 4.2e-12]))
    for part_yy in (4.0 + 3.9e-12, 4.0 - 3.9e-12):
        _, B, yy = left(np.eye(1) * 4, np.eye(1), 4.0, part_yy)
        assert (B.tolist(), yy.tolist()) == ([[0.0]], [0.0])
    assert left(np.eye(1) * 4, np.eye(1), 4.0, 4.0 - 4.2e-12)[2][0] > 0
    with pytest.raises(InterpNetError, match=r"what is left of Gram\.yy is -4\.\d+e-12 at 0"):
        left(np.eye(1) * 4, np.eye(1), 4.0, 4.0 + 4.2e-12)


def test_columns_and_classes_of_zeros_stay_so() -> None:
    G, B, yy = left(np.diag([4.0, 0.0]), np.diag([1.0, 0.0]), 0.0, 0.0)
    assert (G.tolist(), B.tolist(), yy.tolist()) == ([[3.0, 0.0], [0.0, 0.0]], [[0.0], [0.0]], [0.0])


def test_rounding_off_the_diagonal_of_what_is_gone_is_cleared() -> None:
    G, _, _ = left([[4.0, 1.0], [1.0, 4.0]], [[4.0, 0.5], [0.5, 1.0]])
    assert G.tolist() == [[0.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize("at", [(0, 1), (300, 2)])
@pytest.mark.parametrize(("more", "good"), [(0.9e-5, True), (1.1e-5, False)])
def test_what_is_left_is_a_gram_up_to_rounding(at: tuple[int, int], more: float, good: bool) -> None:
    # On the diagonal 2 and 8 are left, so that 4 may be left between them.
    i, j = at
    whole = np.eye(310) * 4
    whole[i, i] = 3.0
    whole[j, j] = 9.0
    part = np.eye(310)
    for a, b in (at, at[::-1]):
        whole[a, b] = -1.0
        part[a, b] = 3 + 4 * more
    if good:
        assert left(whole, part)[0][i, j] == pytest.approx(-4 * (1 + more))
        return
    with pytest.raises(InterpNetError, match=f"no Gram .columns {min(at)} and {max(at)}."):
        left(whole, part)


@pytest.mark.parametrize(("off", "good"), [(0.9e-12, True), (1.1e-12, False)])
def test_rounding_of_the_whole_counts_where_little_is_left(off: float, good: bool) -> None:
    # Of 1 and 4 there are 2e-12 and 8e-12 left, so 4e-12 between them, and 1e-12 of 2 for the rounding of the sums.
    whole = np.diag([1.0, 4.0])
    part = np.diag([1.0 - 2e-12, 4.0 - 8e-12])
    part[0, 1] = part[1, 0] = -4e-12 - 2 * off
    if good:
        assert left(whole, part)[0][0, 1] > 4e-12
        return
    with pytest.raises(InterpNetError, match="what is left after subtracting is no Gram"):
        left(whole, part)


def test_a_part_leaves_at_least_one_image() -> None:
    X = np.random.default_rng(0).random((4, 2))
    total = Gram.from_scores(X, X[:, :1])
    assert (total - Gram.from_scores(X[:3], X[:3, :1])).n == 1
    for n in (4, 5):
        with pytest.raises(InterpNetError, match=f"a Gram of {n} images from one of 4"):
            total.without(Gram(np.zeros((2, 2)), np.zeros((2, 1)), np.zeros(1), n))
    with pytest.raises(InterpNetError, match="part is 3"):
        total.without(3)


def test_sums_are_definite_where_both_are() -> None:
    summed = Gram.from_scores(np.eye(2), np.eye(2))
    made = Gram(np.eye(2), np.zeros((2, 2)), np.ones(2), 3)
    assert summed.is_definite
    assert [(a + b).is_definite for a, b in ((summed, summed), (summed, made), (made, summed))] == [True, False, False]
    total = summed + summed + made
    assert [(a.without(b)).is_definite for a, b in ((summed + summed, summed), (total, summed))] == [True, False]


# --- memory -------------------------------------------------------------------------------------------------


def test_sizes_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _memory.parts_gib(1024, 3) == 3 * 8 * 2**20 / 2**30
    monkeypatch.setattr(_memory, "physical_memory", lambda: 2.0**30)
    # Half of 2^30 bytes are 64 matrices of 1024 columns.
    assert [_memory.parts_fit(1024, n) for n in (64, 65)] == [True, False]
    # The matrix and the solver's copy: 2^30 bytes are 8192 columns.
    _memory.check_size(8192)
    with pytest.raises(DataError, match=r"8,193 channels takes 0\.5 GiB, .* this machine has 1\.0 GiB"):
        _memory.check_size(8193)
    with pytest.raises(DataError, match="134,217,729 classes are more"):
        _memory.check_size(1, 2**27 + 1)
    _memory.check_size(1, 2**27)


def test_a_control_group_may_allow_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "physical_memory", lambda: 2.0**30)
    own = tmp_path / "cgroup"
    root = tmp_path / "fs"
    monkeypatch.setattr(_memory, "_OWN_GROUPS", own)
    monkeypatch.setattr(_memory, "_GROUP_ROOT", root)
    assert _memory.usable_memory() == 2**30  # not Linux
    (root / "job/step").mkdir(parents=True)
    (root / "memory/job").mkdir(parents=True)
    own.write_text("0::/job/step\n")
    for limit, usable in (("max", 2**30), (str(2**31), 2**30), ("1048576\n", 2**20)):
        (root / "job/step/memory.max").write_text(limit)
        assert _memory.usable_memory() == usable
    # What is above counts as well.
    (root / "job/memory.max").write_text("524288")
    assert _memory.usable_memory() == 2**19
    # Version 1, whose number for no limit is one that no machine has.
    own.write_text("3:cpu,cpuacct:/job\n2:memory:/job\n")
    (root / "memory/memory.limit_in_bytes").write_text("9223372036854771712")
    assert _memory.usable_memory() == 2**30
    (root / "memory/job/memory.limit_in_bytes").write_text("262144")
    assert _memory.usable_memory() == 2**18
    assert [_memory.gram_fits(128), _memory.gram_fits(129), _memory.gram_fits(128, 3)] == [True, False, False]


def test_the_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _memory.physical_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def fails(error: type[Exception]) -> Any:
        def sysconf(name: str) -> int:
            raise error(name)

        return sysconf

    for error in (ValueError, OSError):
        monkeypatch.setattr(os, "sysconf", fails(error))
        assert _memory.physical_memory() == np.inf
    monkeypatch.delattr(os, "sysconf")
    assert _memory.physical_memory() == np.inf


def test_rows_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks, "_ROWS", 2)
    G = np.eye(5)
    G[4, 1] = 0.5
    G[1, 4] = 0.25
    with pytest.raises(InterpNetError, match=r"not symmetric at columns 1 and 4: 0\.25 and 0\.5"):
        gram_of(G)
    gram_of(np.eye(5) + 0.25)
