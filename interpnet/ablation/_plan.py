"""Which channels each condition of an ablation study removes for each class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interpnet.ablation._rankings import rankings, scores_of
from interpnet.engine import Site
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.support.checks import instance_of, listed, optional, true_or_false
from interpnet.support.types import Bools, Float64, Int64

Drawn = tuple[str, str, Bools, int]
CONTROLS = ("random", "random-per-layer", "highest-activation", "d-prime")
_RANKINGS = ("highest-activation", "d-prime")
_NONE: Int64 = np.zeros(0, dtype=np.int64)
_BLOCK = 2048  # rows of scores that are read at a time


@dataclass(frozen=True)
class Plan:
    """What a study measures: which channels each condition removes for each class, and how often it is drawn."""

    interpretation: Interpretation
    table: ScoreTable | None
    controls: Sequence[str]
    repeats: int
    seed: int
    curve: bool
    single: bool
    outputs: str = "exclusive"
    only: Collection[int] | None = None  # the classes that are studied; None for all
    contributions: Contributions | None = None

    def __post_init__(self) -> None:
        unknown = [one for one in listed(self.controls, "controls") if one not in (*CONTROLS, *rankings())]
        if unknown:
            raise InterpNetError(
                f"controls={unknown}; expected some of {', '.join((*CONTROLS, *rankings()))}, or a ranking of your own "
                "that was entered with register_ranking"
            )
        optional(instance_of, self.contributions, "contributions", Contributions)
        optional(instance_of, self.table, "table", ScoreTable)
        true_or_false(self.curve, "curve")
        true_or_false(self.single, "single")

    @cached_property
    def relevant(self) -> list[Int64]:
        """The columns relevant to each class, by falling ``|weight|``; none of a class that is not studied."""
        # Of thousands of classes few may have images, and so weights.
        weighted = np.count_nonzero(self.interpretation.coef, axis=1)
        columns = [_NONE] * len(weighted)
        for c in np.flatnonzero(weighted).tolist():
            if self.only is None or c in self.only:
                columns[c] = self.interpretation.columns(c)
        return columns

    @cached_property
    def weighted(self) -> list[int]:
        """The classes with a relevant channel."""
        return [c for c, columns in enumerate(self.relevant) if len(columns)]

    def lists(self, kind: str, allowed: Bools) -> list[Int64]:
        """Return the columns that condition ``kind`` removes for each class, in the first draw where it is drawn."""
        if kind.startswith("random"):
            return [self.draws(kind, allowed, c, 0, 1)[0] for c in range(len(self.relevant))]
        return [self.columns(kind, c, allowed) for c in range(len(self.relevant))]

    def draws(self, kind: str, allowed: Bools, c: int, number: int, count: int) -> list[Int64]:
        """Return ``count`` lists of columns that a random condition removes for class c in pass ``number``.

        Each is in random order, so that its first k are a draw of k. More of them begin with the same.
        """
        relevant = self.relevant[c]
        relevant = relevant[allowed[relevant]]
        if not len(relevant):
            return [_NONE] * count
        free = allowed.copy()
        free[self.relevant[c]] = False  # a random control never draws a channel that is relevant to the class
        pool = np.flatnonzero(free)
        # A generator for each pass and class, so that no draw depends on what else is measured.
        rng = np.random.default_rng([self.seed, 2, number, c])
        if kind == "random":
            parts = [(pool, len(relevant))]
        else:
            layers = zip(*np.unique(self.layer_of[relevant], return_counts=True), strict=True)
            parts = [(pool[self.layer_of[pool] == layer], int(size)) for layer, size in layers]
        return [np.concatenate([_some(here, size, rng) for here, size in parts]) for _ in range(count)]

    @cached_property
    def longest(self) -> int:
        """The most channels that are relevant to one class."""
        return max(len(columns) for columns in self.relevant)

    @cached_property
    def layer_of(self) -> Int64:
        """The number of each column's layer (m,)."""
        sizes = [size for _, size in self.interpretation.channels.sizes]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def steps(self) -> list[int]:
        """How many channels each point of the curve removes: 1, 2, 4, ... and all."""
        if not self.curve or not self.longest:
            return []
        return sorted({self.longest, *(1 << i for i in range(self.longest.bit_length()))})

    def conditions(self, sites: Sequence[Site]) -> list[Drawn]:
        """Return (kind, layers, which columns may be removed, repeats) of all conditions, in order.

        There are no repeats of what is not drawn.
        """
        kinds = ["relevant", "relevant-positive", *(c for c in CONTROLS if c in self.controls), *self.own]
        if self.interpretation.by == "reliance":
            # It names channels that a class relies on, with positive numbers only.
            kinds.remove("relevant-positive")
        if self.table is None:
            kinds = [kind for kind in kinds if kind not in _RANKINGS]
        conv = np.isin(self.layer_of, [i for i, site in enumerate(sites) if site.family == "conv"])
        groups = {"all": np.ones_like(conv)}
        if conv.any() and not conv.all():  # else the second group would repeat the first, or be empty
            groups["conv"] = conv
        repeats = {kind: self.repeats for kind in kinds if kind.startswith("random")}
        return [(kind, layers, mask, repeats.get(kind, 0)) for layers, mask in groups.items() for kind in kinds]

    def columns(self, kind: str, c: int, allowed: Bools) -> Int64:
        """Return the columns that a condition which is not drawn removes for class c, among those ``allowed`` (m,)."""
        relevant = self.relevant[c]
        if not len(relevant):
            return relevant
        if kind == "relevant-positive":
            relevant = self.interpretation.columns(c, "positive")
        relevant = relevant[allowed[relevant]]
        if kind.startswith("relevant") or not len(relevant):
            return relevant
        candidates = np.flatnonzero(allowed)
        # These controls may name relevant channels: often they are the active ones.
        falling = np.argsort(-self._ranking(kind, c)[candidates], kind="stable")
        return candidates[falling[: len(relevant)]]

    def _ranking(self, kind: str, c: int) -> Float64:
        """Return what a control ranks channels by (m,), from the training images of class c."""
        if kind in self.own:
            own: Float64 = self.own[kind][c]
            return own
        if self.table is None:
            raise InterpNetError(f"the control {kind!r} needs table=, the training scores")
        if (kind, c) not in self._ranked:
            rows = self._images_of(c)
            if kind == "d-prime":
                self._ranked[kind, c] = _d_prime(self.table, rows, *self._moments)
            else:
                # Over the class's own images: the strongest ranking of this kind.
                self._ranked[kind, c] = self.table.channel_means(rows)
        return self._ranked[kind, c]

    def _images_of(self, c: int) -> Int64:
        """Return the training images of class c."""
        if self.table is None:
            raise InterpNetError("the training images of a class need table=, the training scores")
        labels = self.table.labels
        if labels.ndim == 1:
            return np.flatnonzero(labels == c)
        if self.outputs == "independent":
            return np.flatnonzero(labels[:, c] > 0.5)
        # A target matrix names no single class.
        return np.flatnonzero(self.table.predictions == c)

    @cached_property
    def own(self) -> dict[str, Float64]:
        """The scores (C, m) of the user's own rankings among the controls, by name."""
        asked = [one for one in dict.fromkeys(self.controls) if one not in CONTROLS]
        for name, given in (("table", self.table), ("contributions", self.contributions)):
            if asked and given is not None and given.channels != self.interpretation.channels:
                raise InterpNetError(
                    f"{name} has other channels than the interpretation, so a ranking's columns would not be its own; "
                    "expected those of the same layers"
                )
        shape = self.interpretation.coef.shape
        return {name: scores_of(name, self.table, self.contributions, shape) for name in asked}

    @cached_property
    def _ranked(self) -> dict[tuple[str, int], Float64]:
        return {}

    @cached_property
    def _moments(self) -> tuple[Float64, Float64]:
        """The sums over all training images of the scores and of their squares (m,)."""
        if self.table is None:
            raise InterpNetError("the control 'd-prime' needs table=, the training scores")
        return _sums(self.table, np.arange(len(self.table)))


def _some(pool: Int64, size: int, rng: np.random.Generator) -> Int64:
    """Return ``size`` different entries of ``pool`` in random order, or all where there are fewer."""
    some: Int64 = rng.choice(pool, min(size, len(pool)), replace=False)
    return some


def _sums(table: ScoreTable, rows: Int64) -> tuple[Float64, Float64]:
    """Return the sums of the scores of some images, and of their squares (m,)."""
    total = np.zeros(len(table.channels))
    squares = np.zeros(len(table.channels))
    for start in range(0, len(rows), _BLOCK):
        scores = table.X[rows[start : start + _BLOCK]].astype(np.float64)
        total += scores.sum(0)
        squares += (scores**2).sum(0)
    return total, squares


def _d_prime(table: ScoreTable, rows: Int64, total: Float64, squares: Float64) -> Float64:
    """Return d' (m,) of the scores of the images ``rows`` against all others (Green and Swets 1966).

    It is the difference of the two means over the root of the mean of the two variances; zero where nothing varies, or
    where there are no others.
    """
    n = len(rows)
    rest = len(table) - n
    if not n or not rest:
        return np.zeros(len(total))
    own, own_squares = _sums(table, rows)
    means = (own / n, (total - own) / rest)
    variances = (own_squares / n - means[0] ** 2, (squares - own_squares) / rest - means[1] ** 2)
    deviation = np.sqrt(np.maximum(variances[0], 0) / 2 + np.maximum(variances[1], 0) / 2)
    # What is left of rounding where a channel does not vary is no deviation.
    varies = deviation > 1e-7 * np.maximum(np.abs(means[0]), np.abs(means[1]))
    return np.divide(means[0] - means[1], deviation, out=np.zeros(len(total)), where=varies)
