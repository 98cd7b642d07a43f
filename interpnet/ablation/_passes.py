"""Passes over labelled images, each with a list of removed channels for every image, all measured at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.ablation._changes import Outcome, Pass, mean_of_others
from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._effect import ratio
from interpnet.engine import (
    Instrument,
    Output,
    Removal,
    Removals,
    Site,
    check_predicted,
    find_sites,
    forward,
    instrument,
    log_odds,
    predicted,
)
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import Loader, RepeatedLoader, sites_of
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64

Lists = Sequence[Int64]
#: Channels drawn for one class: ``draw(c, number, count)`` gives ``count`` lists, the draws of pass ``number``.
Draw = Callable[[int, int, int], Lists]
# Batches up to this many bytes are kept: reading images twice would take longer than that.
_KEEP_BYTES = 1 << 30
_NONE: Int64 = np.zeros(0, dtype=np.int64)


class Asked(NamedTuple):
    """A pass that is asked for: which list each image loses, whose channels these are, and of which draw."""

    lists: Int64  # (N,): numbers of lists
    classes: Int64  # (N,)
    draws: Int64 | None


class Passes:
    """Passes over the images of ``loader``; ``put`` moves them to where ``model`` is.

    Passes are asked for first, by number, and then measured together: an image that loses the same channels in several
    passes runs once.
    """

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
        progress: bool = False,
    ) -> None:
        self._progress = progress
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
        self._remove(None)
        # The first pass reads and decodes; a loader of ours knows how many images it covers.
        with progress_bar("Reading images", getattr(loader, "n_images", None), enabled=progress) as advance:
            for images, _ in self._batches:
                advance(len(images))
        self.labels = self._batches.labels
        self.n = len(self.labels)
        self.support = np.bincount(self.labels, minlength=self.C)
        self._seed = seed
        self._foreign: dict[int, Int64] = {}
        # Lists by number, the first of them empty, and their numbers.
        self._lists: list[Int64] = [_NONE]
        self._numbers: dict[bytes, int] = {b"": 0}
        nothing = np.zeros(self.n, dtype=np.int64)
        # The first pass is that of the untouched network.
        self._asked = [Asked(nothing, self.labels, None)]
        self._outcomes: list[Outcome] = []

    def fill_with_means(self) -> None:
        """Overwrite removed maps with each channel's mean activation instead of zero."""
        sums = {site.name: torch.zeros(site.channels, dtype=torch.float64) for site in self.sites}

        def read(site: Site, out: Tensor) -> None:
            means = out.float()
            axes = [a for a in range(1, out.dim()) if a != site.axis]
            if axes:  # without axes, mean() would average everything
                means = means.mean(axes)
            sums[site.name] += means.sum(0).double().cpu()  # float64, for there may be many batches

        with (
            progress_bar("Averaging maps", self.n, enabled=self._progress) as advance,
            instrument(self._model, Instrument(reads={site.name: partial(read, site) for site in self.sites})),
        ):
            for images, _ in self._batches:
                forward(self._model, images, self._put)
                advance(len(images))
        self._remove(torch.cat([sums[site.name] for site in self.sites]).float() / self.n)

    def _remove(self, fill: Tensor | None) -> None:
        self._removal = Removal(self.sites, fill)
        self._removals = Removals(self._model, self._removal, output=self._output, put=self._put)

    @property
    def why_whole(self) -> str:
        """Why every removal ran the whole network; empty where it ran from the first changed layer on."""
        return self._removals.why_whole

    def own_pass(self, lists: Lists) -> int:
        """Ask for the pass in which each image loses its own class's list; return its number."""
        return self._ask(self._named(lists)[self.labels], self.labels)

    def others_pass(self, lists: Lists, turn: int = 0) -> int:
        """Ask for the pass in which each image loses the list of another class, the ``turn``-th that it meets."""
        foreign = self.foreign_classes(turn)
        return self._ask(self._named(lists)[foreign], foreign)

    def drawn_pass(self, draw: Draw, number: int, turn: int | None = None) -> int:
        """Ask for a pass in which two images at a time lose channels that are drawn for them.

        The images that lose channels of one class are dealt out to as many draws as leave two images to each, by which
        one sees what is the draw and what the image. ``number`` is the pass's own number, which says which draws it
        makes; ``turn`` is that of :meth:`others_pass`, None for a pass in which each image loses channels drawn for its
        own class.
        """
        classes = self.labels
        if turn is not None:
            classes = self.foreign_classes(turn)
        group = deal(classes)
        lists = np.zeros(self.n, dtype=np.int64)
        for c in np.unique(classes).tolist():
            mine = classes == c
            numbers = self._named(draw(c, number, 1 + int(group[mine].max())))
            lists[mine] = numbers[group[mine]]
        return self._ask(lists, classes, group)

    def _named(self, lists: Lists) -> Int64:
        """Return the numbers of lists; the same channels in another order are the same removal."""
        numbers = np.zeros(len(lists), dtype=np.int64)
        for i, columns in enumerate(lists):
            row = np.sort(columns)
            numbers[i] = self._numbers.setdefault(row.tobytes(), len(self._lists))
            if numbers[i] == len(self._lists):
                self._lists.append(row)
        return numbers

    def _ask(self, lists: Int64, classes: Int64, draws: Int64 | None = None) -> int:
        self._asked.append(Asked(lists, classes, draws))
        return len(self._asked) - 1

    @property
    def removals(self) -> int:
        """How often an image runs for all passes that were asked for."""
        every = np.sort([asked.lists for asked in self._asked], axis=0)
        return self.n + int(np.count_nonzero(np.diff(every, axis=0)))

    def measure(self, advance: Callable[[int], None] = lambda _removals: None) -> None:
        """Measure all passes that were asked for; ``advance`` is told of every removal, for a progress bar."""
        lists = np.stack([asked.lists for asked in self._asked])
        right = np.empty(lists.shape, dtype=bool)
        margins = np.empty(lists.shape, dtype=np.float32)
        start = 0
        try:
            for batch, (images, _) in enumerate(self._batches):
                for part in self._removals.parts(images):
                    here = slice(start, start + len(part))
                    start = here.stop
                    # Every image's different lists, by image and then by list.
                    cells = lists[:, here] + np.arange(len(part)) * len(self._lists)
                    jobs, where = np.unique(cells, return_inverse=True)
                    run = partial(self._run, part, jobs, here, batch, advance)
                    outcome = self._measured.get(self._name(jobs, here), len(jobs), run)
                    where = where.reshape(cells.shape)
                    right[:, here] = outcome.right[where]
                    margins[:, here] = outcome.log_odds[where]
        finally:
            self._measured.save()
        self._outcomes = [Outcome(*row) for row in zip(right, margins, strict=True)]

    def _name(self, jobs: Int64, here: slice) -> str:
        """Return a name of what the images at ``here`` lose in their passes."""
        name = hashlib.sha256(f"{here.start} {here.stop}".encode())
        for job in jobs.tolist():
            row, number = divmod(job, len(self._lists))
            name.update(f"|{row}:".encode() + self._lists[number].astype("<i8").tobytes())
        return name.hexdigest()[:32]

    def _run(self, images: Tensor, jobs: Int64, here: slice, batch: int, advance: Callable[[int], None]) -> Outcome:
        """Run the images at ``here`` with every list of theirs removed."""
        rows, numbers = np.divmod(jobs, len(self._lists))
        right = np.empty(len(jobs), dtype=bool)
        margins = np.empty(len(jobs), dtype=np.float32)
        labels = self.labels[here][rows]

        def read(some: Int64, logits: Tensor, when: str = " with channels removed") -> None:
            classes = predicted(logits).cpu().numpy()
            check_predicted(classes, here.start + rows[some], batch=batch, when=when)
            right[some] = classes == labels[some]
            own = torch.from_numpy(labels[some]).to(logits.device)
            margins[some] = log_odds(logits, own).float().cpu().numpy()
            advance(len(some))

        read(np.flatnonzero(numbers == 0), self._removals.intact(images), when="")
        changed = np.flatnonzero(numbers)
        lists = [self._lists[number] for number in numbers[changed]]
        self._removals.removed(rows[changed], lists, lambda some, logits: read(changed[some], logits))
        return Outcome(right, margins)

    def made(self, number: int) -> Pass:
        """Return a pass that was asked for, once it is measured."""
        asked = self._asked[number]
        return Pass(self._outcomes[number], asked.classes, asked.draws)

    @property
    def intact(self) -> Outcome:
        """What the untouched network says, once it is measured."""
        return self._outcomes[0]

    def foreign_classes(self, turn: int) -> Int64:
        """Return which other class's channels each image loses (N,), for each turn another one."""
        if turn not in self._foreign:
            self._foreign[turn] = _foreign_classes(self.labels, self.C, self._seed, turn)
        return self._foreign[turn]

    @property
    def foreign(self) -> Int64:
        """The classes of the first turn."""
        return self.foreign_classes(0)

    def recall(self, outcome: Outcome) -> Float64:
        """Return each class's recall (C,); NaN for a class without images."""
        return ratio(np.bincount(self.labels, weights=outcome.right, minlength=self.C), self.support)

    def recall_of_others(self, passes: Sequence[Pass]) -> Float64:
        """Return for each class j the mean recall of the other classes with j's channels removed (C,)."""
        foreign = np.concatenate([one.classes for one in passes])
        right = np.concatenate([one.outcome.right for one in passes])
        return mean_of_others(foreign, np.tile(self.labels, len(passes)), right, self.C)


def deal(classes: Int64) -> Int64:
    """Deal the images of each class out to groups of two, or three at the end; return each image's group (N,).

    Examples
    --------
    >>> deal(np.array([0, 0, 1, 0, 0, 0, 1, 0, 1]))
    array([0, 1, 0, 2, 0, 1, 0, 2, 0])
    """
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups = np.zeros(len(classes), dtype=np.int64)
    groups[order] = rank % np.repeat(np.maximum(counts // 2, 1), counts)
    return groups


def _foreign_classes(labels: Int64, n_classes: int, seed: int, turn: int = 0) -> Int64:
    """Return which other class's channels each image loses in one pass: docs/method.md, section 6.1.

    In C - 1 turns every image meets every other class once, and in few turns few pairs of classes are met twice.
    """
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
        if len(others) and len(rows):
            # A turn begins where the one before it ended, and one further after every full round.
            begin = turn * len(rows) + turn * math.gcd(len(rows), len(others)) // len(others)
            foreign[rows] = others[(begin + np.arange(len(rows))) % len(others)]
    return foreign
