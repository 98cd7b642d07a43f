"""Taking in what each batch adds to the scores: refusing what is not finite, summing, committing from time to time."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.engine import ChannelIndex, check_predicted
from interpnet.errors import DataError, InterpNetError
from interpnet.gram import GramAccumulator, one_hot
from interpnet.scores._chunks import Run
from interpnet.scores._companion import Companion
from interpnet.scores._resume import added, known_fingerprint
from interpnet.scores._table import ScoreTable, ScoreWriter

# What an interruption may cost: this many images, or the work of this many seconds.
_COMMIT_ROWS = 2048
_COMMIT_SECONDS = 20.0
_MOST_DENSE_CLASSES = 4096
# Of a device's free memory, what the sums may take where the rows are on it.
_SHARE_OF_DEVICE = 0.5


class Rows(NamedTuple):
    """What one batch adds."""

    n: int
    arrays: tuple[Tensor, ...]  # scores, labels, predictions and indices on any device; none for no rows
    run: Run
    skipped: list[Any]


NO_ROWS = Rows(0, (), Run(0, 0, 0, 0, 0), [])


class Memory:
    """The same as :class:`ScoreWriter`, kept in memory."""

    consumed = 0
    rows = 0
    complete = False

    def __init__(self, channels: ChannelIndex, n_classes: int, info: dict[str, Any]) -> None:
        self.info = info
        self.channels = channels
        self.n_classes = n_classes
        self.blocks: list[tuple[npt.NDArray[Any], ...]] = []

    def committed(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return nothing: no earlier run left rows here."""
        return []

    def append(self, *arrays: npt.NDArray[Any]) -> None:
        """Keep X, labels, predictions and indices of some rows."""
        self.blocks.append(arrays)

    def commit(self, consumed: int) -> None:
        """Note how many images have been dealt with."""
        self.consumed = consumed

    def finish(self) -> ScoreTable:
        """Return the table."""
        X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self.blocks, strict=True))
        return ScoreTable(X, labels, predictions, self.channels, indices, self.n_classes, self.info)


class Ledger(Protocol):
    """Which images the rows so far are those of."""

    consumed: int  # images dealt with

    def add(self, run: Run) -> None:
        """Take in the images of the next rows."""

    def note(self, info: dict[str, Any]) -> None:
        """Write down what is known in a table's notes."""


class FirstImages:
    """The ledger of rows that are those of the first images."""

    def __init__(self, writer: Memory | ScoreWriter) -> None:
        self._rows = writer.rows
        self.consumed = writer.consumed
        # Of all rows, so that a later run can tell whether it reads the same images; unknown where an earlier version
        # wrote the first of them.
        known = known_fingerprint(writer.info)
        self._tracked = isinstance(writer, ScoreWriter) and (known is not None or not writer.rows)
        self._fingerprint = known or "0"

    def add(self, run: Run) -> None:
        """Take in the images of the next rows."""
        self._fingerprint = added(self._fingerprint, run.fingerprint(self._rows))
        self._rows += run.rows
        # Skipped images included, so that no later run reads them again.
        self.consumed = run.stop

    def note(self, info: dict[str, Any]) -> None:
        """Write down the fingerprint."""
        if self._tracked:
            info["fingerprint"] = self._fingerprint


class Intake:
    """Takes rows in on the CPU, refuses those that are not finite, and commits them from time to time."""

    def __init__(
        self,
        writer: Memory | ScoreWriter,
        n_classes: int,
        gram: GramAccumulator | None,
        contributions: Companion | None,
        ledger: Ledger | None = None,
    ) -> None:
        self._writer = writer
        self._contributions = contributions
        self._rows = writer.rows
        self._n_classes = n_classes
        self._gram = gram
        self._ledger: Ledger = ledger or FirstImages(writer)
        self._batch = 0
        self._stays: bool | None = None
        self._clear()
        if gram is not None:
            if gram.n and writer.rows:
                raise InterpNetError(
                    f"gram holds {gram.n} rows already, and out holds {writer.rows} that would be added to them, again "
                    "if they are the same; pass an empty GramAccumulator to go on with a collection"
                )
            for X, labels in writer.committed():
                add_rows(gram, X, labels, n_classes)

    def _clear(self) -> None:
        self._blocks: list[tuple[npt.NDArray[Any], ...]] = []
        self._there: list[Tensor] = []
        self._waiting = 0
        self._since = time.monotonic()

    def take_in(self, rows: Rows, ahead: int, channels: ChannelIndex) -> None:
        """Take in the rows of one batch; those of the next, ``ahead`` of them, are on their way."""
        if rows.n:
            scores, *others = rows.arrays
            X = scores.cpu().float().numpy()  # here the CPU waits for the network
            labels, predictions, indices = (array.cpu().numpy() for array in others)
            bad = np.argwhere(~np.isfinite(X))
            if len(bad):
                row, column = bad[0]
                raise DataError(
                    f"image {int(indices[row])} makes NaN or infinite activations in layer "
                    f"{channels[int(column)].layer!r}; look at that image and its normalisation, or at weights that "
                    "overflow (float16 or autocast?)"
                )
            check_predicted(predictions, indices, batch=self._batch)
            self._blocks.append((X, labels, predictions, indices))
            if self._gram is not None and self._summed_on(scores):
                self._there.append(scores.float())
        self._writer.info["skipped"].extend(list(image) for image in rows.skipped)
        self._ledger.add(rows.run)
        self._waiting += rows.n
        self._batch += 1
        late = time.monotonic() - self._since > _COMMIT_SECONDS
        if late or self._waiting + ahead >= _COMMIT_ROWS:  # the rows ahead are in memory already
            self.commit()

    def _summed_on(self, scores: Tensor) -> bool:
        """Whether the sums are made on the device that the rows are on; decided once."""
        if self._stays is None:
            self._stays = has_room(scores, self._n_classes)
        return self._stays

    def commit(self) -> None:
        """Hand on what was taken in, so that it survives an interruption."""
        if self._blocks:
            X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._blocks, strict=True))
            self._writer.append(X, labels, predictions, indices)
            self._rows += len(X)
            if self._gram is not None:
                rows: Any = X
                if self._there:
                    rows = torch.cat(self._there)
                add_rows(self._gram, rows, labels, self._n_classes)
        # Before the rows count: what was committed twice is taken once, what is missing is lost.
        if self._contributions is not None:
            self._contributions.commit(self._rows)
        self._ledger.note(self._writer.info)
        self._writer.commit(self._ledger.consumed)
        self._clear()


def has_room(scores: Tensor, n_classes: int) -> bool:
    """Whether rows (n, m) are on a GPU that can hold their sums, which it makes faster than any CPU."""
    if not scores.is_cuda:
        return False
    m = scores.shape[1]
    needed = 8 * (m * m + m * n_classes + 4 * m * _COMMIT_ROWS)
    free, _ = torch.cuda.mem_get_info(scores.device)
    return needed < _SHARE_OF_DEVICE * free


def add_rows(gram: GramAccumulator, X: npt.NDArray[Any] | Tensor, labels: npt.NDArray[Any], n_classes: int) -> None:
    """Add rows of scores with their labels, class numbers or targets, to the sums of a collection."""
    # With class numbers themselves the sums would round differently from those of a table; with thousands of classes,
    # though, their matrix would take more memory than the scores.
    if labels.ndim == 1 and n_classes <= _MOST_DENSE_CLASSES:
        labels = one_hot(labels, n_classes)
    gram.add(X, labels)
