"""Block pivoting of all classes in step while few columns are active, on the CPU.

The rule is that of :mod:`interpnet.mulasso._solver._block_pivoting`. A round is some fifty operations on small arrays,
so what counts is the cost of a call: the book-keeping is numpy's, whose calls cost a third of torch's, and
factorising, choosing and reading G's rows are torch's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import pull_of, sums_of_rows
from interpnet.mulasso._solver._block_pivoting import (
    EXCESS,
    FEW,
    MOST_ROUNDS,
    MOST_TIMES,
    PATIENCE,
    ROUNDING,
    SHARE,
    TINY,
    PivotResult,
)
from interpnet.support.types import Float64, Int64

_Bools = npt.NDArray[np.bool_]


class _Space:
    """Memory for the matrices of a round, used again in the next one.

    Freed memory goes back to the kernel, and new pages for a few matrices cost as much as factorising them.
    """

    def __init__(self) -> None:
        self._places = np.empty(0, dtype=np.int64)
        self._block = np.empty(0)
        self._factor = torch.empty(0, dtype=torch.float64)

    def of(self, C: int, K: int) -> tuple[npt.NDArray[np.int64], Float64, Tensor]:
        """Return arrays (C, K, K) for places, for blocks, and column by column for factors."""
        size = C * K * K
        if size > len(self._block):
            self._places = np.empty(2 * size, dtype=np.int64)
            self._block = np.empty(2 * size)
            self._factor = torch.empty(2 * size, dtype=torch.float64)
        shape = (C, K, K)
        factor = self._factor[:size].view(shape).mT
        return self._places[:size].reshape(shape), self._block[:size].reshape(shape), factor


@dataclass
class _Live:
    """The classes under way (C,), one row each; K slots."""

    ids: Int64  # which class a row is
    b: Float64  # (C, m)
    mu: Float64
    rounding: Float64  # a correlation below this is none
    columns: Int64  # (C, K): the guess of the active columns, the first one again in unused slots
    sign: Float64  # (C, K): their signs, 0 in unused slots
    fewest: Int64  # contradictions of a guess so far
    patience: Int64  # rounds left without fewer

    def rows(self, kept: _Bools) -> _Live:
        """Return the same with the classes ``kept`` only."""
        return _Live(*(getattr(self, field.name)[kept] for field in fields(self)))

    def sizes(self) -> Int64:
        """Return how many columns are active in each class."""
        sizes: Int64 = (self.sign != 0).sum(1)
        return sizes

    def places(self, columns: Int64) -> Int64:
        """Return where ``columns`` (C, K) stand in an array (C, m) without its shape."""
        places: Int64 = columns + np.arange(len(columns))[:, None] * self.b.shape[1]
        return places

    def signs(self, who: _Bools) -> npt.NDArray[np.int8]:
        """Return the guesses of the classes ``who``, with signs in the places of columns."""
        signs = np.zeros((int(who.sum()), self.b.shape[1]), dtype=np.int8)
        row, slot = self.sign[who].nonzero()
        signs[row, self.columns[who][row, slot]] = self.sign[who][row, slot]
        return signs


def pivot_narrow(
    G: Tensor, b: Tensor, mu: Tensor, guess: Tensor, *, positive: bool, max_rounds: int, widest: int
) -> PivotResult:
    """Solve every class at its radius, from and to the same as ``pivot``, for tensors on the CPU."""
    C, m = b.shape
    coef = np.zeros((C, m))
    ended = np.zeros(C, dtype=np.bool_)
    rounds = np.zeros(C, dtype=np.int64)
    handed_on = np.zeros((C, m), dtype=np.int8)
    live = _begin(b.numpy(), mu.numpy(), guess.numpy(), positive=positive)
    space = _Space()
    leaves = live.sizes() > widest
    ends = np.zeros_like(leaves)
    for _ in range(min(MOST_ROUNDS, max_rounds)):
        if leaves.any():
            lost = leaves & ~ends
            if lost.any():
                handed_on[live.ids[lost]] = live.signs(lost)
            live = live.rows(~leaves)
        if len(live.ids) == 0:
            break
        weight, multiplier, sound = _solve_guess(G, live, space)
        columns = live.columns
        contradictions = _exchange_wrong(G, live, weight, multiplier, positive=positive)
        rounds[live.ids] += 1
        ends = (contradictions == 0) & sound
        if ends.any():
            row, slot = weight[ends].nonzero()
            coef[live.ids[ends][row], columns[ends][row, slot]] = weight[ends][row, slot]
            ended[live.ids[ends]] = True
        better = contradictions < live.fewest
        live.patience = np.where(better, PATIENCE, live.patience - 1)
        live.fewest = np.minimum(contradictions, live.fewest)
        leaves = ends | ~sound | (live.patience <= 0) | (live.sizes() > widest)
    else:
        handed_on[live.ids[~ends]] = live.signs(~ends)
    return PivotResult(*map(torch.from_numpy, (coef, ended, rounds, handed_on)))


def _begin(b: Float64, mu: Float64, guess: npt.NDArray[np.int8], *, positive: bool) -> _Live:
    """Return the classes with their first guesses; where there is none, the strongest columns."""
    C, m = b.shape
    used = guess != 0
    sizes = used.sum(1)
    columns = np.zeros((C, max(1, int(sizes.max()))), dtype=np.int64)
    sign = np.zeros(columns.shape)
    row, column = used.nonzero()
    slot = np.arange(len(row)) - np.repeat(sizes.cumsum() - sizes, sizes)
    columns[row, slot] = column
    sign[row, slot] = guess[row, column]
    rounding = ROUNDING * np.abs(b).max(1)
    counts = (np.full(C, 2 * m + 1), np.full(C, PATIENCE))
    live = _Live(np.arange(C), b, mu, rounding, columns, sign, *counts)
    empty = sizes == 0
    if empty.any():
        _join(live, b, pull_of(b, positive=positive), np.where(empty, 0.0, np.inf), np.full(C, FEW))
    else:
        live.columns = np.where(sign != 0, columns, columns[:, :1])
    return live


def _solve_guess(G: Tensor, live: _Live, space: _Space) -> tuple[Float64, Float64, _Bools]:
    """Return the weights (C, K) and multiplier (C,) that active sets and signs imply, and which are sound (C,)."""
    sign = live.sign
    columns = live.columns
    places, block, factor = space.of(*columns.shape)
    np.add(columns[:, :, None] * len(G), columns[:, None, :], out=places)
    # The columns are in range; to check it would take a copy.
    G.numpy().reshape(-1).take(places, out=block, mode="clip")
    right = np.empty((*sign.shape, 2))
    right[:, :, 0] = live.b.reshape(-1)[live.places(columns)]
    right[:, :, 1] = sign
    row, slot = (sign == 0).nonzero()
    if len(row) > 0:
        block[row, slot] = 0.0
        block[row, :, slot] = 0.0
        block[row, slot, slot] = 1.0
        right[row, slot] = 0.0
    info = torch.empty(len(sign), dtype=torch.int32)
    torch.linalg.cholesky_ex(torch.from_numpy(block), out=(factor, info))
    down = torch.linalg.solve_triangular(factor, torch.from_numpy(right), upper=False).numpy()
    along = down[:, :, 0]
    across = down[:, :, 1]
    with np.errstate(all="ignore"):
        multiplier = np.maximum(((along * across).sum(1) - live.mu) / (across * across).sum(1), 0.0)
        rest = along - multiplier[:, None] * across
    back = torch.linalg.solve_triangular(factor.mT, torch.from_numpy(rest[:, :, None]), upper=True)
    weight = back.numpy()[:, :, 0]
    sound = (info.numpy() == 0) & np.isfinite(weight).all(1) & sign.any(1)
    # What is not sound is handed on with its guess as it is: nothing leaves, and nothing joins.
    weight[~sound] = sign[~sound]
    multiplier[~sound] = np.inf
    return weight, multiplier, sound


def _exchange_wrong(G: Tensor, live: _Live, weight: Float64, multiplier: Float64, *, positive: bool) -> Int64:
    """Exchange what contradicts the guesses; return how much that is, for each class."""
    used = live.sign != 0
    counts = used.sum(1)
    image = sums_of_rows(G, *map(torch.from_numpy, (live.columns[used], counts, weight[used])))
    correlation = live.b - image.numpy()
    pull = correlation.copy() if positive else np.abs(correlation)
    pull.reshape(-1)[live.places(live.columns)] = -np.inf
    bound = multiplier * (1 + EXCESS) + live.rounding
    wrong = (weight * live.sign <= 0) & used
    many = wrong.sum(1)
    live.sign[wrong] = 0.0
    with np.errstate(over="ignore"):
        far = np.clip(live.mu / (2 * np.abs(weight).sum(1) + TINY), 1, MOST_TIMES[positive])
    times = np.where(multiplier > 0, 1 / SHARE, far)
    room = np.maximum(((counts - many) * times).astype(np.int64), FEW)
    contradictions: Int64 = (pull > bound[:, None]).sum(1) + many
    _join(live, correlation, pull, bound, room)
    return contradictions


def _join(live: _Live, correlation: Float64, pull: Float64, bound: Float64, room: Int64) -> None:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join the active ones; used slots come first."""
    values, indices = torch.from_numpy(pull).topk(min(int(room.max()), pull.shape[1]))
    top = indices.numpy()
    joins = (values.numpy() > bound[:, None]) & (np.arange(top.shape[1]) < room[:, None])
    signs = np.sign(correlation.reshape(-1)[live.places(top)]) * joins
    columns = np.concatenate([live.columns, top], 1)
    sign = np.concatenate([live.sign, signs], 1)
    unused = sign == 0
    width = max(1, sign.shape[1] - int(unused.sum(1).min()))
    order = unused.argsort(1, kind="stable")[:, :width]
    order += np.arange(len(order))[:, None] * sign.shape[1]
    columns = columns.reshape(-1)[order]
    live.sign = sign.reshape(-1)[order]
    live.columns = np.where(live.sign != 0, columns, columns[:, :1])
