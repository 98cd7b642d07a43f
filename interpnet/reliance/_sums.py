"""Summing contributions over the images of each class while a network runs, alone or beside the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    Removal,
    Site,
    Trace,
    find_sites,
    for_outputs,
    forward_logits,
    instrument,
    log_odds,
    predicted,
)
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.reliance._contributions import Contributions, added_up
from interpnet.reliance._options import Fill, Options
from interpnet.reliance._pairs import first_of_each, labelled, rounds, said
from interpnet.reliance._probe import probe
from interpnet.reliance._reader import ContributionReader
from interpnet.reliance._totals import Batch, Part, Sent, Totals
from interpnet.reliance._weights import weights_of
from interpnet.support.checks import check_kinds, instance_of, optional
from interpnet.support.ranks import Ranks
from interpnet.support.types import Int64

Put = Callable[[Tensor], Tensor]


class ContributionSums:
    """Sum the contributions of every channel to the log-odds of each image's own class.

    Parameters
    ----------
    fill, images, outputs, targets, classes, removed, thinned
        See :func:`collect_contributions`.
    start : Contributions, optional
        Those of the first images, collected in the same way, to go on from.

    Examples
    --------
    >>> from interpnet.scores import collect_scores
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> sums = ContributionSums(images=5)
    >>> table = collect_scores(net, batches, contributions=sums, progress=False)
    >>> sums.result().counts
    array([5, 0])
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
        thinned: Sequence[float] = (),
        start: Contributions | None = None,
    ) -> None:
        check_kinds(ContributionSums.__init__, locals(), but=["fill", "removed", "thinned", "classes"])
        self._how = Options.checked(fill, images, outputs, targets, classes, removed, thinned)
        self._start = optional(instance_of, start, "start", Contributions)

    def open(self, model: nn.Module, trace: Trace, sites: Sequence[Site], first: Tensor, output: Output | None) -> None:
        """Make ready for the images of one pass; ``first`` are some of them, on the model's device.

        The model is in evaluation mode and its parameters take no gradient.
        """
        self._model = model
        self._output = output
        # Of one output, kept one column, the scores' pass makes two classes.
        alone = for_outputs(output, self._how.outputs)
        two = alone is not output and trace.n_outputs == 2
        if two and find_sites(model, first, output=alone).n_outputs == 1:
            raise InterpNetError(
                "outputs='independent' came with a network of one output, which is one question: pass "
                "output=interpnet.engine.OneColumn(), or outputs='exclusive' for a binary classifier"
            )
        self._reader = ContributionReader(sites, gradients=self._how.fill != "zero")
        known = self._how.empty(self._reader.channels, trace, weights_of(model))
        if self._start is not None:
            known = known + self._start
        self._lists = self._how.lists(trace.n_outputs, len(self._reader.channels))
        self._removal = Removal(self._reader.sites, torch.from_numpy(known.reference))
        probe(model, self._reader, first, output, self._how.outputs)
        self._totals = Totals(known)
        # With those on their way.
        self._taken = known.counts.copy()
        self._end = known.images
        self._number = 0
        self._means: list[tuple[str, Tensor]] = []
        self._parts: list[Part] = []
        self._waiting: list[Batch] = []

    def resume(self, rows: int) -> None:
        """Go on after the first ``rows`` images of a collection of scores, which ``start`` must be those of."""
        known = self._totals.images
        if known != rows:
            raise RunFolderError(
                f"the scores of {rows} images are collected already, and the contributions of {known}; start from the "
                "contributions of the same images (start=), or collect both again in another folder"
            )

    def logits(self, images: Tensor, labels: Tensor, indices: Tensor, put: Put, *, known: int = 0) -> Tensor:
        """Run one batch forward, and backward where contributions of some of its images are wanted.

        ``labels`` are class numbers (n,) or targets (n, C) of the images after the first ``known``; an image belongs to
        the classes with a target above 0.5.
        """
        if self._how.removes:
            raise InterpNetError(
                "removed or thinned: scores are those of the whole network; collect_contributions() removes"
            )
        pairs = None
        if self._how.targets == "labels":
            pairs = self._wanted(labelled(labels, known))
        positions = np.concatenate([np.zeros(known), indices.cpu().numpy()]).astype(np.int64)
        logits = self._run(images, pairs, positions, put, known)
        self._launched(len(images) - known)
        return logits

    def commit(self, rows: int) -> None:
        """Hold the sums of exactly the first ``rows`` images, those of ``start`` included: :meth:`so_far`."""
        self._take_in(rows)

    def _take_in(self, rows: int) -> None:
        while self._waiting and self._waiting[0].end <= rows:
            self._totals.add(self._waiting.pop(0))

    def add(self, images: Tensor, labels: Tensor | None, indices: Tensor, put: Put) -> None:
        """Sum one batch of which nothing else is wanted."""
        positions = indices.cpu().numpy()
        pairs = None
        if labels is not None:
            pairs = self._wanted(labelled(labels))
        if self._how.removes:
            self._run_without(images, pairs, positions, put)
        elif pairs is not None and self._how.fill != "mean":
            # The other images need not run.
            rows, own = np.unique(pairs[:, 0], return_inverse=True)
            if len(rows):
                pairs = np.stack([own.ravel(), pairs[:, 1]], 1)
                self._run(images[torch.from_numpy(rows)], pairs, positions[rows], put)
        else:
            self._run(images, pairs, positions, put)
        self._launched(len(images))

    def _launched(self, n: int) -> None:
        """Note a batch of ``n`` images, and take in what came before it."""
        # One behind: a GPU works on a batch while the sums of the one before are taken in.
        self._take_in(self._end)
        self._end += n
        self._waiting.append(Batch(self._number, n, self._end, self._means, self._parts))
        self._number += 1
        self._means = []
        self._parts = []

    def _run(self, images: Tensor, pairs: Int64 | None, positions: Int64, put: Put, known: int = 0) -> Tensor:
        """Run a batch forward, and backward for pairs of an image and a class; without pairs, for the predictions."""
        if pairs is not None and not len(pairs):
            with torch.no_grad():
                return self._forward(images, put, known)
        with torch.inference_mode(False), torch.enable_grad():
            logits = self._pass(images, put, known)
            if pairs is None:
                pairs = self._wanted(said(logits, self._how.outputs, known))
            for part, sent in zip(rounds(pairs), self._send_back(logits, pairs), strict=True):
                self._parts.append(Part(positions[part[:, 0]], part[:, 1], [sent]))
        return logits.detach()

    def _run_without(self, images: Tensor, pairs: Int64 | None, positions: Int64, put: Put) -> None:
        """Run a batch with each image's class's channels removed: once for every class that an image has.

        With ``thinned``, once for each share as well.
        """
        if pairs is None:
            with torch.no_grad():
                pairs = self._wanted(said(self._forward(images, put), self._how.outputs))
        for part in rounds(pairs):
            rows = part[:, 0]
            own = np.stack([np.arange(len(part)), part[:, 1]], 1)
            passes = []
            for nth, share in enumerate(self._how.thinned or [0.0]):
                lists = [self._overwritten(positions[row], cls, nth, share) for row, cls in part]
                self._removal.set(lists)
                with torch.inference_mode(False), torch.enable_grad():
                    with instrument(self._model, Instrument(edits=self._removal.edits)):
                        logits = self._pass(images[torch.from_numpy(rows)], put)
                    sent = self._send_back(logits, own)[0]
                passes.append(sent._replace(lists=lists, kept=1.0 - share))
            self._parts.append(Part(positions[rows], part[:, 1], passes))

    def _overwritten(self, position: int, cls: int, nth: int, share: float) -> Int64:
        """Return the columns that an image loses: those of its class, and a share of all at random."""
        m = len(self._reader.channels)
        # Of the image's own, so that neither the batches nor the shards matter.
        drawn = np.random.default_rng([position, nth]).permutation(m)[: round(share * m)]
        return np.union1d(self._lists[cls], drawn)

    def _pass(self, images: Tensor, put: Put, known: int = 0) -> Tensor:
        """Run a batch with gradients recorded from the sites on."""
        self._reader.clear()
        with instrument(self._model, Instrument(reads=self._reader.reads, edits=self._reader.edits)):
            return self._forward(images, put, known)

    def _forward(self, images: Tensor, put: Put, known: int = 0) -> Tensor:
        if self._how.fill != "mean":
            return forward_logits(self._model, images, self._output, put)

        def read(site: Site, out: Tensor) -> None:
            means = out.detach()[known:].to(torch.promote_types(out.dtype, torch.float32))
            axes = [a for a in range(1, out.dim()) if a != site.axis]
            # Without axes, mean() would average everything.
            if axes:
                means = means.mean(axes)
            self._means.append((site.name, means))

        reads = {site.name: site.reading(partial(read, site)) for site in self._reader.sites}
        with instrument(self._model, Instrument(reads=reads)):
            return forward_logits(self._model, images, self._output, put)

    def _wanted(self, pairs: Int64) -> Int64:
        """Return the pairs of an image and a class (n, 2) of which contributions are still wanted, and note them."""
        if self._how.outputs == "exclusive" and len(pairs) and np.bincount(pairs[:, 0]).max() > 1:
            raise DataError(
                "an image has several classes, and outputs='exclusive' compares each class with all others; pass "
                "outputs='independent'"
            )
        return first_of_each(pairs, self._taken, self._how.images)

    def _send_back(self, logits: Tensor, pairs: Int64) -> list[Sent]:
        """Run a backward pass for every round of classes, and return what they gave."""
        found = []
        parts = rounds(pairs)
        for i, part in enumerate(parts):
            rows = torch.from_numpy(part[:, 0])
            chosen = logits[rows.to(logits.device)]
            margins = log_odds(chosen, torch.from_numpy(part[:, 1]), outputs=self._how.outputs)
            products = self._reader.take(margins, keep=i + 1 < len(parts))
            here = rows.to(products.activation.device)
            gradient = None
            if products.gradient is not None:
                gradient = products.gradient[here]
            said_here = predicted(chosen.detach())
            found.append(Sent(said_here, margins.detach(), products.activation[here], gradient))
        return found

    def share(self, ranks: Ranks, folders: Sequence[Path]) -> None:
        """Refuse what several processes cannot sum: the first images of each class, and what earlier runs lost."""
        del ranks
        if self._how.images is not None:
            raise InterpNetError(
                f"images is {self._how.images}: the first of each class in the order of the images are known to no "
                "process alone; pass images=None where several share a collection"
            )
        if folders or self._start is not None:
            raise RunFolderError(
                "the scores of some images are collected already, and their contributions are not known: collect both "
                "again in another folder, or contributions alone with collect_contributions"
            )

    def place(self, folder: Path | None) -> None:
        """Keep the sums in memory."""

    def add_up(self, ranks: Ranks) -> None:
        """Hold the sums of all ranks."""
        self._take_in(self._end)
        self._totals = Totals(added_up(self._totals.result(), ranks))

    def so_far(self) -> Contributions:
        """Return the contributions of the images that were committed."""
        return self._totals.result()

    def result(self) -> Contributions:
        """Return the contributions of all images that ran."""
        self._take_in(self._end)
        return self._totals.result()
