"""Block pivoting: guess the active set, solve for it exactly, exchange everything that contradicts the guess, at once.

docs/method.md, section 2.5. Nothing guarantees that the exchanges end, so a class whose contradictions do not shrink is
handed on to methods that are guaranteed; a class that ends is exact.

Source: Portugal, Judice & Vicente, "A comparison of block pivoting and interior-point algorithms for linear
least squares problems with nonnegative variables", Math. Comp. 63 (1994), here with signs and a bound on the l1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import factorise, image, pull_of, rows_of

# Columns that join at first, and the fewest that may in any round. More at the start would bring in copies of the
# strongest column, which then leave one round after the other.
FEW = 2
# While the radius does not bind as many columns may join as are active, and up to so many times as many where signed
# weights are far from the radius (weights of one sign stay few: True); once it binds, a share of the active ones.
MOST_TIMES = {True: 1, False: 3}
SHARE = 3
# Rounds without fewer contradictions than ever before after which a class is handed on, and the most there can be.
PATIENCE = 8
MOST_ROUNDS = 80
# A correlation above the multiplier by this share (or this share of the largest at w = 0) is not rounding.
EXCESS = 1e-10
ROUNDING = 1e-13
TINY = 1e-300


@dataclass(frozen=True)
class PivotResult:
    """Where block pivoting came to."""

    coef: Tensor  # (C, m): solutions; zero for a class that did not end
    ended: Tensor  # (C,) bool
    rounds: Tensor  # (C,) int64
    guess: Tensor  # (C, m) int8: signs of the last guess of the classes that did not end, where to go on

    def hand_on(self, live: _Live, who: Tensor) -> None:
        """Write down the last guess of the classes ``who`` (C,) bool of those under way."""
        signs = torch.zeros(int(who.sum()), self.guess.shape[1], dtype=torch.int8, device=who.device)
        signs.scatter_add_(1, live.columns[who], live.sign[who].to(torch.int8))
        self.guess[live.ids[who]] = signs


@dataclass
class _Live:
    """The classes under way (C,), one row each."""

    ids: Tensor  # which class a row is
    b: Tensor  # (C, m)
    mu: Tensor
    columns: Tensor  # (C, K): the guess of the active columns
    sign: Tensor  # (C, K): their signs, 0 in unused slots
    fewest: Tensor  # contradictions of a guess so far
    patience: Tensor  # rounds left without fewer
    rounding: Tensor  # a correlation below this is none

    def too_wide(self, widest: int) -> Tensor:
        """Return which classes have more than ``widest`` active columns."""
        return self.sign.ne(0).sum(1) > widest


def pivot(
    G: Tensor, b: Tensor, mu: Tensor, guess: Tensor, *, positive: bool, max_rounds: int, widest: int
) -> PivotResult:
    """Solve every class at its radius ``mu`` (C,), all classes in step, for ``G`` (m, m) and ``b`` (C, m).

    ``guess`` (C, m) holds the signs of the weights to begin with, 0 where inactive. A class whose guess grows beyond
    ``widest`` columns, or that takes more than ``max_rounds``, is handed on.
    """
    C, m = b.shape
    none = torch.zeros(C, dtype=torch.int64, device=b.device)
    result = PivotResult(torch.zeros_like(b), none.bool(), none, torch.zeros_like(b, dtype=torch.int8))
    ids = torch.arange(C, device=b.device)
    columns, sign = _begin(b, guess, positive=positive)
    fewest = torch.full_like(ids, 2 * m + 1)
    patience = torch.full_like(ids, PATIENCE)
    live = _Live(ids, b, mu, columns, sign, fewest, patience, ROUNDING * b.abs().amax(1))
    leaves = live.too_wide(widest)
    ends = none.bool()
    for _ in range(min(MOST_ROUNDS, max_rounds)):
        if bool(leaves.any()):
            result.hand_on(live, leaves & ~ends)
            live = rows_of(live, ~leaves)
        if len(live.ids) == 0:
            return result
        ends, sound = _one_round(G, live, result, positive=positive)
        leaves = ends | ~sound | (live.patience <= 0) | live.too_wide(widest)
    result.hand_on(live, ~ends)
    return result


def _one_round(G: Tensor, live: _Live, result: PivotResult, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Solve for the guesses and exchange what contradicts them; return which classes end, and which systems are sound.

    A class ends where nothing contradicts its guess: its weights then fulfil the optimality conditions exactly.
    """
    weight, multiplier, sound = _solve_guess(G, live)
    correlation = live.b - image(G, live.columns, weight)
    pull = pull_of(correlation, positive=positive).scatter(1, live.columns, float("-inf"))
    bound = multiplier * (1 + EXCESS) + live.rounding
    wrong = (weight * live.sign <= 0) & live.sign.ne(0)
    contradictions = (pull > bound[:, None]).sum(1) + wrong.sum(1)
    result.rounds[live.ids] += 1
    ends = (contradictions == 0) & sound
    if bool(ends.any()):
        ids = live.ids[ends]
        result.coef[ids] = result.coef[ids].scatter_add_(1, live.columns[ends], weight[ends])
        result.ended[ids] = True
    live.patience = torch.where(contradictions < live.fewest, PATIENCE, live.patience - 1)
    live.fewest = torch.minimum(contradictions, live.fewest)
    live.sign = live.sign.masked_fill(wrong, 0.0)
    far = (live.mu / (2 * weight.abs().sum(1) + TINY)).clamp_(1, MOST_TIMES[positive])
    times = torch.where(multiplier > 0, 1 / SHARE, far)
    room = (live.sign.abs().sum(1) * times).long().clamp_(min=FEW)
    live.columns, live.sign = _exchange(live.columns, live.sign, correlation, pull, bound, room)
    return ends, sound


def room_for(active: int, level: float, mu: float, total: float, *, positive: bool) -> int:
    """Return how many columns may join ``active`` ones whose weights have the l1 norm ``total``."""
    if level > 0:
        return max(FEW, active // SHARE)
    far = min(max(mu / (2 * total + TINY), 1.0), MOST_TIMES[positive])
    return max(FEW, int(active * far))


def _begin(b: Tensor, guess: Tensor, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the active columns (C, K) and signs of the first guess; where there is none, the strongest columns."""
    nowhere = b.new_zeros(len(b))
    few = torch.full((len(b),), FEW, device=b.device)
    pull = pull_of(b, positive=positive)
    width = max(1, int(guess.ne(0).sum(1).max()))
    columns = guess.ne(0).to(torch.int8).topk(width).indices
    sign = guess.gather(1, columns).to(b.dtype)
    empty = sign.eq(0).all(1)
    if not bool(empty.any()):
        return _padded(columns, sign)
    return _exchange(columns, sign, b, pull, torch.where(empty, nowhere, float("inf")), few)


def _solve_guess(G: Tensor, live: _Live) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights (C, K) and multiplier (C,) that active sets and signs imply, and which are sound (C,)."""
    sign = live.sign
    used = sign.abs()
    factor, info = factorise(G, live.columns, used)
    right = torch.stack([live.b.gather(1, live.columns) * used, sign], 2)
    u, v = torch.cholesky_solve(right, factor).unbind(2)
    multiplier = (((sign * u).sum(1) - live.mu) / (sign * v).sum(1)).clamp(min=0)
    weight = torch.addcmul(u, multiplier[:, None], v, value=-1)
    return weight, multiplier, (info == 0) & weight.isfinite().all(1) & sign.ne(0).any(1)


def _exchange(
    columns: Tensor, sign: Tensor, correlation: Tensor, pull: Tensor, bound: Tensor, room: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the ``room`` columns that pull hardest beyond ``bound`` join the active ones; used slots come first."""
    top = pull.topk(min(int(room.max()), pull.shape[1]))
    joins = top.values > bound[:, None]
    joins &= torch.arange(joins.shape[1], device=joins.device) < room[:, None]
    columns = torch.cat([columns, top.indices], 1)
    sign = torch.cat([sign, correlation.gather(1, top.indices).sign().mul_(joins)], 1)
    used = sign.ne(0)
    width = max(1, int(used.sum(1).max()))
    order = used.to(torch.int8).topk(width).indices
    return _padded(columns.gather(1, order), sign.gather(1, order))


def _padded(columns: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """Let unused slots name the class's first active column again, so that no other column is taken for active."""
    return torch.where(sign.ne(0), columns, columns[:, :1]), sign
