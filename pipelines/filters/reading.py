"""What one pass over the images tells of a network: scores, maxima, logits, and the vectors before the classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import Instrument, Output, Site, Trace, forward_logits, instrument, margins
from interpnet.explanation import PeakReader, Peaks
from interpnet.pictures import VectorReader, last_site
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float32, Int64

from ..run.split import Batches
from ..run.subject import Subject

Put = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """N images as a network sees them."""

    table: ScoreTable  # of the pictured layers
    vectors: Float32  # (N, D), of the last layer before the classifier
    layer: str  # that layer
    margins: Float32  # (C,), the largest that each output is above the mean of the others
    _maxima: dict[str, tuple[Float32, Int64, Float32]]

    def largest(self, layer: str) -> Float32:
        """Return each channel's largest value over the images (channels,)."""
        largest: Float32 = self._maxima[layer][0].max(0)
        return largest

    def peaks(self, layer: str, channel: int, top: int) -> Peaks:
        """Return where a channel answers most in the ``top`` images with the highest positive score, best first."""
        scores = np.asarray(self.table.X[:, self.table.channels.slice(layer)][:, channel])
        rows = np.argsort(-scores, kind="stable")[:top]  # docs/method.md, section 3, step 1
        rows = rows[scores[rows] > 0]
        return Peaks(self.table.indices[rows], *(array[rows, channel] for array in self._maxima[layer]))


class _Companion:
    """Runs the passes of a collection of scores in memory, and reads what is beside them.

    The arguments are those of :class:`interpnet.scores.Companion`. There is nothing to resume and nothing to commit.
    """

    def open(
        self, model: nn.Module, trace: Trace, sites: Sequence[Site], _first: Tensor, output: Output | None
    ) -> None:
        self._model = model
        self._output = output
        self.vectors = VectorReader(last_site(trace))
        self.peaks = PeakReader(sites)
        self.margins: list[Tensor] = []

    def resume(self, rows: int) -> None:
        pass

    def logits(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        indices: Tensor,  # noqa: ARG002
        put: Put,
        *,
        known: int = 0,  # noqa: ARG002
    ) -> Tensor:
        with (
            instrument(self._model, Instrument(reads=self.vectors.reads)),
            instrument(self._model, Instrument(reads=self.peaks.reads)),
        ):
            logits = forward_logits(self._model, images, self._output, put)
        self.margins.append(margins(logits.float()).amax(0).cpu())
        return logits

    def commit(self, rows: int) -> None:
        pass


def read(subject: Subject, batches: Batches, layers: Sequence[Site], total: int) -> Reading:
    """Run the images once."""
    companion = _Companion()
    table = collect_scores(
        subject.model,
        batches,
        layers=[site.name for site in layers],
        norm=subject.config.norm,
        output=subject.output,
        device=subject.device,
        contributions=companion,
        total=total,
    )
    return Reading(
        table=table,
        vectors=companion.vectors.take(table.indices),
        layer=companion.vectors.site.name,
        margins=torch.stack(companion.margins).amax(0).numpy(),
        _maxima=companion.peaks.take(),
    )
