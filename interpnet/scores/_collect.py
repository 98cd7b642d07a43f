"""Scores: one pass over a data set, one number for every channel of every image.

Source: Oramas, Wang & Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019, section 3.1; docs/method.md,
section 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import (
    ChannelIndex,
    Instrument,
    Layers,
    Output,
    evaluating,
    find_sites,
    instrument,
    logits_of,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError, RunFolderError
from interpnet.gram import GramAccumulator, one_hot
from interpnet.scores._batches import Loader, checked_labels, image_count, peek, unpack
from interpnet.scores._reader import ScoreReader
from interpnet.scores._table import ScoreTable, ScoreWriter
from interpnet.support.io import read_json
from interpnet.support.progress import progress_bar

# What an interruption may cost: this many images, or the work of this many seconds.
_COMMIT_ROWS = 2048
_COMMIT_SECONDS = 20.0


def collect_scores(
    model: nn.Module,
    loader: Loader,
    *,
    layers: Layers = "default",
    norm: str = "l2",
    normalisation: str = "layer",
    device: str | torch.device | None = None,
    out: str | os.PathLike[str] | None = None,
    key: str = "scores",
    progress: bool = True,
    output: Output | None = None,
    memory_format: str = "auto",
    autocast: torch.dtype | None = None,
    gram: GramAccumulator | None = None,
    total: int | None = None,
) -> ScoreTable:
    """Collect the scores of every channel for every image in one pass, reducing each feature map where it is made.

    ``x[i] = concat over layers of s / sum(s)`` with ``s_c = ||A_c||_2``; an all-zero layer gives zeros.

    Parameters
    ----------
    model : nn.Module
        Left as it was: mode, parameters, device, hooks.
    loader : iterable of batches, or function
        Batches are (images, labels) with images (B, C, H, W) as the model wants them and labels (B,) class numbers or
        a (B, classes) target. A function ``start -> iterable`` lets an interrupted collection go on without reading
        the first ``start`` images again.
    layers : str, module, or iterable
        As in :meth:`interpnet.engine.Trace.select`.
    norm : {"l2", "l2sq"}
        The paper's norm, or the released code's sum of squares.
    normalisation : {"layer", "size", "none"}
        L1 within each layer (the paper); the map's size alone, which makes ``s`` the root of the mean square over
        positions (``l2sq``: the mean square); or none.
    device : optional
        Default: where the model is.
    out : folder, optional
        Write X there as it grows (float32, memory-mapped on return); without it X is kept in memory. An interrupted
        collection with the same ``key`` goes on at the last committed rows.
    key : str
        Identifies model, data and settings; a folder with another key is refused.
    progress : bool
        A bar with images/s and time left, on a terminal.
    output : function, optional
        Takes what the model returns, gives logits (B, classes).
    memory_format : {"auto", "contiguous", "channels_last"}
        Speed only; "auto" is the faster one by our measurements.
    autocast : torch.dtype, optional
        Run the network in lower precision; the norms are summed in float32 all the same.
    gram : GramAccumulator, optional
        Receives every row, so that the Gram matrices are there when the pass ends; :meth:`ScoreTable.gram` sums later.
    total : int, optional
        Number of images, for the bar, where the loader cannot tell.

    No image, a label outside the classes, and NaN or infinite activations (the layer and image named) are a
    :class:`DataError`, a folder of another collection or one that cannot be written a :class:`RunFolderError`; the
    model's and the layers' errors are those of :func:`interpnet.engine.find_sites`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> collect_scores(net, batches, progress=False).X.shape
    (8, 4)
    """
    model = unwrap(model)
    where = resolve_device(device, model)
    start, batches = _resumed(loader, out)
    first, batches = peek(batches)  # the network is traced on real images
    cast = nullcontext() if autocast is None else torch.autocast(where.type, autocast)
    if total is None:
        total = image_count(loader)
    with placed(model, where, memory_format) as put, evaluating(model), torch.inference_mode():
        with cast:
            trace = find_sites(model, put(first), output=output)
        reader = ScoreReader(trace.select(layers), norm=norm, normalisation=normalisation)
        info = {"norm": norm, "normalisation": normalisation, "image_shape": list(trace.image_shape), "skipped": []}
        writer: _Memory | ScoreWriter = _Memory(reader.channels, trace.n_outputs, info)
        if out is not None:
            writer = ScoreWriter(out, reader.channels, trace.n_outputs, key=key, info=info)
        intake = _Intake(writer, trace.n_outputs, gram)

        def score(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = logits_of(model(put(images)), len(images), output)
            return reader.take(), logits.argmax(1)

        with (
            progress_bar("Collecting scores", total, enabled=progress) as advance,
            instrument(model, Instrument(reads=reader.reads)),
            cast,
        ):
            advance(start)  # what an earlier run collected
            launched = _launched(score, batches, start, writer.consumed, trace.n_outputs)
            # One behind: while a GPU works on a batch, the rows of the one before are taken in.
            for rows, ahead in pairwise(chain(launched, [_NO_ROWS])):
                intake.take_in(rows, ahead.n, reader.channels)
                advance(rows.n + len(rows.skipped))
        intake.commit()
    return writer.finish()


def _resumed(loader: Loader, out: str | os.PathLike[str] | None) -> tuple[int, Iterable[Any]]:
    """Return (first image, batches); a function is asked for the batches after what is committed."""
    if not callable(loader):
        return 0, loader
    start = 0
    if out is not None:
        with suppress(RunFolderError):
            start = int(read_json(Path(out) / "state.json")["consumed"])
    return start, loader(start)


class _Rows(NamedTuple):
    """What one batch adds."""

    n: int
    arrays: tuple[Tensor, ...]  # scores, labels, predictions and indices on any device; none for no rows
    skipped: list[Any]
    end: int  # counts the images of the data set up to there


_NO_ROWS = _Rows(0, (), [], 0)


def _launched(
    score: Callable[[Tensor], tuple[Tensor, Tensor]], batches: Iterable[Any], end: int, done: int, n_classes: int
) -> Iterator[_Rows]:
    """Yield the rows of each batch after the first ``done`` images; on a GPU they are still being computed."""
    for batch in batches:
        images, labels, indices, skipped = unpack(batch)
        n = images.shape[0]
        start = end
        end += n + len(skipped)
        if end <= done:  # committed by an earlier run, and the loader could not start later
            continue
        arrays: tuple[Tensor, ...] = ()
        if n:
            scores, predictions = score(images)
            if indices is None:
                indices = torch.arange(start, start + n)
            arrays = (scores, checked_labels(labels, n, n_classes, indices), predictions, indices)
        yield _Rows(n, arrays, skipped, end)


class _Memory:
    """The same as :class:`ScoreWriter`, kept in memory."""

    consumed = 0

    def __init__(self, channels: ChannelIndex, n_classes: int, info: dict[str, Any]) -> None:
        self.info = info
        self._channels = channels
        self._n_classes = n_classes
        self._blocks: list[tuple[npt.NDArray[Any], ...]] = []

    def committed(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return []

    def append(self, *arrays: npt.NDArray[Any]) -> None:
        self._blocks.append(arrays)

    def commit(self, consumed: int) -> None:
        self.consumed = consumed

    def finish(self) -> ScoreTable:
        X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._blocks, strict=True))
        return ScoreTable(X, labels, predictions, self._channels, indices, self._n_classes, self.info)


class _Intake:
    """Takes rows in on the CPU, refuses those that are not finite, and commits them from time to time."""

    def __init__(self, writer: _Memory | ScoreWriter, n_classes: int, gram: GramAccumulator | None) -> None:
        self._writer = writer
        self._n_classes = n_classes
        self._gram = gram
        self._end = writer.consumed
        self._dims: int | None = None
        self._clear()
        for X, labels in writer.committed():
            self._sum(X, labels)

    def _clear(self) -> None:
        self._blocks: list[tuple[npt.NDArray[Any], ...]] = []
        self._waiting = 0
        self._since = time.monotonic()

    def take_in(self, rows: _Rows, ahead: int, channels: ChannelIndex) -> None:
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
            self._dims = self._dims or labels.ndim
            if labels.ndim != self._dims:
                raise DataError("labels changed between batches from class numbers to a target matrix or back")
            self._blocks.append((X, labels, predictions, indices))
        self._writer.info["skipped"].extend(list(image) for image in rows.skipped)
        self._waiting += rows.n
        self._end = rows.end  # skipped images included, so that no later run reads them again
        late = time.monotonic() - self._since > _COMMIT_SECONDS
        if late or self._waiting + ahead >= _COMMIT_ROWS:  # the rows ahead are in memory already
            self.commit()

    def commit(self) -> None:
        """Hand on what was taken in, so that it survives an interruption."""
        if self._blocks:
            X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._blocks, strict=True))
            self._writer.append(X, labels, predictions, indices)
            self._sum(X, labels)
        self._writer.commit(self._end)
        self._clear()

    def _sum(self, X: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        if self._gram is not None:  # with class numbers themselves, its sums would round differently
            self._gram.add(X, one_hot(labels, self._n_classes) if labels.ndim == 1 else labels)
