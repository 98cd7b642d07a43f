"""Whether a network's answers have anything to do with the labels, where an image can have several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom, rankdata

from interpnet.support.types import Bools, Float64, Int64

from .agreement import CLEARLY, FEWEST, KNOWN, LEAST_GAIN, MOSTLY, going_round

_DEVIATES = 2.326  # one side of 99 %, in standard errors
_TELLS = 14  # images with a label and without, so few of which could be right by chance (2^-14)
_ALWAYS = 0.98
_WELL = 0.9  # of what there is to know


@dataclass(frozen=True)
class LabelAgreement:
    """Which labels an audit's images have, and the network's logits.

    A label is known as far as its logit is larger for images that have it than for those that lack it: twice the area
    under the ROC curve, less one, which is 0 by chance and 1 for full marks, wherever the threshold is. Labels count
    alike.
    """

    targets: Bools  # (n, C)
    logits: npt.NDArray[np.floating[Any]]  # (n, C)

    @property
    def n(self) -> int:
        """How many images there are."""
        return len(self.targets)

    @property
    def finite(self) -> bool:
        """Whether every logit is a number."""
        return bool(np.isfinite(self.logits).all())

    @property
    def given(self) -> Bools:
        """The labels that the network gives each image (n, C)."""
        said: Bools = self.logits > 0
        return said

    @cached_property
    def _counts(self) -> Int64:
        """How many images have each label, and lack it (2, C)."""
        has = self.targets.sum(0)
        return np.stack([has, self.n - has])

    @cached_property
    def _there(self) -> Bools:
        """The labels that some images have and some lack (C,)."""
        found: Bools = self._counts.min(0) > 0
        return found

    @cached_property
    def _known(self) -> Float64:
        """How well output k tells the images that have label j from those that lack it (C, C); 0 where none do."""
        ranks = rankdata(self.logits, axis=0)
        has, lacks = self._counts[:, :, None].astype(np.float64)
        above = self.targets.T.astype(np.float64) @ ranks - has * (has + 1) / 2
        area = np.divide(above, has * lacks, out=np.full(above.shape, 0.5), where=has * lacks > 0)
        known: Float64 = 2 * area - 1
        return known

    @property
    def _errors(self) -> Float64:
        """The standard error of what is known of each label (C,), by answers that know nothing (Mann, Whitney 1947)."""
        has, lacks = np.maximum(self._counts, 1).astype(np.float64)
        errors: Float64 = 2 * np.sqrt((self.n + 1) / (12 * has * lacks))
        return errors

    @property
    def recall(self) -> float:
        """The mean over labels of the share of the images with a label that are given it."""
        return self._mean((self.given & self.targets).sum(0) / np.maximum(self._counts[0], 1))

    @property
    def false_alarms(self) -> float:
        """The mean over labels of the share of the images without a label that are given it."""
        return self._mean((self.given & ~self.targets).sum(0) / np.maximum(self._counts[1], 1))

    def _mean(self, values: Float64) -> float:
        if not self._there.any():
            return float("nan")
        return float(values[self._there].mean())

    @property
    def known(self) -> float:
        """How well the labels are known, their mean."""
        return self._mean(self._known.diagonal())

    @property
    def tells(self) -> bool:
        """Whether there are enough images for full marks to be no chance."""
        return int(self._counts.min(0).sum()) >= _TELLS

    @property
    def well(self) -> bool:
        """Whether nothing better need be looked for."""
        return self.known >= _WELL

    @property
    def at_chance(self) -> bool:
        """Whether what is known may be nothing, and is surely less than a quarter (both 99 %, of one side)."""
        errors = self._errors[self._there]
        error = float(np.sqrt((errors**2).sum())) / max(len(errors), 1)
        return self.known < _DEVIATES * error and self.known + _DEVIATES * error < KNOWN

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return {"images": self.n, "recall": self.recall, "false_alarms": self.false_alarms}

    @property
    def short(self) -> str:
        """The figures in a few words."""
        return f"{self._area:.2f}"

    @property
    def _area(self) -> float:
        return (1 + self.known) / 2

    @property
    def first_words(self) -> str:
        """What is said of a first look."""
        found = f"{100 * self.recall:.0f} % of the labels of {self.n} images found"
        return f"{found}, {100 * self.false_alarms:.0f} % of those that they lack given"

    @property
    def figure(self) -> str:
        """The figures in a sentence."""
        return (
            f"the network finds {100 * self.recall:.0f} % of the labels of {self.n} training images and gives "
            f"{100 * self.false_alarms:.0f} % of those that they lack (area under the ROC curve {self._area:.2f})"
        )

    @property
    def by_chance(self) -> str:
        """What is said of a network at chance."""
        return "no more than chance"

    def habit(self, names: Sequence[str]) -> str:
        """Say what the network answers whatever it sees; empty where that is no one thing."""
        share = float(self.given.mean())
        if share > _ALWAYS:
            return f"it gives nearly every one of the {len(names)} labels to nearly every image"
        if share < 1 - _ALWAYS:
            return "it gives hardly any label to any image"
        return ""

    def order(self) -> dict[int, int]:
        """Return which outputs some labels should be, where these are exchanged among themselves."""
        at = np.flatnonzero(self._there)
        rows, columns = linear_sum_assignment(-self._known[np.ix_(at, at)])
        moved = {}
        for label, output in zip(at[rows].tolist(), at[columns].tolist(), strict=True):
            other = self._known[label, output]
            # Labels that often go together tell of each other.
            clear = min(other, other - self._known[label, label]) >= MOSTLY
            if label != output and clear and self._counts[0, label] >= FEWEST:
                moved[label] = output
        return going_round(moved)

    def fits(self, order: dict[int, int]) -> tuple[int, int]:
        """Return how many of some labels' images are given the labels' outputs in another order, and how many are."""
        right = sum(int((self.targets[:, label] & self.given[:, output]).sum()) for label, output in order.items())
        return right, int(self.targets[:, list(order)].sum())

    def clearly_below(self, other: LabelAgreement) -> bool:
        """Whether another preparation of the same images is clearly better.

        An exact paired test (0.01 %) of every label of an image: which share of the images that lack it lie below.
        """
        ours, theirs = (np.concatenate(one.places()) for one in (self, other))
        won = int(np.count_nonzero(theirs > ours))
        lost = int(np.count_nonzero(ours > theirs))
        unlikely = binom.sf(won - 1, won + lost, 0.5) < CLEARLY
        return bool(unlikely and other.known - self.known >= LEAST_GAIN)

    def places(self) -> list[Float64]:
        """Return for each label the share of the images without it that lie below each image with it."""
        found = []
        for label in np.flatnonzero(self._there).tolist():
            has = self.targets[:, label]
            lacks = np.sort(self.logits[~has, label])
            below = [np.searchsorted(lacks, self.logits[has, label], side) for side in ("left", "right")]
            found.append((below[0] + below[1]) / (2 * len(lacks)))
        return found
