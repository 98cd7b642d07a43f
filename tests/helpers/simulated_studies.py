"""Ablation studies of no network: images whose log-odds change by what was removed from them, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, Condition
from interpnet.ablation._changes import Gathered, Outcome, Pass, changes_of
from interpnet.ablation._rows import deal, foreign_classes


@dataclass(frozen=True)
class Simulated:
    """What removals do: every list of channels takes an amount of log-odds from all classes, and one from its own.

    ``general`` and ``special`` are means over lists of what is taken; ``spread`` is how much lists differ, with a long
    tail, ``noise`` how much images do. ``named`` adds to the special part of the named lists alone, ``everybody`` to
    their general part, and ``no_luck`` gives every list the mean effect.
    """

    sizes: Sequence[int]
    general: float = 0.5
    special: float = 0.0
    spread: float = 0.7
    noise: float = 1.0
    named: float = 0.0
    everybody: float = 0.0
    no_luck: bool = False
    margin: float = 2.0
    controls: Sequence[str] = ("random",)

    def study(self, rng: np.random.Generator, *, repeats: int = 2, turns: int = 2) -> AblationResult:
        size = len(self.sizes)
        labels = np.repeat(np.arange(size), self.sizes)
        log_odds = rng.normal(self.margin, 1.5, len(labels))
        # How much an image loses of anything, in common to all removals.
        touchy = rng.normal(0, 0.3 * self.noise, len(labels))
        intact = _outcome(log_odds)
        foreign = [foreign_classes(labels, size, 0, turn) for turn in range(turns)]

        def effects(number: int, named: bool) -> Any:
            """Return what each of so many lists for each class takes from each class's images (C, number, C)."""
            luck = rng.exponential(1.0, (size, number, size)) - 1
            if self.no_luck:
                luck = np.zeros_like(luck)
            taken = self.general + self.everybody * named + self.spread * luck
            own = np.arange(size)
            taken[own, :, own] += self.special + self.named * named
            return taken

        def one(taken: Any, classes: Any, group: Any, draws: bool) -> Pass:
            loss = taken[classes, group, labels] + touchy + rng.normal(0, self.noise, len(labels))
            return Pass(_outcome(log_odds - loss), classes, group if draws else None)

        first = np.zeros(len(labels), dtype=np.int64)
        named = effects(1, True)
        ours = Gathered([one(named, labels, first, False)], [one(named, f, first, False) for f in foreign])
        conditions = [self._condition("relevant", intact, labels, ours, None)]
        for name in self.controls:
            groups = [deal(classes) for classes in (labels, *foreign[:repeats])]
            most = 1 + max(int(group.max()) for group in groups)
            drawn = effects(most * repeats, False)
            made = Gathered(
                [one(drawn, labels, most * r + groups[0], True) for r in range(repeats)],
                [one(drawn, f, most * r + groups[1 + r], True) for r, f in enumerate(foreign[:repeats])],
            )
            conditions.append(self._condition(name, intact, labels, made, ours))
        support = np.bincount(labels, minlength=size)
        recall = np.bincount(labels, weights=intact.right, minlength=size) / support
        names = tuple(f"class {c}" for c in range(size))
        return AblationResult(
            names, support, recall, "zero", len(labels), repeats, 0, tuple(conditions), turns=turns, pairs=1.0
        )

    def _condition(self, name: str, intact: Outcome, labels: Any, made: Gathered, named: Gathered | None) -> Condition:
        size = len(self.sizes)
        changes = changes_of(intact, labels, size, made, named)
        before = np.bincount(labels, weights=intact.right, minlength=size) / np.bincount(labels, minlength=size)
        own = before + changes["recall"].own.mean
        others = before.mean() + changes["recall"].by_removed.mean
        return Condition(name, "all", np.full(size, 5.0), own[None], others[None], changes)


def _outcome(log_odds: Any) -> Outcome:
    return Outcome(log_odds > 0, log_odds.astype(np.float32))
