"""Sums block by block and device by device, what comes as rows, targets, labels and weights, and parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, GramAccumulator, _sums, one_hot, part_grams, random_parts
from interpnet.gram._checks import as_numpy, class_count
from interpnet.gram._sums import DeviceSums, HostSums, as_scores, as_target, checked_weight, mirror

# --- sums ---------------------------------------------------------------------------------------------------


def test_the_lower_triangle_is_copied_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    full = np.random.default_rng(0).random((8, 8))
    full += full.T
    for block in (1, 3, 4, 8, 20):
        monkeypatch.setattr(_sums, "_MIRROR", block)
        lower = np.tril(full) + np.triu(np.full((8, 8), 99.0), 1)
        mirror(lower)
        assert np.array_equal(lower, full)


@pytest.mark.parametrize("kind", ["host", "device"])
def test_sums_by_hand(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sums, "_PANEL", 2)
    sums = HostSums(3, 2) if kind == "host" else DeviceSums(3, 2, torch.device("cpu"))

    def add(rows: Any, target: Any, weight: Any) -> None:
        array = np.array(rows)
        sums.add(array if kind == "host" else torch.from_numpy(array), target, weight)

    add([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]], np.array([[1.0, 0.0], [2.0, -1.0]]), None)
    first = sums.arrays(copy=True)
    # The second time: weights 4 and 0.25 and sparse targets.
    add([[1.0, 0.0, 1.0], [2.0, 2.0, 0.0]], sparse.csr_array(np.array([[0.0, 3.0], [2.0, 0.0]])), np.array([4.0, 0.25]))
    G, B, yy = first
    assert G.tolist() == [[1, 2, 0], [2, 5, 3], [0, 3, 9]]
    assert B.tolist() == [[1, 0], [4, -1], [6, -3]]
    assert yy.tolist() == [5, 1]
    G, B, yy = sums.arrays(copy=False)
    assert G.tolist() == [[6, 3, 4], [3, 6, 3], [4, 3, 13]]
    assert B.tolist() == [[2, 12], [5, -1], [6, 9]]
    assert yy.tolist() == [6, 37]
    assert B.flags.c_contiguous
    # Weighted dense targets.
    add([[0.0, 0.0, 2.0]], np.array([[2.0, 2.0]]), np.array([4.0]))
    assert sums.arrays(copy=True)[1][2].tolist() == [22, 25]
    assert sums.arrays(copy=True)[2].tolist() == [22, 53]


def test_sums_that_overflow_are_named_without_a_warning() -> None:
    # The order of sums decides whether infinities cancel to NaN.
    X = np.full((9, 1), 1e100)
    with pytest.raises(InterpNetError, match=r"Gram\.B holds (-?inf|nan) at class 0"):
        Gram.from_scores(X, np.where(np.arange(9) % 2, 1e250, -1e250)[:, None])
    with pytest.raises(InterpNetError, match=r"Gram\.yy holds inf at class 0"):
        Gram.from_scores(np.ones((1, 1)), sparse.csr_array([[1e200]]))
    with pytest.raises(DataError, match="classes are more than this machine's memory holds"):
        GramAccumulator(2, 10**15)


@pytest.mark.parametrize("weight", [None, [1.0, 4.0]])
def test_classes_without_an_image_have_their_place(weight: list[float] | None) -> None:
    X = np.array([[1.0], [2.0]])
    target = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).to_sparse_coo()
    for L in ([1, 0], target, sparse.csr_array(target.to_dense().numpy())):
        gram = Gram.from_scores(X, L, n_classes=3, sample_weight=weight)
        assert gram.B.tolist() == [[2.0 * (weight or [1, 1])[1], 1.0, 0.0]]
        assert gram.yy.tolist() == [(weight or [1, 1])[1], 1.0, 0.0]
    # A row without an entry, at the end, is a row.
    assert as_target(torch.tensor([[1.0], [0.0]]).to_sparse_coo()).shape == (2, 1)


def test_finished_sums_are_not_copied() -> None:
    total = GramAccumulator(3, 2)
    total.add(np.ones((2, 3)), np.ones((2, 2)))
    sums = total._at["cpu"]
    assert not np.shares_memory(total.gram().G, sums._upper)
    assert np.shares_memory(total.finish().G, sums._upper)


def test_the_callers_rows_and_targets_are_left_alone() -> None:
    rows = np.ones((2, 2))
    dense = np.ones((2, 1))
    thin = sparse.csr_array(dense)
    for target in (dense, thin):
        HostSums(2, 1).add(rows, target, np.array([4.0, 9.0]))
    assert (rows.tolist(), dense.tolist(), thin.toarray().tolist()) == ([[1, 1], [1, 1]], [[1], [1]], [[1], [1]])


def test_sums_of_several_devices_are_added() -> None:
    total = GramAccumulator(2, 1)
    total.add(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    elsewhere = HostSums(2, 1)
    elsewhere.add(np.array([[10.0, 0.0]]), np.array([[1.0]]), None)
    total._at["cuda:0"] = elsewhere
    for gram in (total.gram(), total.gram(), total.finish()):
        assert (gram.G.tolist(), gram.B.tolist(), gram.yy.tolist()) == ([[101, 2], [2, 4]], [[13], [6]], [10])
    # Finished, it begins again.
    total.add(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    assert (total.n, total.gram().G.tolist()) == (1, [[1, 2], [2, 4]])


@pytest.mark.parametrize("kind", ["host", "device"])
@pytest.mark.parametrize(("m", "C"), [(2, 1), (1, 2), (1, 1), (2, 2)])
def test_later_rows_do_not_change_what_was_returned(kind: str, m: int, C: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "device":
        monkeypatch.setattr(_sums, "stays_on_device", lambda rows: isinstance(rows, torch.Tensor))
    rows = torch.ones(1, m) if kind == "device" else np.ones((1, m))
    total = GramAccumulator(m, C)
    total.add(rows, np.ones((1, C)))
    first = total.gram()
    total.add(rows, np.ones((1, C)))
    for name, shape in (("G", (m, m)), ("B", (m, C)), ("yy", (C,))):
        assert np.array_equal(getattr(first, name), np.ones(shape))
        assert np.array_equal(getattr(total.gram(), name), np.full(shape, 2.0))


def test_weights_of_an_accumulator_add_up() -> None:
    total = GramAccumulator(1, 1)
    total.add(np.ones((2, 1)), np.ones((2, 1)), [0.0, 0.0])
    total.add(np.ones((1, 1)), np.ones((1, 1)), [4.0])
    assert (total.n, total.gram().G.tolist()) == (3, [[4.0]])
    total.add(np.ones((3, 1)), np.ones((3, 1)))
    assert (total.n, total.gram().G.tolist()) == (6, [[7.0]])
    total.finish()
    total.add(np.ones((2, 1)), np.ones((2, 1)), [0.0, 0.0])
    with pytest.raises(DataError, match="sample_weight is zero for all 2 rows"):
        total.finish()


def test_rows_of_later_blocks_are_named_as_in_the_whole() -> None:
    L = sparse.csr_array(([1.0, np.inf], ([0, 6], [0, 2])), shape=(8, 3))
    with pytest.raises(DataError, match="L contains infinity at row 6, column 2"):
        Gram.from_scores(np.ones((8, 1)), L, block=3)
    dense = np.ones((8, 2))
    dense[7, 1] = np.nan
    with pytest.raises(DataError, match="L contains NaN at row 7, column 1"):
        Gram.from_scores(np.ones((8, 1)), dense, block=3)
    total = GramAccumulator(1, 3)
    total.add(np.ones((5, 1)), np.zeros((5, 3)))
    with pytest.raises(DataError, match="L contains infinity at row 11, column 2"):
        total.add(np.ones((8, 1)), L)
    # By default 4096 rows at a time.
    seen: list[int] = []
    real = HostSums.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostSums, "add", lambda self, rows, *rest: (seen.append(len(rows)), real(self, rows, *rest))[1])
        Gram.from_scores(np.ones((4100, 1)), np.ones((4100, 1)))
        part_grams(np.ones((4100, 1)), np.ones((4100, 1)), np.zeros(4100, dtype=int))
    assert seen == [4096, 4, 4096, 4]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("make", ["to_sparse_coo", "to_sparse_csr"])
def test_sparse_tensors_with_a_history(make: str) -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    target = as_target(getattr(dense, make)())
    assert isinstance(target, sparse.csr_array)
    assert target.toarray().tolist() == [[0, 2], [3, 0]]


def test_what_comes_as_targets() -> None:
    once = sparse.csr_array(np.eye(2))
    assert as_target(once).toarray().tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match=r"L is sparse of shape \(3,\); expected \(N, C\)"):
        as_target(sparse.coo_array(np.ones(3)))
    assert as_target([0, 1]).tolist() == [0, 1]
    assert as_scores(torch.ones(2, 1, requires_grad=True)).tolist() == [[1], [1]]
    with pytest.raises(DataError, match=r"X has shape \(3,\)"):
        Gram.from_scores(np.ones(3), np.ones((3, 1)))
    for L, message in ((np.ones((3, 0)), r"L has shape \(3, 0\)"), (np.array(3), r"X has 3 rows but L has shape \(\)")):
        with pytest.raises(DataError, match=message):
            Gram.from_scores(np.ones((3, 1)), L)
    with pytest.raises(DataError, match=r"X has shape \(2, 2, 2\); expected \(n, 2\)"):
        GramAccumulator(2, 1).add(np.ones((2, 2, 2)), np.ones((2, 1)))
    with pytest.raises(DataError, match=r"L has shape \(3, 1\); expected \(2, 1\)"):
        GramAccumulator(2, 1).add(np.ones((2, 2)), np.ones((3, 1)))
    with pytest.raises(DataError, match="label 1 is outside the 1 classes"):
        GramAccumulator(2, 1).add(np.ones((2, 2)), np.array([0, 1]))
    total = GramAccumulator(2, 2)
    total.add(np.ones((0, 2)), np.array([]))
    assert total.n == 0


def test_weights_that_are_weights() -> None:
    assert checked_weight(None, 3) is None
    assert checked_weight([0, 1, 2], 3).dtype == np.float64
    given = np.ones(2)
    assert checked_weight(given, 2) is not given
    for bad, row in (([1.0, -1e-300], 1), ([np.inf, -1.0], 0)):
        with pytest.raises(DataError, match=f"w is .* at row {row}; expected finite weights, not negative"):
            checked_weight(bad, 2, "w")


@pytest.mark.parametrize(
    ("labels", "n_classes", "count"),
    [([0, 2], None, 3), ([0, 2], 3, 3), ([0, 2], 7, 7), (np.array([1], dtype=np.uint8), None, 2)],
)
def test_numbers_of_classes(labels: Any, n_classes: int | None, count: int) -> None:
    assert class_count(np.asarray(labels), n_classes) == count


@pytest.mark.parametrize(
    ("labels", "n_classes", "message"),
    [
        ([0, 2], 2, "label 2 is outside the 2 classes 0 .. 1"),
        ([5, -3], 9, "label -3 is outside the 9 classes"),
        ([0], 0, "n_classes is 0; expected a whole number of at least 1"),
        ([0], 2.0, "n_classes is 2"),
        ([True], 2, "labels have type bool"),
        ([0.0], 2, "labels have type float64"),
        ([], 2, "there are no labels"),
    ],
)
def test_labels_that_are_none(labels: list[Any], n_classes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_count(np.array(labels), n_classes)


def test_one_hot_rows() -> None:
    found = one_hot([0, 2, 1])
    assert (found.dtype, found.tolist()) == (np.float32, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_arrays_of_every_kind() -> None:
    assert as_numpy(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    assert as_numpy([1, 2]).tolist() == as_numpy((1, 2)).tolist() == [1, 2]
    array = np.ones(2)
    assert as_numpy(array) is array
    for bad in ([[1], [1, 2]], torch.ones(2, 2).to_sparse(), torch.ones(2, device="meta")):
        with pytest.raises(DataError, match=r"cannot be read as an array \(.*; expected a dense one of numbers"):
            as_numpy(bad)


# --- parts --------------------------------------------------------------------------------------------------


def test_parts_by_hand() -> None:
    X = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    grams = part_grams(X, [0, 1, 0, 1, 2], [1, 0, 1, 1, 0], block=2, sample_weight=[1.0, 4.0, 1.0, 0.0, 1.0])
    assert [gram.n for gram in grams] == [2, 3]
    assert [gram.G.tolist() for gram in grams] == [[[41.0]], [[10.0]]]
    assert [gram.B.tolist() for gram in grams] == [[[0.0, 8.0, 5.0]], [[4.0, 0.0, 0.0]]]
    with pytest.raises(DataError, match=r"part runs from 0 to 2; expected 0 \.\. 1"):
        part_grams(X, [0, 1, 0, 1, 2], [1, 0, 1, 1, 2], n_parts=2)
    with pytest.raises(DataError, match="part 2 of 3 has no row"):
        part_grams(X, [0, 1, 0, 1, 2], [1, 0, 1, 1, 0], n_parts=3)
    with pytest.raises(DataError, match="sample_weight is zero for all 1 rows"):
        part_grams(X, [0, 1, 0, 1, 2], [0, 0, 0, 0, 1], sample_weight=[1.0, 1.0, 1.0, 1.0, 0.0])
    with pytest.raises(DataError, match="sample_weight is zero for all 5 rows"):
        part_grams(X, [0, 1, 0, 1, 2], [1, 0, 1, 1, 0], sample_weight=np.zeros(5))
    with pytest.raises(DataError, match=r"label 2 is outside the 2 classes"):
        part_grams(X, [0, 1, 0, 1, 2], [1, 0, 1, 1, 0], n_classes=2)


def test_random_parts_at_their_bounds() -> None:
    assert sorted(random_parts(3, 3).tolist()) == [0, 1, 2]
    assert random_parts(5, 2).dtype == np.int64
    # The numbers of the generator, dealt out by class.
    shuffled = np.random.default_rng(7).permutation(300)
    labels = 1 - np.arange(300) % 2
    order = [i for c in (0, 1) for i in shuffled if labels[i] == c]
    expected = np.empty(300, dtype=int)
    expected[order] = np.arange(300) % 4
    assert random_parts(labels, 4, 7).tolist() == expected.tolist()
    assert random_parts(labels, 4).tolist() == random_parts(labels, 4, 0).tolist()
    with pytest.raises(InterpNetError, match=r"labels have shape \(2, 2\); expected \(N,\)"):
        random_parts(np.zeros((2, 2), dtype=int), 2)
    with pytest.raises(InterpNetError, match="n_parts is 2 for 0 images"):
        random_parts(0, 2)
    for seed in (-1, 0.5):
        with pytest.raises(InterpNetError, match="seed is"):
            random_parts(4, 2, seed)


@pytest.mark.parametrize("m", [5, 8, 11])
def test_wide_sums_by_blocks_of_columns_are_the_same(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = rng.random((30, m))
    L = np.eye(3)[rng.integers(0, 3, 30)]
    weight = rng.random(30)
    monkeypatch.setattr(_sums, "_WIDEST", 4)
    monkeypatch.setattr(_sums, "_PANEL", 4)
    gram = Gram.from_scores(X, L, block=7, sample_weight=weight)
    np.testing.assert_allclose(gram.G, X.T @ (X * weight[:, None]), rtol=1e-13, atol=0)
    np.testing.assert_array_equal(gram.G, gram.G.T)
