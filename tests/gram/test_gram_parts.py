"""Weighted rows, sparse targets, Grams of parts, parts taken away, sums on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, GramAccumulator, _sums, one_hot, part_grams, random_parts
from interpnet.scores import ScoreTable

BOUNDED = settings(max_examples=40, derandomize=True)


def data(n: int = 37, m: int = 5, C: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, m)).astype(np.float32), rng.integers(0, C, n)


def small() -> Gram:
    return Gram.from_scores(*data(), n_classes=3)


def same(left: Gram, right: Gram, rtol: float = 1e-13) -> None:
    for name in ("G", "B", "yy"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=rtol, atol=rtol)


def test_weights_by_hand() -> None:
    gram = Gram.from_scores(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [2.0]]), sample_weight=[4.0, 0.0])
    assert gram.G.tolist() == [[4, 8], [8, 16]]
    assert gram.B.tolist() == [[4], [8]]
    assert (gram.yy.tolist(), gram.n) == ([4], 2)


@BOUNDED
@given(n=st.integers(1, 40), block=st.integers(1, 50), labelled=st.booleans(), seed=st.integers(0, 999))
def test_a_whole_weight_is_so_many_copies_of_the_row(n: int, block: int, labelled: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    weight = rng.integers(0, 4, n)
    weight[rng.integers(n)] = 1
    L = rng.integers(0, 3, n) if labelled else rng.standard_normal((n, 3))
    copies = np.repeat(np.arange(n), weight)
    weighted = Gram.from_scores(X, L, n_classes=3, sample_weight=weight, block=block)
    same(weighted, Gram.from_scores(X[copies], L[copies], n_classes=3))
    np.testing.assert_allclose(weighted.G, (X * weight[:, None]).T @ X, atol=1e-12)


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.coo_array, sparse.csc_matrix, torch.Tensor.to_sparse_coo])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_targets_equal_dense(make, weighted) -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((37, 5))
    L = rng.standard_normal((37, 6)) * (rng.random((37, 6)) < 0.3)
    weight = rng.random(37) if weighted else None
    given = make(torch.from_numpy(L)) if make is torch.Tensor.to_sparse_coo else make(L)
    same(
        Gram.from_scores(X, given, sample_weight=weight, block=8),
        Gram.from_scores(X, L, sample_weight=weight),
    )


def test_sparse_entries_given_twice_are_one_number() -> None:
    twice = sparse.coo_array(([1.0, 2.0], ([0, 0], [0, 0])), shape=(1, 2))
    raw = sparse.csr_array(([1.0, 2.0], [0, 0], [0, 2]), shape=(1, 2))
    for L in (twice, raw):
        gram = Gram.from_scores(np.ones((1, 1)), L)
        assert (gram.B.tolist(), gram.yy.tolist()) == ([[3.0, 0.0]], [9.0, 0.0])
    assert raw.nnz == 2  # the caller's matrix is as it was


def test_accumulator_takes_weights_block_by_block() -> None:
    X, labels = data()
    weight = np.linspace(0, 2, 37)
    total = GramAccumulator(5, 3)
    total.add(X[:9], labels[:9], weight[:9])
    total.add(X[9:], sparse.csr_array(one_hot(labels[9:], 3)), weight[9:])
    same(total.gram(), Gram.from_scores(X, labels, n_classes=3, sample_weight=weight))
    assert total.finish().n == 37
    assert total.n == 0


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(4), r"sample_weight has shape \(4,\); expected \(3,\)"),
        ([1.0, -1.0, 1.0], "sample_weight is -1.0 at row 1"),
        ([1.0, 1.0, np.nan], "sample_weight is nan at row 2"),
        ([0, 0, 0], "sample_weight is zero for all 3 rows"),
        (["a", "b", "c"], "sample_weight has type"),
    ],
)
def test_weights_that_are_refused(weight, message) -> None:
    with pytest.raises(DataError, match=message):
        Gram.from_scores(np.eye(3), [0, 1, 2], sample_weight=weight)


def test_accumulated_weights_that_are_all_zero_are_refused() -> None:
    total = GramAccumulator(2, 1)
    total.add(np.ones((3, 2)), np.ones((3, 1)), np.zeros(3))
    with pytest.raises(DataError, match="sample_weight is zero for all 3 rows"):
        total.gram()
    with pytest.raises(InterpNetError, match=r"Gram\.n is 0"):
        GramAccumulator(2, 1).gram()


def test_sparse_targets_that_are_refused() -> None:
    X = np.ones((2, 1))
    with pytest.raises(DataError, match="L contains NaN at row 1, column 2"):
        Gram.from_scores(X, sparse.csr_array(([1.0, np.nan], ([0, 1], [0, 2])), shape=(2, 3)))
    with pytest.raises(DataError, match="X has 2 rows but L has shape"):
        Gram.from_scores(X, sparse.csr_array((3, 2)))


def test_a_part_taken_away_leaves_the_other_rows() -> None:
    X, labels = data(n=217)
    X = X * np.pi
    X[:20, 4] = 0.0  # a column, and a class, that only the part has
    labels[:20] = np.minimum(labels[:20], 1)
    labels[20:] = 2
    total = Gram.from_scores(X, labels, n_classes=3)
    part = Gram.from_scores(X[:19:-1], labels[:19:-1], n_classes=3)  # another order rounds otherwise
    for rest in (total - part, total.without(part)):
        same(rest, Gram.from_scores(X[:20], labels[:20], n_classes=3), rtol=1e-11)
        assert rest.n == 20
        assert not rest.G[4].any()
        assert not rest.G[:, 4].any()
        assert not rest.B[4].any()
        assert (rest.yy[2], rest.B[:, 2].any()) == (0.0, False)
    # Of a column that is gone nothing is left in classes that are still there.
    mixed = np.arange(217) % 3
    wide = np.sqrt(X.astype(np.float64))
    whole = Gram.from_scores(wide, mixed, n_classes=3)
    assert not (whole - Gram.from_scores(wide[:19:-1], mixed[:19:-1], n_classes=3)).B[4].any()
    assert total.without(part).is_definite
    assert not (total - part).is_definite


def test_what_is_no_part_is_refused() -> None:
    X, labels = data()
    total = Gram.from_scores(X, labels)
    part = Gram.from_scores(X[:9], labels[:9], n_classes=3)
    with pytest.raises(InterpNetError, match="37 images from one of 37: no image is left"):
        _ = total - total
    with pytest.raises(InterpNetError, match=r"cannot subtract a Gram of \(m, C\) = \(2, 2\) from one of \(5, 3\)"):
        _ = total - Gram(np.eye(2), np.eye(2), np.ones(2), 1)
    with pytest.raises(InterpNetError, match=r"what is left of Gram\.G is -.*same images, with the same weights"):
        _ = total - Gram(part.G * 100, part.B, part.yy, part.n)
    with pytest.raises(InterpNetError, match=r"what is left of Gram\.yy is -"):
        _ = total - Gram(part.G, part.B, part.yy * 100, part.n)
    two = np.array([[2.0, 2.0], [2.0, 2.0]])
    other = np.array([[1.0, 0.5], [0.5, 1.0]])
    left, right = (Gram(G, np.zeros((2, 1)), np.ones(1) * k, k) for k, G in ((3, two), (1, other)))
    with pytest.raises(InterpNetError, match="what is left after subtracting is no Gram"):
        _ = left - right
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = total - 1


def test_definiteness_is_tested_once_and_not_for_sums_over_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = []
    monkeypatch.setattr("interpnet.gram._gram.check_definite", lambda G: tested.append(len(G)))
    summed = small()
    made = Gram(np.eye(4), np.zeros((4, 1)), np.ones(1), 2)
    (summed + summed).without(summed).check_definite()
    assert not tested
    made.check_definite()
    made.check_definite()
    assert tested == [4]
    (made + Gram(np.eye(4), np.zeros((4, 1)), np.ones(1), 2)).check_definite()
    assert tested == [4, 4]


def test_parts_in_one_pass_are_the_grams_of_their_rows(tmp_path) -> None:
    X, labels = data(n=101)
    mapped = np.memmap(tmp_path / "X.f32", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    # Without a period that would fit the blocks.
    part = np.random.default_rng(5).integers(0, 4, 101)
    weight = np.linspace(0.5, 2, 101)
    for L in (labels, one_hot(labels, 3), sparse.csr_array(one_hot(labels, 3))):
        grams = part_grams(mapped, L, part, n_classes=3, sample_weight=weight, block=16)
        for p, gram in enumerate(grams):
            rows = part == p
            same(gram, Gram.from_scores(X[rows], labels[rows], n_classes=3, sample_weight=weight[rows]))
            assert gram.n == rows.sum()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ([0, 1], r"part has shape \(2,\)"),
        ([0.0, 1.0, 1.0], "part has shape .* and type float64"),
        ([0, 1, 3], r"part runs from 0 to 3; expected 0 \.\. 2"),
        ([0, -1, 1], "part runs from -1 to 1"),
        ([0, 0, 2], "part 1 of 3 has no row"),
    ],
)
def test_parts_that_are_refused(part, message) -> None:
    with pytest.raises(DataError, match=message):
        part_grams(np.eye(3), [0, 1, 2], part, n_parts=3)


def test_a_bad_value_is_named_by_its_row_in_the_whole_table() -> None:
    X, labels = data()
    X[30, 2] = np.inf
    with pytest.raises(DataError, match="X contains infinity at row 30, column 2"):
        part_grams(X, labels, np.arange(37) % 3, block=8)


@BOUNDED
@given(n=st.integers(2, 90), parts=st.integers(2, 9), C=st.integers(1, 5), seed=st.integers(0, 99))
def test_random_parts_are_even_overall_and_in_each_class(n: int, parts: int, C: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, C, n)
    parts = min(parts, n)
    part = random_parts(labels, parts, seed)
    assert np.ptp(np.bincount(part, minlength=parts)) <= 1
    for c in np.unique(labels):
        assert np.ptp(np.bincount(part[labels == c], minlength=parts)) <= 1
    assert np.array_equal(part, random_parts(labels, parts, seed))


def test_random_parts_without_labels_and_refusals() -> None:
    assert np.bincount(random_parts(10, 5)).tolist() == [2] * 5
    assert not np.array_equal(random_parts(100, 2, 0), random_parts(100, 2, 1))
    for n_parts in (1, 4, 2.0, True):
        with pytest.raises(InterpNetError, match=f"n_parts is {n_parts} for 3 images"):
            random_parts(3, n_parts)


def test_sums_on_a_device_equal_those_on_the_host(device: str) -> None:
    X, labels = data(n=300, m=40)
    L = np.random.default_rng(1).standard_normal((300, 3))
    weight = np.linspace(0, 2, 300)
    there = torch.from_numpy(X).to(device)
    for target in (labels, L, sparse.csr_array(L)):
        for weights in (None, weight):
            same(
                Gram.from_scores(there, target, sample_weight=weights, block=64),
                Gram.from_scores(X, target, sample_weight=weights),
                rtol=1e-12,
            )


def test_the_sums_of_a_device_run_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    # The code path of a CUDA tensor on a machine without one: the predicate alone is changed.
    X, labels = data(n=300, m=40)
    expected = Gram.from_scores(X, labels, n_classes=3, sample_weight=np.linspace(0, 2, 300))
    monkeypatch.setattr(_sums, "stays_on_device", lambda rows: isinstance(rows, torch.Tensor))
    monkeypatch.setattr(_sums, "_PANEL", 16)
    tensor = torch.from_numpy(X)
    total = GramAccumulator(40, 3)
    total.add(tensor, labels, np.linspace(0, 2, 300))
    first = total.gram()
    total.add(tensor, one_hot(labels, 3))
    same(first, expected, rtol=1e-12)
    same(total.gram(), expected + Gram.from_scores(X, labels), rtol=1e-12)
    parts = part_grams(tensor, labels, np.arange(300) % 2, block=64)
    same(parts[0] + parts[1], Gram.from_scores(X, labels), rtol=1e-12)
    tensor[7, 3] = float("nan")
    with pytest.raises(DataError, match="X contains NaN at row 7, column 3"):
        Gram.from_scores(tensor, labels)


def test_a_score_table_weighs_its_images() -> None:
    X, labels = data()
    table = ScoreTable(X, labels, labels[::-1], ChannelIndex((("a", 5),)), np.arange(37), 4)
    weight = np.linspace(0, 1, 37)
    same(table.gram(sample_weight=weight), Gram.from_scores(X, labels, n_classes=4, sample_weight=weight))
    same(table.gram("predictions"), Gram.from_scores(X, labels[::-1], n_classes=4))
