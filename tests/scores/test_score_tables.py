"""What a table of scores refuses, which rows it counts, and what its writer leaves on the disk before it says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.scores import ScoreTable
from interpnet.scores._table import ScoreWriter

CHANNELS = ChannelIndex((("a", 2), ("b", 1)))
X = np.array([[1.0, 0.0, 4.0], [3.0, 0.0, 0.0], [5.0, 0.0, 2.0]], dtype=np.float32)
FILES = ("X.f32", "labels.bin", "predictions.i64", "indices.i64")


def table(**changes: Any) -> ScoreTable:
    values: dict[str, Any] = {
        "X": X,
        "labels": np.array([0, 2, 1]),
        "predictions": np.array([2, 0, 1]),
        "channels": CHANNELS,
        "indices": np.array([0, 2, 5]),
        "n_classes": 3,
    }
    return ScoreTable(**values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": X[0]}, r"X has shape \(3,\) and type float32; expected \(N, 3\) scores"),
        ({"X": X[:, :2]}, r"X has shape \(3, 2\)"),
        ({"X": X.astype(int)}, "type int64; expected"),
        ({"labels": np.array([0, 1])}, r"labels have shape \(2,\).*expected \(3,\) class numbers or \(3, 3\) targets"),
        ({"labels": np.zeros((3, 2), dtype=np.float32)}, r"labels have shape \(3, 2\)"),
        ({"labels": np.array([True, False, True])}, "labels have .* type bool"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "labels have .* type float64; expected .* whole numbers"),
        ({"labels": np.array([0, 1, 3])}, "labels reach from 0 to 3; expected 0 to 2"),
        ({"labels": np.array([0, -1, 2])}, "labels reach from -1 to 2"),
        ({"predictions": np.array([0, 1])}, r"predictions have shape \(2,\)"),
        ({"predictions": np.array([0.0, 1.0, 2.0])}, "predictions have .* whole numbers"),
        ({"predictions": np.array([3, 0, 0])}, "predictions reach from 0 to 3"),
        ({"labels": np.zeros((3, 3), dtype=np.float32), "predictions": np.array([0, 0, -1])}, "predictions reach from"),
        ({"indices": np.array([0.0, 1.0, 2.0])}, "indices have .* whole numbers"),
        ({"indices": np.array([[0, 1, 2]])}, r"indices have shape \(1, 3\)"),
        ({"n_classes": 0}, "n_classes is 0; expected a whole number of at least 1"),
    ],
)
def test_what_is_no_table_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        table(**changes)


def test_what_a_table_takes() -> None:
    assert table(labels=np.array([0, 2, 1], dtype=np.uint8)).accuracy == pytest.approx(1 / 3)
    # Targets are not class numbers: they may lie outside of them, and be whole.
    assert table(labels=np.full((3, 3), 7)).labels.shape == (3, 3)
    one = table(n_classes=1, labels=np.zeros(3, dtype=int), predictions=np.zeros(3, dtype=int))
    assert one.accuracy == 1.0
    with pytest.raises(DataError, match="accuracy needs one label per image"):
        _ = table(labels=np.zeros((3, 3))).accuracy
    # Positions in the data set have no upper end.
    assert table(indices=np.array([7, 10**12, 3])).indices.tolist() == [7, 10**12, 3]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([-1], X[2]), ([-3], X[0]), ([0, 0, 2], [7 / 3, 0.0, 10 / 3]), (1, X[1]), ([2, 0], [3.0, 0.0, 3.0])],
)
def test_means_over_chosen_rows(rows: Any, expected: Any) -> None:
    for block in (1, 2, 4096):
        np.testing.assert_allclose(table().channel_means(np.array(rows), block=block), expected)


@pytest.mark.parametrize("rows", [[3], [0, -4], [-4, 1]])
def test_means_over_rows_that_are_not_there(rows: list[int]) -> None:
    with pytest.raises(DataError, match=rf"rows reach from {min(rows)} to {max(rows)}; the table has 3"):
        table().channel_means(np.array(rows))


def test_means_of_no_block_and_of_rows_that_are_no_numbers() -> None:
    for rows in ([0.5], ["a"], [True]):
        with pytest.raises(DataError, match="rows"):
            table().channel_means(np.array(rows))
    with pytest.raises(InterpNetError, match="block is 0; expected a whole number of at least 1"):
        table().channel_means(block=0)


def test_targets_of_a_single_class_survive_their_folder(tmp_path: Path) -> None:
    one = table(
        n_classes=1, labels=np.array([[0.5], [0.0], [2.0]], dtype=np.float32), predictions=np.zeros(3, dtype=int)
    )
    one.save(tmp_path)
    assert ScoreTable.load(tmp_path).labels.tolist() == [[0.5], [0.0], [2.0]]


def test_a_saved_table_tells_how_many_images_were_dealt_with(tmp_path: Path) -> None:
    """The last image is number 5, so six were, of which three had no scores."""
    table().save(tmp_path)
    assert ScoreTable.progress(tmp_path) == ("", 3, 6, True)


def some(start: int, stop: int) -> tuple[np.ndarray, ...]:
    whole = table()
    return whole.X[start:stop], whole.labels[start:stop], whole.predictions[start:stop], whole.indices[start:stop]


def writer(folder: Path, **changes: Any) -> ScoreWriter:
    return ScoreWriter(folder, CHANNELS, **{"n_classes": 3, "key": "k", "info": {"norm": "l2"}} | changes)


def test_committed_rows_come_back_in_blocks(tmp_path: Path) -> None:
    made = writer(tmp_path)
    assert made.committed() == []
    made.append(*some(0, 2))
    assert made.committed() == []
    made.commit(2)
    made.append(*some(2, 3))
    made.commit(3)
    for block, sizes in ((1, [1, 1, 1]), (2, [2, 1]), (2048, [3])):
        parts = writer(tmp_path).committed(block)
        assert [len(x) for x, _ in parts] == sizes
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), X)
        assert np.concatenate([labels for _, labels in parts]).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "changes", [{"n_classes": 4}, {"key": "other"}, {"channels": ChannelIndex((("a", 1), ("b", 2)))}]
)
def test_rows_of_another_collection_are_not_mixed(changes: dict[str, Any], tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.append(*some(0, 2))
    made.commit(2)
    given = {"channels": CHANNELS, "n_classes": 3, "key": "k", "info": {}} | changes
    with pytest.raises(RunFolderError, match="holds scores of another model, data set or configuration"):
        ScoreWriter(tmp_path, **given)
    # Refused before anything is cut off.
    assert ScoreTable.progress(tmp_path).rows == 2


def test_notes_of_an_interrupted_table_are_kept(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.append(*some(0, 1))
    made.info["skipped"] = [[1, "b.png", "damaged"]]
    made.commit(2)
    again = writer(tmp_path)
    assert again.info == {"norm": "l2", "skipped": [[1, "b.png", "damaged"]]}
    assert (again.rows, again.consumed, again.complete) == (1, 2, False)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("first", ["numbers", "targets"])
def test_labels_keep_their_kind_from_the_first_row_on(first: str, committed: bool, tmp_path: Path) -> None:
    matrix = np.eye(3, dtype=np.float32)
    kinds = {"numbers": np.array([0, 2, 1]), "targets": matrix}
    second = {"numbers": matrix, "targets": np.array([0, 2, 1])}[first]
    made = writer(tmp_path)
    made.append(X, kinds[first], np.array([0, 1, 2]), np.array([0, 1, 2]))
    if committed:
        made.commit(3)
        made = writer(tmp_path)
    with pytest.raises(DataError, match="labels changed between batches"):
        made.append(X, second, np.array([0, 1, 2]), np.array([3, 4, 5]))


def test_rows_are_on_the_disk_before_the_state_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = writer(tmp_path)
    inodes = {(tmp_path / name).stat().st_ino: name for name in FILES}
    synced = []
    kept = os.fsync

    def fsync(handle: int) -> None:
        name = inodes.get(os.fstat(handle).st_ino)
        if name:
            size = os.fstat(handle).st_size
            synced.append((name, size, json.loads((tmp_path / "state.json").read_text())["rows"] if rows else 0))
        kept(handle)

    rows = 0
    monkeypatch.setattr("interpnet.scores._table.os.fsync", fsync)
    made.append(*some(0, 2))
    made.commit(2)
    assert synced == [("X.f32", 24, 0), ("labels.bin", 16, 0), ("predictions.i64", 16, 0), ("indices.i64", 16, 0)]
    rows = 2
    made.append(*some(2, 3))
    assert synced[4:] == [("X.f32", 36, 2), ("labels.bin", 24, 2), ("predictions.i64", 24, 2), ("indices.i64", 24, 2)]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = writer(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interpnet.scores._table.os.fsync", full)
    with pytest.raises(RunFolderError, match=r"cannot write '.*X.f32': No space left on device. Free disk space"):
        made.append(*some(0, 2))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot make the folder '.*file/scores': Not a directory"):
        writer(tmp_path / "file" / "scores")


def test_missing_parents_are_made_and_an_unnamed_folder_starts_anew(tmp_path: Path) -> None:
    made = writer(tmp_path / "deep" / "folder", key="")
    made.append(*some(0, 2))
    made.commit(2)
    assert writer(tmp_path / "deep" / "folder", key="").rows == 0
