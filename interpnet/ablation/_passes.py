"""Passes over labelled images, each with a list of removed channels for every image, all measured at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.ablation._changes import NOBODY, Outcome, Pass, mean_of_others
from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._clusters import Clusters
from interpnet.ablation._effect import effect_by_class, ratio
from interpnet.ablation._means import summed_means
from interpnet.ablation._rows import NO_ALARMS, Rows, deal
from interpnet.engine import (
    Output,
    Removal,
    Removals,
    check_predicted,
    find_sites,
    log_odds,
    predicted,
)
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import Loader, Prepare, RepeatedLoader, sites_of
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import ALONE, Ranks
from interpnet.support.types import Float64, Int64

Lists = Sequence[Int64]
#: Channels drawn for one class: ``draw(c, number, count)`` gives ``count`` lists, the draws of pass ``number``.
Draw = Callable[[int, int, int], Lists]
# Batches up to this many bytes are kept: reading images twice would take longer than that.
_KEEP_BYTES = 1 << 30
_NONE: Int64 = np.zeros(0, dtype=np.int64)


class Asked(NamedTuple):
    """A pass that is asked for: which list each row loses, whose channels these are, and of which draw."""

    lists: Int64  # (R,): numbers of lists
    classes: Int64  # (R,); NOBODY where a row loses none
    draws: Int64 | None


class _Part(NamedTuple):
    """Some images of a batch, and what is asked of them."""

    start: int  # the number of the first image
    batch: int
    # (r,): the image of each question, counted from the first, and the class that it is about.
    images: Int64
    classes: Int64
    # Where its rows stand among all rows and alarms, and by pass what each row and alarm loses: question and list.
    here: slice
    there: slice
    own: Int64
    alarms: Int64

    @property
    def jobs(self) -> Int64:
        """What is to be run, each once."""
        return np.unique(np.concatenate([self.own.reshape(-1), self.alarms.reshape(-1)]))


class Passes:
    """Passes over the images of ``loader``; ``put`` moves them to where ``model`` is.

    Passes are asked for first, by number, and then measured together: an image that loses the same channels in several
    passes runs once. What is measured is by row: an image with its class or, where ``outputs`` are independent, with
    each of the labels that it has. Of several ``ranks`` each measures every world-th batch, and all have the outcomes.
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
        outputs: str = "exclusive",
        only: Collection[int] | None = None,
        prepare: Prepare | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self._progress = progress
        self._outputs = outputs
        self._measured = measured or Measured()
        self._model = model
        self._put = put
        self._output = output
        self.C = len(interpretation.classes)
        self._batches = RepeatedLoader(
            loader,
            self.C,
            keep=_KEEP_BYTES,
            use="the ablation",
            inputs=inputs,
            labels=labels,
            several=outputs == "independent",
            prepare=prepare,
            classes=interpretation.classes,
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
        ranks.agree("what the ablation reads", self._batches.fingerprint)
        self.rows = Rows.of(self._batches.labels, self.C, np.asarray(interpretation.coef.any(1)))
        self.labels = self.rows.labels
        self.n = self.rows.n_images
        self.support = np.bincount(self.labels, minlength=self.C)
        self._studied = np.ones(self.C, dtype=bool)
        if only is not None:
            self._studied = np.isin(np.arange(self.C), list(only))
        self._seed = seed
        self._foreign: dict[int, Int64] = {}
        # Lists by number, the first of them empty, and their numbers.
        self._lists: list[Int64] = [_NONE]
        self._numbers: dict[bytes, int] = {b"": 0}
        # The first pass is that of the untouched network.
        self._asked = [Asked(np.zeros_like(self.labels), self.labels, None)]
        self._outcomes: list[Outcome] = []
        self._alarms = NO_ALARMS
        self._alarm_lists = np.zeros((2, 0), dtype=np.int64)
        self._given = np.zeros((2, 0), dtype=bool)

    def fill_with_means(self) -> None:
        """Overwrite removed maps with each channel's mean activation instead of zero."""
        with progress_bar("Averaging maps", self.n, enabled=self._progress) as advance:
            sums = summed_means(self._model, self.sites, self._batches, self._put, self._ranks, advance)
        self._remove(sums.float() / self.n)

    def _remove(self, fill: Tensor | None) -> None:
        self._removal = Removal(self.sites, fill)
        self._removals = Removals(self._model, self._removal, output=self._output, put=self._put)

    @property
    def why_whole(self) -> str:
        """Why every removal ran the whole network; empty where it ran from the first changed layer on."""
        return next(filter(None, self._ranks.collect(self._removals.why_whole)), "")

    def own_pass(self, lists: Lists) -> int:
        """Ask for the pass in which each image loses its own class's list; return its number."""
        return self._ask(*self._of_studied(self._named(lists)[self.labels], self.labels))

    def others_pass(self, lists: Lists, turn: int = 0) -> int:
        """Ask for the pass in which each image loses the list of another class, the ``turn``-th that it meets."""
        foreign = self.foreign_classes(turn)
        return self._ask(*self._of_studied(self._named(lists)[foreign], foreign))

    def _of_studied(self, lists: Int64, classes: Int64) -> tuple[Int64, Int64]:
        """Return lists and their classes without those of classes that are not studied."""
        # The first list is empty.
        studied = self._studied[classes]
        return np.where(studied, lists, 0), np.where(studied, classes, NOBODY)

    def alarm_pass(self, lists: Lists, turns: int) -> None:
        """Ask which images are given a label that they lack, whole and without the label's list.

        They lose the list in the ``turns`` passes of :meth:`others_pass` anyway. Where an image has one class, nothing
        is asked for.
        """
        self._alarms = self.rows.alarms(self._seed, turns)
        numbers = np.where(self._alarms.removed, self._named(lists)[self._alarms.labels], 0)
        self._alarm_lists = np.stack([np.zeros_like(numbers), numbers])

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
        lists = np.zeros_like(self.labels)
        for c in np.flatnonzero(self._studied & (np.bincount(classes, minlength=self.C) > 0)).tolist():
            mine = classes == c
            numbers = self._named(draw(c, number, 1 + int(group[mine].max())))
            lists[mine] = numbers[group[mine]]
        return self._ask(*self._of_studied(lists, classes), group)

    def _named(self, lists: Lists) -> Int64:
        """Return the numbers of lists; the same channels in another order are the same removal."""
        numbers = np.zeros(len(lists), dtype=np.int64)
        for i, columns in enumerate(lists):
            # The empty list is the first; of many classes most have no channels.
            if not len(columns):
                continue
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
        size = len(self._lists)
        runs = [self.rows.images * size + asked.lists for asked in self._asked]
        runs += [self._alarms.images * size + lists for lists in self._alarm_lists]
        return len(np.unique(np.concatenate(runs)))

    def measure(self, advance: Callable[[int], None] = lambda _removals: None) -> None:
        """Measure all passes that were asked for; ``advance`` is told of every removal, for a progress bar."""
        lists = np.stack([asked.lists for asked in self._asked])
        named = hashlib.sha256(lists.tobytes() + self._alarm_lists.tobytes())
        for columns in self._lists:
            named.update(b"|" + columns.tobytes())
        self._ranks.agree("what the ablation removes", named.hexdigest())
        # Zero where another rank measures.
        right = np.zeros(lists.shape, dtype=np.uint8)
        margins = np.zeros(lists.shape, dtype=np.float32)
        given = np.zeros(self._alarm_lists.shape, dtype=np.uint8)
        start = 0
        try:
            for batch, (images, _) in enumerate(self._batches):
                if not self._ranks.has(batch):
                    part = self._part(start, len(images), batch, lists)
                    rows, numbers = np.divmod(part.jobs, len(self._lists))
                    advance(len(np.unique(part.images[rows] * len(self._lists) + numbers)))
                    start += len(images)
                    continue
                for some in self._removals.parts(images):
                    part = self._part(start, len(some), batch, lists)
                    jobs = part.jobs
                    run = partial(self._run, some, jobs, part, advance)
                    outcome = self._measured.get(self._name(jobs, part, len(some)), len(jobs), run)
                    where = np.searchsorted(jobs, part.own)
                    right[:, part.here] = outcome.right[where]
                    margins[:, part.here] = outcome.log_odds[where]
                    given[:, part.there] = outcome.right[np.searchsorted(jobs, part.alarms)]
                    start += len(some)
        finally:
            self._measured.save()
        for array in (right, margins, given):
            self._ranks.sum(array)
        self._given = given.astype(bool)
        self._outcomes = [Outcome(*row) for row in zip(right.astype(bool), margins, strict=True)]

    def _part(self, start: int, n_images: int, batch: int, lists: Int64) -> _Part:
        """Return some images of a batch with what is asked of them."""
        ends = [start, start + n_images]
        here = slice(*np.searchsorted(self.rows.images, ends).tolist())
        there = slice(*np.searchsorted(self._alarms.images, ends).tolist())
        of = np.concatenate([self.rows.images[here], self._alarms.images[there]]) - start
        classes = np.concatenate([self.labels[here], self._alarms.labels[there]])
        # Every question's different lists, by question and then by list.
        first = np.arange(len(of)) * len(self._lists)
        n_rows = here.stop - here.start
        own = lists[:, here] + first[:n_rows]
        alarms = self._alarm_lists[:, there] + first[n_rows:]
        return _Part(start, batch, of, classes, here, there, own, alarms)

    def _name(self, jobs: Int64, part: _Part, n_images: int) -> str:
        """Return a name of what the images of a part lose in their passes."""
        name = hashlib.sha256(f"{part.start} {part.start + n_images}".encode())
        if self._outputs == "independent":
            name.update(part.images.astype("<i8").tobytes() + b"|" + part.classes.astype("<i8").tobytes())
        for job in jobs.tolist():
            row, number = divmod(job, len(self._lists))
            name.update(f"|{row}:".encode() + self._lists[number].astype("<i8").tobytes())
        return name.hexdigest()[:32]

    def _run(self, images: Tensor, jobs: Int64, part: _Part, advance: Callable[[int], None]) -> Outcome:
        """Run some images with every list removed that a question about them names."""
        rows, numbers = np.divmod(jobs, len(self._lists))
        right = np.empty(len(jobs), dtype=bool)
        margins = np.empty(len(jobs), dtype=np.float32)

        def read(some: Int64, logits: Tensor, when: str = " with channels removed") -> None:
            classes = predicted(logits).cpu().numpy()
            check_predicted(classes, part.start + part.images[rows[some]], batch=part.batch, when=when)
            asked = part.classes[rows[some]]
            own = torch.from_numpy(asked).to(logits.device)
            margins[some] = log_odds(logits, own, outputs=self._outputs).float().cpu().numpy()
            right[some] = classes == asked
            if self._outputs == "independent":
                right[some] = margins[some] > 0

        whole = np.flatnonzero(numbers == 0)
        logits = self._removals.intact(images)
        read(whole, logits[torch.from_numpy(part.images[rows[whole]])], when="")
        advance(len(images))
        changed = np.flatnonzero(numbers)
        # An image that loses the same channels runs once, however many of its labels are asked about.
        runs, of = np.unique(part.images[rows[changed]] * len(self._lists) + numbers[changed], return_inverse=True)
        order = np.argsort(of, kind="stable")
        ends = np.searchsorted(of[order], np.arange(len(runs) + 1))

        def removed(some: Int64, logits: Tensor) -> None:
            at = np.repeat(np.arange(len(some)), ends[some + 1] - ends[some])
            asked = np.concatenate([order[ends[run] : ends[run + 1]] for run in some])
            read(changed[asked], logits[torch.from_numpy(at)])
            advance(len(some))

        images_of, lists_of = np.divmod(runs, len(self._lists))
        self._removals.removed(images_of, [self._lists[number] for number in lists_of], removed)
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
        """Return which other class's channels each row loses (R,), for each turn another one."""
        if turn not in self._foreign:
            self._foreign[turn] = self.rows.foreign(self._seed, turn)
        return self._foreign[turn]

    @property
    def foreign(self) -> Int64:
        """The classes of the first turn."""
        return self.foreign_classes(0)

    @property
    def false_alarms(self) -> tuple[Float64, Float64]:
        """The share of the images without a label that are given it (C,), whole and without its channels.

        NaN for a label that every image has, and where no alarms were asked for.
        """
        whole, without = self._given
        return self._alarms.rates(whole, without, self.C)

    @property
    def several(self) -> Int64 | None:
        """The image of each row, where an image can have several rows; else None."""
        if self._outputs == "independent":
            return self.rows.images
        return None

    def clusters(self, right: Float64) -> Clusters | None:
        """Return what images of several classes add to the variance of the mean recall, by whether rows are right."""
        studied = np.where(self._studied[self.labels], right, np.nan)
        return effect_by_class(studied, self.labels, self.C, images=self.several).clusters

    def recall(self, outcome: Outcome) -> Float64:
        """Return each class's recall (C,); NaN for a class without images, or one that is not studied."""
        return np.where(self._studied, self.recall_of_all(outcome), np.nan)

    def recall_of_all(self, outcome: Outcome) -> Float64:
        """Return each class's recall (C,), studied or not; NaN for a class without images."""
        return ratio(np.bincount(self.labels, weights=outcome.right, minlength=self.C), self.support)

    def recall_of_others(self, passes: Sequence[Pass]) -> Float64:
        """Return for each class j the mean recall of the other classes with j's channels removed (C,)."""
        foreign = np.concatenate([one.classes for one in passes])
        right = np.concatenate([one.outcome.right for one in passes])
        return mean_of_others(foreign, np.tile(self.labels, len(passes)), right, self.C)
