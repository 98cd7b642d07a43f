r"""Block pivoting of one class with many active columns, on the CPU: no padding, and threads share the classes out.

The rule is that of :mod:`interpnet._mulasso_pivot`. Beyond some fifty active columns the factorisation and the reading
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

from interpnet._mulasso_linalg import rows_product
from interpnet._mulasso_pivot import EXCESS, FEW, MOST_ROUNDS, PATIENCE, ROUNDING, room_for

Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

# Columns left out of a guess because they depend on its others, before the class is handed on.
_MOST_DEPENDENT = 64
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
        solved = _solve(G, b, mu, active, s)
        if solved is None:
            break
        active, s, weight, level = solved
        correlation = b - rows_product(G, torch.from_numpy(active), torch.from_numpy(weight)).numpy()
        pull = correlation.copy() if positive else np.abs(correlation)
        pull[active] = -np.inf
        stays = weight * s > 0
        bound = level * (1 + EXCESS) + tiny
        count = int(np.count_nonzero(pull > bound)) + len(active) - int(np.count_nonzero(stays))
        if count == 0:
            coef = np.zeros(m)
            coef[active] = weight
            return WideResult(coef, True, rounds)
        fewest, patience = (count, PATIENCE) if count < fewest else (fewest, patience - 1)
        room = room_for(int(np.count_nonzero(stays)), level, mu, float(np.abs(weight).sum()), positive=positive)
        active, s = _join(active[stays], s[stays], correlation, pull, bound, room)
    return WideResult(np.zeros(m), False, rounds)


def _solve(G: Tensor, b: Float64, mu: float, active: Index, s: Float64) -> tuple[Index, Float64, Float64, float] | None:
    """Return active columns, signs, weights and multiplier; columns that depend on those before them are left out."""
    for _ in range(_MOST_DEPENDENT):
        if len(active) == 0:
            return active, s, s, 0.0
        along, across, back, fault = _half(G, active, np.array([b[active], s]))
        if fault == 0:
            break
        keep = np.arange(len(active)) != fault - 1
        active, s = active[keep], s[keep]
    else:
        return None
    level = max(0.0, float((across @ along - mu) / (across @ across)))
    weight = back(along - level * across)
    return (active, s, weight, level) if np.isfinite(weight).all() else None


def _half(G: Tensor, active: Index, right: Float64) -> tuple[Float64, Float64, Callable[[Float64], Float64], int]:
    """Factorise G_AA = L L'; return ``inv(L) right`` (2, K) by rows, the function ``inv(L')``, and LAPACK's info."""
    K = len(active)
    # One flat gather is several times as fast as indexing by rows and columns.
    where = np.add.outer(active * len(G), active)
    if K <= _SMALL:
        factor, info = dpotrf(G.numpy().ravel().take(where).T, lower=1, clean=0, overwrite_a=1)
        along, across = dtrtrs(factor, right.T, lower=1)[0].T
        return along, across, lambda x: dtrtrs(factor, x, lower=1, trans=1)[0], int(info)
    lower, fault = torch.linalg.cholesky_ex(G.view(-1).index_select(0, torch.from_numpy(where.ravel())).view(K, K))
    along, across = torch.linalg.solve_triangular(lower, torch.from_numpy(right).T, upper=False).numpy().T

    def back(x: Float64) -> Float64:
        solved: Float64 = torch.linalg.solve_triangular(lower.T, torch.from_numpy(x)[:, None], upper=True)[:, 0].numpy()
        return solved

    return along, across, back, int(fault)


def _join(
    active: Index, s: Float64, correlation: Float64, pull: Float64, bound: float, room: int
) -> tuple[Index, Float64]:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join; those that pull hardest come first."""
    free = np.flatnonzero(pull > bound)
    free = free[np.argsort(-pull[free], kind="stable")][:room]
    return np.concatenate([active, free]), np.concatenate([s, np.sign(correlation[free])])
