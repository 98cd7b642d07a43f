"""Scores: one pass over a data set, one number for every channel of every image.

Source: Oramas, Wang & Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019, section 3.1; docs/method.md,
section 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, pairwise
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
    check_predicted,
    evaluating,
    find_sites,
    forward_logits,
    instrument,
    placed,
    predicted,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.gram import GramAccumulator, one_hot
from interpnet.scores._batches import Loader, Prepare, image_count
from interpnet.scores._companion import Companion
from interpnet.scores._labels import Labels
from interpnet.scores._reader import ScoreReader
from interpnet.scores._resume import Fresh, added, fresh_rows, known_fingerprint, opened
from interpnet.scores._table import ScoreTable, ScoreWriter
from interpnet.support.checks import (
    check_kinds,
    distinct_names,
    instance_of,
    optional,
    text,
    true_or_false,
    whole_number,
)
from interpnet.support.progress import progress_bar

# What an interruption may cost: this many images, or the work of this many seconds.
_COMMIT_ROWS = 2048
_COMMIT_SECONDS = 20.0
_MOST_DENSE_CLASSES = 4096


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
    contributions: Companion | None = None,
    total: int | None = None,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    classes: Sequence[str] | None = None,
    indices: str | None = None,
) -> ScoreTable:
    """Collect the scores of every channel for every image in one pass, reducing each feature map where it is made.

    ``x[i] = concat over layers of s / sum(s)`` with ``s_c = ||A_c||_2``; an all-zero layer gives zeros.

    Parameters
    ----------
    model : nn.Module
        Left as it was: mode, parameters, device, hooks.
    loader : iterable of batches, data set, or function
        Batches are (images, labels) with images (B, C, H, W) as the model wants them and labels (B,) class numbers or
        names, or a (B, classes) target; what else a batch holds is not looked at. It may be a dictionary. Of a data set
        of single items, (image, label) or a dictionary, batches of 32 are made. A function ``start -> iterable`` lets
        an interrupted collection go on without reading the first ``start`` images again. docs/loaders.md has a table.
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
        collection with the same ``key`` goes on at the last committed rows, whatever the size of the batches; a
        complete one is opened.
    key : str
        Identifies model, data and settings; a folder with another key is refused.
    progress : bool
        A bar with images/s and time left, on a terminal.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    memory_format : {"auto", "contiguous", "channels_last"}
        Speed only; "auto" is the faster one by our measurements.
    autocast : torch.dtype, optional
        Run the network in lower precision; the norms are summed in float32 all the same.
    gram : GramAccumulator, optional
        Receives every row, so that the Gram matrices are there when the pass ends; :meth:`ScoreTable.gram` sums later.
    contributions : interpnet.reliance.ContributionSums, optional
        Receives what every channel contributes to the log-odds of each image's class, from the same forward pass and
        one backward pass; the scores stay the same. See :func:`interpnet.collect_contributions`.
    total : int, optional
        Number of images, for the bar, where the loader cannot tell.
    inputs, labels : str, optional
        The keys of images and labels where a batch is a dictionary; the common ones are known.
    prepare : function, optional
        Makes of what stands in a batch as images what the model takes: ``lambda x: x.permute(0, 3, 1, 2) / 255``.
    classes : sequence of str, optional
        Names of the model's outputs in their order, for labels that are names.
    indices : str, optional
        The key of the images' positions in their data set, which ``ScoreTable.indices`` then are, where a batch is a
        dictionary; counted in the loader's order by default.

    No image, a label outside the classes, labels of another type than in the batch before, NaN or infinite activations
    (the layer and image named), and images that are not those of an interrupted collection are a :class:`DataError`, a
    folder of another collection or one that cannot be written a :class:`RunFolderError`; the model's and the layers'
    errors are those of :func:`interpnet.engine.find_sites`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> collect_scores(net, batches, progress=False).X.shape
    (8, 4)
    """
    check_kinds(collect_scores, locals())
    true_or_false(progress, "progress")
    text(key, "key")
    total = optional(whole_number, total, "total", least=0)
    optional(instance_of, gram, "gram", GramAccumulator)
    optional(instance_of, contributions, "contributions", Companion)
    optional(instance_of, autocast, "autocast", torch.dtype)
    model = unwrap(model)
    where = resolve_device(device, model)
    names = optional(distinct_names, classes, "classes")
    keys = {"inputs": inputs, "labels": labels}
    # The network is traced on real images.
    done, begin, first, batches = opened(loader, out, key, **keys, prepare=prepare)
    cast = nullcontext() if autocast is None else torch.autocast(where.type, autocast)
    mode: AbstractContextManager[Any] = torch.inference_mode()
    # What a network made in inference mode and kept could be no part of a graph.
    if contributions is not None:
        mode = torch.no_grad()
    if total is None:
        total = image_count(loader)
    frozen = contributions is not None
    with placed(model, where, memory_format) as put, evaluating(model, frozen=frozen), mode:
        with cast:
            trace = find_sites(model, put(first), output=output)
        reader = ScoreReader(trace.select(layers), norm=norm, normalisation=normalisation)
        info = {"norm": norm, "normalisation": normalisation, "image_shape": list(trace.image_shape), "skipped": []}
        writer: _Memory | ScoreWriter = _Memory(reader.channels, trace.n_outputs, info)
        if out is not None:
            writer = ScoreWriter(out, reader.channels, trace.n_outputs, key=key, info=info)
        if contributions is not None:
            with cast:
                contributions.open(model, trace, reader.sites, put(first), output)
            contributions.resume(writer.rows)
        intake = _Intake(writer, trace.n_outputs, gram, contributions)
        if writer.complete:
            return writer.finish()
        fresh = fresh_rows(
            batches,
            begin,
            Labels(trace.n_outputs, classes=names),
            rows=writer.rows,
            skipped=len(writer.info["skipped"]),
            fingerprint=known_fingerprint(writer.info),
            track=out is not None,
            **keys,
            prepare=prepare,
            positions=indices,
        )

        def score(batch: Fresh) -> tuple[Tensor, Tensor]:
            if contributions is None:
                logits = forward_logits(model, batch.images, output, put)
            else:
                logits = contributions.logits(batch.images, batch.labels, batch.indices, put, known=batch.known)
            return reader.take(), predicted(logits)

        with (
            progress_bar("Collecting scores", total, done=done, enabled=progress) as advance,
            instrument(model, Instrument(reads=reader.reads)),
            cast,
        ):
            launched = _launched(score, fresh)
            # One behind: while a GPU works on a batch, the rows of the one before are taken in.
            for rows, ahead in pairwise(chain(launched, [_NO_ROWS])):
                intake.take_in(rows, ahead.n, reader.channels)
                advance(rows.n + len(rows.skipped))
        intake.commit()
    return writer.finish()


class _Rows(NamedTuple):
    """What one batch adds."""

    n: int
    arrays: tuple[Tensor, ...]  # scores, labels, predictions and indices on any device; none for no rows
    fingerprint: int
    skipped: list[Any]
    end: int  # counts the images of the data set up to there


_NO_ROWS = _Rows(0, (), 0, [], 0)


def _launched(score: Callable[[Fresh], tuple[Tensor, Tensor]], batches: Iterable[Fresh]) -> Iterator[_Rows]:
    """Yield the rows that each batch adds; on a GPU they are still being computed."""
    for batch in batches:
        n = len(batch.images) - batch.known
        arrays: tuple[Tensor, ...] = ()
        if n:
            scores, predictions = score(batch)
            arrays = (scores[batch.known :], batch.labels, predictions[batch.known :], batch.indices)
        yield _Rows(n, arrays, batch.fingerprint, batch.skipped, batch.end)


class _Memory:
    """The same as :class:`ScoreWriter`, kept in memory."""

    consumed = 0
    rows = 0
    complete = False

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

    def __init__(
        self,
        writer: _Memory | ScoreWriter,
        n_classes: int,
        gram: GramAccumulator | None,
        contributions: Companion | None,
    ) -> None:
        self._writer = writer
        self._contributions = contributions
        self._rows = writer.rows
        self._n_classes = n_classes
        self._gram = gram
        self._end = writer.consumed
        self._batch = 0
        # Of all rows, so that a later run can tell whether it reads the same images; unknown where an earlier version
        # wrote the first of them.
        known = known_fingerprint(writer.info)
        self._tracked = isinstance(writer, ScoreWriter) and (known is not None or not writer.rows)
        self._fingerprint = known or "0"
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
            check_predicted(predictions, indices, batch=self._batch)
            self._blocks.append((X, labels, predictions, indices))
        self._writer.info["skipped"].extend(list(image) for image in rows.skipped)
        self._fingerprint = added(self._fingerprint, rows.fingerprint)
        self._waiting += rows.n
        self._batch += 1
        self._end = rows.end  # skipped images included, so that no later run reads them again
        late = time.monotonic() - self._since > _COMMIT_SECONDS
        if late or self._waiting + ahead >= _COMMIT_ROWS:  # the rows ahead are in memory already
            self.commit()

    def commit(self) -> None:
        """Hand on what was taken in, so that it survives an interruption."""
        if self._blocks:
            X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._blocks, strict=True))
            self._writer.append(X, labels, predictions, indices)
            self._rows += len(X)
            self._sum(X, labels)
        # Before the rows count: what was committed twice is taken once, what is missing is lost.
        if self._contributions is not None:
            self._contributions.commit(self._rows)
        if self._tracked:
            self._writer.info["fingerprint"] = self._fingerprint
        self._writer.commit(self._end)
        self._clear()

    def _sum(self, X: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        if self._gram is not None:
            add_rows(self._gram, X, labels, self._n_classes)


def add_rows(gram: GramAccumulator, X: npt.NDArray[Any], labels: npt.NDArray[Any], n_classes: int) -> None:
    """Add rows of scores with their labels, class numbers or targets, to the sums of a collection."""
    # With class numbers themselves the sums would round differently from those of a table; with thousands of classes,
    # though, their matrix would take more memory than the scores.
    if labels.ndim == 1 and n_classes <= _MOST_DENSE_CLASSES:
        labels = one_hot(labels, n_classes)
    gram.add(X, labels)
