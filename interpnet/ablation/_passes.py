"""Passes over labelled images, each with a list of removed channels for every image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._removal import Removal
from interpnet.engine import Instrument, Output, Site, find_sites, instrument, logits_of
from interpnet.errors import DataError, InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import sites_of, unpack
from interpnet.support.types import Float64, Int64

Lists = Sequence[Int64]
# Batches up to this many bytes are kept: reading images in dozens of passes would take longer than the network does.
_KEEP_BYTES = 1 << 30


class Passes:
    """Passes over the images of ``loader``; ``put`` moves them to where ``model`` is."""

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        interpretation: Interpretation,
        *,
        put: Callable[[Tensor], Tensor],
        output: Output | None,
        seed: int,
        measured: Measured | None = None,
    ) -> None:
        self._measured = measured or Measured()
        self._model = model
        self._loader = loader
        self._put = put
        self._output = output
        self._kept: list[tuple[Tensor, Tensor]] | None = None
        self.C = len(interpretation.classes)
        first = next(self._batches(), None)  # the network is traced on real images
        if first is None:
            raise DataError("the loader yielded no image; the ablation needs labelled images")
        trace = find_sites(model, put(first[0]), output=output)
        if trace.n_outputs != self.C:
            raise InterpNetError(
                f"the model has {trace.n_outputs} outputs and the interpretation {self.C} classes; "
                "was it made from another model?"
            )
        self.sites = sites_of(trace, interpretation.channels)
        self._removal = Removal(self.sites)
        self.labels = self._first_pass()
        self.n = len(self.labels)
        self.support = np.bincount(self.labels, minlength=self.C)
        # Which other class's channels each image loses in the second pass: docs/method.md, section 6.1.
        rng = np.random.default_rng([seed, 1])
        self.foreign = np.zeros(self.n, dtype=np.int64)
        for c in range(self.C):
            rows = rng.permutation(np.flatnonzero(self.labels == c))
            others = rng.permutation([j for j in range(self.C) if j != c])
            if len(others):  # spread evenly over the other classes
                self.foreign[rows] = np.resize(others, len(rows))

    def _first_pass(self) -> Int64:
        """Return the labels, and keep the images if they fit."""
        labels = []
        kept = []
        size = 0
        for images, y in self._batches():
            labels.append(y)
            size += images.nbytes
            if size <= _KEEP_BYTES:
                kept.append((images, y))
        if size <= _KEEP_BYTES:
            self._kept = kept
        return torch.cat(labels).numpy()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        for batch in self._loader:
            images, labels, _, _ = unpack(batch)
            if images.shape[0] == 0:  # no image of the batch could be read
                continue
            if labels is None or labels.dim() != 1 or labels.is_floating_point():
                raise DataError("the ablation needs one class number per image; the loader yields other labels or none")
            if bool(((labels < 0) | (labels >= self.C)).any()):
                raise DataError(f"a label lies outside the {self.C} classes 0..{self.C - 1}")
            yield images, labels.cpu()

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
            for images, _ in self._batches():
                self._model(self._put(images))
        self._removal = Removal(self.sites, torch.cat([sums[site.name] for site in self.sites]).float() / self.n)

    def predictions(self, lists: Lists | None, classes: Int64) -> Int64:
        """Return each image's prediction with ``lists[classes[image]]`` removed."""
        results = []
        start = 0
        lists = lists or [np.zeros(0, dtype=np.int64)] * self.C
        with instrument(self._model, Instrument(edits=self._removal.edits)):
            for images, _ in self._batches():
                n = images.shape[0]
                self._removal.set([lists[c] for c in classes[start : start + n]])
                results.append(logits_of(self._model(self._put(images)), n, self._output).argmax(1).cpu().numpy())
                start += n
        if start != self.n:
            raise DataError(
                f"the loader yielded {self.n} images at first and {start} later; pass one that starts again each time, "
                "such as a DataLoader or a list"
            )
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
            at = self.foreign * self.C + self.labels  # (class whose list is removed, class of the image)
            hits = np.bincount(at, weights=right, minlength=self.C**2).reshape(self.C, self.C)
            count = np.bincount(at, minlength=self.C**2).reshape(self.C, self.C)
            np.fill_diagonal(count, 0)  # a single class is its own foreign one
            recalls = _ratio(hits, count)
            known = count > 0  # a class without images counts for nothing
            return _ratio(np.where(known, recalls, 0.0).sum(1), known.sum(1))

        return self._measured.get("others", lists, measure)


def _ratio(hits: Any, count: Any) -> Float64:
    shares: Float64 = np.divide(hits, count, out=np.full(np.shape(hits), np.nan), where=count > 0)
    return shares
