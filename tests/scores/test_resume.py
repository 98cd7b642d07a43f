"""An interrupted collection goes on to the rows of one without interruption, whatever the batches before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.datasets import Batch, Skipped
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.gram import GramAccumulator
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.checksums import seal

N = 23
X = torch.rand(N, 2, 3, 3, generator=torch.Generator().manual_seed(3))
Y = torch.arange(N) % 3


class Stopped(RuntimeError):
    pass


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def in_batches(size: int, start: int = 0, stop: int | None = None) -> Iterator[Any]:
    for i in range(start, N, size):
        if stop is not None and i >= stop:
            raise Stopped
        yield X[i : i + size], Y[i : i + size]
    if stop is not None:
        raise Stopped


def interrupted(folder: Path, size: int, stop: int) -> int:
    """Collect into ``folder`` until an error at image ``stop``; return how many rows were committed."""
    with pytest.raises(Stopped, match=r"^$"):
        collect_scores(network(), in_batches(size, stop=stop), out=folder, key="k", progress=False)
    return int(json.loads((folder / "state.json").read_text())["rows"])


def same(table: ScoreTable, expected: ScoreTable) -> None:
    np.testing.assert_array_equal(table.labels, expected.labels)
    np.testing.assert_array_equal(table.predictions, expected.predictions)
    np.testing.assert_array_equal(table.indices, expected.indices)
    # Other batches may round otherwise.
    np.testing.assert_allclose(table.X, expected.X, rtol=1e-6, atol=0)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 4)


@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [(2, 2), (2, 5), (2, 23), (5, 2), (5, 1), (3, 7), (4, 6), (7, 100), (1, 3)]
)
@pytest.mark.parametrize("stop", [9, 15, 22])
def test_the_size_of_the_batches_does_not_matter(
    tmp_path: Path, before: int, after: int, stop: int, function: bool
) -> None:
    rows = interrupted(tmp_path, before, stop)
    assert 0 < rows < N
    asked = []

    def later(start: int) -> Iterator[Any]:
        asked.append(start)
        return in_batches(after, start)

    sums = GramAccumulator(4, 3)
    loader: Any = later if function else in_batches(after)
    table = collect_scores(network(), loader, out=tmp_path, key="k", gram=sums, progress=False)
    whole = collect_scores(network(), in_batches(after), progress=False)
    same(table, whole)
    np.testing.assert_allclose(sums.gram().G, whole.gram().G, rtol=1e-6)
    assert asked == ([rows] if function else [])
    if not function:
        np.testing.assert_array_equal(table.X[rows:], whole.X[rows:], err_msg="the new rows are those of whole batches")


def test_sums_that_hold_rows_are_refused_where_rows_would_come_again(tmp_path: Path) -> None:
    sums = GramAccumulator(4, 3)
    rows = interrupted(tmp_path, 4, N // 2)
    collect_scores(network(), in_batches(4), out=tmp_path, key="k", gram=sums, progress=False)
    assert sums.n == N > rows
    with pytest.raises(InterpNetError, match=f"gram holds {N} rows already, and out holds {N} .* pass an empty Gram"):
        collect_scores(network(), in_batches(4), out=tmp_path, key="k", gram=sums, progress=False)
    assert sums.n == N


def with_gaps(size: int, stop: int | None = None) -> Iterator[Batch]:
    """Images 0, 5, 10, ... cannot be read; they are told with the batch they stand in."""
    for i in range(0, N, size):
        if stop is not None and i >= stop:
            raise Stopped
        numbers = torch.arange(i, min(i + size, N))
        good = numbers[numbers % 5 != 0]
        gaps = [Skipped(int(n), f"{n}.png", "damaged") for n in numbers[numbers % 5 == 0]]
        yield Batch(X[good], Y[good], good, gaps)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 7), (6, 4), (4, 23), (3, 1)])
def test_images_that_could_not_be_read_are_noted_once(tmp_path: Path, before: int, after: int) -> None:
    with pytest.raises(Stopped, match=r"^$"):
        collect_scores(network(), with_gaps(before, stop=17), out=tmp_path, key="k", progress=False)
    table = collect_scores(network(), with_gaps(after), out=tmp_path, key="k", progress=False)
    same(table, collect_scores(network(), with_gaps(after), progress=False))
    assert [index for index, _, _ in table.info["skipped"]] == [0, 5, 10, 15, 20]
    assert json.loads((tmp_path / "state.json").read_text())["consumed"] == N


@pytest.mark.parametrize("function", [False, True])
def test_a_complete_folder_is_opened(tmp_path: Path, function: bool) -> None:
    table = collect_scores(network(), in_batches(4), out=tmp_path, key="k", progress=False)
    read = []

    def loader(start: int) -> Iterator[Any]:
        assert start == 0
        for batch in in_batches(4):
            read.append(1)
            yield batch

    sums = GramAccumulator(4, 3)
    again = collect_scores(
        network(), loader if function else loader(0), out=tmp_path, key="k", gram=sums, progress=False
    )
    np.testing.assert_array_equal(again.X, table.X)
    np.testing.assert_allclose(sums.gram().G, table.gram().G, rtol=1e-12)
    assert len(read) == 1, "the first batch shows that it is the same network; no other is read"


def test_everything_read_but_not_finished(tmp_path: Path) -> None:
    collect_scores(network(), in_batches(4), out=tmp_path, key="k", progress=False)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(seal(state | {"complete": False})))
    table = collect_scores(network(), lambda start: in_batches(4, start), out=tmp_path, key="k", progress=False)
    same(table, collect_scores(network(), in_batches(4), progress=False))


def test_without_a_key_a_folder_is_filled_anew(tmp_path: Path) -> None:
    """Nothing tells whose rows they are: they do not count, and none is left out."""
    interrupted(tmp_path, 4, 15)
    for loader in (lambda start: in_batches(4, start), in_batches(4)):
        same(
            collect_scores(network(), loader, out=tmp_path, key="", progress=False),
            collect_scores(network(), in_batches(4), progress=False),
        )


def swapped(labels: bool) -> Iterator[Any]:
    order = torch.arange(N)
    order[[1, 5]] = order[[5, 1]]
    yield (X, Y[order]) if labels else (X[order], Y)


@pytest.mark.parametrize(
    "loader",
    [
        swapped(labels=True),
        swapped(labels=False),
        [(X.flip(0), Y.flip(0))],
        [(X.flip(3), Y)],
        [(X + 1e-6, Y)],
        [(X[1:], Y[1:])],
        [(X[:5], Y[:5])],
    ],
    ids=["labels", "images", "order", "flipped", "noise", "later", "fewer"],
)
def test_other_images_than_before_are_refused(tmp_path: Path, loader: Any) -> None:
    rows = interrupted(tmp_path, 4, 15)
    with pytest.raises(DataError, match=f"the first {rows} images are not those that an interrupted collection scored"):
        collect_scores(network(), loader, out=tmp_path, key="k", progress=False)
    # The rows are as they were, so the right images can still be passed.
    same(
        collect_scores(network(), in_batches(6), out=tmp_path, key="k", progress=False),
        collect_scores(network(), in_batches(6), progress=False),
    )


def test_interrupted_twice(tmp_path: Path) -> None:
    interrupted(tmp_path, 4, 10)
    interrupted(tmp_path, 5, 16)
    table = collect_scores(network(), in_batches(3), out=tmp_path, key="k", progress=False)
    same(table, collect_scores(network(), in_batches(3), progress=False))


def test_rows_without_a_fingerprint_are_taken_as_they_are(tmp_path: Path) -> None:
    """Earlier versions wrote none."""
    interrupted(tmp_path, 4, 10)
    for _ in range(2):
        state = json.loads((tmp_path / "state.json").read_text())
        state["info"].pop("fingerprint", None)
        (tmp_path / "state.json").write_text(json.dumps(seal(state)))
        interrupted(tmp_path, 4, 17)
    table = collect_scores(network(), in_batches(3), out=tmp_path, key="k", progress=False)
    same(table, collect_scores(network(), in_batches(3), progress=False))


def test_another_network_is_refused_also_by_a_complete_folder(tmp_path: Path) -> None:
    collect_scores(network(), in_batches(4), out=tmp_path, key="k", progress=False)
    other = nn.Sequential(nn.Conv2d(2, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))
    with pytest.raises(RunFolderError, match="scores of another model"):
        collect_scores(other, lambda start: in_batches(4, start), out=tmp_path, key="k", progress=False)
