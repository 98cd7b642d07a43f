"""Passes over labelled images, each with a list of removed channels for every image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

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
    Site,
    check_predicted,
    find_sites,
    forward,
    forward_logits,
    instrument,
    log_odds,
    predicted,
)
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import Loader, RepeatedLoader, sites_of
from interpnet.support.types import Float64, Int64

Lists = Sequence[Int64]
Draw = Callable[[int, int], Int64]
#: How many draws of a random control a class has in one pass, at most.
DRAWS = 10
# Batches up to this many bytes are kept: reading images in dozens of passes would take longer than the network does.
_KEEP_BYTES = 1 << 30
_NONE: Int64 = np.zeros(0, dtype=np.int64)


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
        self._seed = seed
        self._foreign: dict[int, Int64] = {}

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

    def outcome(self, lists: Lists | None, which: Int64) -> Outcome:
        """Run every image with ``lists[which[image]]`` removed, and look at its own class."""
        right = []
        log_odds_of = []
        start = 0
        when = ""
        if lists and any(map(len, lists)):
            when = " with channels removed"
        with instrument(self._model, Instrument(edits=self._removal.edits)):
            for batch, (images, _) in enumerate(self._batches):
                n = images.shape[0]
                here = slice(start, start + n)
                removed = [_NONE] * n
                if lists is not None:
                    removed = [lists[i] for i in which[here]]
                self._removal.set(removed)
                logits = forward_logits(self._model, images, self._output, self._put)
                classes = predicted(logits).cpu().numpy()
                check_predicted(classes, range(start, start + n), batch=batch, when=when)
                right.append(classes == self.labels[here])
                log_odds_of.append(log_odds(logits, torch.from_numpy(self.labels[here])).float().cpu().numpy())
                start += n
        return Outcome(np.concatenate(right), np.concatenate(log_odds_of))

    @property
    def intact(self) -> Outcome:
        """What the untouched network says."""
        return self._measured.get("intact", None, lambda: self.outcome(None, self.labels))

    def own_pass(self, lists: Lists) -> Pass:
        """Return the pass in which each image loses its own class's list."""
        made = self._measured.get("own", lists, lambda: self.outcome(lists, self.labels))
        return Pass(made, self.labels)

    def others_pass(self, lists: Lists, turn: int = 0) -> Pass:
        """Return the pass in which each image loses the list of another class, the ``turn``-th that it meets."""
        foreign = self.foreign_classes(turn)
        what = f"others {self._seed} {turn}"
        return Pass(self._measured.get(what, lists, lambda: self.outcome(lists, foreign)), foreign)

    def drawn_pass(self, draw: Draw, number: int, turn: int | None = None) -> Pass:
        """Return a pass in which groups of images lose channels that are drawn for each group.

        ``draw(c, i)`` is draw i for class c. The images that lose channels of one class are dealt out to ``DRAWS``
        draws, or fewer, so that each draw has two images at least. ``number`` is the pass's own number, which says
        which draws it makes; ``turn`` is that of :meth:`others_pass`, None for a pass in which each image loses
        channels drawn for its own class.
        """
        classes = self.labels
        what = "own drawn"
        if turn is not None:
            classes = self.foreign_classes(turn)
            what = f"others {self._seed} {turn} drawn"
        group = deal(classes, DRAWS)
        cells, which = np.unique(classes * DRAWS + group, return_inverse=True)
        lists = [draw(int(cell) // DRAWS, number * DRAWS + int(cell) % DRAWS) for cell in cells]
        return Pass(self._measured.get(what, lists, lambda: self.outcome(lists, which)), classes, group)

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

    def own(self, lists: Lists | None) -> Float64:
        """Return each class's recall with its own list removed (C,); NaN for a class without images."""
        return self.recall(self.intact if lists is None else self.own_pass(lists).outcome)

    def others(self, lists: Lists) -> Float64:
        """Return for each class j the mean recall of the other classes with j's list removed (C,), by one pass."""
        return self.recall_of_others([self.others_pass(lists)])

    def recall_of_others(self, passes: Sequence[Pass]) -> Float64:
        """Return for each class j the mean recall of the other classes with j's channels removed (C,)."""
        foreign = np.concatenate([one.classes for one in passes])
        right = np.concatenate([one.outcome.right for one in passes])
        return mean_of_others(foreign, np.tile(self.labels, len(passes)), right, self.C)


def deal(classes: Int64, most: int) -> Int64:
    """Deal the images of each class out to at most ``most`` groups of two or more; return each image's group (N,).

    Examples
    --------
    >>> deal(np.array([0, 0, 1, 0, 0, 0, 1, 1]), 2)
    array([0, 1, 0, 0, 1, 0, 0, 0])
    """
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups = np.zeros(len(classes), dtype=np.int64)
    groups[order] = rank % np.repeat(np.clip(counts // 2, 1, most), counts)
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
