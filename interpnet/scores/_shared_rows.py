"""What the batches of one of several processes add to its rows, and the images that there are rows of already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from interpnet.errors import DataError
from interpnet.scores._batches import unpack
from interpnet.scores._chunks import MODULUS, Range, Run, runs_from_json
from interpnet.scores._intake import Memory
from interpnet.scores._labels import Labels
from interpnet.scores._resume import Fresh, row_sums
from interpnet.scores._scorer import How
from interpnet.scores._table import ScoreWriter


class Ledger:
    """The runs of images that a table of one of several processes holds."""

    def __init__(self, writer: Memory | ScoreWriter) -> None:
        self.runs = runs_from_json(writer.info.get("runs", []), writer.rows, len(writer.info["skipped"]))
        self.consumed = sum(run.stop - run.start for run in self.runs)

    @property
    def ranges(self) -> list[Range]:
        """The positions of its images."""
        return [run[:2] for run in self.runs]

    def add(self, run: Run) -> None:
        """Take in the images of the next rows."""
        if self.runs and self.runs[-1].stop == run.start:
            self.runs[-1] = self.runs[-1].grown(run)
        else:
            self.runs.append(run)
        self.consumed += run.stop - run.start

    def note(self, info: dict[str, Any]) -> None:
        """Write down the runs."""
        info["runs"] = [list(run) for run in self.runs]


class Covered:
    """The images that there are rows of already: they must come again, in whole batches, where all are read."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._left = sorted(runs, reverse=True)
        self._now: Run | None = None
        self.end = 0  # counts all images that came
        self._all = Run(0, 0, 0, 0, 0)

    @property
    def seen(self) -> list[int]:
        """What tells all images that came, in their order, from others."""
        return [self._all.rows, self._all.placed % (MODULUS // 2)]

    def holds(self, batch: Run) -> bool:
        """Whether there are rows of the images of a batch; other images than were scored are a DataError."""
        self.end = max(self.end, batch.stop)
        self._all = self._all.grown(batch)
        if not self._left or batch.stop <= self._left[-1].start:
            return False
        run = self._left[-1]
        if batch.start < run.start or batch.stop > run.stop:
            edge = run.start
            if batch.start >= run.start:
                edge = run.stop
            raise DataError(
                f"the rows of an interrupted collection end or begin at image {edge}, in the middle of a batch; pass "
                "batches of the size that it had, or delete the folder to collect again"
            )
        self._now = batch if self._now is None else self._now.grown(batch)
        if self._now.stop == run.stop:
            same = self._now.rows == run.rows and run.placed in {self._now.placed, UNKNOWN}
            if not same:
                raise DataError(
                    f"images {run.start} to {run.stop - 1} are not those that an interrupted collection scored; pass "
                    "the same images in the same order (no shuffling, no random augmentation), or delete the folder to "
                    "collect again"
                )
            self._left.pop()
            self._now = None
        return True

    def close(self) -> None:
        """Refuse images that ended before those of the rows did."""
        if self._left:
            raise DataError(
                f"the images ended at number {self.end}, and there are rows of images up to {self._left[0].stop}; pass "
                "the same images, or delete the folder to collect again"
            )


#: In the place of what tells the images of rows from others, where an older version wrote them.
UNKNOWN = -1


def rows_of(
    batches: Iterable[tuple[Range | None, Any, bool]], known_as: Labels, covered: Covered, how: How
) -> Iterator[Fresh]:
    """Yield what the batches that are this process's add; those that there are rows of are compared with these."""
    for span, raw, own in batches:
        batch = unpack(raw, **how.keys, prepare=how.prepare, indices=how.positions)
        n = len(batch.images)
        start = covered.end
        if span is not None:
            start = span[0]
        stop = start + n + len(batch.skipped)
        if span is not None and span[1] != stop:
            raise DataError(
                f"images {start} to {span[1] - 1} came as a batch of {n}: several processes read batches by their "
                "positions, so that none may be left out (a collate_fn that filters?)"
            )
        indices = torch.arange(start, start + n)
        if batch.indices is not None:
            indices = batch.indices.clone()
        numbers = indices
        sums = (0, 0)
        if n:
            numbers = known_as.checked(batch.labels, n, indices).cpu()
            sums = row_sums(batch.images, numbers)
        run = Run(start, stop, n, *sums)
        if not covered.holds(run) and own:
            yield Fresh(batch.images, 0, numbers, indices, run, batch.skipped)
