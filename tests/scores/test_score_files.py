"""The rows of a table against their checksums: every file, first and last row, finished and interrupted tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.errors import DataError, RunFolderError
from interpnet.scores import ScoreTable, collect_scores
from interpnet.scores import _files as files
from interpnet.support import checksums

FILES = {"X.f32": 3 * 4, "labels.bin": 8, "predictions.i64": 8, "indices.i64": 8}
N = 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()


X = torch.rand(N, 1, 2, 2, generator=torch.Generator().manual_seed(1))
Y = torch.arange(N) % 2


def collected(folder: Path, stop: int | None = None) -> ScoreTable:
    """Collect in batches of two; ``stop`` breaks off before the batch of that number."""

    def batches(start: int) -> Any:
        for i in range(start, N, 2):
            if i == stop:
                raise KeyboardInterrupt
            yield X[i : i + 2], Y[i : i + 2]

    return collect_scores(network(), batches, out=folder, key="k", progress=False)


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection that was broken off with some rows committed."""
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 2)
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "half", stop=8)
    return tmp_path / "half"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("row", [0, -1])
def test_a_flipped_bit_of_a_finished_table_is_named(name: str, row: int, tmp_path: Path) -> None:
    collected(tmp_path / "t")
    flip(tmp_path / "t" / name, (row % N) * FILES[name])
    for read in (ScoreTable.load, ScoreTable.progress):
        with pytest.raises(RunFolderError, match=rf"{name}' is damaged between rows \d+ and \d+ .*; delete the folder"):
            read(tmp_path / "t")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("row", [0, -1])
def test_a_collection_does_not_go_on_from_damaged_rows(name: str, row: int, half: Path) -> None:
    rows = ScoreTable.progress(half).rows
    assert 0 < rows < N
    flip(half / name, (row % rows) * FILES[name])
    with pytest.raises(RunFolderError, match=rf"{name}' is damaged between rows"):
        collected(half)


def test_what_was_not_committed_may_be_anything(half: Path, tmp_path: Path) -> None:
    rows = ScoreTable.progress(half).rows
    for name, width in FILES.items():
        with (half / name).open("rb+") as handle:
            handle.seek(rows * width)
            handle.write(b"rubbish" * 9)
    found = collected(half)
    whole = collected(tmp_path / "whole")
    for name in ("X", "labels", "predictions", "indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    progress = ScoreTable.progress(half)
    assert (progress.key, progress.rows, progress.consumed, progress.complete) == ("k", N, N, True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("change", "message"), [(-1, "missing or shorter"), (1, "longer than the 10 rows")])
def test_files_of_another_length_are_named(name: str, change: int, message: str, tmp_path: Path) -> None:
    collected(tmp_path / "t")
    path = tmp_path / "t" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change < 0 else data + b"x")
    with pytest.raises(RunFolderError, match=f"{name}' is {message}"):
        ScoreTable.load(tmp_path / "t")
    path.unlink()
    with pytest.raises(RunFolderError, match=f"{name}' is missing or shorter than the 10 rows"):
        ScoreTable.load(tmp_path / "t")


@pytest.mark.parametrize("piece", [1, 7, 2**22])
def test_checksums_do_not_depend_on_the_pieces_read(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected(tmp_path / "t")
    monkeypatch.setattr(checksums, "_CHUNK", piece)
    assert len(ScoreTable.load(tmp_path / "t")) == N


STATES: dict[str, dict[str, Any]] = {
    "rows": {"rows": 9},
    "more rows": {"rows": -1},
    "consumed": {"consumed": "10"},
    "complete": {"complete": 1},
    "label_columns": {"label_columns": 0},
    "n_classes": {"n_classes": 0},
    "channels": {"channels": [["1", 0]]},
    "channels' names": {"channels": [[1, 3]]},
    "a channel too many": {"channels": [["1", 3, 4]]},
    "info": {"info": []},
    "blocks": {"blocks": []},
    "blocks' width": {"blocks": [[10, "a"]]},
    "key": {"key": 5},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_cannot_be_is_refused_even_where_its_checksum_fits(name: str, tmp_path: Path) -> None:
    from interpnet.support.checksums import SEAL, seal

    collected(tmp_path / "t")
    path = tmp_path / "t" / "state.json"
    state = json.loads(path.read_text())
    del state[SEAL]
    path.write_text(json.dumps(seal(state | STATES[name])))
    with pytest.raises(RunFolderError, match=r"state.json' cannot be used: its [\w, ]+ cannot be right"):
        ScoreTable.load(tmp_path / "t")
    path.write_text(json.dumps(seal(state | {"format": "x"})))
    with pytest.raises(RunFolderError, match="holds no score table"):
        ScoreTable.load(tmp_path / "t")


def test_a_table_of_an_older_version_is_read_and_gets_checksums(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.support.checksums import SEAL

    monkeypatch.setattr(files, "_ADOPTED", 4)
    path = half / "state.json"
    state = json.loads(path.read_text())
    rows = state["rows"]
    del state[SEAL], state["blocks"]
    path.write_text(json.dumps(state))
    assert ScoreTable.progress(half).rows == rows
    assert len(collected(half)) == N
    blocks = json.loads(path.read_text())["blocks"]
    assert sum(block[0] for block in blocks) == N
    assert blocks[0][0] == min(4, rows)
    flip(half / "X.f32", 0)
    with pytest.raises(RunFolderError, match=r"X\.f32' is damaged between rows 0 and"):
        ScoreTable.load(half)


def test_the_first_image_and_layer_that_are_not_finite_are_named() -> None:
    x = torch.zeros(4, 1, 2, 2)
    x[1, 0, 0, 0] = x[2] = float("inf")
    with pytest.raises(DataError, match="image 1"):
        collect_scores(network(), [(x[:1], Y[:1]), (x[1:], Y[1:4])], progress=False)
    x[1] = 0.0
    with pytest.raises(DataError, match="image 2"):
        collect_scores(network(), [(x, Y[:4])], progress=False)
