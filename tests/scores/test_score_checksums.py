"""The folder of a score table: checksums of its rows, its state read strictly, links refused; scores/_files.py."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpnet.engine import ChannelIndex
from interpnet.errors import RunFolderError
from interpnet.scores import ScoreTable
from interpnet.scores._table import ScoreWriter
from interpnet.support.checksums import seal

NAMES = ("X.f32", "labels.bin", "predictions.i64", "indices.i64")
CHANNELS = ChannelIndex((("a", 2), ("b", 1)))


def table(labels: str = "numbers", n: int = 10) -> ScoreTable:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 3, n)
    targets = {"numbers": numbers, "targets": np.eye(3, dtype=np.float32)[numbers]}
    X = rng.random((n, 3), dtype=np.float32)
    return ScoreTable(X, targets[labels], numbers[::-1].copy(), CHANNELS, np.arange(n), 3, {"norm": "l2"})


@pytest.fixture(autouse=True)
def a_block_for_every_commit(monkeypatch):
    monkeypatch.setattr("interpnet.scores._table._LEAST_BLOCK", 1)


def interrupted(folder: Path) -> ScoreWriter:
    """Commit two blocks of three and two rows and append one more."""
    writer = ScoreWriter(folder, CHANNELS, 3, key="k", info={})
    for start, stop in ((0, 3), (3, 5)):
        writer.append(*parts(start, stop))
        writer.commit(stop)
    writer.append(*parts(5, 6))
    return writer


def parts(start: int, stop: int) -> tuple[np.ndarray, ...]:
    whole = table()
    return whole.X[start:stop], whole.labels[start:stop], whole.predictions[start:stop], whole.indices[start:stop]


def same(a: ScoreTable, b: ScoreTable) -> bool:
    pairs = [(a.X, b.X), (a.labels, b.labels), (a.predictions, b.predictions), (a.indices, b.indices)]
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("labels", ["numbers", "targets"])
@pytest.mark.parametrize("n", [1, 10, 5000])
def test_a_whole_table_comes_back(tmp_path, labels, n):
    table(labels, n).save(tmp_path)
    assert same(ScoreTable.load(tmp_path), table(labels, n))
    assert same(ScoreTable.load(tmp_path, verify=False), table(labels, n))


@pytest.mark.parametrize("labels", ["numbers", "targets"])
@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_of_the_rows_is_noticed(tmp_path, labels, name):
    table(labels).save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for position in range(8 * len(whole)):
        data = bytearray(whole)
        data[position // 8] ^= 1 << (position % 8)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RunFolderError, match=rf"{name}' is damaged between rows 0 and 9 .*; delete the folder and"):
            ScoreTable.load(tmp_path)
    # Without the checksums only what cannot be is noticed.
    unnoticed = {"X.f32": True, "indices.i64": True, "labels.bin": labels == "targets", "predictions.i64": False}
    if unnoticed[name]:
        assert ScoreTable.load(tmp_path, verify=False)
    else:
        with pytest.raises(RunFolderError, match=r"cannot be used .*; delete the folder and collect again"):
            ScoreTable.load(tmp_path, verify=False)


def test_the_damaged_block_is_named(tmp_path):
    table(n=5000).save(tmp_path)
    with (tmp_path / "indices.i64").open("rb+") as handle:
        handle.seek(8 * 4500)
        handle.write(b"\xff")
    with pytest.raises(RunFolderError, match=r"indices.i64' is damaged between rows 4096 and 4999"):
        ScoreTable.load(tmp_path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as handle:
        handle.write(b"\0" * 12)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [cut, lengthen, empty, folder, Path.unlink, zeros])
def test_other_damage_is_noticed(tmp_path, name, damage):
    table().save(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(RunFolderError, match=rf"{name}' is (missing|shorter|longer|damaged)"):
        ScoreTable.load(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_another_table_are_noticed(tmp_path, name):
    table().save(tmp_path / "a")
    other = table()
    other.X[:] = other.X[::-1].copy()
    changed = [values[::-1].copy() for values in (other.labels, other.predictions, other.indices)]
    ScoreTable(other.X, changed[0], changed[1], CHANNELS, changed[2], 3).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(RunFolderError, match=rf"{name}' is damaged"):
        ScoreTable.load(tmp_path / "a")


def test_files_swapped_with_each_other_are_noticed(tmp_path):
    table().save(tmp_path)
    (tmp_path / "indices.i64").rename(tmp_path / "x")
    (tmp_path / "predictions.i64").rename(tmp_path / "indices.i64")
    (tmp_path / "x").rename(tmp_path / "predictions.i64")
    with pytest.raises(RunFolderError, match=r"predictions.i64' is damaged"):
        ScoreTable.load(tmp_path)


def changed_state(path: Path, **entries: Any) -> None:
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | entries))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("consumed", "x"),
        ("consumed", -1),
        ("consumed", 1.5),
        ("consumed", True),
        ("rows", 10**30),
        ("rows", "10"),
        ("rows", None),
        ("rows", 9),
        ("complete", "yes"),
        ("complete", 1),
        ("key", 3),
        ("channels", {"a": 2}),
        ("channels", [["a", 2]]),
        ("channels", [["a", -2], ["b", 5]]),
        ("channels", [["a"]]),
        ("channels", [[1, 2], ["b", 1]]),
        ("channels", "ab"),
        ("n_classes", 0),
        ("n_classes", [3]),
        ("n_classes", 4),
        ("info", []),
        ("label_columns", "3"),
        ("label_columns", 0),
        ("label_columns", 3),
        ("blocks", []),
        ("blocks", [[10]]),
        ("blocks", {}),
        ("blocks", [["10", "", "", "", ""]]),
        ("blocks", None),
        ("format", "interpnet-scores-9"),
        ("format", ["interpnet-scores-1"]),
        ("checksum", "0" * 16),
        ("checksum", None),
        ("unknown", 1),
    ],
)
def test_a_state_that_cannot_be_is_named(tmp_path, name, value):
    """Edited by hand, the checksum tells; with a checksum made anew, so do the entries themselves."""
    table().save(tmp_path)
    changed_state(tmp_path, **{name: value})
    with pytest.raises(RunFolderError, match=r"state.json|no score table"):
        ScoreTable.load(tmp_path)
    if name not in {"unknown", "n_classes", "label_columns", "checksum"} or value in (0, "3", [3]):
        state = json.loads((tmp_path / "state.json").read_text())
        (tmp_path / "state.json").write_text(json.dumps(seal(state)))
        with pytest.raises(RunFolderError, match=str(tmp_path)):
            ScoreTable.load(tmp_path)


@pytest.mark.parametrize("missing", ["key", "rows", "consumed", "complete", "label_columns", "n_classes", "info"])
def test_a_state_that_lacks_an_entry_is_named(tmp_path, missing):
    table().save(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    for gone in ("blocks", "checksum", missing):
        del state[gone]
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(RunFolderError, match=f"its {missing} cannot be right; delete the folder and collect again"):
        ScoreTable.load(tmp_path)


def test_an_interrupted_table_goes_on_after_whole_rows(tmp_path):
    interrupted(tmp_path)
    assert ScoreTable.progress(tmp_path) == ("k", 5, 5, False)
    writer = ScoreWriter(tmp_path, CHANNELS, 3, key="k", info={})
    assert writer.rows == 5
    writer.append(*parts(5, 10))
    writer.commit(10)
    assert same(writer.finish(), table())
    assert same(ScoreTable.load(tmp_path), table())
    state = json.loads((tmp_path / "state.json").read_text())
    assert [block[0] for block in state["blocks"]] == [3, 2, 5]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", [0, 2, 4])
def test_an_interrupted_table_does_not_go_on_after_damaged_rows(tmp_path, name, row):
    interrupted(tmp_path)
    size = {"X.f32": 12}.get(name, 8)
    data = bytearray((tmp_path / name).read_bytes())
    data[size * row] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RunFolderError, match=rf"{name}' is damaged between rows {3 * (row // 3)} and"):
        ScoreWriter(tmp_path, CHANNELS, 3, key="k", info={})
    with pytest.raises(RunFolderError, match=rf"{name}' is damaged"):
        ScoreTable.progress(tmp_path)


def test_rows_that_were_not_committed_may_be_anything(tmp_path):
    interrupted(tmp_path)
    lengthen(tmp_path / "X.f32")
    assert ScoreWriter(tmp_path, CHANNELS, 3, key="k", info={}).rows == 5
    assert (tmp_path / "X.f32").stat().st_size == 5 * 12


def without_checksums(path: Path) -> None:
    state = json.loads((path / "state.json").read_text())
    for gone in ("blocks", "checksum"):
        del state[gone]
    (path / "state.json").write_text(json.dumps(state))


def test_a_table_of_an_older_version_is_read_and_goes_on_with_checksums(tmp_path):
    table().save(tmp_path / "whole")
    without_checksums(tmp_path / "whole")
    assert same(ScoreTable.load(tmp_path / "whole"), table())
    interrupted(tmp_path / "half")
    without_checksums(tmp_path / "half")
    writer = ScoreWriter(tmp_path / "half", CHANNELS, 3, key="k", info={})
    writer.append(*parts(5, 10))
    writer.commit(10)
    writer.finish()
    assert same(ScoreTable.load(tmp_path / "half"), table())
    with (tmp_path / "half" / "X.f32").open("rb+") as handle:
        handle.write(b"\x7f")
    with pytest.raises(RunFolderError, match=r"X.f32' is damaged between rows 0 and 4"):
        ScoreTable.load(tmp_path / "half")


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_not_written_through_a_link(tmp_path, name):
    """A folder that somebody else made may link to any file of the user's."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / name).symlink_to(victim)
    with pytest.raises(RunFolderError, match=rf"cannot write '.*{name}'"):
        table().save(scores)
    assert victim.read_text() == "precious"


def test_a_folder_that_is_a_link_is_written_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "scores").symlink_to(tmp_path / "disk")
    table().save(tmp_path / "scores")
    assert same(ScoreTable.load(tmp_path / "disk"), table())
