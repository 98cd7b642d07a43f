"""The running sums of contributions, which take in what each batch gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from interpnet.engine import ChannelIndex, check_predicted
from interpnet.errors import DataError
from interpnet.reliance._contributions import MOMENTS, Contributions
from interpnet.reliance._reader import as_rows, not_finite
from interpnet.support.types import Float64, Int64


class Sent(NamedTuple):
    """What one backward pass gave for n images; on a GPU it may still be being computed."""

    predictions: Tensor  # (n,)
    margins: Tensor  # (n,): log-odds
    activation: Tensor  # (n, m): see Products; so is the gradient
    gradient: Tensor | None
    lists: Sequence[Int64] = ()  # (n): the columns that were overwritten in each image; nothing where it is empty
    kept: float = 1.0  # the share of the channels that were not overwritten at random


class Part(NamedTuple):
    """What the backward passes of some images gave, one or several that are averaged."""

    indices: Int64  # (n,): the images' positions in the data set
    classes: Int64  # (n,)
    passes: Sequence[Sent]


class Batch(NamedTuple):
    """What one batch adds to the sums."""

    number: int
    images: int
    end: int  # counts the images up to there
    means: Sequence[tuple[str, Tensor]]  # by layer each image's mean activations (n, channels), where they are wanted
    parts: Sequence[Part]


class Totals:
    """The sums over the images so far, from those of ``known`` on."""

    def __init__(self, known: Contributions) -> None:
        self._known = known
        self.counts = known.counts.copy()
        self.images = known.images
        self._margins = known.margins.copy()
        self._level = known.level.copy()
        self._rows: dict[int, Any] = {int(cls): known.moments[:, i] for i, cls in enumerate(known.present)}

    @property
    def _channels(self) -> ChannelIndex:
        return self._known.channels

    def add(self, batch: Batch) -> None:
        """Add what a batch gave; what is not finite is a :class:`DataError`."""
        for part in batch.parts:
            self._add_part(part, batch.number)
        for layer, means in batch.means:
            self._level[self._channels.slice(layer)] += as_rows(means).sum(0)
        self.images += batch.images

    def _add_part(self, part: Part, number: int) -> None:
        found = [self._taken_in(sent, part.indices, number) for sent in part.passes]
        P = np.mean([products for products, _ in found], 0)
        moments = [P, P * P]
        if self._known.fill == "mean":
            G = np.mean([gradients for _, gradients in found], 0)
            moments += [G, P * G, G * G]
        margins = np.mean([as_rows(sent.margins) for sent in part.passes], 0)
        for cls in np.unique(part.classes):
            mine = part.classes == cls
            sums = np.stack([moment[mine].sum(0) for moment in moments])
            self._rows[int(cls)] = self._rows.get(int(cls), 0.0) + sums
            self.counts[cls] += mine.sum()
            self._margins[cls] += margins[mine].sum()

    def _taken_in(self, sent: Sent, indices: Int64, number: int) -> tuple[Float64, Float64]:
        """Return contributions and gradients (n, m) of one pass, or raise where they are not finite."""
        when = ""
        if any(map(len, sent.lists)):
            when = " with channels removed"
        check_predicted(sent.predictions.cpu(), indices, batch=number, when=when)
        P = as_rows(sent.activation)
        G = np.zeros_like(P)
        if sent.gradient is not None:
            G = as_rows(sent.gradient)
        self._check_finite(P + G, indices)
        if self._known.fill == "given":
            P = P - self._level * G
        # Rounding must not make something of channels that hold their reference.
        for row, columns in enumerate(sent.lists):
            P[row, columns] = 0.0
        return P / sent.kept, G

    def _check_finite(self, values: Float64, indices: Int64) -> None:
        bad = not_finite(values, self._channels)
        if bad is None:
            return
        row, layer = bad
        raise DataError(
            f"the gradient of image {int(indices[row])} is NaN or infinite at layer {layer!r}, or its map is; "
            "look at that image and its normalisation, or at "
            "operators behind that layer whose derivative is not finite there (a root or a logarithm of zero; float16 "
            "overflows)"
        )

    def result(self) -> Contributions:
        """Return the contributions of the images so far."""
        known = self._known
        moments = np.zeros((MOMENTS[known.fill], len(self._rows), len(self._channels)))
        for i, cls in enumerate(sorted(self._rows)):
            moments[:, i] = self._rows[cls]
        return Contributions(
            known.channels,
            known.classes,
            self.counts.copy(),
            self._margins.copy(),
            moments,
            self._level.copy(),
            known.fill,
            self.images,
            known.info,
        )
