"""Passes over labelled images, each with a list of removed channels for every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.ablation._checkpoint import Measured
from interpnet.engine import (
    Instrument,
    Output,
    Removal,
    Site,
    check_predicted,
    find_sites,
    forward,
    forward_logits,
    instrument,
    predicted,
)
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import Loader, RepeatedLoader, sites_of
from interpnet.support.types import Bools, Float64, Int64

Lists = Sequence[Int64]
# Batches up to this many bytes are kept: reading images in dozens of passes would take longer than the network does.
_KEEP_BYTES = 1 << 30
# Pairs of classes that are counted at a time.
_BLOCK_CELLS = 1 << 18


class Passes:
    """Passes over the images of ``loader``; ``put`` moves them to where ``model`` is."""

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        interpretation: Interpretation,
        *,
        put: Callable[[Tensor], Tensor],
        output: Output | None,
        seed: int,
        measured: Measured | None = None,
        inputs: str | None = None,
        labels: str | None = None,
    ) -> None:
        self._measured = measured or Measured()
        self._model = model
        self._put = put
        self._output = output
        self.C = len(interpretation.classes)
        self._batches = RepeatedLoader(
            loader, self.C, keep=_KEEP_BYTES, use="the ablation", inputs=inputs, labels=labels
        )
        # The network is traced on real images.
        trace = find_sites(model, put(self._batches.first_images), output=output)
        if trace.n_outputs != self.C:
            raise InterpNetError(
                f"the model has {trace.n_outputs} outputs and the interpretation {self.C} classes; "
                "was it made from another model?"
            )
        self.sites = sites_of(trace, interpretation.channels)
        self._removal = Removal(self.sites)
        for _ in self._batches:
            pass
        self.labels = self._batches.labels
        self.n = len(self.labels)
        self.support = np.bincount(self.labels, minlength=self.C)
        self.foreign = _foreign_classes(self.labels, self.C, seed)

    def fill_with_means(self) -> None:
        """Overwrite removed maps with each channel's mean activation instead of zero."""
        sums = {site.name: torch.zeros(site.channels, dtype=torch.float64) for site in self.sites}

        def read(site: Site, out: Tensor) -> None:
            means = out.float()
            axes = [a for a in range(1, out.dim()) if a != site.axis]
            if axes:  # without axes, mean() would average everything
                means = means.mean(axes)
            sums[site.name] += means.sum(0).double().cpu()  # float64, for there may be many batches

        with instrument(self._model, Instrument(reads={site.name: partial(read, site) for site in self.sites})):
            for images, _ in self._batches:
                forward(self._model, images, self._put)
        self._removal = Removal(self.sites, torch.cat([sums[site.name] for site in self.sites]).float() / self.n)

    def predictions(self, lists: Lists | None, classes: Int64) -> Int64:
        """Return each image's prediction with ``lists[classes[image]]`` removed."""
        results = []
        start = 0
        when = ""
        if lists and any(map(len, lists)):
            when = " with channels removed"
        lists = lists or [np.zeros(0, dtype=np.int64)] * self.C
        with instrument(self._model, Instrument(edits=self._removal.edits)):
            for batch, (images, _) in enumerate(self._batches):
                n = images.shape[0]
                self._removal.set([lists[c] for c in classes[start : start + n]])
                logits = forward_logits(self._model, images, self._output, self._put)
                results.append(predicted(logits).cpu().numpy())
                check_predicted(results[-1], range(start, start + n), batch=batch, when=when)
                start += n
        return np.concatenate(results)

    def own(self, lists: Lists | None) -> Float64:
        """Return each class's recall with its own list removed (C,); NaN for a class without images."""

        def measure() -> Float64:
            right = self.predictions(lists, self.labels) == self.labels
            hits = np.bincount(self.labels, weights=right, minlength=self.C)
            return _ratio(hits, self.support)

        return self._measured.get("own", lists, measure)

    def others(self, lists: Lists) -> Float64:
        """Return for each class j the mean recall of the other classes with j's list removed (C,)."""

        def measure() -> Float64:
            right = self.predictions(lists, self.foreign) == self.labels
            return mean_recall_of_others(self.foreign, self.labels, right, self.C)

        return self._measured.get("others", lists, measure)


def _foreign_classes(labels: Int64, n_classes: int, seed: int) -> Int64:
    """Return which other class's channels each image loses in the second pass: docs/method.md, section 6.1."""
    rng = np.random.default_rng([seed, 1])
    # A stable sort, so that each class's images stand in their own order.
    images = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=n_classes))[:-1])
    classes = np.arange(n_classes)
    foreign = np.zeros(len(labels), dtype=np.int64)
    # Also for a class without images, so that the draws of the classes after it do not depend on it; after the last
    # class with images nothing depends on them.
    for c in range(int(labels.max()) + 1):
        rows = rng.permutation(images[c])
        others = rng.permutation(np.delete(classes, c))
        # Spread evenly over the other classes; a single class has none.
        if len(others):
            foreign[rows] = np.resize(others, len(rows))
    return foreign


def mean_recall_of_others(foreign: Int64, labels: Int64, right: Bools, n_classes: int) -> Float64:
    """Return for each class j the mean, over the other classes, of their recall where j's list was removed (C,).

    ``foreign`` (N,) is the class whose list each image lost and ``labels`` (N,) its own; NaN for a class whose list no
    image of another class lost. Memory and time grow with the pairs of classes that occur, not with C^2.
    """
    means = np.full(n_classes, np.nan)
    # A single class is its own foreign one.
    taken = foreign != labels
    removed, row = np.unique(foreign[taken], return_inverse=True)
    own = labels[taken]
    hit = right[taken].astype(np.float64)
    order = np.argsort(row, kind="stable")
    per_block = max(1, _BLOCK_CELLS // n_classes)
    for start in range(0, len(removed), per_block):
        count = min(per_block, len(removed) - start)
        lo, hi = np.searchsorted(row[order], [start, start + count])
        here = order[lo:hi]
        at = (row[here] - start) * n_classes + own[here]
        hits = np.bincount(at, weights=hit[here], minlength=count * n_classes).reshape(count, n_classes)
        images = np.bincount(at, minlength=count * n_classes).reshape(count, n_classes)
        # A class without images counts for nothing.
        known = images > 0
        recalls = _ratio(hits, images)
        means[removed[start : start + count]] = _ratio(np.where(known, recalls, 0.0).sum(1), known.sum(1))
    return means


def _ratio(hits: Any, count: Any) -> Float64:
    shares: Float64 = np.divide(hits, count, out=np.full(np.shape(hits), np.nan), where=count > 0)
    return shares
