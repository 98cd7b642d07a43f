"""The score matrix X, its labels and predictions, in memory or in a folder that grows as it is filled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, RunFolderError
from interpnet.gram import Gram
from interpnet.support.io import read_json, write_json

_FORMAT = "interpnet-scores-1"
_FILES = ("X.f32", "labels.bin", "predictions.i64", "indices.i64")


@dataclass(frozen=True)
class ScoreTable:
    """Scores of every channel for every image.

    Attributes
    ----------
    X : array (N, m) float32
        Row i holds image i's scores, L1-normalised within each layer; a memory map when it lies in a folder.
    labels : array (N,) int64, or (N, C) float32
        Class labels, or a target matrix.
    predictions : array (N,) int64
        The class with the largest logit.
    channels : ChannelIndex
        What the m columns are.
    indices : array (N,) int64
        Position of each row's image in the data set (rows can be missing where images were skipped).
    n_classes : int
        Number of the network's outputs.
    info : dict
        Norm, layers, image shape, skipped images and whatever else the collection noted.
    """

    X: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]
    predictions: npt.NDArray[np.int64]
    channels: ChannelIndex
    indices: npt.NDArray[np.int64]
    n_classes: int
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def accuracy(self) -> float:
        """Share of images whose prediction is their label (single-label tables)."""
        if self.labels.ndim != 1:
            raise DataError("accuracy needs one label an image; this table holds a target matrix")
        return float(np.mean(self.predictions == self.labels)) if len(self) else float("nan")

    def targets(self, labels: str = "labels") -> npt.NDArray[Any]:
        """Return what to regress on: the ``"labels"``, or the network's own ``"predictions"``.

        Fitting on predictions asks which channels carry what the network says rather than what is true,
        and is the choice where labels are few or missing.
        """
        if labels not in {"labels", "predictions"}:
            raise DataError(f"labels={labels!r}; expected 'labels' or 'predictions'")
        return self.labels if labels == "labels" else self.predictions

    def gram(self, labels: str = "labels", *, sample_weight: npt.ArrayLike | None = None) -> Gram:
        """Return the float64 Gram matrices of the scores and the targets; see :class:`interpnet.gram.Gram`.

        ``sample_weight`` (N,) weighs the images.
        """
        return Gram.from_scores(self.X, self.targets(labels), n_classes=self.n_classes, sample_weight=sample_weight)

    def dead_layers(self) -> list[str]:
        """Return the layers whose every channel is zero on every image."""
        alive = self.channel_means() > 0
        return [name for name in self.channels.layers if not alive[self.channels.slice(name)].any()]

    def channel_means(self, rows: npt.NDArray[Any] | None = None, block: int = 4096) -> npt.NDArray[np.float64]:
        """Return each channel's mean score over all images, or over ``rows`` (m,), read in blocks."""
        n = len(self) if rows is None else len(rows)
        total = np.zeros(len(self.channels))
        for start in range(0, n, block):
            part = slice(start, start + block)
            total += np.asarray(self.X[part] if rows is None else self.X[rows[part]]).sum(0, dtype=np.float64)
        return total / max(n, 1)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the table to ``folder``; :meth:`load` reads it without a model and without copying X."""
        writer = ScoreWriter(folder, self.channels, self.n_classes, key="", info=self.info)
        for start in range(0, len(self), 4096):
            part = slice(start, start + 4096)
            writer.append(self.X[part], self.labels[part], self.predictions[part], self.indices[part])
            writer.commit(int(self.indices[part].max()) + 1)
        writer.finish()

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ScoreTable:
        """Open a complete table.

        Raises
        ------
        RunFolderError
            Nothing there, an unfinished collection, or files that do not fit the state beside them.
        """
        state = read_json(Path(folder) / "state.json")
        if state.get("format") != _FORMAT:
            raise RunFolderError(f"{str(folder)!r} holds no score table (format {state.get('format')!r})")
        if not state["complete"]:
            raise RunFolderError(
                f"the collection in {str(folder)!r} stopped after {state['rows']} images; run it again to go on"
            )
        return _open(Path(folder), state)


def _dtypes(state: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    columns = state["label_columns"]
    labels = ("<i8", ()) if columns is None else ("<f4", (columns,))
    m = sum(int(size) for _, size in state["channels"])
    return {"X.f32": ("<f4", (m,)), "labels.bin": labels, "predictions.i64": ("<i8", ()), "indices.i64": ("<i8", ())}


def _open(folder: Path, state: Mapping[str, Any]) -> ScoreTable:
    rows = state["rows"]
    arrays = {}
    for name, (dtype, shape) in _dtypes(state).items():
        path = folder / name
        expected = rows * int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size < expected:
            raise RunFolderError(
                f"{str(path)!r} is missing or shorter than the {rows} rows beside it; "
                "delete the folder and collect again"
            )
        if rows == 0:
            arrays[name] = np.zeros((0, *shape), dtype)
        elif name == "X.f32":
            arrays[name] = np.memmap(path, dtype, "r", shape=(rows, *shape))
        else:
            count = rows * int(np.prod(shape, dtype=int))
            arrays[name] = np.fromfile(path, dtype, count=count).reshape(rows, *shape)
    return ScoreTable(
        arrays["X.f32"],
        arrays["labels.bin"],
        arrays["predictions.i64"],
        ChannelIndex.from_json(state["channels"]),
        arrays["indices.i64"],
        state["n_classes"],
        state["info"],
    )


class ScoreWriter:
    """Append rows to a folder; what was committed survives an interruption, what was not is forgotten.

    The files only grow, and ``state.json``, replaced atomically, says how many rows count. ``key``
    identifies what is being collected: a folder with another key is refused, not mixed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        channels: ChannelIndex,
        n_classes: int,
        *,
        key: str,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.consumed = 0
        self.rows = 0
        self._pending = 0
        self._state: dict[str, Any] = {
            "format": _FORMAT,
            "key": key,
            "rows": 0,
            "consumed": 0,
            "complete": False,
            "label_columns": None,
            "n_classes": n_classes,
            "channels": channels.to_json(),
            "info": dict(info or {}),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        previous = self._previous(key)
        if previous is not None:
            self._state = previous
            self.rows, self.consumed = previous["rows"], previous["consumed"]
        sizes = {n: np.dtype(d).itemsize * int(np.prod(s, dtype=int)) for n, (d, s) in _dtypes(self._state).items()}
        for name in _FILES:
            with (self.folder / name).open("ab") as handle:
                handle.truncate(self.rows * sizes[name])

    def _previous(self, key: str) -> dict[str, Any] | None:
        path = self.folder / "state.json"
        if not key or not path.exists():
            return None
        state: dict[str, Any] = read_json(path)
        same = all(state.get(k) == self._state[k] for k in ("format", "key", "channels", "n_classes"))
        if not same:
            raise RunFolderError(
                f"{str(self.folder)!r} holds scores of another model, data set or configuration; "
                "choose another folder, or delete it to collect again"
            )
        return state

    @property
    def info(self) -> dict[str, Any]:
        """Notes that are saved with the next commit."""
        info: dict[str, Any] = self._state["info"]
        return info

    def committed(self, block: int = 2048) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]:
        """Return the committed rows as (X, labels) blocks: for sums that have to be started again."""
        if self.rows == 0:
            return []
        table = _open(self.folder, self._state)
        return [(table.X[i : i + block], table.labels[i : i + block]) for i in range(0, self.rows, block)]

    def append(
        self,
        X: npt.NDArray[np.float32],
        labels: npt.NDArray[Any],
        predictions: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int64],
    ) -> None:
        """Append rows; they count from the next :meth:`commit` on."""
        columns = None if labels.ndim == 1 else int(labels.shape[1])
        if self.rows + self._pending == 0:
            self._state["label_columns"] = columns
        elif columns != self._state["label_columns"]:
            raise DataError("labels changed between batches from class numbers to a target matrix or back")
        arrays = (X, labels, predictions, indices)
        for name, array in zip(_FILES, arrays, strict=True):
            dtype = _dtypes(self._state)[name][0]
            self._write(self.folder / name, np.ascontiguousarray(array, dtype).tobytes())
        self._pending += int(X.shape[0])

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        try:
            with path.open("ab") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {str(path)!r}: {error.strerror or error}. Free disk space or choose another "
                "folder; what was committed before is kept and the collection goes on from there"
            ) from error

    def commit(self, consumed: int) -> None:
        """Make the appended rows count; ``consumed`` images of the data set have been dealt with."""
        self.rows += self._pending
        self._pending = 0
        self.consumed = consumed
        self._state.update(rows=self.rows, consumed=consumed)
        write_json(self.folder / "state.json", self._state)

    def finish(self) -> ScoreTable:
        """Mark the table complete and open it."""
        self._state["complete"] = True
        self.commit(self.consumed)
        return _open(self.folder, self._state)
