"""The score matrix X, its labels and predictions, in memory or in a folder that grows as it is filled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.gram import Gram, gram_fits
from interpnet.scores._files import Progress, ScoreFiles, row_types
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, one_of, whole_number, whole_numbers
from interpnet.support.io import DAMAGED, as_path, open_own
from interpnet.support.types import Float32, Float64, Int64

if TYPE_CHECKING:
    from interpnet.gram import RowGram

# Rows are written and read in blocks of this many, so that memory does not grow with the table.
_BLOCK = 4096
# A block of rows with checksums of its own grows to so many rows, and to this share of the table, before the next one
# begins: state.json is written anew with every commit, and a few hundred blocks are enough for any number of rows.
_LEAST_BLOCK = 4096
_SHARE = 64


@brief
@dataclass(frozen=True)
class ScoreTable:
    """Scores of every channel for every image."""

    X: Float32  # (N, m): image i's scores in row i, normalised as ``info`` says; a memory map when it lies in a folder
    labels: npt.NDArray[Any]  # (N,) int64 class numbers, or an (N, C) float32 target matrix
    predictions: Int64  # (N,): the class with the largest logit
    channels: ChannelIndex  # what the m columns are
    indices: Int64  # (N,): the images' positions in the data set, of which some may have been skipped
    n_classes: int
    info: Mapping[str, Any] = field(default_factory=dict)  # norm, image shape, skipped images and other notes

    def __post_init__(self) -> None:
        check_kinds(ScoreTable, vars(self))
        whole_number(self.n_classes, "n_classes", least=1)
        m = len(self.channels)
        if self.X.ndim != 2 or self.X.shape[1] != m or self.X.dtype.kind != "f":
            raise DataError(f"X has shape {self.X.shape} and type {self.X.dtype}; expected (N, {m}) scores")
        n = len(self.X)
        if self.labels.shape not in {(n,), (n, self.n_classes)} or self.labels.dtype.kind not in "iuf":
            raise DataError(
                f"labels have shape {self.labels.shape} and type {self.labels.dtype}; expected ({n},) class numbers or "
                f"({n}, {self.n_classes}) targets"
            )
        names = ("labels", "predictions") if self.labels.ndim == 1 else ("predictions",)
        for name in (*names, "indices"):
            numbers = getattr(self, name)
            if numbers.shape != (n,) or numbers.dtype.kind not in "iu":
                raise DataError(
                    f"{name} have shape {numbers.shape} and type {numbers.dtype}; expected ({n},) whole numbers"
                )
        for name in names:
            numbers = getattr(self, name)
            if n and not 0 <= int(numbers.min()) <= int(numbers.max()) < self.n_classes:
                raise DataError(
                    f"{name} reach from {numbers.min()} to {numbers.max()}; expected 0 to {self.n_classes - 1}"
                )

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def accuracy(self) -> float:
        """Share of images whose prediction is their label (single-label tables)."""
        if self.labels.ndim != 1:
            raise DataError("accuracy needs one label per image; this table holds a target matrix")
        return float(np.mean(self.predictions == self.labels)) if len(self) else float("nan")

    def targets(self, labels: str = "labels") -> npt.NDArray[Any]:
        """Return what to regress on: the ``"labels"``, or the network's own ``"predictions"``.

        Predictions ask which channels carry what the network says; they are the choice where labels are few or missing.
        """
        targets = {"labels": self.labels, "predictions": self.predictions}
        return targets[one_of(labels, "labels", targets, error=DataError)]

    def gram(self, labels: str = "labels", *, sample_weight: npt.ArrayLike | None = None) -> Gram:
        """Return the float64 Gram matrices of scores and targets; ``sample_weight`` (N,) weighs the images."""
        return Gram.from_scores(self.X, self.targets(labels), n_classes=self.n_classes, sample_weight=sample_weight)

    def gram_or_rows(self, labels: str = "labels", *, sample_weight: npt.ArrayLike | None = None) -> Gram | RowGram:
        """Return :meth:`gram` where its matrix fits into the memory, else a Gram that is kept as the rows of X."""
        if gram_fits(len(self.channels)):
            return self.gram(labels, sample_weight=sample_weight)
        # Loaded only where it is needed: it brings torch along.
        from interpnet.gram import RowGram

        targets = self.targets(labels)
        return RowGram.from_scores(self.X, targets, n_classes=self.n_classes, sample_weight=sample_weight)

    def dead_layers(self) -> list[str]:
        """Return the layers whose every channel is zero on every image."""
        alive = self.channel_means() > 0
        return [name for name in self.channels.layers if not alive[self.channels.slice(name)].any()]

    def channel_means(self, rows: npt.NDArray[Any] | None = None, block: int = _BLOCK) -> Float64:
        """Return each channel's mean score over all images, or over the images ``rows``, as (m,), read in blocks."""
        whole_number(block, "block", least=1)
        if rows is None:
            total = np.zeros(len(self.channels))
            for start in range(0, len(self), block):
                total += self.X[start : start + block].sum(0, dtype=np.float64)
            return total / max(len(self), 1)
        rows = np.atleast_1d(whole_numbers(rows, "rows", error=DataError))
        if rows.size and not -len(self) <= int(rows.min()) <= int(rows.max()) < len(self):
            raise DataError(f"rows reach from {rows.min()} to {rows.max()}; the table has {len(self)}")
        total = np.zeros(len(self.channels))
        for start in range(0, len(rows), block):
            total += self.X[rows[start : start + block]].sum(0, dtype=np.float64)
        return total / max(len(rows), 1)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the table to ``folder``; :meth:`load` reads it without a model and without copying X."""
        writer = ScoreWriter(folder, self.channels, self.n_classes, key="", info=self.info)
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            writer.append(self.X[part], self.labels[part], self.predictions[part], self.indices[part])
            writer.commit(int(self.indices[part].max()) + 1)  # images, of which some may have been skipped
        writer.finish()

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> ScoreTable:
        """Open a complete table; a :class:`RunFolderError` says what is missing, unfinished or damaged.

        All rows are read once, block by block, to compare them with the checksums of ``state.json``;
        ``verify=False`` leaves that out. A table of a version without checksums is opened as it is.
        """
        files = ScoreFiles(as_path(folder, "folder"))
        state = files.read_state()
        if not state["complete"]:
            raise RunFolderError(
                f"the collection in {str(folder)!r} stopped after {state['rows']} images; run it again to go on"
            )
        if verify:
            files.verify(state)
        return open_table(files, state)

    @staticmethod
    def progress(folder: str | os.PathLike[str]) -> Progress:
        """Return how far a collection in a folder has come, once its rows agree with their checksums.

        A :class:`RunFolderError` where there is none, or a damaged one.
        """
        files = ScoreFiles(Path(folder))
        state = files.read_state()
        files.verify(state)
        return Progress(state["key"], state["rows"], state["consumed"], state["complete"])


def open_table(files: ScoreFiles, state: Mapping[str, Any]) -> ScoreTable:
    """Open the rows that count of a table's files."""
    rows = state["rows"]
    arrays: list[npt.NDArray[Any]] = []
    try:
        for name, row in row_types(state).items():
            if rows and name == "X.f32":  # an empty file cannot be mapped
                arrays.append(np.memmap(files.path(name), row, "r", shape=(rows,)))
            else:
                arrays.append(np.fromfile(files.path(name), row, count=rows))
    except DAMAGED as error:
        raise RunFolderError(f"{str(files.folder)!r} cannot be opened ({error}); collect again") from error
    X, labels, predictions, indices = arrays
    try:
        channels = ChannelIndex.from_json(state["channels"])
        return ScoreTable(X, labels, predictions, channels, indices, state["n_classes"], state["info"])
    except InterpNetError as error:
        raise RunFolderError(
            f"{str(files.folder)!r} cannot be used ({error}); delete the folder and collect again"
        ) from error


def _said(shard: Any) -> str:
    if shard is None:
        return "all images"
    return "shard {} of {}".format(*shard)


class ScoreWriter:
    """Append rows to a folder; what was committed survives an interruption, what was not is forgotten.

    The files only grow, and ``state.json``, replaced atomically, says how many rows count. ``key``
    identifies what is being collected: a folder with another key is refused, not mixed, and so are damaged rows.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        channels: ChannelIndex,
        n_classes: int,
        *,
        key: str,
        info: Mapping[str, Any],
    ) -> None:
        self.folder = as_path(folder, "folder")
        self._files = ScoreFiles(self.folder)
        self._pending = 0
        # Of the block that the next rows belong to: its rows, and a checksum of each file that is still being made.
        self._block_rows = 0
        self._block_sums: list[xxhash.xxh3_64] = []
        self._state: dict[str, Any] = self._files.new_state(key, channels.to_json(), n_classes, info)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"cannot make the folder {str(self.folder)!r}: {error.strerror or error}; choose another one"
            ) from error
        self._state = self._previous(key) or self._state  # goes on where an earlier run stopped
        self.info: dict[str, Any] = self._state["info"]  # notes, saved with the next commit
        self.rows: int = self._state["rows"]
        self.consumed: int = self._state["consumed"]
        self.complete: bool = self._state["complete"]
        # What was appended after the last commit does not count.
        for name, row in row_types(self._state).items():
            self._files.cut(name, self.rows * row.itemsize)

    def _previous(self, key: str) -> dict[str, Any] | None:
        if not key or not self._files.path("state.json").exists():  # without a key nothing tells whose rows these are
            return None
        state = self._files.read_state()
        if any(state[k] != self._state[k] for k in ("key", "channels", "n_classes")):
            raise RunFolderError(
                f"{str(self.folder)!r} holds scores of another model, data set or configuration; "
                "choose another folder, or delete it to collect again"
            )
        there, wanted = (_said(of["info"].get("shard")) for of in (state, self._state))
        if there != wanted:
            raise RunFolderError(
                f"{str(self.folder)!r} holds the scores of {there}, and {wanted} came; choose another folder, or join "
                "the folders of all shards (interpnet merge, merge_scores)"
            )
        self._files.verify(state)
        return self._files.with_checksums(state)

    def committed(self, block: int = 2048) -> list[tuple[Float32, npt.NDArray[Any]]]:
        """Return the committed rows as (X, labels) blocks: for sums that have to be started again."""
        if self.rows == 0:
            return []
        table = open_table(self._files, self._state)
        return [(table.X[i : i + block], table.labels[i : i + block]) for i in range(0, self.rows, block)]

    def append(self, *arrays: npt.NDArray[Any]) -> None:
        """Append X, labels, predictions and indices of some rows; they count from the next :meth:`commit` on."""
        X, labels, _, _ = arrays
        columns = next(iter(labels.shape[1:]), None)  # class numbers have none
        if self.rows + self._pending == 0:
            self._state["label_columns"] = columns
        elif columns != self._state["label_columns"]:
            raise DataError("labels changed between batches from class numbers to a target matrix or back")
        types = row_types(self._state)
        if not self._block_sums or (not self._pending and self._block_rows >= max(_LEAST_BLOCK, self.rows // _SHARE)):
            self._block_rows = 0
            self._block_sums = [xxhash.xxh3_64() for _ in types]
        for (name, row), array, known in zip(types.items(), arrays, self._block_sums, strict=True):
            data = np.ascontiguousarray(array, row.base).tobytes()
            self._write(self.folder / name, data)
            known.update(data)
        self._pending += len(X)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        try:
            with open_own(path, os.O_WRONLY | os.O_APPEND) as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())  # the state must not say more than the disk holds
        except OSError as error:
            raise RunFolderError(
                f"cannot write {str(path)!r}: {error.strerror or error}. Free disk space or choose another "
                "folder; what was committed before is kept and the collection goes on from there"
            ) from error

    def commit(self, consumed: int) -> None:
        """Make the appended rows count; ``consumed`` images of the data set have been dealt with."""
        if self._pending:
            blocks = self._state["blocks"]
            if self._block_rows:
                # It has grown.
                blocks.pop()
            self._block_rows += self._pending
            blocks.append([self._block_rows, *(known.hexdigest() for known in self._block_sums)])
        self.rows += self._pending
        self._pending = 0
        self.consumed = consumed
        self._state.update(rows=self.rows, consumed=consumed)
        self._files.write_state(self._state)

    def finish(self) -> ScoreTable:
        """Mark the table complete and open it."""
        self._state["complete"] = True
        self.commit(self.consumed)
        return open_table(self._files, self._state)
