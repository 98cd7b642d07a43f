"""The mu-lasso without an (m, m) matrix: solve on some channels, certify on all of them, add those that are missing.

docs/method.md, section 2.5. The certificate is that of section 2.3 on all channels, from one pass over the scores, so
it does not depend on how the working set was found.

Sources: Fan, Chang, Hsieh, Wang & Lin, "LIBLINEAR", JMLR 9 (2008) and Massias, Gramfort & Salmon, "Celer", ICML 2018
(working sets for l1 problems).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from interpnet.errors import InterpNetError
from interpnet.gram import RowGram, usable_memory
from interpnet.mulasso._arguments import Options
from interpnet.mulasso._solver._batched_systems import pull_of
from interpnet.mulasso._solver._certified import Solution, held_back, objective_at_zero, solve
from interpnet.support.progress import step_of
from interpnet.support.types import Float64, Int64

Pairs = tuple[Int64, Int64]
# Columns that a problem asks for in a round where there are few: so many, and so many times its weights more. Of many
# problems each asks for fewer, so that the matrix of the working set costs no more than a pass.
_FEW = 16
_TIMES = 3
_FEWEST = 4
# The restricted problem is solved to this share of the tolerance; what is left is for the columns outside.
_INNER = 0.1
# Rounds in a row without a smaller gap after which a class is left with its certificate, and the most there can be.
_PATIENCE = 4
_MOST_ROUNDS = 60
# Shares of the memory: the matrix of the working set and what the solver makes of it; arrays (classes, m).
_SET = 0.25
_COPIES_OF_SET = 3
_CLASSES = 0.25
_ARRAYS = 4
_LARGEST = 2.0**60


@dataclass
class _Found:
    """What is known of every class at every radius."""

    coef: Float64  # (T, C, m)
    gap: Float64  # (T, C)
    pull: Float64  # (T, C): the multiplier
    steps: Int64  # (C,)


def solve_by_rows(
    rows: RowGram, mus: Float64, options: Options, start: Float64 | None = None, *, most: int | None = None
) -> Solution:
    """Solve as :func:`interpnet.mulasso._solver._certified.solve` does, from rows instead of a Gram.

    ``most`` is the largest number of columns in a working set; by default what a quarter of the memory holds. A class
    whose solution has more than that is an InterpNetError.
    """
    radii = np.ascontiguousarray(np.broadcast_to(mus.reshape(len(mus), -1), (len(mus), rows.n_classes)))
    T, C = radii.shape
    found = _Found(np.zeros((T, C, rows.m)), np.zeros((T, C)), np.zeros((T, C)), np.zeros(C, dtype=np.int64))
    # Processes on machines of different sizes do the same; no memory known is room for everything.
    memory = rows.share(min(usable_memory(), _LARGEST))
    if most is None:
        most = int(np.sqrt(_SET * memory / (8 * _COPIES_OF_SET)))
    together = max(1, int(_CLASSES * memory / (8 * _ARRAYS * T * rows.m)))
    # A class without images has no weights, which is exact.
    there = np.flatnonzero(rows.yy > 0)
    waiting = deque(there[i : i + together] for i in range(0, len(there), together))
    advance = step_of("Solving")
    advance(C - len(there))
    while waiting:
        classes = waiting.popleft()
        left = _Block(rows, classes, radii, options, found, min(most, rows.m)).solve(start)
        advance(len(classes) - len(left))
        if len(left) == 1 and len(classes) == 1:
            raise InterpNetError(
                f"class {left[0]} needs more than {most:,} of {rows.m:,} channels at mu={radii[:, left[0]].max():g}, "
                "and their Gram matrix does not fit into the memory; expected a smaller mu, fewer channels (layers=, "
                "--layers), or a machine with more memory"
            )
        # What did not fit together is tried in halves.
        waiting.extendleft(half for half in np.array_split(left, 2) if len(half))
    active = held_back(found.coef, radii, found.pull, rows.B)
    return Solution(found.coef, found.gap, found.gap / objective_at_zero(rows), found.steps, active)


class _Block:
    """Classes that share a working set and the passes over the scores."""

    def __init__(
        self, rows: RowGram, classes: Int64, radii: Float64, options: Options, found: _Found, most: int
    ) -> None:
        self.rows = rows
        self.classes = classes
        self.radii = radii[:, classes]
        self.options = options
        self.found = found
        self.most = most
        self.columns = np.zeros(0, dtype=np.int64)  # the working set
        self.G = np.zeros((0, 0))
        # Whether a class at a radius is under way, and the rounds without a smaller gap that it has left.
        self.open = np.ones(self.radii.shape, dtype=bool)
        self.patience = np.full(self.radii.shape, _PATIENCE)
        self.goal = options.tol * objective_at_zero(rows)[classes]
        self.signs = np.zeros((len(classes), rows.m), dtype=np.int8)  # where the next solution begins
        found.gap[:, classes] = np.inf

    def solve(self, start: Float64 | None) -> Int64:
        """Solve, write down what was found, and return the classes for which there was no room."""
        positive = self.options.positive
        if start is not None:
            self.signs = np.sign(start[self.classes]).astype(np.int8)
        pull = pull_of(self.rows.B.T[self.classes], positive=positive)
        worth = self._worth(pull, np.zeros(len(self.classes)), np.zeros(len(self.classes), dtype=np.int64))
        worth[(self.signs != 0).any(axis=0)] = np.inf
        # Where no column is asked for, no weights are the solution; its certificate needs a set all the same.
        worth[self.rows.diagonal.argmax()] += 1.0
        for _ in range(_MOST_ROUNDS):
            if not self._join(worth):
                return self.classes[self.open.any(axis=0)]
            worth = self._round()
            if not self.open.any():
                break
        return np.zeros(0, dtype=np.int64)

    def _round(self) -> Float64:
        """Solve on the working set, certify on all columns, and return what each column outside is worth (m,)."""
        rows = self.rows
        live = np.flatnonzero(self.open.any(axis=0))
        names = self.classes[live]
        gram = rows.on(self.columns, self.G, names)
        inner = replace(self.options, tol=_INNER * self.options.tol)
        solution = solve(gram, self.radii[:, live], inner, self.signs[live][:, self.columns].astype(np.float64))
        self.found.steps[names] += solution.n_iter
        weights = rows.same(solution.coef)
        self.signs[live] = 0
        self.signs[live[:, None], self.columns] = np.sign(weights[0]).astype(np.int8)
        t, place = np.nonzero(self.open[:, live])
        chosen = weights[t, place]
        used = (chosen != 0).any(axis=0)
        gradient = rows.gradient(self.columns[used], chosen[:, used], names[place])
        slope = np.einsum("pk,pk->p", chosen, gradient[:, self.columns])
        pull = pull_of(np.negative(gradient, out=gradient), positive=self.options.positive)
        level = np.maximum(pull[:, self.columns].max(axis=1), 0.0)
        largest = np.maximum(pull.max(axis=1), 0.0)
        # The certificate of docs/method.md, section 2.3, on all channels.
        gap = np.maximum(slope + self.radii[t, live[place]] * largest, 0.0)
        pairs = (t, live[place])
        self._keep(pairs, names[place], chosen, gap, largest)
        self.open[pairs] = rows.share((self.open[pairs] & (largest > level)).tolist())
        still = self.open[pairs]
        worth = self._worth(pull[still], level[still], (chosen[still] != 0).sum(axis=1))
        return rows.same(worth)

    def _keep(self, pairs: Pairs, names: Int64, weights: Float64, gap: Float64, pull: Float64) -> None:
        """Write down the weights of pairs whose gap is the smallest so far, and close those that are done."""
        t, place = pairs
        better = gap < self.found.gap[t, names]
        self.patience[pairs] = np.where(better, _PATIENCE, self.patience[pairs] - 1)
        for p in np.flatnonzero(better):
            self.found.coef[t[p], names[p]] = 0.0
            self.found.coef[t[p], names[p], self.columns] = weights[p]
        self.found.gap[t[better], names[better]] = gap[better]
        self.found.pull[t[better], names[better]] = pull[better]
        self.open[pairs] = (gap > self.goal[place]) & (self.patience[pairs] > 0)

    def _worth(self, pull: Float64, level: Float64, size: Int64) -> Float64:
        """Return what each column is worth (m,), 0 where none of the problems asks for it.

        A problem (P,) with ``size`` weights asks for columns whose ``pull`` (P, m) is above its ``level``: for those
        that lower its objective most, to second order.
        """
        live = self.rows.diagonal > 0
        excess = np.maximum(pull - level[:, None], 0.0)
        excess[:, self.columns] = 0.0
        excess[:, ~live] = 0.0
        gain = np.divide(excess**2, self.rows.diagonal, out=excess, where=live)
        worth = np.zeros(self.rows.m)
        few = np.clip(np.sqrt(self.rows.m / self.open.size), _FEWEST, _FEW)
        for own, several in zip(gain, (few * (1 + _TIMES * size / _FEW)).astype(int), strict=True):
            best = np.arange(len(own))
            if several < len(own):
                best = np.argpartition(-own, several)[:several]
            worth[best] = np.maximum(worth[best], own[best])
        return worth

    def _join(self, worth: Float64) -> bool:
        """Add the columns that are worth something to the working set; return whether there was room."""
        new = np.flatnonzero(worth)
        if len(self.columns) + len(new) > self.most:
            self._drop()
        room = self.most - len(self.columns)
        if len(new) > room:
            if len(self.classes) > 1 or room == 0:
                return False
            new = new[np.argsort(-worth[new], kind="stable")[:room]]
        kept = len(self.columns)
        self.columns = np.concatenate([self.columns, new])
        more = self.rows.products(self.columns, len(new))
        G = np.empty((len(self.columns), len(self.columns)))
        G[:kept, :kept] = self.G
        G[:, kept:] = more
        G[kept:, :kept] = more[:kept].T
        self.G = G
        return True

    def _drop(self) -> None:
        """Take the columns without a weight out of the working set."""
        live = self.open.any(axis=0)
        used = (self.signs[live][:, self.columns] != 0).any(axis=0)
        self.columns = self.columns[used]
        self.G = self.G[np.ix_(used, used)]
