"""The steps of a search for shortcuts: intact images, every part in turn, each class's most suspicious part again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.engine import Output, Site
from interpnet.errors import DataError
from interpnet.scores import ScoreReader
from interpnet.shortcuts._effects import Effects, class_effects, number_effects
from interpnet.shortcuts._evidence import Evidence, gathered
from interpnet.shortcuts._exchanges import Draws, Plan, answers
from interpnet.shortcuts._findings import ClassFinding, Findings
from interpnet.shortcuts._parts import Images, Part, parts_of, patterns_of
from interpnet.shortcuts._reference import usual_share
from interpnet.shortcuts._sample import Sample
from interpnet.shortcuts._shown import channels_of, examples_of
from interpnet.support.types import Float32, Float64, Int64

_SCREENING = 2  # passes over the images
_CONFIRMING = 1
_GRADIENTS = 3  # what the pass with gradients costs, in forward passes
#: How often every image is run, in one way or another.
PASSES = 1 + _SCREENING + _CONFIRMING
_FEWEST = 40  # exchanges that confirm one class
_LEVEL = 0.95
_POWER = 0.8


class Search:
    """One search: its images, and the steps in their order."""

    def __init__(
        self,
        model: nn.Module,
        sample: Sample,
        inside: Tensor | None,
        studied: Int64,
        n_classes: int,
        sites: Sequence[Site],
        put: Callable[[Tensor], Tensor],
        seed: int,
        max_batch: int,
    ) -> None:
        self._model = model
        self._sample = sample
        self._inside = inside
        self._studied = studied[np.isin(studied, sample.labels)]
        if not len(self._studied):
            raise DataError(f"no image of the classes {studied[:5].tolist()} came; expected some of each")
        self._n_classes = n_classes
        self._sites = sites
        self._put = put
        self._seed = seed
        self._max_batch = max_batch

    def run(self, names: Sequence[str] | None, output: Output | None, advance: Callable[[int], None]) -> Findings:
        sample = self._sample
        evidence = gathered(
            self._model,
            sample.pixels,
            sample.labels,
            self._sites,
            self._put,
            max_batch=self._max_batch,
            output=output,
            advance=advance,
        )
        images, parts, notes = self._prepared(evidence)
        fit = evidence.predicted == sample.labels
        draws = Draws(sample.labels, fit, self._studied, self._seed)

        def ask(plan: Plan, reader: ScoreReader | None = None) -> tuple[Float32, Float32]:
            return answers(
                self._model,
                images,
                plan,
                parts,
                self._put,
                reader=reader,
                max_batch=self._max_batch,
                output=output,
                advance=advance,
            )

        plan = draws.screening(_SCREENING, len(parts))
        odds, _ = ask(plan)
        screened = [self._effects(odds, plan, number) for number in range(len(parts))]
        chosen = self._chosen(screened, parts)
        confirming = draws.confirming(chosen, self._each(chosen))
        found = []
        if chosen:
            confirmed, scores = ask(confirming, ScoreReader(self._sites))
            found = self._confirmed(chosen, confirming, confirmed, scores, evidence, names, images, parts)
        table = _Table(screened, parts)
        done = {k for k, _ in chosen}
        found += [self._screened(int(k), table, parts, names) for k in self._studied if k not in done]
        found.sort(key=lambda one: -one.suspicion if np.isfinite(one.suspicion) else np.inf)
        spent = _GRADIENTS + (len(plan.rest) + len(confirming.rest)) / len(sample.labels)
        return Findings(
            tuple(found),
            tuple(p.name for p in parts),
            table.shares,
            table.low,
            table.high,
            spent,
            len(sample.labels),
            notes,
        )

    def _prepared(self, evidence: Evidence) -> tuple[Images, tuple[Part, ...], tuple[str, ...]]:
        sample = self._sample
        parts = parts_of(sample.shape, masks=self._inside is not None)
        notes: tuple[str, ...] = ()
        peaks = evidence.peaks
        if peaks is None:
            notes = ("No gradient comes back to the images, so that no patches were exchanged.",)
            parts = tuple(part for part in parts if part.kind != "patch")
            peaks = np.zeros((len(sample.labels), 2), dtype=np.int64)
        labels = torch.from_numpy(sample.labels)
        patterns = patterns_of(sample.pixels, labels, self._n_classes)
        images = Images(sample.pixels, labels, torch.from_numpy(peaks), self._inside, patterns)
        return images, parts, notes

    def _effects(self, odds: Float32, plan: Plan, number: int) -> Effects:
        rows = plan.part == number
        labels = self._sample.labels
        return class_effects(
            odds[rows].astype(np.float64), labels[plan.rest[rows]], labels[plan.donor[rows]], self._n_classes
        )

    def _chosen(self, screened: Sequence[Effects], parts: Sequence[Part]) -> list[tuple[int, int]]:
        """Return (class, part) to confirm: of every class its most suspicious part, as many as images allow."""
        beyond = np.stack([_beyond(one, part) for one, part in zip(screened, parts, strict=True)])
        known = [int(k) for k in self._studied if np.isfinite(beyond[:, k]).any()]
        best = [(k, int(np.nanargmax(beyond[:, k]))) for k in known]
        best.sort(key=lambda one: -beyond[one[1], one[0]])
        most = max(1, _CONFIRMING * len(self._sample.labels) // _FEWEST)
        return best[:most]

    def _each(self, chosen: Sequence[tuple[int, int]]) -> int:
        """Return how many exchanges confirm one class."""
        return max(_FEWEST, _CONFIRMING * len(self._sample.labels) // max(1, len(chosen)))

    def _confirmed(
        self,
        chosen: Sequence[tuple[int, int]],
        plan: Plan,
        odds: Float32,
        scores: Float32,
        evidence: Evidence,
        names: Sequence[str] | None,
        images: Images,
        parts: Sequence[Part],
    ) -> list[ClassFinding]:
        found = []
        each = self._each(chosen)
        for at, (k, number) in enumerate(chosen):
            rows = np.arange(at * each, (at + 1) * each)
            own = plan.only(rows)
            found.append(self._finding(k, parts[number], own, odds[rows], scores[rows], evidence, names, images, parts))
        return found

    def _finding(
        self,
        k: int,
        part: Part,
        plan: Plan,
        odds: Float32,
        scores: Float32,
        evidence: Evidence,
        names: Sequence[str] | None,
        images: Images,
        parts: Sequence[Part],
    ) -> ClassFinding:
        labels = self._sample.labels
        rest, donor = labels[plan.rest], labels[plan.donor]
        effects = number_effects(odds[:, [k]].astype(np.float64), rest, donor, np.array([k]))
        low, high = (float(end[0, 0]) for end in effects.interval(_LEVEL))
        given = (rest != k) & (donor == k)
        return ClassFinding(
            index=k,
            name=_name(k, names),
            part=part.name,
            kind=part.kind,
            share=_share(effects, 0),
            low=low,
            high=high,
            usual=usual_share(part.name),
            detectable=_detectable(effects, 0, part),
            raised=float((odds[given].argmax(1) == k).mean()),
            raised_before=float((evidence.predicted[plan.rest[given]] == k).mean()),
            confirmed=True,
            n=int((labels == k).sum()),
            channels=channels_of(k, rest, donor, scores, evidence, labels),
            examples=examples_of(k, plan.only(given), odds[given], evidence, images, parts, self._sample.indices),
        )

    def _screened(self, k: int, table: _Table, parts: Sequence[Part], names: Sequence[str] | None) -> ClassFinding:
        beyond = table.beyond[:, k]
        number = int(np.nanargmax(beyond)) if np.isfinite(beyond).any() else 0
        return ClassFinding(
            index=k,
            name=_name(k, names),
            part=parts[number].name,
            kind=parts[number].kind,
            share=float(table.shares[number, k]),
            low=float(table.low[number, k]),
            high=float(table.high[number, k]),
            usual=usual_share(parts[number].name),
            detectable=float(table.detectable[number, k]),
            raised=float("nan"),
            raised_before=float("nan"),
            confirmed=False,
            n=int((self._sample.labels == k).sum()),
            channels=(),
            examples=(),
        )


class _Table:
    """The screening's numbers (P, C)."""

    def __init__(self, screened: Sequence[Effects], parts: Sequence[Part]) -> None:
        self.shares = np.stack([one.share[:, 0] for one in screened])
        ends = [one.interval(_LEVEL) for one in screened]
        self.low = np.stack([low[:, 0] for low, _ in ends])
        self.high = np.stack([high[:, 0] for _, high in ends])
        self.beyond = np.stack([_beyond(one, part) for one, part in zip(screened, parts, strict=True)])
        self.detectable = np.array(
            [
                [_detectable(one, k, part) for k in range(len(one.part))]
                for one, part in zip(screened, parts, strict=True)
            ]
        )


def _beyond(effects: Effects, part: Part) -> Float64:
    """Return (C,): how far shares are beyond what is usual for the part."""
    usual = usual_share(part.name)
    beyond: Float64 = effects.share[:, 0] - usual
    return beyond


def _share(effects: Effects, row: int) -> float:
    return float(effects.share[row, 0])


def _detectable(effects: Effects, row: int, part: Part) -> float:
    """Return the share whose interval would lie beyond what is usual with a probability of 0.8."""
    freedom = max(int(effects.freedom[row]), 1)
    times = stats.t.ppf((1 + _LEVEL) / 2, freedom) + stats.t.ppf(_POWER, freedom)
    return float(usual_share(part.name) + times * effects.error()[row, 0])


def _name(k: int, names: Sequence[str] | None) -> str:
    if names is None:
        return str(k)
    return names[k]
