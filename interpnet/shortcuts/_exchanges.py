"""Which images exchange which part with which others, and what the network says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    all_log_odds,
    check_logits,
    forward_logits,
    instrument,
)
from interpnet.scores import ScoreReader
from interpnet.shortcuts._parts import Images, Part
from interpnet.support.types import Float32, Int64


@dataclass(frozen=True)
class Plan:
    """E exchanges: which part, whose rest, whose part."""

    part: Int64  # (E,)
    rest: Int64  # (E,): image numbers
    donor: Int64  # (E,)

    def only(self, rows: npt.NDArray[np.bool_] | Int64) -> Plan:
        """Return some of the exchanges."""
        return Plan(self.part[rows], self.rest[rows], self.donor[rows])

    @staticmethod
    def joined(plans: Sequence[Plan]) -> Plan:
        """Return several plans as one."""
        none = np.zeros(0, dtype=np.int64)
        return Plan(
            np.concatenate([none, *(p.part for p in plans)]),
            np.concatenate([none, *(p.rest for p in plans)]),
            np.concatenate([none, *(p.donor for p in plans)]),
        )


class Draws:
    """Draws of images by class; a donor of a patch must have a peak that speaks for its class."""

    def __init__(self, labels: Int64, fit: Int64, studied: Int64, seed: int) -> None:
        self._labels = labels
        self._rng = np.random.default_rng(seed)
        self._present = np.unique(labels)
        self._members = {int(k): np.flatnonzero(labels == k) for k in self._present}
        self._fit = {k: rows[fit[rows]] if fit[rows].any() else rows for k, rows in self._members.items()}
        # Half of all donors at least are of the studied classes, so that their parts are seen often enough.
        weights = np.ones(len(self._present))
        own = np.isin(self._present, studied)
        if 0 < own.sum() < len(own):
            weights[own] = max(1.0, (~own).sum() / own.sum())
        self._weights = weights / weights.sum()

    def screening(self, passes: int, n_parts: int) -> Plan:
        """Every image once in each pass as a rest, the parts in turn over the images of every class."""
        order = np.lexsort((self._rng.random(len(self._labels)), self._labels))
        plans = []
        for turn in range(passes):
            part = (np.arange(len(order)) + turn * (n_parts // max(1, passes) + 1)) % n_parts
            classes = self._rng.choice(self._present, len(order), p=self._weights)
            plans.append(Plan(part, order, self._drawn(classes)))
        return Plan.joined(plans)

    def confirming(self, chosen: Sequence[tuple[int, tuple[int, ...]]], exchanges: int) -> list[Plan]:
        """``exchanges`` for each (class, parts): its part on others, others' parts on it, and neither.

        Several parts, one and its control, are exchanged between the same images, which are as many fewer.
        """
        plans = []
        for k, parts in chosen:
            others = self._present[self._present != k]
            pairs = exchanges // len(parts)
            given, kept = round(0.45 * pairs), round(0.3 * pairs)
            neither = pairs - given - kept
            rests = np.concatenate(
                [
                    self._drawn(self._rng.choice(others, given), any_image=True),
                    self._drawn(np.full(kept, k), any_image=True),
                    self._drawn(self._rng.choice(others, neither), any_image=True),
                ]
            )
            donors = np.concatenate(
                [self._drawn(np.full(given, k)), self._drawn(self._rng.choice(others, kept + neither))]
            )
            plans.append(Plan.joined([Plan(np.full(pairs, part), rests, donors) for part in parts]))
        return plans

    def _drawn(self, classes: Int64, *, any_image: bool = False) -> Int64:
        members = self._members if any_image else self._fit
        found = np.zeros(len(classes), dtype=np.int64)
        for k in np.unique(classes):
            rows = classes == k
            found[rows] = self._spread(members[int(k)], int(rows.sum()))
        return found

    def _spread(self, images: Int64, n: int) -> Int64:
        """Return n of some images, each as often as the others, to one."""
        rounds = [self._rng.permutation(images) for _ in range(-(-n // len(images)))]
        return np.concatenate(rounds)[:n]


def answers(
    model: nn.Module,
    images: Images,
    plan: Plan,
    parts: Sequence[Part],
    put: Callable[[Tensor], Tensor],
    *,
    reader: ScoreReader | None = None,
    max_batch: int,
    output: Output | None,
    advance: Callable[[int], None],
) -> tuple[Float32, Float32]:
    """Return the log-odds (E, C) of every exchange, and the scores (E, m), m = 0 without a reader."""
    odds = scores = np.zeros((len(plan.rest), 0), dtype=np.float32)
    reads = reader.reads if reader is not None else {}
    with torch.no_grad(), instrument(model, Instrument(reads=reads)):
        for rows, made in batches(images, plan, parts, put, max_batch):
            logits = check_logits(forward_logits(model, made, output)).double()
            found = all_log_odds(logits).float().cpu().numpy()
            if not odds.shape[1]:
                odds = np.zeros((len(plan.rest), found.shape[1]), dtype=np.float32)
            odds[rows] = found
            if reader is not None:
                read = reader.take().float().cpu().numpy()
                if not scores.shape[1]:
                    scores = np.zeros((len(plan.rest), read.shape[1]), dtype=np.float32)
                scores[rows] = read
            advance(len(rows))
    return odds, scores


def batches(
    images: Images, plan: Plan, parts: Sequence[Part], put: Callable[[Tensor], Tensor], max_batch: int
) -> Iterator[tuple[Int64, Tensor]]:
    """Yield which exchanges (rows of the plan) and their images, one part at a time."""
    for number, part in enumerate(parts):
        rows = np.flatnonzero(plan.part == number)
        for start in range(0, len(rows), max_batch):
            some = rows[start : start + max_batch]
            rest, donors = (images.take(torch.from_numpy(which[some])).to(put) for which in (plan.rest, plan.donor))
            yield some, part.exchanged(rest, donors)
