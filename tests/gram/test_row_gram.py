"""A Gram that is kept as rows: every number is that of the matrix, wherever the rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram, RowGram, _memory, gram_or_rows, part_grams
from interpnet.mulasso import MuLasso
from interpnet.support.types import Float64
from tests.helpers.processes import in_processes

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def data() -> tuple[np.ndarray, np.ndarray, Float64]:
    rng = np.random.default_rng(0)
    X = rng.random((23, 6)).astype(np.float32)
    return X, rng.integers(0, 4, 23), rng.integers(0, 3, 23).astype(float)


class Reader:
    """Rows on request, as a file format gives them."""

    def __init__(self, X: np.ndarray) -> None:
        self.shape = X.shape
        self.dtype = X.dtype
        self.taken: list[slice] = []
        self._X = X

    def __getitem__(self, part: slice) -> np.ndarray:
        self.taken.append(part)
        return self._X[part]


def check(rows: RowGram, gram: Gram, L: Float64, weight: Float64, X: np.ndarray) -> None:
    np.testing.assert_allclose(rows.B, gram.B, rtol=1e-13)
    np.testing.assert_allclose(rows.yy, gram.yy, rtol=1e-13)
    np.testing.assert_allclose(rows.diagonal, gram.G.diagonal(), rtol=1e-13)
    assert (rows.n, rows.m, rows.n_classes) == (gram.n, 6, gram.n_classes)
    columns = np.array([4, 0, 3])
    np.testing.assert_allclose(rows.products(columns), gram.G[np.ix_(columns, columns)], rtol=1e-13)
    np.testing.assert_allclose(rows.products(columns, 1), gram.G[np.ix_(columns, [3])], rtol=1e-13)
    coef = np.array([[0.5, -1.0, 0.25], [0.0, 2.0, 0.0]])
    targets = np.array([2, 0])
    full = np.zeros((2, 6))
    full[:, columns] = coef
    np.testing.assert_allclose(rows.gradient(columns, coef, targets), full @ gram.G - gram.B.T[targets], atol=1e-12)
    error = weight @ (X.astype(np.float64) @ full.T - L[:, targets]) ** 2
    np.testing.assert_allclose(rows.squared_error(columns, coef, targets), error, rtol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["labels", "dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_number_is_that_of_the_matrix(kind: str, weighted: bool, device: str) -> None:
    X, labels, weight = data()
    dense = np.random.default_rng(1).standard_normal((23, 3))
    L = {"labels": labels, "dense": dense, "sparse": sparse.csr_array(np.eye(4)[labels])}[kind]
    matrix = {"labels": np.eye(4)[labels], "dense": dense, "sparse": np.eye(4)[labels]}[kind]
    given = None
    each = np.ones(23)
    if weighted:
        given = each = weight
    gram = Gram.from_scores(X, L, sample_weight=given)
    there: Any = X
    if device != "cpu":
        there = torch.from_numpy(X).to(device)
    check(RowGram.from_scores(there, L, sample_weight=given, block=5), gram, matrix, each, X)
    check(RowGram.from_scores(there, L, sample_weight=given), gram, matrix, each, X)


def test_a_file_and_a_reader_are_read_in_blocks_and_left_as_they_are(tmp_path: Path) -> None:
    X, labels, _ = data()
    X.tofile(tmp_path / "X.f32")
    mapped = np.memmap(tmp_path / "X.f32", np.float32, "r", shape=X.shape)
    reader = Reader(X)
    for source in (mapped, reader, X.astype(np.float64), X.tolist()):
        check(
            RowGram.from_scores(source, labels, block=5), Gram.from_scores(X, labels), np.eye(4)[labels], np.ones(23), X
        )
    assert max(part.stop - part.start for part in reader.taken) == 40  # of a few columns: eight blocks
    np.testing.assert_array_equal(mapped, data()[0])
    rows = RowGram.from_scores(reader, labels, block=5)
    assert (rows.passes, rows.reads) == (1, 0)
    MuLasso(mu=0.5).fit_gram(rows)
    assert rows.passes > 1


def test_parts_are_those_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels, weight = data()
    part = np.arange(23) % 3
    grams = part_grams(X, labels, part, n_classes=4, sample_weight=weight)
    monkeypatch.setattr(_memory, "physical_memory", lambda: 6 * 8 * 6**2 - 1.0)
    parts = part_grams(X, labels, part, n_classes=4, sample_weight=weight)
    assert all(isinstance(one, RowGram) and one.passes == 0 for one in parts)
    for one, gram, p in zip(parts, grams, range(3), strict=True):
        check(one, gram, np.eye(4)[labels], weight * (part == p), X)
    total = sum(parts[1:], parts[0])
    check(total, sum(grams[1:], grams[0]), np.eye(4)[labels], weight, X)
    check(total.without(parts[1]), grams[0] + grams[2], np.eye(4)[labels], weight * (part != 1), X)
    with pytest.raises(InterpNetError, match="rows in common"):
        total + parts[0]
    with pytest.raises(InterpNetError, match="not among these"):
        parts[0].without(parts[1])
    with pytest.raises(InterpNetError, match="or all of them"):
        total.without(total)
    with pytest.raises(InterpNetError, match="not parts of the same rows"):
        RowGram.from_scores(X, labels) + RowGram.from_scores(X, labels)
    with pytest.raises(InterpNetError, match=r"part is .* expected RowGram"):
        total.without(grams[0])
    with pytest.raises(TypeError, match="unsupported operand"):
        total + 1


def test_the_matrix_is_made_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels, _ = data()
    monkeypatch.setattr(_memory, "physical_memory", lambda: 16.0 * 6**2)
    assert isinstance(gram_or_rows(X, labels), Gram)
    monkeypatch.setattr(_memory, "physical_memory", lambda: 16.0 * 6**2 - 1)
    assert isinstance(gram_or_rows(X, labels), RowGram)


def test_what_is_wrong_with_the_data_is_said() -> None:
    X, labels, weight = data()
    with pytest.raises(DataError, match="sample_weight is zero for all 23 rows"):
        RowGram.from_scores(X, labels, sample_weight=0 * weight)
    with pytest.raises(InterpNetError, match="block is 0"):
        RowGram.from_scores(X, labels, block=0)
    X[4, 2] = np.inf
    with pytest.raises(DataError, match="X contains infinity at row 4, column 2"):
        RowGram.from_scores(X, labels, block=3)
    with pytest.raises(InterpNetError, match=r"Gram.G holds .* every value must be finite"):
        RowGram.from_scores(np.full((2, 2), 1e200), np.full((2, 1), 1e200))


def _of_a_rank(rank: int, world: int) -> tuple[list[list[float]], list[int]]:
    X, labels, _ = data()
    mine = np.arange(len(X)) % world == rank
    # A rank whose rows all count nothing takes part like the others.
    weight = np.where(np.arange(len(X)) % world == world - 1, 0.0, 1.0)
    rows = RowGram.from_scores(X[mine], labels[mine], n_classes=4, sample_weight=weight[mine], group="default")
    model = MuLasso(mu=0.7, tol=1e-9).fit_gram(rows)
    return model.coef_.tolist(), [rows.n, rows.passes, rows.reads]


def _by_rank() -> tuple[list[list[float]], list[int]]:
    from torch import distributed

    return _of_a_rank(distributed.get_rank(), distributed.get_world_size())


def test_rows_of_several_ranks_are_one_problem() -> None:
    X, labels, _ = data()
    first, second, third = (outcome.result for outcome in in_processes(3, _by_rank))
    assert first == second == third
    coef, (n, passes, _) = first
    assert n == 23
    assert passes >= 2
    there = np.arange(23) % 3 != 2
    one = MuLasso(mu=0.7, tol=1e-9).fit_gram(Gram.from_scores(X[there], labels[there], n_classes=4))
    np.testing.assert_allclose(X @ np.array(coef).T, X @ one.coef_.T, atol=1e-6)
