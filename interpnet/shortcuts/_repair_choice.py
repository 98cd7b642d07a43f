"""Which repair is chosen: cross-validated, within the bound on clean accuracy, and shown on images held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interpnet.models import Layer
from interpnet.shortcuts._repair_bench import Bench, Made, Predictions
from interpnet.shortcuts._repair_images import CONTROL, EXCHANGED, PARTS
from interpnet.shortcuts._repair_ways import STRENGTHS, TRAINING, fit, too_large, unfit
from interpnet.support.brief import brief
from interpnet.support.types import Float64, Int64

#: Of which images the accuracy as they are must not fall.
CLEAN = ("all", "unmoved")
# Of the candidates that pass on the folds so many are tried on the images held out, best first.
_TRIES = 5
# A gain counts from so many standard errors over images.
_STANDS_OUT = 2.0


@brief
@dataclass(frozen=True, eq=False)
class Figures:
    """What a network gets right, on images as they are and with their suspicious part exchanged."""

    clean: float  # accuracy as they are
    exchanged: float  # accuracy with the part of another image
    recall: Float64  # (C,): of each class, as they are; NaN where no image is of the class
    recall_exchanged: Float64  # (C,): with the part of another image
    n: int  # images
    counts: Int64  # (C,): of each class

    @property
    def worst(self) -> float:
        """The lowest recall of a class with exchanged parts."""
        return float(np.nanmin(self.recall_exchanged))


@brief
@dataclass(frozen=True)
class Candidate:
    """One way with one strength: what it changes on images it was not fitted on, and what became of it."""

    how: str
    strength: float  # of the pull to the old weights; number of directions; highest learning rate
    clean: float  # change of the accuracy on images as they are that counts, where it is chosen
    exchanged: float  # change of the accuracy with exchanged parts, there
    why: str  # what became of it
    held: tuple[float, float] | None = None  # both changes on the images held out, where it was tried on them


def figures(found: Predictions, n_classes: int) -> Figures:
    """Return the accuracies and recalls of predictions."""
    right = found.plain == found.labels
    exchanged = (found.exchanged == found.labels).mean(0)
    n = np.bincount(found.labels, minlength=n_classes).astype(np.float64)
    with np.errstate(invalid="ignore"):
        recall = np.bincount(found.labels, right, n_classes) / n
        other = np.bincount(found.labels, exchanged, n_classes) / n
    return Figures(float(right.mean()), float(exchanged.mean()), recall, other, len(right), n.astype(np.int64))


def change(before: Predictions, after: Predictions, clean: str = "all") -> tuple[float, float, float]:
    """Return the changes of accuracy as they are and with exchanged parts, and the latter's standard error.

    ``clean``: as they are, of ``"all"`` images, or of the ``"unmoved"`` ones, which the network before is as right
    about with another's part, in every round, as without: neither does the part help it there nor hinder it.
    """
    right = before.plain == before.labels
    counted = np.ones(len(right), dtype=bool)
    if clean == "unmoved":
        counted = ((before.exchanged == before.labels) == right).all(0)
    kept = 0.0
    if counted.any():
        kept = float((after.plain == after.labels)[counted].mean() - right[counted].mean())
    each = (after.exchanged == after.labels).mean(0) - (before.exchanged == before.labels).mean(0)
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.inf
    return kept, float(each.mean()), float(error)


@dataclass
class Search:
    """The search for a repair: fitted on ``train``, chosen on its folds or on a part of ``test``, shown on the rest."""

    train: Bench
    test: Bench  # the same where there are no other images
    max_clean_loss: float
    clean: str
    epochs: int
    seed: int
    progress: bool

    def __post_init__(self) -> None:
        self._fitted_on = ~self.train.images.held
        self._others = self.test is not self.train
        self._models: dict[tuple[str, float], Made] = {}
        parts = self.test.images.parts
        # Of other images two parts in five are held out.
        self.held: Any = parts >= PARTS - 2 if self._others else self.train.images.held

    def candidates(self, ways: tuple[str, ...], *, asked: bool) -> tuple[list[Candidate], dict[str, str]]:
        """Return every way and strength with its figures on the folds, and the ways that cannot be gone."""
        found: list[Candidate] = []
        without: dict[str, str] = {}
        for how in ways:
            why = unfit(how, self.train)
            if not why and not asked:
                why = too_large(how, self.train)
            if not why and not asked and how in TRAINING:
                why = self._enough(found)
            if why:
                without[how] = why
                continue
            found += [self._measured(how, strength) for strength in STRENGTHS[how]]
        return found, without

    def _enough(self, found: list[Candidate]) -> str:
        """Return why training on is not needed: a quicker way leaves little to gain."""
        before = figures(self.test.predictions(None, ~self.held), self.test.network.n_outputs)
        most = max((one.exchanged for one in found if self._passes(one.clean)), default=0.0)
        if before.clean - (before.exchanged + most) <= self._close:
            return "not tried: a quicker way brings exchanged images nearly to the clean accuracy; ask for it by name"
        return ""

    @property
    def _close(self) -> float:
        return 2 * self.max_clean_loss + 0.01

    def _passes(self, clean: float) -> bool:
        return clean >= -self.max_clean_loss - 1e-9

    def _measured(self, how: str, strength: float) -> Candidate:
        found = list(self._compared(how, strength))
        clean, gain, error = 0.0, 0.0, np.inf
        if found:
            before, after = (_joined(part) for part in zip(*found, strict=True))
            clean, gain, error = change(before, after, self.clean)
        why = "no gain with exchanged parts that stands out"
        if gain > _STANDS_OUT * error:
            why = "within the bound, and another gains more"
            if not self._passes(clean):
                why = f"costs {-clean:.2%} of clean accuracy, more than {self.max_clean_loss:.2%}"
        return Candidate(how, strength, clean, gain, why)

    def _compared(self, how: str, strength: float) -> Iterator[tuple[Predictions, Predictions]]:
        """Yield predictions before and after a repair, on images that it was not fitted on."""
        if self._others:
            made = self._fit(how, strength, self._fitted_on, EXCHANGED)
            self._models[how, strength] = made
            yield self.test.predictions(None, ~self.held), self.test.predictions(made, ~self.held)
            return
        parts = self.train.images.parts
        for fold in range(PARTS):
            own = self._fitted_on & (parts == fold)
            rest = self._fitted_on & (parts != fold)
            if not own.any() or not rest.any():
                continue
            made = self._fit(how, strength, rest, EXCHANGED)
            yield self.train.predictions(None, own), self.train.predictions(made, own)
            # Training takes its time: one fold, and what was made without that fold is what is tried and returned.
            if not isinstance(made, Layer):
                self._models[how, strength] = made
                break

    def chosen(self, candidates: list[Candidate]) -> tuple[int | None, Made | None, list[Candidate]]:
        """Try the best on the images held out; return which is taken with what it makes, and all as they ended."""
        found = list(candidates)
        fine = [i for i, one in enumerate(found) if one.why.startswith("within")]
        fine.sort(key=lambda i: -found[i].exchanged)
        before = self.test.predictions(None, self.held)
        for i in fine[:_TRIES]:
            one = found[i]
            made = self._models.get((one.how, one.strength))
            if made is None:
                made = self.fitted(one, EXCHANGED)
            clean, gain, _ = change(before, self.test.predictions(made, self.held), self.clean)
            why = "taken"
            # It stood out where it was chosen; here it must be there again.
            if gain <= 0:
                why = "no gain on the images held out"
            elif not self._passes(clean):
                why = (
                    f"costs {-clean:.2%} of clean accuracy on the images held out, more than {self.max_clean_loss:.2%}"
                )
            found[i] = replace(one, why=why, held=(clean, gain))
            if why == "taken":
                return i, made, found
        return None, None, found

    def fitted(self, one: Candidate, kind: str) -> Made:
        """Return what a candidate makes of all images to fit on; a network of those without the first fold."""
        wanted = self._fitted_on
        if not self._others and (one.how, one.strength) in self._models:
            wanted = wanted & (self.train.images.parts != 0)
        return self._fit(one.how, one.strength, wanted, kind)

    def control(self, one: Candidate) -> Predictions:
        """Return the predictions of a repair of the same size whose exchanged parts tell nothing of the class."""
        return self.test.predictions(self.fitted(one, CONTROL), self.held)

    def _fit(self, how: str, strength: float, wanted: Any, kind: str) -> Made:
        return fit(how, strength, self.train, wanted, kind, epochs=self.epochs, seed=self.seed, progress=self.progress)


def _joined(found: Sequence[Predictions]) -> Predictions:
    return Predictions(
        np.concatenate([one.plain for one in found]),
        np.concatenate([one.exchanged for one in found], axis=1),
        np.concatenate([one.labels for one in found]),
    )
