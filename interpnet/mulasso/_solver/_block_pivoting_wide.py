r"""Block pivoting of one class with many active columns, on the CPU: no padding, and threads share the classes out.

The rule is that of :mod:`interpnet.mulasso`. Beyond some fifty active columns the factorisation and the reading
of G's rows are all that counts, and classes need different amounts of both. Those two are torch's, which lets other
threads run meanwhile; the book-keeping on vectors is numpy's, whose calls cost a third of torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dpotrf, dtrtrs
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import rows_product
from interpnet.mulasso._solver._block_pivoting import EXCESS, FEW, MOST_ROUNDS, PATIENCE, ROUNDING, room_for
from interpnet.mulasso._solver._simplex_exchange import shortest
from interpnet.support.types import Float64, Int64

# Factorisations in a round, each without the columns that the one before found dependent.
_MOST_ATTEMPTS = 64
# A column whose pivot is below this share of its own square depends on those before it: layers whose scores sum to one
# are together dependent up to the rounding of float32, and weights of a million would cancel.
_DEPENDENT = 1e-8
# Up to so many columns scipy's LAPACK factorises twice as fast as torch's; beyond, torch's lets other threads run.
_SMALL = 160


@dataclass(frozen=True)
class WideResult:
    """Weights (m,), whether they are the solution, and the rounds taken."""

    coef: Float64
    ended: bool
    rounds: int


def pivot_wide(
    G: Tensor, b: Float64, mu: float, guess: npt.NDArray[np.int8], *, positive: bool, max_rounds: int
) -> WideResult:
    """Solve one class at one radius from the signs ``guess`` (m,), 0 where inactive; ``b`` is (m,)."""
    m = len(b)
    tiny = ROUNDING * float(np.abs(b).max())
    active = np.flatnonzero(guess)
    s = guess[active].astype(np.float64)
    if len(active) == 0:
        active, s = _join(active, s, b, b if positive else np.abs(b), 0.0, FEW)
    fewest, patience, rounds = 2 * m + 1, PATIENCE, 0
    while patience > 0 and rounds < min(MOST_ROUNDS, max_rounds):
        rounds += 1
        system = _independent(G, active)
        if system is None:
            break
        left_out = active[~system.kept]
        active, s = active[system.kept], s[system.kept]
        weight, level = system.solve(b[active], s, mu)
        if not np.isfinite(weight).all():
            break
        correlation = b - rows_product(G, torch.from_numpy(active), torch.from_numpy(weight)).numpy()
        pull = correlation.copy() if positive else np.abs(correlation)
        pull[active] = -np.inf
        stays = weight * s > 0
        bound = level * (1 + EXCESS) + tiny
        excess = int(np.count_nonzero(pull > bound))
        count = excess + len(active) - int(np.count_nonzero(stays))
        if count == 0:
            return WideResult(_spread(m, active, weight), True, rounds)
        left_out = left_out[pull[left_out] > bound]
        if 0 < len(left_out) == count:
            # Nothing is wrong but that a shorter vector gives the same predictions.
            table = system.inverse(G.numpy()[np.ix_(active, left_out)])
            place, s = shortest(table, weight, s, positive=positive)
            if (place < len(active)).all():
                # It cannot: what is left is the rounding of the dependence itself. The certificate will say how much.
                return WideResult(_spread(m, active, weight), True, rounds)
            active = np.concatenate([active, left_out])[place]
            continue
        fewest, patience = (count, PATIENCE) if count < fewest else (fewest, patience - 1)
        room = room_for(int(np.count_nonzero(stays)), level, mu, float(np.abs(weight).sum()), positive=positive)
        # Fewer at a time where exchanging many has brought nothing.
        room = max(1, room >> (PATIENCE - patience))
        active, s = _join(active[stays], s[stays], correlation, pull, bound, room)
    return WideResult(np.zeros(m), False, rounds)


def _spread(m: int, active: Int64, weight: Float64) -> Float64:
    coef = np.zeros(m)
    coef[active] = weight
    return coef


@dataclass(frozen=True)
class _System:
    """G_AA = L L' of independent columns: which were kept of those asked for, inv(L) and inv(L')."""

    kept: npt.NDArray[np.bool_]
    down: Callable[[Float64], Float64]
    back: Callable[[Float64], Float64]

    def solve(self, b: Float64, s: Float64, mu: float) -> tuple[Float64, float]:
        """Return the weights and the multiplier that the signs ``s`` imply at the radius."""
        if len(s) == 0:
            return s, 0.0
        along, across = self.down(np.array([b, s]).T).T
        level = max(0.0, float((across @ along - mu) / (across @ across)))
        return self.back((along - level * across)[:, None])[:, 0], level

    def inverse(self, right: Float64) -> Float64:
        """Return inv(G_AA) ``right`` (K, n)."""
        return self.back(self.down(right))


def _independent(G: Tensor, active: Int64) -> _System | None:
    """Factorise; columns that depend on those before them are left out."""
    kept = np.arange(len(active))
    for _ in range(_MOST_ATTEMPTS):
        part = active[kept]
        if len(part) == 0:
            return _System(np.zeros(len(active), dtype=np.bool_), np.copy, np.copy)
        # One flat gather is several times as fast as indexing by rows and columns.
        where = np.add.outer(part * len(G), part)
        factor = _small(G, where) if len(part) <= _SMALL else _large(G, where)
        diagonal, root, info, down, back = factor
        good = np.ones(len(part), dtype=np.bool_)
        reached = info - 1 if info else len(part)
        good[:reached] = root[:reached] ** 2 > _DEPENDENT * diagonal[:reached]
        good[reached : reached + 1] = False
        if good.all():
            mask = np.zeros(len(active), dtype=np.bool_)
            mask[kept] = True
            return _System(mask, down, back)
        kept = kept[good]
    return None


_Solve = Callable[[Float64], Float64]


def _small(G: Tensor, where: Int64) -> tuple[Float64, Float64, int, _Solve, _Solve]:
    block = G.numpy().ravel().take(where)
    factor, info = dpotrf(block.T, lower=1, clean=0, overwrite_a=0)

    def down(x: Float64) -> Float64:
        solved: Float64 = dtrtrs(factor, x, lower=1)[0]
        return solved

    def back(x: Float64) -> Float64:
        solved: Float64 = dtrtrs(factor, x, lower=1, trans=1)[0]
        return solved

    return np.diagonal(block), np.diagonal(factor), int(info), down, back


def _large(G: Tensor, where: Int64) -> tuple[Float64, Float64, int, _Solve, _Solve]:
    block = G.view(-1).index_select(0, torch.from_numpy(where.ravel())).view(where.shape)
    factor, info = torch.linalg.cholesky_ex(block)

    def down(x: Float64) -> Float64:
        solved: Float64 = torch.linalg.solve_triangular(factor, torch.from_numpy(x), upper=False).numpy()
        return solved

    def back(x: Float64) -> Float64:
        solved: Float64 = torch.linalg.solve_triangular(factor.T, torch.from_numpy(x), upper=True).numpy()
        return solved

    return block.diagonal().numpy(), factor.diagonal().numpy(), int(info), down, back


def _join(
    active: Int64, s: Float64, correlation: Float64, pull: Float64, bound: float, room: int
) -> tuple[Int64, Float64]:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join; those that pull hardest come first."""
    free = np.flatnonzero(pull > bound)
    free = free[np.argsort(-pull[free], kind="stable")][:room]
    return np.concatenate([active, free]), np.concatenate([s, np.sign(correlation[free])])
