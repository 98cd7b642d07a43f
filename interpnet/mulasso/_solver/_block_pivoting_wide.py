r"""Block pivoting of one class with many active columns, on the CPU: no padding, and threads share the classes out.

The rule is that of :mod:`interpnet.mulasso`. Beyond some hundred active columns the factorisation and the reading
of G's rows are all that counts, and classes need different amounts of both. Those two are torch's, which lets other
threads run meanwhile; the book-keeping on vectors is numpy's, whose calls cost a third of torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dpotrf, dtrtrs
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import pull_of, rows_product
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


def pivot_wide(
    G: Tensor, b: Float64, mu: float, guess: npt.NDArray[np.int8], *, positive: bool, max_rounds: int
) -> tuple[Float64 | None, int]:
    """Solve one class at one radius from the signs ``guess`` (m,), 0 where inactive; ``b`` is (m,).

    Returns the weights (m,), None where the exchanges did not end, and the rounds.
    """
    m = len(b)
    rounding = ROUNDING * float(np.abs(b).max())
    active = np.flatnonzero(guess)
    sign = guess[active].astype(np.float64)
    if len(active) == 0:
        active, sign = _join(active, sign, b, pull_of(b, positive=positive), 0.0, FEW)
    fewest = 2 * m + 1
    patience = PATIENCE
    rounds = 0
    while patience > 0 and rounds < min(MOST_ROUNDS, max_rounds):
        rounds += 1
        independent = _independent(G, active)
        if independent is None:
            break
        kept, factor = independent
        left_out = active[~kept]
        active = active[kept]
        sign = sign[kept]
        weight, multiplier = factor.solve(b[active], sign, mu)
        if not np.isfinite(weight).all():
            break
        correlation = b - rows_product(G, torch.from_numpy(active), torch.from_numpy(weight)).numpy()
        pull = pull_of(correlation, positive=positive).copy()
        pull[active] = -np.inf
        bound = multiplier * (1 + EXCESS) + rounding
        stays = weight * sign > 0
        remaining = int(np.count_nonzero(stays))
        contradictions = int(np.count_nonzero(pull > bound)) + len(active) - remaining
        if contradictions == 0:
            return _spread(m, active, weight), rounds
        left_out = left_out[pull[left_out] > bound]
        if 0 < len(left_out) == contradictions:
            # Nothing is wrong but that a shorter vector gives the same predictions.
            table = factor.inverse(G.numpy()[np.ix_(active, left_out)])
            place, sign = shortest(table, weight, sign, positive=positive)
            if (place < len(active)).all():
                # It cannot: what is left is the rounding of the dependence itself. The certificate will say how much.
                return _spread(m, active, weight), rounds
            active = np.concatenate([active, left_out])[place]
            continue
        patience -= 1
        if contradictions < fewest:
            fewest = contradictions
            patience = PATIENCE
        room = room_for(remaining, multiplier, mu, float(np.abs(weight).sum()), positive=positive)
        # Fewer at a time where exchanging many has brought nothing.
        room = max(1, room >> (PATIENCE - patience))
        active, sign = _join(active[stays], sign[stays], correlation, pull, bound, room)
    return None, rounds


def _spread(m: int, active: Int64, weight: Float64) -> Float64:
    coef = np.zeros(m)
    coef[active] = weight
    return coef


_Solve = Callable[[Float64], Float64]


@dataclass(frozen=True)
class _Factor:
    """The Cholesky factorisation G_AA = L L', as far as it came."""

    diagonal: Float64  # of G_AA
    root: Float64  # the diagonal of L
    info: int  # LAPACK's: 0, or one more than the columns that were reached
    down: _Solve  # solves with L
    back: _Solve  # solves with L'

    def independent(self) -> npt.NDArray[np.bool_]:
        """Return which columns do not depend on those before them (K,), as far as the factorisation came."""
        reached = self.info - 1 if self.info else len(self.root)
        good = np.ones(len(self.root), dtype=np.bool_)
        good[:reached] = self.root[:reached] ** 2 > _DEPENDENT * self.diagonal[:reached]
        good[reached : reached + 1] = False
        return good

    def solve(self, b: Float64, sign: Float64, mu: float) -> tuple[Float64, float]:
        """Return the weights and the multiplier that the signs imply at the radius."""
        if len(sign) == 0:
            return sign, 0.0
        along, across = self.down(np.array([b, sign]).T).T
        multiplier = max(0.0, float((across @ along - mu) / (across @ across)))
        return self.back((along - multiplier * across)[:, None])[:, 0], multiplier

    def inverse(self, right: Float64) -> Float64:
        """Return inv(G_AA) ``right`` (K, n)."""
        return self.back(self.down(right))


def _independent(G: Tensor, active: Int64) -> tuple[npt.NDArray[np.bool_], _Factor] | None:
    """Factorise; return which columns (K,) were kept, for those that depend on others before them are left out."""
    kept = np.arange(len(active))
    for _ in range(_MOST_ATTEMPTS):
        columns = active[kept]
        # One flat gather is several times as fast as indexing by rows and columns.
        where = np.add.outer(columns * len(G), columns)
        if len(columns) == 0:
            factor = _Factor(np.zeros(0), np.zeros(0), 0, np.copy, np.copy)  # LAPACK refuses it
        else:
            factor = _by_lapack(G, where) if len(columns) <= _SMALL else _by_torch(G, where)
        good = factor.independent()
        if good.all():
            mask = np.zeros(len(active), dtype=np.bool_)
            mask[kept] = True
            return mask, factor
        kept = kept[good]
    return None


def _by_lapack(G: Tensor, where: Int64) -> _Factor:
    block = G.numpy().ravel().take(where)
    L, info = dpotrf(block.T, lower=1, clean=0, overwrite_a=0)
    down = partial(dtrtrs, L, lower=1)
    back = partial(dtrtrs, L, lower=1, trans=1)
    return _Factor(np.diagonal(block), np.diagonal(L), int(info), lambda x: down(x)[0], lambda x: back(x)[0])


def _by_torch(G: Tensor, where: Int64) -> _Factor:
    block = G.view(-1).index_select(0, torch.from_numpy(where.ravel())).view(where.shape)
    L, info = torch.linalg.cholesky_ex(block)
    triangular = torch.linalg.solve_triangular
    return _Factor(
        block.diagonal().numpy(),
        L.diagonal().numpy(),
        int(info),
        lambda x: triangular(L, torch.from_numpy(x), upper=False).numpy(),
        lambda x: triangular(L.T, torch.from_numpy(x), upper=True).numpy(),
    )


def _join(
    active: Int64, sign: Float64, correlation: Float64, pull: Float64, bound: float, room: int
) -> tuple[Int64, Float64]:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join; those that pull hardest come first."""
    free = np.flatnonzero(pull > bound)
    free = free[np.argsort(-pull[free], kind="stable")][:room]
    return np.concatenate([active, free]), np.concatenate([sign, np.sign(correlation[free])])
