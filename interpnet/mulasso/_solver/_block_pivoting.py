r"""Block pivoting: guess the active set, solve for it exactly, exchange everything that contradicts the guess, at once.

With a guess A of the support and its signs s, the optimality system gives :math:`w_A = u - \lambda v` (as in the
homotopy) and the multiplier at which :math:`\|w\|_1 = \mu`. Weights of the wrong sign leave, columns whose
correlation exceeds the multiplier join, no more at once than the active ones allow. A few rounds, each a Cholesky
factorisation and one product with ``G`` for all classes, replace hundreds of steps of the homotopy. Nothing guarantees
that the exchanges end, so a class whose contradictions do not shrink is handed on to methods that are guaranteed; a
class that ends is exact.

Source: Portugal, Judice & Vicente, "A comparison of block pivoting and interior-point algorithms for linear
least squares problems with nonnegative variables", Math. Comp. 63 (1994), here with signs and a bound on the l1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import factorise, image

# Columns that join at first, and the fewest that may in any round. More at the start would bring in copies of the
# strongest column, which then leave one round after the other.
FEW = 2
# While the radius does not bind as many columns may join as are active, and up to so many times as many where signed
# weights are far from the radius (weights of one sign stay few); once it binds, a share of the active ones.
_MOST_TIMES = 3
_SHARE = 3
# Rounds without fewer contradictions than ever before after which a class is handed on, and the most there can be.
PATIENCE = 8
MOST_ROUNDS = 80
# A correlation above the multiplier by this share (or this share of the largest at w = 0) is not rounding.
EXCESS = 1e-10
ROUNDING = 1e-13
_TINY = 1e-300


@dataclass(frozen=True)
class PivotResult:
    """Where block pivoting came to.

    Attributes
    ----------
    coef : (C, m) tensor
        Solutions; zero for a class that did not end.
    ended : (C,) bool tensor
    rounds : (C,) int64 tensor
    guess : (C, m) int8 tensor
        Signs of the last guess of the classes that did not end: where to go on.
    """

    coef: Tensor
    ended: Tensor
    rounds: Tensor
    guess: Tensor


def pivot(
    G: Tensor, b: Tensor, mu: Tensor, guess: Tensor | None, *, positive: bool, max_rounds: int, widest: int
) -> PivotResult:
    """Solve every class at its radius, all classes in step.

    Parameters
    ----------
    G : (m, m) float64 tensor
    b : (C, m) float64 tensor
        Correlations of the columns with each target.
    mu : (C,) float64 tensor
        Radii, above zero.
    guess : (C, m) tensor or None
        Signs of the weights to begin with, 0 where inactive.
    positive : bool
        Weights may not be negative.
    max_rounds : int
        Rounds a class may take.
    widest : int
        A class whose guess grows beyond so many columns is handed on.
    """
    C, m = b.shape
    done_at = PivotResult(
        torch.zeros_like(b),
        torch.zeros(C, dtype=torch.bool, device=b.device),
        torch.zeros(C, dtype=torch.int64, device=b.device),
        torch.zeros(C, m, dtype=torch.int8, device=b.device),
    )
    live = torch.arange(C, device=b.device)
    act, s = _begin(b, guess, positive=positive)
    fewest, patience = torch.full_like(live, 2 * m + 1), torch.full_like(live, PATIENCE)
    tiny = ROUNDING * b.abs().amax(1)
    leaves, ends = s.ne(0).sum(1) > widest, torch.zeros(C, dtype=torch.bool, device=b.device)
    for _ in range(min(MOST_ROUNDS, max_rounds)):
        if bool(leaves.any()):
            _hand_on(done_at, live[leaves & ~ends], act[leaves & ~ends], s[leaves & ~ends])
            stays = ~leaves
            live, act, s, b, mu, fewest, patience, tiny = (
                x[stays] for x in (live, act, s, b, mu, fewest, patience, tiny)
            )
        if len(live) == 0:
            return done_at
        weight, level, sound = _solve_guess(G, b, mu, act, s)
        correlation = b - image(G, act, weight)
        pull = (correlation if positive else correlation.abs()).scatter_(1, act, float("-inf"))
        bound = level * (1 + EXCESS) + tiny
        wrong = (weight * s <= 0) & s.ne(0)
        count = (pull > bound[:, None]).sum(1) + wrong.sum(1)
        done_at.rounds[live] += 1
        ends = (count == 0) & sound
        if bool(ends.any()):
            done_at.coef[live[ends]] = done_at.coef[live[ends]].scatter_add_(1, act[ends], weight[ends])
            done_at.ended[live[ends]] = True
        fewer = count < fewest
        fewest, patience = torch.minimum(count, fewest), torch.where(fewer, PATIENCE, patience - 1)
        s = s.masked_fill(wrong, 0.0)
        far = (mu / (2 * weight.abs().sum(1) + _TINY)).clamp_(1, 1 if positive else _MOST_TIMES)
        room = (s.abs().sum(1) * torch.where(level > 0, 1 / _SHARE, far)).long().clamp_(min=FEW)
        act, s = _exchange(act, s, correlation, pull, bound, room)
        leaves = ends | ~sound | (patience <= 0) | (s.ne(0).sum(1) > widest)
    _hand_on(done_at, live[~ends], act[~ends], s[~ends])
    return done_at


def room_for(active: int, level: float, mu: float, total: float, *, positive: bool) -> int:
    """Return how many columns may join ``active`` ones whose weights have the l1 norm ``total``."""
    if level > 0:
        return max(FEW, active // _SHARE)
    far = 1.0 if positive else min(max(mu / (2 * total + _TINY), 1.0), _MOST_TIMES)
    return max(FEW, int(active * far))


def _begin(b: Tensor, guess: Tensor | None, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the active columns (C, K) and signs of the first guess; where there is none, the strongest columns."""
    nowhere, few = b.new_zeros(len(b)), torch.full((len(b),), FEW, device=b.device)
    pull = b if positive else b.abs()
    if guess is None:
        none = torch.zeros(len(b), 1, dtype=torch.int64, device=b.device)
        return _exchange(none, b.new_zeros(len(b), 1), b, pull, nowhere, few)
    width = max(1, int(guess.ne(0).sum(1).max()))
    act = guess.ne(0).to(torch.int8).topk(width, dim=1).indices
    s = guess.gather(1, act).to(b.dtype)
    empty = s.eq(0).all(1)
    if not bool(empty.any()):
        return _padded(act, s)
    return _exchange(act, s, b, pull, torch.where(empty, nowhere, float("inf")), few)


def _solve_guess(G: Tensor, b: Tensor, mu: Tensor, act: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights (C, K) and multiplier (C,) that active sets and signs imply, and which are sound (C,)."""
    used = s.abs()
    factor, info = factorise(G, act, used)
    u, v = torch.cholesky_solve(torch.stack([b.gather(1, act) * used, s], 2), factor).unbind(2)
    level = (((s * u).sum(1) - mu) / (s * v).sum(1)).clamp(min=0)
    weight = torch.addcmul(u, level[:, None], v, value=-1)
    return weight, level, (info == 0) & weight.isfinite().all(1) & s.ne(0).any(1)


def _exchange(
    act: Tensor, s: Tensor, correlation: Tensor, pull: Tensor, bound: Tensor, room: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join the active ones; used slots come first."""
    top = pull.topk(min(int(room.max()), pull.shape[1]), dim=1)
    joins = top.values > bound[:, None]
    joins &= torch.arange(joins.shape[1], device=joins.device) < room[:, None]
    sign = correlation.gather(1, top.indices).sign().mul_(joins)
    act, s = torch.cat([act, top.indices], 1), torch.cat([s, sign], 1)
    used = s.ne(0)
    width = max(1, int(used.sum(1).max()))
    order = used.to(torch.int8).topk(width, dim=1).indices
    return _padded(act.gather(1, order), s.gather(1, order))


def _padded(act: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Let unused slots name the class's first active column again, so that no other column is taken for active."""
    return torch.where(s.ne(0), act, act[:, :1]), s


def _hand_on(result: PivotResult, who: Tensor, act: Tensor, s: Tensor) -> None:
    """Write down the last guess of the classes ``who``."""
    guess = torch.zeros(len(who), result.guess.shape[1], dtype=torch.int8, device=act.device)
    result.guess[who] = guess.scatter_add_(1, act, s.to(torch.int8))
