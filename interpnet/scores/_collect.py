"""Scores: one pass over a data set, one number for every channel of every image.

For image i and channel c of layer l with activation map A, ``s = ||A||_2``; within each layer the
scores are divided by their sum. Source: Oramas, Wang & Tuytelaars, "Visual Explanation by
Interpretation", ICLR 2019, section 3.1; their released code squares the norm (``norm="l2sq"``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    ChannelIndex,
    Instrument,
    Layers,
    Output,
    Site,
    channel_index,
    check_images,
    evaluating,
    find_sites,
    instrument,
    logits_of,
    placed,
    resolve_device,
    to_device,
    unwrap,
)
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError, RunFolderError
from interpnet.gram import GramAccumulator, one_hot
from interpnet.scores._norms import channel_norms
from interpnet.scores._table import ScoreTable, ScoreWriter
from interpnet.support.io import read_json
from interpnet.support.progress import progress_bar

Loader = Iterable[Any] | Callable[[int], Iterable[Any]]
NORMS = ("l2", "l2sq")
NORMALISATIONS = ("layer", "size", "none")
_COMMIT_ROWS = 2048
_COMMIT_SECONDS = 20.0


class ScoreReader:
    """Read the scores of a batch at given sites while the network runs.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).eval()
    >>> images = torch.ones(1, 1, 3, 3)
    >>> reader = ScoreReader(find_sites(net, images).select())
    >>> with instrument(net, Instrument(reads=reader.reads)):
    ...     _ = net(images)
    >>> reader.take().shape
    torch.Size([1, 2])
    """

    def __init__(self, sites: Sequence[Site], *, norm: str = "l2", normalisation: str = "layer") -> None:
        _one_of("norm", norm, NORMS)
        _one_of("normalisation", normalisation, NORMALISATIONS)
        self.sites = tuple(sites)
        self.channels = channel_index(self.sites)
        self.reads = {s.name: self._reader(i, s) for i, s in enumerate(self.sites)}
        self._squared = norm == "l2sq"
        self._normalisation = normalisation
        self._parts: list[Tensor | None] = [None] * len(self.sites)

    def _reader(self, position: int, site: Site) -> Callable[[Tensor], None]:
        axis = site.axis
        if axis is None:
            raise LayerError(f"layer {site.name!r} cannot be scored: {site.why}")

        def read(out: Tensor) -> None:
            if out.shape[axis] != site.channels:
                raise ModelError(
                    f"layer {site.name!r} had {site.channels} channels when it was traced and has "
                    f"{out.shape[axis]} now; a network whose shape depends on its input cannot be scored"
                )
            s = channel_norms(out, axis, squared=self._squared)
            if self._normalisation == "size":
                positions = out[0].numel() // out.shape[axis]
                s /= positions if self._squared else positions**0.5
            self._parts[position] = s

        return read

    def take(self) -> Tensor:
        """Return the (B, m) scores of the forward pass that just ran."""
        missing = [s.name for s, part in zip(self.sites, self._parts, strict=True) if part is None]
        if missing:
            raise ModelError(
                f"layers {missing[:4]} did not run in this forward pass; a network whose path depends on its "
                "input cannot be scored"
            )
        parts = [part for part in self._parts if part is not None]
        self._parts = [None] * len(self.sites)
        if self._normalisation != "layer":
            return torch.cat(parts, 1)
        sums = torch.stack([part.sum(1) for part in parts], 1)
        # A layer of zeros keeps its zeros; a NaN stays a NaN and is reported.
        sums = torch.where(sums == 0, torch.ones_like(sums), sums)
        return torch.cat([part / sums[:, i : i + 1] for i, part in enumerate(parts)], 1)


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InterpNetError(f"{name}={value!r}; expected one of {', '.join(map(repr, known))}")


def unpack(batch: Any) -> tuple[Tensor, Tensor | None, Tensor | None, list[Any]]:
    """Return (images, labels, indices, skipped) of what a loader yields.

    A batch is a tensor of images, or a sequence (images, labels[, indices[, skipped]]).
    """
    if isinstance(batch, Tensor):
        return check_images(batch), None, None, []
    if not isinstance(batch, tuple | list) or not batch:
        raise DataError(
            f"the loader yielded a {type(batch).__name__}; expected (images, labels) batches as a torch DataLoader "
            "gives them"
        )
    images, *rest = batch
    labels = torch.as_tensor(rest[0]) if rest and rest[0] is not None else None
    indices = torch.as_tensor(rest[1]) if len(rest) > 1 and rest[1] is not None else None
    skipped = list(rest[2]) if len(rest) > 2 else []
    if isinstance(images, Tensor) and images.shape[:1] == (0,) and skipped:
        return images, labels, indices, skipped
    return check_images(images), labels, indices, skipped


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
    """Collect the scores of every channel for every image in one pass.

    ``x[i] = concat over layers of s / sum(s)`` with ``s_c = ||A_c||_2`` (METHOD section 1; an all-zero
    layer gives zeros). No feature map is kept: each is reduced where it is made.

    Parameters
    ----------
    model : nn.Module
        Left as it was: mode, parameters, device, hooks.
    loader : iterable of batches, or function
        Batches are (images, labels) with images (B, C, H, W) as the model wants them and labels (B,)
        class numbers or a (B, classes) target. A function ``start -> iterable`` lets an interrupted
        collection go on without reading the first ``start`` images again.
    layers : str, module, or iterable
        See :meth:`interpnet.engine.Trace.select`.
    norm : {"l2", "l2sq"}
        The paper's norm, or the released code's sum of squares.
    normalisation : {"layer", "size", "none"}
        L1 within each layer (the paper); the map's size h x w alone, which makes ``s`` the root of the mean square
        over positions (``l2sq``: the mean square); or none.
    device : optional
        Default: where the model is.
    out : folder, optional
        Write X there as it grows (float32, memory-mapped on return). An interrupted collection with the
        same ``key`` goes on at the last committed chunk. Without it X is kept in memory.
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
        Receives every row, so that the float64 Gram matrices are there when the pass ends; without it
        :meth:`ScoreTable.gram` sums them from X afterwards.
    total : int, optional
        Number of images, for the bar, where the loader cannot tell.

    Returns
    -------
    ScoreTable

    Raises
    ------
    DataError
        No image; a label outside the classes; NaN or infinite activations (the layer and image named).
    ModelError, LayerError
        See :func:`interpnet.engine.find_sites`.
    RunFolderError
        The folder belongs to another collection, or cannot be written.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> collect_scores(net, batches, progress=False).X.shape
    (8, 4)
    """
    model = unwrap(model)
    where = resolve_device(device, model)
    start, batches = _open_loader(loader, out)
    first, batches = _peek(batches)
    with placed(model, where, memory_format) as last, evaluating(model), torch.inference_mode():
        cast = torch.autocast(where.type, autocast) if autocast is not None else contextlib.nullcontext()
        images = to_device(first, where, channels_last=last)
        with cast:
            trace = find_sites(model, images, output=output)
        reader = ScoreReader(trace.select(layers), norm=norm, normalisation=normalisation)
        info = {"norm": norm, "normalisation": normalisation, "image_shape": list(trace.image_shape), "skipped": []}
        sink = (
            _Memory(reader.channels, trace.n_outputs, info)
            if out is None
            else ScoreWriter(out, reader.channels, trace.n_outputs, key=key, info=info)
        )
        if gram is not None and isinstance(sink, ScoreWriter):
            for X, labels in sink.committed():
                gram.add(X, labels if labels.ndim == 2 else one_hot(labels, trace.n_outputs))
        total = total if total is not None else _length(loader)
        run = _Pass(model, reader, sink, where, trace.n_outputs, output, gram)
        with (
            progress_bar("Collecting scores", total, enabled=progress) as advance,
            instrument(model, Instrument(reads=reader.reads)),
            cast,
        ):
            advance(start)
            run.over(batches, start, sink.consumed, advance, channels_last=last)
    return sink.finish()


def _open_loader(loader: Loader, out: str | os.PathLike[str] | None) -> tuple[int, Iterable[Any]]:
    """Return (first image, batches); a function is asked for the batches after what is committed."""
    if not callable(loader):
        return 0, loader
    start = 0
    if out is not None:
        with contextlib.suppress(RunFolderError):
            start = int(read_json(Path(out) / "state.json")["consumed"])
    return start, loader(start)


def _peek(batches: Iterable[Any]) -> tuple[Tensor, Iterator[Any]]:
    """Return the first images and the batches with that one put back."""
    iterator = iter(batches)
    before: list[Any] = []
    for batch in iterator:
        before.append(batch)
        images = unpack(batch)[0]
        if images.shape[0]:
            return images, chain(before, iterator)
    raise DataError("the loader yielded no image; expected at least one (images, labels) batch")


def _length(loader: Loader) -> int | None:
    n = getattr(loader, "n_images", None)
    if isinstance(n, int):
        return n
    data = getattr(loader, "dataset", None)
    return len(data) if isinstance(data, Sized) else None


class _Memory:
    """The same as :class:`ScoreWriter`, kept in memory."""

    def __init__(self, channels: ChannelIndex, n_classes: int, info: dict[str, Any]) -> None:
        self.consumed, self.info = 0, info
        self._channels, self._n_classes = channels, n_classes
        self._parts: list[tuple[Any, ...]] = []

    def append(self, *arrays: Any) -> None:
        if self._parts and arrays[1].ndim != self._parts[0][1].ndim:
            raise DataError("labels changed between batches from class numbers to a target matrix or back")
        self._parts.append(arrays)

    def commit(self, consumed: int) -> None:
        self.consumed = consumed

    def finish(self) -> ScoreTable:
        X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._parts, strict=True))
        return ScoreTable(X, labels, predictions, self._channels, indices, self._n_classes, self.info)


class _Pass:
    """The loop itself: launch a batch, and take in the one before while it runs."""

    def __init__(
        self,
        model: nn.Module,
        reader: ScoreReader,
        sink: _Memory | ScoreWriter,
        device: torch.device,
        n_classes: int,
        output: Output | None,
        sums: GramAccumulator | None,
    ) -> None:
        self.model, self.reader, self.sink, self.device = model, reader, sink, device
        self.n_classes, self.output, self.sums = n_classes, output, sums
        self._rows: list[tuple[Any, ...]] = []
        self._skipped: list[Any] = []

    def over(
        self, batches: Iterable[Any], position: int, done: int, advance: Callable[[int], None], *, channels_last: bool
    ) -> None:
        waiting: tuple[Any, ...] | None = None
        pending, clock = 0, time.monotonic()
        for batch in batches:
            images, labels, indices, skipped = unpack(batch)
            n, here = images.shape[0], position
            position += n + len(skipped)
            if position <= done:  # committed by an earlier run, and the loader could not start later
                continue
            launched = None
            if n:
                result = self.model(to_device(images, self.device, channels_last=channels_last))
                logits = logits_of(result, n, self.output)
                x = self.reader.take()
                at = torch.arange(here, here + n) if indices is None else indices
                launched = (x, logits.argmax(1), _checked_labels(labels, n, self.n_classes, at), at, skipped)
            elif skipped:
                self._skipped.extend(skipped)
            if waiting is not None:
                self._take_in(*waiting)
            waiting, before = launched, here
            pending += n
            advance(n + len(skipped))
            if pending >= _COMMIT_ROWS or time.monotonic() - clock > _COMMIT_SECONDS:
                self._flush(before if launched is not None else position)
                pending, clock = n if launched is not None else 0, time.monotonic()
        if waiting is not None:
            self._take_in(*waiting)
        self._flush(position)

    def _take_in(self, x: Tensor, predictions: Tensor, labels: Tensor, indices: Tensor, skipped: list[Any]) -> None:
        X = x.cpu().float().numpy()
        if not np.isfinite(X).all():
            row, column = (int(v) for v in np.argwhere(~np.isfinite(X))[0])
            channel = self.reader.channels[column]
            raise DataError(
                f"image {int(indices[row])} makes NaN or infinite activations in layer {channel.layer!r}; look at that "
                "image and its normalisation, or at weights that overflow (float16 or autocast?)"
            )
        self._skipped.extend(skipped)
        self._rows.append((X, labels.cpu().numpy(), predictions.cpu().numpy(), indices.cpu().numpy()))

    def _flush(self, consumed: int) -> None:
        """Commit what was taken in; ``consumed`` counts the images up to there."""
        if self._rows:
            X, labels, predictions, indices = (np.concatenate(a) for a in zip(*self._rows, strict=True))
            self._rows = []
            self.sink.append(X, labels, predictions, indices)
            if self.sums is not None:
                self.sums.add(X, labels if labels.ndim == 2 else one_hot(labels, self.n_classes))
        self.sink.info["skipped"].extend([list(s) for s in self._skipped])
        self._skipped = []
        self.sink.commit(consumed)


def _checked_labels(labels: Tensor | None, n: int, n_classes: int, indices: Tensor) -> Tensor:
    if labels is None:
        raise DataError("the loader yields no labels; expected (images, labels) batches")
    if labels.shape[0] != n:
        raise DataError(f"a batch has {n} images and {labels.shape[0]} labels; expected one label an image")
    if labels.dim() == 2:
        if labels.shape[1] != n_classes:
            raise DataError(f"targets have {labels.shape[1]} columns; the model has {n_classes} outputs")
        return labels.float()
    if labels.dim() != 1 or labels.is_floating_point():
        raise DataError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} came; expected (B,) class numbers or "
            f"a (B, {n_classes}) target"
        )
    outside = (labels < 0) | (labels >= n_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"image {int(indices[row])} has label {int(labels[row])}; the model has {n_classes} outputs, so labels "
            f"must lie in 0..{n_classes - 1}. Are the classes numbered as in training?"
        )
    return labels.long()
