"""The steps of a search for shortcuts: intact images, every part in turn, each class's most suspicious part again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.engine import Output, Site
from interpnet.errors import DataError
from interpnet.scores import ScoreReader
from interpnet.shortcuts._by_class import by_class
from interpnet.shortcuts._drawn import FieldSearch, drawn_in_training
from interpnet.shortcuts._effects import Effects, effects_of
from interpnet.shortcuts._evidence import GRADIENTS, Evidence, gathered
from interpnet.shortcuts._exchanger import Exchanger
from interpnet.shortcuts._exchanges import Draws, Plan, answers
from interpnet.shortcuts._findings import ClassFinding, Drawn, Findings, Grouped
from interpnet.shortcuts._groups import groups_in
from interpnet.shortcuts._parts import Images, Part, parts_of
from interpnet.shortcuts._reference import usual_share
from interpnet.shortcuts._sample import Sample
from interpnet.shortcuts._shown import channels_of, class_name, examples_of
from interpnet.support.types import Float32, Float64, Int64

_SCREENING = 2  # passes over the images
_CONFIRMING = 1
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

    def run(
        self,
        names: Sequence[str] | None,
        output: Output | None,
        advance: Callable[[int], None],
        field: Tensor | None = None,
    ) -> Findings:
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
        exchanged = (*parts, *(part.control for part in parts if part.control is not None))
        fit = evidence.predicted == sample.labels
        draws = Draws(sample.labels, fit, self._studied, self._seed)

        def ask(plan: Plan, reader: ScoreReader | None = None) -> tuple[Float32, Float32]:
            return answers(
                self._model,
                images,
                plan,
                exchanged,
                self._put,
                reader=reader,
                max_batch=self._max_batch,
                output=output,
                advance=advance,
            )

        plan = draws.screening(_SCREENING, len(exchanged))
        odds, _ = ask(plan)
        table = _Table(parts, self._n_classes)
        for number in range(len(parts)):
            for k in self._studied:
                table.put(number, int(k), self._effects(odds, plan, evidence, int(k), _numbers(number, exchanged)))
        chosen = self._chosen(table)
        each = self._each(chosen)
        plans = draws.confirming([(k, _numbers(number, exchanged)) for k, number in chosen], each)
        confirming = Plan.joined(plans)
        found = []
        if chosen:
            confirmed, scores = ask(confirming, ScoreReader(self._sites))
            found = self._confirmed(chosen, plans, confirmed, scores, evidence, names, images, exchanged)
        advance(max(0, _CONFIRMING * len(sample.labels) - len(confirming.rest)))  # what no whole share was left of
        done = {k for k, _ in chosen}
        found += [self._screened(int(k), table, parts, names) for k in self._studied if k not in done]
        found.sort(key=lambda one: -one.suspicion if np.isfinite(one.suspicion) else np.inf)
        drawn, more = self._drawn(evidence, names, output, advance, field)
        spent = GRADIENTS + (more + len(plan.rest) + len(confirming.rest)) / len(sample.labels)
        return Findings(
            tuple(found),
            tuple(p.name for p in parts),
            table.shares,
            table.low,
            table.high,
            spent,
            len(sample.labels),
            notes,
            self._exchanger(found, images, parts, output),
            grouped=self._grouped(evidence, names),
            drawn=drawn,
        )

    def _grouped(self, evidence: Evidence, names: Sequence[str] | None) -> tuple[Grouped, ...]:
        """Return the classes whose own images fall into two groups."""
        sample = self._sample
        return groups_in(evidence, sample.labels, self._studied, sample.indices, names, self._seed)

    def _exchanger(
        self, found: Sequence[ClassFinding], images: Images, parts: Sequence[Part], output: Output | None
    ) -> Exchanger:
        """Return what exchanges the parts of the suspicious classes; masks of new images are not known."""
        classes: dict[str, list[int]] = {}
        for one in found:
            if one.suspicious and one.part != "outside the subject":
                classes.setdefault(one.part, []).append(one.index)
        known = [part for part in parts if part.name in classes]
        carriers = [classes[part.name] for part in known]
        return Exchanger(self._model, known, carriers, images.by_class, output)

    def _drawn(
        self,
        evidence: Evidence,
        names: Sequence[str] | None,
        output: Output | None,
        advance: Callable[[int], None],
        field: Tensor | None,
    ) -> tuple[tuple[Drawn, ...], int]:
        """Return what draws training images to wrong classes, and field images to any, and the latter's passes."""
        known = self._sample.pixels
        labels = self._sample.labels
        found = drawn_in_training(evidence, labels, self._sample.indices, names)
        if field is None:
            return found, 0
        search = FieldSearch(
            self._model, evidence, known, labels, field, self._sites, self._put, self._max_batch, output
        )
        found += search.run(names, advance)
        return found, search.passes

    def _prepared(self, evidence: Evidence) -> tuple[Images, tuple[Part, ...], tuple[str, ...]]:
        sample = self._sample
        parts = parts_of(sample.shape, masks=self._inside is not None)
        notes: tuple[str, ...] = ()
        peaks = evidence.peaks
        if peaks is None:
            notes = ("No gradient comes back to the images, so that no patches were exchanged.",)
            parts = tuple(part for part in parts if part.kind != "patch")
            peaks = np.zeros((len(sample.labels), 2, 2), dtype=np.int64)
        labels = torch.from_numpy(sample.labels)
        common = by_class(sample.pixels, labels, self._n_classes)
        images = Images(sample.pixels, labels, torch.from_numpy(peaks), self._inside, common)
        return images, parts, notes

    def _effects(self, odds: Float32, plan: Plan, evidence: Evidence, k: int, parts: tuple[int, ...]) -> Effects:
        """Return the effects of the first of some parts on class k, beyond those of the second where there is one."""
        intact = evidence.odds[:, [k]].astype(np.float64)
        labels = self._sample.labels
        found = []
        for part in parts:
            rows = plan.part == part
            own = plan.only(rows)
            found.append(effects_of(odds[rows][:, [k]].astype(np.float64), own.rest, own.donor, intact, labels, k))
        if len(found) == 1:
            return found[0]
        return found[0].beyond(found[1])

    def _chosen(self, table: _Table) -> list[tuple[int, int]]:
        """Return (class, part) to confirm: of every class its most suspicious part, as many as images allow."""
        beyond = table.beyond
        known = [int(k) for k in self._studied if np.isfinite(beyond[:, k]).any()]
        best = [(k, table.worst(k)) for k in known]
        best.sort(key=lambda one: -beyond[one[1], one[0]])
        most = max(1, _CONFIRMING * len(self._sample.labels) // _FEWEST)
        return best[:most]

    def _each(self, chosen: Sequence[tuple[int, int]]) -> int:
        """Return how many exchanges confirm one class."""
        return max(_FEWEST, _CONFIRMING * len(self._sample.labels) // max(1, len(chosen)))

    def _confirmed(
        self,
        chosen: Sequence[tuple[int, int]],
        plans: Sequence[Plan],
        odds: Float32,
        scores: Float32,
        evidence: Evidence,
        names: Sequence[str] | None,
        images: Images,
        parts: Sequence[Part],
    ) -> list[ClassFinding]:
        found = []
        ends = np.cumsum([len(plan.rest) for plan in plans])[:-1]
        for (k, number), plan, own, read in zip(
            chosen, plans, np.split(odds, ends), np.split(scores, ends), strict=True
        ):
            found.append(self._finding(k, number, plan, own, read, evidence, names, images, parts))
        return found

    def _finding(
        self,
        k: int,
        number: int,
        plan: Plan,
        odds: Float32,
        scores: Float32,
        evidence: Evidence,
        names: Sequence[str] | None,
        images: Images,
        parts: Sequence[Part],
    ) -> ClassFinding:
        labels = self._sample.labels
        part = parts[number]
        effects = self._effects(odds, plan, evidence, k, _numbers(number, parts))
        # A control is there for the share alone.
        rows = plan.part == number
        plan, odds, scores = plan.only(rows), odds[rows], scores[rows]
        low, high = (float(end[0]) for end in effects.interval(_LEVEL))
        given = (labels[plan.rest] != k) & (labels[plan.donor] == k)
        return replace(
            self._told(k, part, (float(effects.share[0]), low, high, _detectable(effects, part)), names),
            raised=float((odds[given].argmax(1) == k).mean()),
            raised_before=float((evidence.predicted[plan.rest[given]] == k).mean()),
            confirmed=True,
            channels=channels_of(k, plan, scores, evidence, labels),
            examples=examples_of(k, plan.only(given), odds[given], evidence, images, parts, self._sample.indices),
        )

    def _screened(self, k: int, table: _Table, parts: Sequence[Part], names: Sequence[str] | None) -> ClassFinding:
        number = table.worst(k)
        share, low, high, detectable = (
            float(values[number, k]) for values in (table.shares, table.low, table.high, table.detectable)
        )
        return self._told(k, parts[number], (share, low, high, detectable), names)

    def _told(
        self, k: int, part: Part, numbers: tuple[float, float, float, float], names: Sequence[str] | None
    ) -> ClassFinding:
        """Return a finding that is not confirmed, of a share, the ends of its interval, and what is detectable."""
        share, low, high, detectable = numbers
        return ClassFinding(
            index=k,
            name=class_name(k, names),
            part=part.name,
            kind=part.kind,
            share=share,
            low=low,
            high=high,
            usual=usual_share(part.name, part.kind),
            detectable=detectable,
            raised=float("nan"),
            raised_before=float("nan"),
            confirmed=False,
            n=int((self._sample.labels == k).sum()),
            channels=(),
            examples=(),
        )


class _Table:
    """The screening's numbers (P, C); NaN where nothing was measured."""

    def __init__(self, parts: Sequence[Part], n_classes: int) -> None:
        self._parts = parts
        self._usual = np.array([usual_share(part.name, part.kind) for part in parts])
        shape = (len(parts), n_classes)
        self.shares, self.low, self.high, self.detectable = (np.full(shape, np.nan) for _ in range(4))

    def put(self, number: int, k: int, effects: Effects) -> None:
        """Enter the effects of one part on one class."""
        low, high = effects.interval(_LEVEL)
        self.shares[number, k] = effects.share[0]
        self.low[number, k] = low[0]
        self.high[number, k] = high[0]
        self.detectable[number, k] = _detectable(effects, self._parts[number])

    @property
    def beyond(self) -> Float64:
        """(P, C): how far shares are beyond what is usual for their parts."""
        beyond: Float64 = self.shares - self._usual[:, None]
        return beyond

    def worst(self, k: int) -> int:
        """Return the part that is furthest beyond; the first where none was measured."""
        beyond = self.shares[:, k] - self._usual
        return int(np.where(np.isfinite(beyond), beyond, -np.inf).argmax())


def _numbers(number: int, exchanged: Sequence[Part]) -> tuple[int, ...]:
    """Return the number of a part, and that of its control where it has one."""
    control = exchanged[number].control
    if control is None:
        return (number,)
    return number, exchanged.index(control)


def _detectable(effects: Effects, part: Part) -> float:
    """Return the share whose interval would lie beyond what is usual with a probability of 0.8."""
    freedom = max(effects.freedom, 1)
    times = stats.t.ppf((1 + _LEVEL) / 2, freedom) + stats.t.ppf(_POWER, freedom)
    return float(usual_share(part.name, part.kind) + times * effects.error()[0])
