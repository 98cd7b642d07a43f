"""Summing contributions over the images of each class while a network runs, alone or beside the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    OUTPUTS,
    Instrument,
    Output,
    Removal,
    Site,
    Trace,
    check_predicted,
    forward_logits,
    instrument,
    log_odds,
    predicted,
)
from interpnet.errors import DataError, InterpNetError
from interpnet.reliance._contributions import Contributions
from interpnet.reliance._probe import probe
from interpnet.reliance._reader import ContributionReader, as_rows
from interpnet.support.checks import (
    check_kinds,
    distinct_names,
    listed,
    one_of,
    optional,
    real_array,
    whole_number,
    whole_numbers,
)
from interpnet.support.types import Float64, Int64

TARGETS = ("labels", "predictions")
Fill = Any  # "zero", "mean", or an array (m,)


class _Pending(NamedTuple):
    """What one backward pass gave; on a GPU it may still be being computed."""

    indices: Int64  # (n,): the images' positions in the data set
    classes: Int64  # (n,)
    batch: int
    predictions: Tensor  # (n,)
    margins: Tensor  # (n,)
    activation: Tensor  # (n, m)
    gradient: Tensor | None


class ContributionSums:
    """Sum the contributions of every channel to the log-odds of each image's own class.

    Parameters
    ----------
    fill, images, outputs, targets, classes, removed
        See :func:`collect_contributions`.
    """

    def __init__(
        self,
        *,
        fill: Fill = "zero",
        images: int | None = 500,
        outputs: str = "exclusive",
        targets: str = "labels",
        classes: Sequence[str] | None = None,
        removed: Sequence[Sequence[int]] | None = None,
    ) -> None:
        check_kinds(ContributionSums.__init__, locals(), but=["fill", "removed", "classes"])
        optional(whole_number, images, "images", least=1)
        self.outputs = one_of(outputs, "outputs", OUTPUTS)
        self.targets = one_of(targets, "targets", TARGETS)
        self.removes = removed is not None
        self._images = images
        self._names = optional(distinct_names, classes, "classes")
        self._removed = optional(listed, removed, "removed")
        self._fill = "given"
        self._level: Float64 | None = None
        if isinstance(fill, str):
            self._fill = one_of(fill, "fill", ("zero", "mean"))
        else:
            self._level = real_array(fill, "fill").astype(np.float64)
            if not np.isfinite(self._level).all():
                raise InterpNetError("fill holds NaN or infinity; every reference must be finite")
        if self.removes and self._fill == "mean":
            raise InterpNetError(
                "fill='mean' is known only when the pass ends, and removed channels are overwritten with it; pass "
                "fill=contributions.reference of an earlier pass"
            )

    def open(self, model: nn.Module, trace: Trace, sites: Sequence[Site], first: Tensor, output: Output | None) -> None:
        """Make ready for the images of one pass; ``first`` are some of them, on the model's device.

        The model is in evaluation mode and its parameters take no gradient.
        """
        self._model = model
        self._output = output
        self._reader = ContributionReader(sites, gradients=self._fill != "zero")
        self._check(trace)
        probe(model, self._reader, first, output, self.outputs)
        m = len(self._reader.channels)
        self._info: dict[str, Any] = {
            "image_shape": list(trace.image_shape),
            "outputs": self.outputs,
            "targets": self.targets,
        }
        if any(map(len, self._lists)):
            self._info["removed"] = [[int(c) for c in columns] for columns in self._lists]
        self._counts = np.zeros(trace.n_outputs, dtype=np.int64)
        self._taken = np.zeros(trace.n_outputs, dtype=np.int64)  # those on their way included
        self._margins = np.zeros(trace.n_outputs)
        self._rows: dict[int, Float64] = {}  # (moments, m) of each class with images
        self._means = np.zeros(m)
        self._seen = 0
        self._batch = 0
        self._waiting: list[_Pending] = []

    def _check(self, trace: Trace) -> None:
        """Check names, reference and lists against the network's outputs and channels."""
        m = len(self._reader.channels)
        C = trace.n_outputs
        if self._names is not None and len(self._names) != C:
            raise InterpNetError(f"classes has {len(self._names)} names; the model has {C} outputs")
        if self._level is not None and self._level.shape != (m,):
            raise InterpNetError(f"fill has shape {self._level.shape}; expected ({m},): one reference for each channel")
        self._lists = [np.zeros(0, dtype=np.int64)] * C
        if self._removed is not None:
            if len(self._removed) != C:
                raise InterpNetError(f"removed has {len(self._removed)} lists; the model has {C} outputs")
            self._lists = [whole_numbers(columns, "removed") for columns in self._removed]
        for columns in self._lists:
            if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < m:
                raise InterpNetError(
                    f"removed reaches from {columns.min()} to {columns.max()}; expected columns from 0 to {m - 1}"
                )
        level = np.zeros(m) if self._level is None else self._level
        self._removal = Removal(self._reader.sites, torch.from_numpy(level))

    def logits(
        self,
        images: Tensor,
        labels: Tensor | None,
        indices: Tensor,
        put: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Run one batch forward, and backward where contributions of some of its images are wanted.

        ``labels`` are class numbers (B,) or targets (B, C); an image belongs to the classes with a target above 0.5.
        """
        self._batch += 1
        self._seen += len(images)
        pairs = None
        if self.targets == "labels" and labels is not None:
            pairs = self._wanted(_pairs(labels))
        if self.removes:
            return self._logits_without(images, pairs, indices, put)
        if pairs is not None and not len(pairs):
            with torch.no_grad():
                return self._forward(images, put)
        with torch.inference_mode(False), torch.enable_grad():
            logits = self._pass(images, put)
            if pairs is None:
                pairs = self._wanted(self._predicted(logits))
            self._send_back(logits, pairs, indices)
        return logits.detach()

    def add(self, images: Tensor, labels: Tensor | None, indices: Tensor, put: Callable[[Tensor], Tensor]) -> None:
        """Sum one batch of which nothing else is wanted: the same as :meth:`logits`, on the images that count."""
        if self.targets == "predictions" or labels is None or self._fill == "mean":
            self.logits(images, labels, indices, put)
            return
        taken = self._taken.copy()
        rows = torch.from_numpy(np.unique(self._wanted(_pairs(labels))[:, 0]))
        self._taken = taken
        self._seen += len(images) - len(rows)
        if len(rows):
            self.logits(images[rows], labels[rows], indices[rows], put)

    def _logits_without(
        self, images: Tensor, pairs: Int64 | None, indices: Tensor, put: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Run a batch with each image's class's channels removed: once for every class that an image has."""
        if pairs is None:
            with torch.no_grad():
                pairs = self._wanted(self._predicted(self._forward(images, put)))
        logits = None
        for part in _rounds(pairs):
            lists = [np.zeros(0, dtype=np.int64)] * len(images)
            for row, cls in part:
                lists[row] = self._lists[cls]
            self._removal.set(lists)
            with torch.inference_mode(False), torch.enable_grad():
                with instrument(self._model, Instrument(edits=self._removal.edits)):
                    logits = self._pass(images, put)
                self._send_back(logits, part, indices)
        return torch.zeros(0) if logits is None else logits.detach()

    def _pass(self, images: Tensor, put: Callable[[Tensor], Tensor]) -> Tensor:
        """Run a batch with gradients recorded from the sites on."""
        self._reader.clear()
        with instrument(self._model, Instrument(reads=self._reader.reads, edits=self._reader.edits)):
            return self._forward(images, put)

    def _forward(self, images: Tensor, put: Callable[[Tensor], Tensor]) -> Tensor:
        if self._fill != "mean":
            return forward_logits(self._model, images, self._output, put)
        reads = {site.name: partial(self._add_means, site) for site in self._reader.sites}
        with instrument(self._model, Instrument(reads=reads)):
            return forward_logits(self._model, images, self._output, put)

    def _add_means(self, site: Site, out: Tensor) -> None:
        means = out.detach().to(torch.promote_types(out.dtype, torch.float32))
        axes = [a for a in range(1, out.dim()) if a != site.axis]
        # Without axes, mean() would average everything.
        if axes:
            means = means.mean(axes)
        self._means[self._reader.channels.slice(site.name)] += as_rows(means).sum(0)

    def _predicted(self, logits: Tensor) -> Int64:
        """Return the pairs of an image and a class that the network predicts."""
        if self.outputs == "independent":
            return torch.nonzero(logits > 0).cpu().numpy()
        classes = predicted(logits).clamp(min=0)
        return _pairs(classes.cpu())

    def _wanted(self, pairs: Int64) -> Int64:
        """Return the pairs of an image and a class (n, 2) of which contributions are still wanted, and note them."""
        if self.outputs == "exclusive" and len(pairs) and np.bincount(pairs[:, 0]).max() > 1:
            raise DataError(
                "an image has several classes, and outputs='exclusive' compares each class with all others; pass "
                "outputs='independent'"
            )
        wanted = np.ones(len(pairs), dtype=bool)
        for i, (_, cls) in enumerate(pairs):
            wanted[i] = self._images is None or self._taken[cls] < self._images
            self._taken[cls] += wanted[i]
        return pairs[wanted]

    def _send_back(self, logits: Tensor, pairs: Int64, indices: Tensor) -> None:
        """Run a backward pass for every round of classes, and take in what the batch before gave."""
        due = self._waiting
        self._waiting = []
        rounds = _rounds(pairs)
        for i, part in enumerate(rounds):
            rows = torch.from_numpy(part[:, 0])
            chosen = logits[rows.to(logits.device)]
            margins = log_odds(chosen, torch.from_numpy(part[:, 1]), outputs=self.outputs)
            products = self._reader.take(margins, keep=i + 1 < len(rounds))
            here = rows.to(products.activation.device)
            gradient = None
            if products.gradient is not None:
                gradient = products.gradient[here]
            self._waiting.append(
                _Pending(
                    indices=indices[rows].cpu().numpy(),
                    classes=part[:, 1],
                    batch=self._batch - 1,
                    predictions=predicted(chosen.detach()),
                    margins=margins.detach(),
                    activation=products.activation[here],
                    gradient=gradient,
                )
            )
        # One behind: a GPU works on a batch while the sums of the one before are taken in.
        self._take_in(due)

    def _take_in(self, parts: Sequence[_Pending]) -> None:
        for part in parts:
            when = " with channels removed" if self.removes else ""
            check_predicted(part.predictions.cpu(), part.indices, batch=part.batch, when=when)
            P = as_rows(part.activation)
            G = np.zeros_like(P)
            if part.gradient is not None:
                G = as_rows(part.gradient)
            self._check_finite(P + G, part.indices)
            if self._level is not None:
                P = P - self._level * G
            # Rounding must not make something of channels that hold their reference.
            for row, cls in enumerate(part.classes):
                P[row, self._lists[cls]] = 0.0
            moments = [P, P * P]
            if self._fill == "mean":
                moments += [G, P * G, G * G]
            margins = as_rows(part.margins)
            for cls in np.unique(part.classes):
                mine = part.classes == cls
                sums = np.stack([moment[mine].sum(0) for moment in moments])
                self._rows[int(cls)] = self._rows.get(int(cls), 0.0) + sums
                self._counts[cls] += mine.sum()
                self._margins[cls] += margins[mine].sum()

    def _check_finite(self, values: Float64, indices: Int64) -> None:
        bad = ~np.isfinite(values)
        if not bad.any():
            return
        row = int(bad.any(1).argmax())
        # Gradients come from behind, so the last channel is the nearest to where they went wrong.
        column = int(np.flatnonzero(bad[row])[-1])
        raise DataError(
            f"the gradient of image {int(indices[row])} is NaN or infinite at layer "
            f"{self._reader.channels[column].layer!r}, or its map is; look at that image and its normalisation, or at "
            "operators behind that layer whose derivative is not finite there (a root or a logarithm of zero; float16 "
            "overflows)"
        )

    def result(self) -> Contributions:
        """Return the contributions of the images so far."""
        due = self._waiting
        self._waiting = []
        self._take_in(due)
        channels = self._reader.channels
        C = len(self._counts)
        names = tuple(map(str, range(C))) if self._names is None else self._names
        moments = np.zeros((2, 0, len(channels)))
        if self._rows:
            moments = np.stack([self._rows[cls] for cls in sorted(self._rows)], 1)
        elif self._fill == "mean":
            moments = np.zeros((5, 0, len(channels)))
        level = self._means
        if self._level is not None:
            level = self._level
        return Contributions(
            channels, names, self._counts.copy(), self._margins.copy(), moments, level.copy(), self._fill, self._seen,
            dict(self._info),
        )  # fmt: skip


def _pairs(labels: Tensor) -> Int64:
    """Return the pairs of an image of the batch and a class that it has (n, 2)."""
    if labels.dim() == 2:
        return np.argwhere(labels.cpu().numpy() > 0.5)
    numbers = labels.cpu().numpy().astype(np.int64)
    return np.stack([np.arange(len(numbers)), numbers], 1)


def _rounds(pairs: Int64) -> list[Int64]:
    """Return pairs so sorted that no image stands twice in a round: its first class, its second, ..."""
    if not len(pairs):
        return []
    rows = pairs[:, 0]
    # The pairs are sorted by image.
    first = np.searchsorted(rows, rows)
    nth = np.arange(len(rows)) - first
    return [pairs[nth == n] for n in range(int(nth.max()) + 1)]
