"""The files of a score table: what state.json says of them, and whether they still are what was written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interpnet.errors import RunFolderError
from interpnet.support.checks import is_whole
from interpnet.support.checksums import SEAL, check_seal, next_checksum, seal
from interpnet.support.io import open_own, read_object, write_json

_FORMAT = "interpnet-scores-1"
_AGAIN = "delete the folder and collect again"
_ADOPTED = 4096  # rows of a block, where an older version wrote them without


class Progress(NamedTuple):
    """How far a collection has come."""

    key: str  # what identifies it
    rows: int  # that count
    consumed: int  # images dealt with, those included that could not be read
    complete: bool


def row_types(state: Mapping[str, Any]) -> dict[str, np.dtype[Any]]:
    """Return what one row of each file holds."""
    number: np.dtype[Any] = np.dtype("<i8")  # little-endian, whatever machine reads the files
    labels = number
    if state["label_columns"] is not None:
        labels = np.dtype(("<f4", (state["label_columns"],)))
    X = np.dtype(("<f4", (sum(size for _, size in state["channels"]),)))
    return {"X.f32": X, "labels.bin": labels, "predictions.i64": number, "indices.i64": number}


@dataclass(frozen=True)
class ScoreFiles:
    """The folder of a score table."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name

    def new_state(self, key: str, channels: list[Any], n_classes: int, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of a table without rows."""
        return {
            "format": _FORMAT,
            "key": key,
            "rows": 0,
            "consumed": 0,
            "complete": False,
            "label_columns": None,
            "n_classes": n_classes,
            "channels": channels,
            "info": dict(info),
            # For each block of rows: their number, and the checksum of its part of every file.
            "blocks": [],
        }

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace ``state.json``, with its own checksum."""
        write_json(self.path("state.json"), seal(state))

    def read_state(self) -> dict[str, Any]:
        """Read ``state.json``; ``RunFolderError`` for none, another format, damage, or entries that cannot be."""
        path = self.path("state.json")
        state = read_object(path)
        known = state.get("format")
        if known != _FORMAT:
            raise RunFolderError(f"{str(self.folder)!r} holds no score table (format {known!r}); expected {_FORMAT!r}")
        # A state of an older version has neither, and its rows no checksums.
        with_checksums = SEAL in state or "blocks" in state
        if with_checksums:
            check_seal(state, repr(str(path)), _AGAIN)
        state.setdefault("blocks", [])
        wrong = [name for name, fits in _EXPECTED.items() if name not in state or not fits(state[name])]
        if wrong or (with_checksums and sum(block[0] for block in state["blocks"]) != state["rows"]):
            what = ", ".join(wrong) or "blocks"
            raise RunFolderError(f"{str(path)!r} cannot be used: its {what} cannot be right; {_AGAIN}")
        return state

    def verify(self, state: Mapping[str, Any]) -> None:
        """Read every row that counts; ``RunFolderError`` for a file that is missing, too short, or damaged."""
        for position, (name, row) in enumerate(row_types(state).items()):
            path = self.path(name)
            self._check_size(path, state, state["rows"] * row.itemsize)
            try:
                with path.open("rb", buffering=0) as handle:
                    start = 0
                    for count, *sums in state["blocks"]:
                        _, found = next_checksum(handle, count * row.itemsize)
                        if found != sums[position]:
                            raise RunFolderError(
                                f"{str(path)!r} is damaged between rows {start} and {start + count - 1} (their "
                                f"checksum does not fit); {_AGAIN}"
                            )
                        start += count
            except OSError as error:
                raise RunFolderError(f"{str(path)!r} cannot be read ({error}); {_AGAIN}") from error

    @staticmethod
    def _check_size(path: Path, state: Mapping[str, Any], expected: int) -> None:
        if not path.is_file() or path.stat().st_size < expected:
            rows = state["rows"]
            raise RunFolderError(f"{str(path)!r} is missing or shorter than the {rows} rows beside it; {_AGAIN}")
        # Of an unfinished table the rest was never committed, and is cut off.
        if state["complete"] and path.stat().st_size > expected:
            raise RunFolderError(f"{str(path)!r} is longer than the {state['rows']} rows beside it; {_AGAIN}")

    def with_checksums(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state in which all rows have checksums: those of an older version get the ones they have now."""
        rows = state["rows"]
        if state["blocks"] or not rows:
            return state
        counts = [min(_ADOPTED, rows - start) for start in range(0, rows, _ADOPTED)]
        columns = []
        for name, row in row_types(state).items():
            with self.path(name).open("rb", buffering=0) as handle:
                columns.append([next_checksum(handle, count * row.itemsize)[1] for count in counts])
        blocks = [list(block) for block in zip(counts, *columns, strict=True)]
        return state | {"blocks": blocks}

    def cut(self, name: str, size: int) -> None:
        """Make a file, or cut it to ``size`` bytes; a link is refused, for its target is not ours."""
        path = self.path(name)
        try:
            with open_own(path, os.O_WRONLY) as handle:
                handle.truncate(size)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {str(path)!r}: {error.strerror or error}. Delete it, or choose another folder"
            ) from error


def _is_count(value: Any) -> bool:
    return bool(is_whole(value) and 0 <= value < 2**62)


def _are_channels(value: Any) -> bool:
    pairs = isinstance(value, list) and all(isinstance(entry, list) and len(entry) == 2 for entry in value)
    return pairs and all(isinstance(name, str) and _is_count(size) and size > 0 for name, size in value)


def _are_blocks(value: Any) -> bool:
    width = 1 + 4  # the number of rows, and a checksum for each file
    return isinstance(value, list) and all(
        isinstance(block, list) and len(block) == width and _is_count(block[0]) for block in value
    )


_EXPECTED = {
    "key": lambda value: isinstance(value, str),
    "rows": _is_count,
    "consumed": _is_count,
    "complete": lambda value: isinstance(value, bool),
    "label_columns": lambda value: value is None or (_is_count(value) and value > 0),
    "n_classes": lambda value: _is_count(value) and value > 0,
    "channels": _are_channels,
    "info": lambda value: isinstance(value, dict),
    "blocks": _are_blocks,
}
