r"""Block pivoting: guess the active set, solve for it exactly, exchange everything that contradicts the guess, at once.

With a guess A of the support and its signs s, the optimality system gives :math:`w_A = u - \lambda v` (as in the
homotopy) and the multiplier at which :math:`\|w\|_1 = \mu`. Weights of the wrong sign leave, columns whose
correlation exceeds the multiplier join. A dozen rounds, each a Cholesky factorisation and one product with ``G`` for
all classes, replace hundreds of steps of the homotopy. Nothing guarantees that the exchanges end, so a class whose
contradictions do not shrink is handed on to methods that are guaranteed; a class that ends is exact.

Source: Portugal, Judice & Vicente, "A comparison of block pivoting and interior-point algorithms for linear
least squares problems with nonnegative variables", Math. Comp. 63 (1994), here with signs and a bound on the l1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet._mulasso_linalg import factorise

# At first, and then in each round, as many columns may join as are active, but at least these.
_FEW = 16
# Rounds without fewer contradictions than ever before after which a class is handed on, and the most there can be.
_PATIENCE = 6
_MOST_ROUNDS = 60
# A correlation above the multiplier by this share (or this share of the largest at w = 0) is not rounding.
_EXCESS = 1e-10
_ROUNDING = 1e-13


@dataclass(frozen=True)
class PivotResult:
    """Solutions (C, m), which classes ended (C,), and the rounds each took (C,)."""

    coef: Tensor
    ended: Tensor
    rounds: Tensor


def pivot(G: Tensor, b: Tensor, mu: float, sign: Tensor, *, positive: bool, max_rounds: int) -> PivotResult:
    """Solve every class at one radius.

    Parameters
    ----------
    G : (m, m) float64 tensor
    b : (C, m) float64 tensor
        Correlations of the columns with each target.
    mu : float
        Radius, above zero.
    sign : (C, m) float64 tensor
        First guess: the signs of the weights, 0 where inactive; all zero for none. Not changed.
    positive : bool
        Weights may not be negative.
    max_rounds : int
        Rounds a class may take.
    """
    C, m = b.shape
    coef, rounds = torch.zeros_like(b), torch.zeros(C, dtype=torch.int64, device=b.device)
    ended = torch.zeros(C, dtype=torch.bool, device=b.device)
    start = b if positive else b.abs()
    tiny = _ROUNDING * b.abs().amax(1)
    live = torch.arange(C, device=b.device)
    sign = torch.where(sign.ne(0).any(1)[:, None], sign, _join(torch.zeros_like(b), b, start, start > 0, _FEW))
    fewest, patience = torch.full_like(live, 2 * m + 1), torch.full_like(live, _PATIENCE)
    for _ in range(min(_MOST_ROUNDS, max_rounds)):
        target = b[live]
        weight, level, info = _solve_guess(G, target, mu, sign)
        wrong = (weight * sign <= 0) & sign.ne(0)
        inside = weight.ne(0).any(0).nonzero()[:, 0]
        correlation = target - weight[:, inside] @ G[inside]
        pull = correlation if positive else correlation.abs()
        missing = (pull > (level * (1 + _EXCESS) + tiny[live])[:, None]) & sign.eq(0)
        count = (wrong | missing).sum(1)
        rounds[live] += 1
        sound = (info == 0) & weight.isfinite().all(1)
        done = (count == 0) & sound
        coef[live[done]], ended[live[done]] = weight[done], True
        fewer = count < fewest
        fewest, patience = torch.where(fewer, count, fewest), torch.where(fewer, _PATIENCE, patience - 1)
        on = ~done & sound & (patience > 0)
        if not bool(on.any()):
            break
        kept = torch.where(wrong, 0.0, sign)[on]
        room = sign[on].ne(0).sum(1).clamp(min=_FEW)
        sign = _join(kept, correlation[on], pull[on], missing[on], room)
        live, fewest, patience = live[on], fewest[on], patience[on]
    return PivotResult(coef, ended, rounds)


def _join(sign: Tensor, correlation: Tensor, pull: Tensor, missing: Tensor, room: Tensor | int) -> Tensor:
    """Let the ``room`` columns that pull hardest among ``missing`` join each class."""
    room = torch.as_tensor(room, device=sign.device).expand(len(sign))
    most = min(int(room.max()), sign.shape[1])
    ranked = torch.where(missing, pull, float("-inf")).topk(most, dim=1)
    places = torch.arange(most, device=sign.device)
    chosen = (places < room[:, None]) & ranked.values.isfinite()
    direction = torch.where(chosen, correlation.gather(1, ranked.indices).sign(), 0.0)
    return sign.scatter_add(1, ranked.indices, direction)


def _solve_guess(G: Tensor, b: Tensor, mu: float, sign: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights (C, m) and multiplier (C,) that the active sets and signs imply, and LAPACK's info (C,)."""
    row, column = sign.nonzero(as_tuple=True)
    size = sign.ne(0).sum(1)
    slot = torch.arange(len(row), device=row.device) - (size.cumsum(0) - size)[row]
    width = max(1, int(size.max()))
    act = torch.zeros(len(b), width, dtype=torch.int64, device=b.device)
    used = torch.zeros(len(b), width, dtype=torch.bool, device=b.device)
    act[row, slot], used[row, slot] = column, True
    s = sign.gather(1, act) * used
    factor, info = factorise(G, act, used)
    both = torch.cholesky_solve(torch.stack([b.gather(1, act) * used, s], 2), factor)
    u, v = both[:, :, 0], both[:, :, 1]
    level = (((s * u).sum(1) - mu) / (s * v).sum(1)).clamp(min=0)
    weight = torch.where(used, u - level[:, None] * v, 0.0)
    return torch.zeros_like(b).scatter_add_(1, act, weight), level, info
