"""One pass of a network over batches of images, whose scores are taken in while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Layers,
    Output,
    Trace,
    evaluating,
    find_sites,
    forward_logits,
    instrument,
    placed,
    predicted,
)
from interpnet.scores._batches import Prepare
from interpnet.scores._companion import Companion
from interpnet.scores._intake import NO_ROWS, Intake, Rows
from interpnet.scores._labels import Labels
from interpnet.scores._reader import ScoreReader
from interpnet.scores._resume import Fresh
from interpnet.support.progress import progress_bar


@dataclass(frozen=True)
class How:
    """The checked arguments of :func:`interpnet.collect_scores` that say how images are scored."""

    model: nn.Module
    device: torch.device
    layers: Layers
    norm: str
    normalisation: str
    output: Output | None
    memory_format: str
    autocast: torch.dtype | None
    contributions: Companion | None
    classes: Sequence[str] | None
    keys: dict[str, Any]  # inputs and labels, the keys of a batch that is a dictionary
    prepare: Prepare | None
    positions: str | None

    @contextmanager
    def scoring(self, first: Tensor) -> Iterator[Scorer]:
        """Make the network ready for a pass and trace it on the ``first`` images."""
        cast: AbstractContextManager[Any] = nullcontext()
        if self.autocast is not None:
            cast = torch.autocast(self.device.type, self.autocast)
        mode: AbstractContextManager[Any] = torch.inference_mode()
        # What a network made in inference mode and kept could be no part of a graph.
        if self.contributions is not None:
            mode = torch.no_grad()
        frozen = self.contributions is not None
        with placed(self.model, self.device, self.memory_format) as put, evaluating(self.model, frozen=frozen), mode:
            with cast:
                trace = find_sites(self.model, put(first), output=self.output)
            reader = ScoreReader(trace.select(self.layers), norm=self.norm, normalisation=self.normalisation)
            if self.contributions is not None:
                with cast:
                    self.contributions.open(self.model, trace, reader.sites, put(first), self.output)
            yield Scorer(self, trace, reader, put, cast)


@dataclass(frozen=True)
class Scorer:
    """A network ready for a pass."""

    how: How
    trace: Trace
    reader: ScoreReader
    put: Callable[[Tensor], Tensor]
    cast: AbstractContextManager[Any]

    @property
    def info(self) -> dict[str, Any]:
        """The notes of a table without rows."""
        how = self.how
        shape = list(self.trace.image_shape)
        return {"norm": how.norm, "normalisation": how.normalisation, "image_shape": shape, "skipped": []}

    def labels(self) -> Labels:
        """Return what checks the labels of a pass."""
        return Labels(self.trace.n_outputs, classes=self.how.classes)

    def run(self, fresh: Iterable[Fresh], intake: Intake, total: int | None, done: int, *, progress: bool) -> None:
        """Score images and have their rows taken in."""
        reader = self.reader
        with (
            progress_bar("Collecting scores", total, done=done, enabled=progress) as advance,
            instrument(self.how.model, Instrument(reads=reader.reads)),
            self.cast,
        ):
            # One behind: while a GPU works on a batch, the rows of the one before are taken in.
            for rows, ahead in pairwise(chain(self._launched(fresh), [NO_ROWS])):
                intake.take_in(rows, ahead.n, reader.channels)
                advance(rows.n + len(rows.skipped))
        intake.commit()

    def _launched(self, batches: Iterable[Fresh]) -> Iterator[Rows]:
        """Yield the rows that each batch adds; on a GPU they are still being computed."""
        for batch in batches:
            n = len(batch.images) - batch.known
            arrays: tuple[Tensor, ...] = ()
            if n:
                scores, predictions = self._score(batch)
                arrays = (scores[batch.known :], batch.labels, predictions[batch.known :], batch.indices)
            yield Rows(n, arrays, batch.run, batch.skipped)

    def _score(self, batch: Fresh) -> tuple[Tensor, Tensor]:
        how = self.how
        if how.contributions is None:
            logits = forward_logits(how.model, batch.images, how.output, self.put)
        else:
            logits = how.contributions.logits(batch.images, batch.labels, batch.indices, self.put, known=batch.known)
        return self.reader.take(), predicted(logits)
