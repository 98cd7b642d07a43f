"""The Gram matrix: exact sums, shards, files, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.gram import Gram, GramAccumulator, _memory, check_size, one_hot
from interpnet.support.checks import real_array

BOUNDED = settings(max_examples=40, derandomize=True)


def data(n: int = 37, m: int = 5, C: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, m)).astype(np.float32), rng.integers(0, C, n)


def small() -> Gram:
    return Gram.from_scores(*data(), n_classes=3)


# --- sums ---------------------------------------------------------------------------------------


def test_hand_computed() -> None:
    gram = Gram.from_scores(np.array([[1, 2], [3, 4]]), np.array([[1.0, 0.5], [0.0, 2.0]]))
    assert gram.G.tolist() == [[10, 14], [14, 20]]
    assert gram.B.tolist() == [[1, 6.5], [2, 9]]
    assert gram.yy.tolist() == [1, 4.25]
    assert (gram.n, gram.m, gram.n_classes) == (2, 2, 2)
    assert all(array.dtype == np.float64 for array in (gram.G, gram.B, gram.yy))


@BOUNDED
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 9),
    C=st.integers(1, 4),
    block=st.integers(1, 70),
    seed=st.integers(0, 999),
)
def test_integer_scores_sum_exactly_whatever_the_block(n: int, m: int, C: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(-999, 999, (n, m))
    labels = rng.integers(0, C, n)
    gram = Gram.from_scores(X.astype(np.float32), labels, n_classes=C, block=block)
    L = np.eye(C, dtype=int)[labels]
    assert np.array_equal(gram.G, X.T @ X)
    assert np.array_equal(gram.B, X.T @ L)
    assert np.array_equal(gram.yy, (L**2).sum(axis=0))
    assert gram.n == n


def test_float32_scores_are_summed_in_float64() -> None:
    # 1 + 2^-12 squared needs 25 bits: float32 products would lose the last.
    X = np.full((4096, 1), 1 + 2.0**-12, dtype=np.float32)
    gram = Gram.from_scores(X, X)
    assert gram.G[0, 0] == 4096 * (1 + 2.0**-12) ** 2


def test_wide_matrix_is_mirrored_across_blocks() -> None:
    X = np.random.default_rng(1).integers(-9, 9, (20, 1100)).astype(np.float32)
    assert np.array_equal(Gram.from_scores(X, np.ones((20, 1))).G, X.T.astype(np.float64) @ X)


def test_shards_add_to_the_whole() -> None:
    X, labels = data()
    whole = Gram.from_scores(X, labels, n_classes=3)
    parts = [Gram.from_scores(X[i::4], labels[i::4], n_classes=3) for i in range(4)]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    assert total.n == whole.n
    for name in ("G", "B", "yy"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-14)


def test_accumulator_equals_from_scores_and_is_not_aliased() -> None:
    X, labels = data()
    total = GramAccumulator(5, 3)
    total.add(torch.from_numpy(X[:20]), torch.from_numpy(labels[:20]))
    first = total.gram()
    kept = first.G.copy()
    total.add(X[20:], one_hot(labels[20:], 3))
    assert np.array_equal(first.G, kept)
    assert total.n == 37
    np.testing.assert_allclose(total.gram().G, small().G, rtol=1e-14)
    np.testing.assert_allclose(total.gram().B, small().B, rtol=1e-14)


def test_accumulator_refuses_a_bad_block_as_a_whole() -> None:
    X, labels = data()
    total = GramAccumulator(5, 3)
    total.add(X, labels)
    bad = X[:4].copy()
    bad[2, 3] = np.nan
    with pytest.raises(DataError, match="NaN at row 39, column 3"):
        total.add(bad, labels[:4])
    assert total.n == 37
    assert np.array_equal(total.gram().G, small().G)


def test_memory_map(tmp_path) -> None:
    X, labels = data()
    mapped = np.memmap(tmp_path / "X.f32", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    gram = Gram.from_scores(mapped, labels, block=8)
    np.testing.assert_allclose(gram.G, small().G, rtol=1e-14)


def test_empty_block_adds_nothing() -> None:
    total = GramAccumulator(2, 1)
    total.add(np.empty((0, 2)), np.empty((0, 1)))
    total.add(np.ones((1, 2)), np.ones((1, 1)))
    assert total.n == 1


# --- files --------------------------------------------------------------------------------------


def test_save_and_load(tmp_path) -> None:
    gram = small()
    path = tmp_path / "gram.npz"
    gram.save(path)
    again = Gram.load(path)
    assert again.n == gram.n
    for name in ("G", "B", "yy"):
        assert np.array_equal(getattr(again, name), getattr(gram, name))
    assert [p.name for p in tmp_path.iterdir()] == ["gram.npz"]


def test_files_that_are_refused(tmp_path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        Gram.load(tmp_path / "none.npz")
    with pytest.raises(InterpNetError, match=r"ends in \.npz"):
        small().save(tmp_path / "gram.bin")
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, G=np.eye(2))
    with pytest.raises(RunFolderError, match=r"lacks \['B', 'n', 'yy'\]"):
        Gram.load(foreign)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, G=np.array([{}], dtype=object), B=np.ones((1, 1)), yy=np.ones(1), n=1)
    with pytest.raises(RunFolderError, match=r"holds no Gram that can be read .*; delete it"):
        Gram.load(pickled)
    path = tmp_path / "gram.npz"
    small().save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunFolderError, match=r"holds no Gram that can be read .*; delete it"):
        Gram.load(path)
    path.write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"holds no Gram that can be read .*; delete it"):
        Gram.load(path)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"G": np.ones((2, 3))}, r"Gram.G has shape \(2, 3\)"),
        ({"G": np.ones((0, 0))}, "m at least 1"),
        ({"G": np.array([["a", "b"], ["c", "d"]])}, "expected real numbers"),
        ({"B": np.ones((3, 1))}, r"Gram.B has shape \(3, 1\); expected \(2, C\)"),
        ({"yy": np.ones(2)}, r"Gram.yy has shape \(2,\); expected \(1,\)"),
        ({"n": 0}, "Gram.n is 0"),
        ({"n": 1.5}, "Gram.n is 1.5"),
        ({"G": np.array([[1, np.nan], [np.nan, 1]])}, "Gram.G holds nan at column 1"),
        ({"B": np.array([[0.0], [np.inf]])}, "Gram.B holds inf at class 0"),
        ({"yy": np.array([np.nan])}, "Gram.yy holds nan at class 0"),
        ({"yy": np.array([-1.0])}, "Gram.yy is -1 at class 0"),
        ({"G": np.array([[1, 0.5], [0.4, 1]])}, "not symmetric at columns 0 and 1"),
        ({"G": np.diag([1.0, -1.0])}, "not positive semidefinite: its diagonal is -1 at column 1"),
        ({"G": np.array([[1.0, 2.0], [2.0, 1.0]])}, "not positive semidefinite .* at columns 0 and 1"),
        ({"B": np.array([[0.0], [2.0]])}, "Gram.B is 2 at column 1, class 0"),
    ],
)
def test_arrays_that_are_no_gram(change, message) -> None:
    arguments = {"G": np.eye(2), "B": np.zeros((2, 1)), "yy": np.ones(1), "n": 4} | change
    with pytest.raises(InterpNetError, match=message):
        Gram(**arguments)


def test_rounding_asymmetry_is_removed() -> None:
    G = np.array([[1.0, 0.5], [0.5 + 1e-12, 1.0]])
    gram = Gram(G, np.zeros((2, 1)), np.ones(1), 3)
    assert np.array_equal(gram.G, gram.G.T)


def test_check_definite() -> None:
    # Unit diagonal, entries below one, but eigenvalue 1 - 0.8 * sqrt(2) < 0 (path graph of three nodes).
    G = np.array([[1, 0.8, 0], [0.8, 1, 0.8], [0, 0.8, 1]])
    scale = np.array([1e-6, 1.0, 1e6])
    gram = Gram(G * scale * scale[:, None], np.zeros((3, 1)), np.ones(1), 3)
    with pytest.raises(InterpNetError, match="clearly not positive semidefinite"):
        gram.check_definite()
    X, _ = data(n=3, m=40)
    Gram.from_scores(X, np.zeros((3, 1))).check_definite()
    Gram(np.zeros((2, 2)), np.zeros((2, 1)), np.ones(1), 3).check_definite()


def test_shards_of_different_shape_do_not_add() -> None:
    other = Gram(np.eye(2), np.zeros((2, 1)), np.ones(1), 4)
    with pytest.raises(InterpNetError, match="cannot add Grams"):
        _ = small() + other
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = small() + 1


@pytest.mark.parametrize(
    ("X", "L", "message"),
    [
        (np.ones((0, 2)), np.ones((0, 1)), "at least one row"),
        (np.ones((3, 0)), np.ones((3, 1)), "at least one row and one column"),
        (np.ones(3), np.ones(3), r"X has shape \(3,\)"),
        (np.ones((3, 2)), np.ones((4, 1)), "X has 3 rows"),
        (np.ones((3, 2)), np.ones((3, 1, 1)), r"L has shape \(3, 1, 1\)"),
        (np.ones((3, 2)), np.array([0.0, 1.0, 1.0]), "expected integers"),
        (np.ones((3, 2)), np.array([0, 1, -1]), "label -1 is outside"),
        (np.ones((3, 2)), np.array([0, 1, 7]), "label 7 is outside the 2 classes"),
        (np.array([[1.0, np.inf], [0.0, 0.0]]), np.array([0, 1]), "X contains infinity at row 0, column 1"),
        (np.ones((2, 2)), np.array([[1.0, 0.0], [0.0, np.nan]]), "L contains NaN at row 1, column 1"),
        (np.ones((2, 2), dtype=complex), np.array([0, 1]), "X has type complex128"),
    ],
)
def test_data_that_is_refused(X, L, message) -> None:
    with pytest.raises(DataError, match=message):
        Gram.from_scores(X, L, n_classes=2)


def test_options_that_are_refused() -> None:
    with pytest.raises(InterpNetError, match="block is 0"):
        Gram.from_scores(np.ones((1, 1)), np.ones((1, 1)), block=0)
    with pytest.raises(InterpNetError, match="m is 0"):
        GramAccumulator(0, 1)
    with pytest.raises(DataError, match=r"expected \(n, 2\)"):
        GramAccumulator(2, 1).add(np.ones((1, 3)), np.ones((1, 1)))
    with pytest.raises(DataError, match=r"L has shape \(1, 2\)"):
        GramAccumulator(2, 1).add(np.ones((1, 2)), np.ones((1, 2)))


def test_one_hot() -> None:
    assert one_hot(np.array([2, 0], dtype=np.uint8), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot([1]).shape == (1, 2)
    for labels, message in (
        ([], "no labels"),
        ([[1]], r"shape \(1, 1\)"),
        ([True, False], "type bool"),
        (np.array([2**64 - 1], dtype=np.uint64), "label 18446744073709551615 is outside"),
    ):
        with pytest.raises(DataError, match=message):
            one_hot(labels, 3)


def test_a_gram_matrix_beyond_the_machine_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "physical_memory", lambda: 24 * 2**30)
    with pytest.raises(DataError, match=r"Gram matrix of 70,440 channels takes 37\.0 GiB.*score fewer layers"):
        GramAccumulator(70_440, 5)


def test_memory_is_not_asked_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "physical_memory", lambda: np.inf)
    check_size(10**6)
    monkeypatch.setattr(_memory, "physical_memory", lambda: 16 * 1000**2)
    check_size(1000)
    with pytest.raises(DataError, match=r"1,001 channels"):
        check_size(1001)


def test_numbers_per_class_fill_the_memory_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "physical_memory", lambda: 8 * 2000 * 1000)
    _memory.check_class_count(1000, 2000)
    with pytest.raises(DataError, match=r"1,001 classes are more than this machine's memory holds.*return_inverse"):
        _memory.check_class_count(1001, 2000)
    monkeypatch.setattr(_memory, "physical_memory", lambda: np.inf)
    _memory.check_class_count(2**60, 2000)


def test_overflowing_sums_are_named() -> None:
    with pytest.raises(InterpNetError, match=r"Gram\.G holds inf at column 0"):
        Gram.from_scores(np.array([[1e200, 1.0]]), [0])


def test_labels_that_run_wild_are_refused_before_memory_is_asked_for() -> None:
    for labels in ([0, 2**50], np.array([0, 2**64 - 2], dtype=np.uint64)):
        with pytest.raises(DataError, match=r"classes are more than this machine's memory holds.*return_inverse"):
            Gram.from_scores(np.eye(2), labels)
        with pytest.raises(DataError, match="classes are more than this machine's memory holds"):
            one_hot(labels)


def test_masked_values_are_no_values() -> None:
    hidden = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(DataError, match=r"the array has 1 masked values.*X\.filled\(0\)"):
        Gram.from_scores(hidden, [0, 1])
    with pytest.raises(InterpNetError, match="points has 1 masked values"):
        real_array(hidden, "points")
    # An array without a hidden value is an array like any other.
    plain = Gram.from_scores(np.ma.array(hidden.data), [0, 1])
    np.testing.assert_array_equal(plain.G, hidden.data.T @ hidden.data)
