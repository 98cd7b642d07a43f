"""Whether a network's answers have anything to do with the labels, from few images: chance, and another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from interpnet.support.types import Int64

_LEVEL = 0.01  # accuracy at least so unlikely by chance is more than chance
KNOWN = 0.25  # of the images that chance does not give
_TELLS = 1e-4  # fewer images tell nothing: even if all were right, it could be chance
_SHUFFLES = 200
_ENOUGH = 0.9  # with so many right no other preparation is tried; so many answers alike are a habit
MOSTLY = 0.5  # of all images fit another order, and of a class's images are called another class, ...
_HARDLY = 0.1  # ... and its own only so many, where two classes are exchanged
FEWEST = 5  # images of a class that tells it
CLEARLY = 1e-4  # level of the paired comparison of two preparations
LEAST_GAIN = 0.1  # of the images


@dataclass(frozen=True)
class Agreement:
    """What an audit's images are called."""

    labels: Int64  # (n,) the outputs that should be largest
    predictions: Int64  # (n,)

    @property
    def n(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def right(self) -> int:
        """How many are called by their label."""
        return int(np.count_nonzero(self.labels == self.predictions))

    @property
    def accuracy(self) -> float:
        """Share of them."""
        return self.right / max(self.n, 1)

    @property
    def finite(self) -> bool:
        """Whether every logit is a number."""
        return int(self.predictions.min()) >= 0

    @property
    def well(self) -> bool:
        """Whether nothing better need be looked for."""
        return self.accuracy >= _ENOUGH

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return {"images": self.n, "accuracy": self.accuracy, "chance": self.chance}

    @property
    def short(self) -> str:
        """The figure in a few words."""
        return f"about {self.right}"

    @property
    def first_words(self) -> str:
        """What is said of a first look."""
        return f"{self.right} of {self.n} images right, {100 * self.chance:.0f} % by chance"

    @property
    def figure(self) -> str:
        """The figure in a sentence."""
        return f"the network is right about {self.right} of {self.n} training images ({100 * self.accuracy:.0f} %)"

    @property
    def by_chance(self) -> str:
        """What is said of a network at chance."""
        return f"no more than chance ({100 * self.chance:.0f} %)"

    def habit(self, names: Sequence[str]) -> str:
        """Say what the network answers whatever it sees; empty where that is no one thing."""
        favourite, share = self.favourite
        if share <= _ENOUGH:
            return ""
        return f"it calls {100 * share:.0f} % of them {names[favourite]!r}"

    @property
    def favourite(self) -> tuple[int, float]:
        """The most frequent answer, and its share of all."""
        counts = np.bincount(self.predictions)
        return int(counts.argmax()), float(counts.max()) / self.n

    @property
    def chance(self) -> float:
        """What independent answers as frequent as these would have in common with the labels.

        Examples
        --------
        >>> Agreement(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])).chance
        0.5
        """
        size = 1 + int(max(self.labels.max(initial=0), self.predictions.max(initial=0)))
        given = np.bincount(self.labels, minlength=size) / max(self.n, 1)
        # Below zero is what logits that are no numbers say.
        said = np.bincount(self.predictions[self.predictions >= 0], minlength=size) / max(self.n, 1)
        return float(given @ said)

    @property
    def tells(self) -> bool:
        """Whether there are enough images of two classes for full marks to be no chance."""
        classes = len(np.unique(self.labels))
        return classes > 1 and (1 / classes) ** self.n < _TELLS

    @property
    def at_chance(self) -> bool:
        """Whether as many right answers come by chance, and hardly by a network that knows a quarter of the images.

        Two one-sided binomial tests at 1 %: from few images neither follows.
        """
        knowing = self.chance + KNOWN * (1 - self.chance)
        by_chance = binom.sf(self.right - 1, self.n, self.chance) > _LEVEL
        return bool(by_chance and binom.cdf(self.right, self.n, knowing) < _LEVEL)

    def order(self) -> dict[int, int]:
        """Return which outputs some labels should be, where another order fits far better; empty where none does.

        The best order must be better by more than the best one for shuffled answers, which is above chance as well.
        Where none is better as a whole, classes are found that are exchanged among themselves. Either way half of the
        images must fit it.
        """
        found, matches = _best(self.labels, self.predictions)
        rng = np.random.default_rng(0)
        luck = max(_best(self.labels, rng.permutation(self.predictions))[1] for _ in range(_SHUFFLES))
        # What the classes' own order knows beyond chance, the best order must exceed beyond its own luck.
        moved = self._exchanged(found)
        if matches > luck and matches - luck > self.right - self.chance * self.n:
            moved = {label: output for label, output in found.items() if label != output}
        # A network without training tells clusters apart too, and calls them anything.
        should = np.array([moved.get(label, label) for label in self.labels.tolist()])
        if np.mean(should == self.predictions) < MOSTLY:
            return {}
        return moved

    def _exchanged(self, order: dict[int, int]) -> dict[int, int]:
        """Return the classes that take each other's places, going round among themselves."""
        moved = {}
        for label, output in order.items():
            own = self.predictions[self.labels == label]
            clear = len(own) >= FEWEST and np.mean(own == output) >= MOSTLY and np.mean(own == label) <= _HARDLY
            if clear and label != output:
                moved[label] = output
        return going_round(moved)

    def fits(self, order: dict[int, int]) -> tuple[int, int]:
        """Return how many of some classes' images are called as the classes in another order, and how many are."""
        right = sum(int(np.count_nonzero(self.predictions[self.labels == a] == b)) for a, b in order.items())
        return right, int(np.isin(self.labels, list(order)).sum())

    def clearly_below(self, other: Agreement) -> bool:
        """Whether another preparation of the same images is right about clearly more (exact paired test, 0.01 %)."""
        ours = self.labels == self.predictions
        theirs = other.labels == other.predictions
        won = int(np.count_nonzero(theirs & ~ours))
        lost = int(np.count_nonzero(ours & ~theirs))
        unlikely = binom.sf(won - 1, won + lost, 0.5) < CLEARLY
        return bool(unlikely and won - lost >= LEAST_GAIN * self.n)


def going_round(moved: dict[int, int]) -> dict[int, int]:
    """Return those of some moves that take each other's places: every place that is taken is left by another.

    Examples
    --------
    >>> going_round({0: 1, 1: 0, 2: 3})
    {0: 1, 1: 0}
    """
    while set(moved.values()) - moved.keys():
        moved = {label: output for label, output in moved.items() if output in moved}
    return moved


def _best(labels: Int64, predictions: Int64) -> tuple[dict[int, int], int]:
    """Return the one-to-one match of labels and answers that most images agree with, and how many do."""
    classes, rows = np.unique(labels, return_inverse=True)
    outputs, columns = np.unique(predictions, return_inverse=True)
    counts = np.zeros((len(classes), len(outputs)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    own, other = linear_sum_assignment(-counts)
    match = {int(classes[i]): int(outputs[j]) for i, j in zip(own, other, strict=True)}
    return match, int(counts[own, other].sum())
