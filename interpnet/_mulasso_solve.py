"""From a Gram matrix to certified solutions: block pivoting, homotopy where that fails, polish, certificate, finish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet._mulasso_finish import finish
from interpnet._mulasso_homotopy import homotopy
from interpnet._mulasso_linalg import factorise, refined_solve
from interpnet._mulasso_pivot import pivot
from interpnet.gram import Gram

Float64 = npt.NDArray[np.float64]

# Classes that advance together: enough to hide the interpreter, few enough that their state stays in the cache.
_BATCH = 8
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Solution:
    """Certified solutions at T radii.

    Attributes
    ----------
    coef : (T, C, m) float64
    gap : (T, C) float64
        Absolute duality gap at ``coef``.
    relative : (T, C) float64
        ``gap`` over the objective at w = 0, which is half the target's sum of squares.
    n_iter : (C,) int
        Rounds of block pivoting and of the finish, events of the homotopy.
    active : (T, C) bool
        Whether the constraint holds the solution back (its multiplier is positive).
    """

    coef: Float64
    gap: Float64
    relative: Float64
    n_iter: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]


def duality_gap(G: Tensor, b: Tensor, coef: Tensor, mu: float, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the duality gap (C,) of the feasible ``coef`` (C, m), and the multiplier (C,) it implies."""
    # Rows of G outside every support contribute nothing.
    support = coef.ne(0).any(0).nonzero()[:, 0]
    gradient = coef[:, support] @ G[support] - b
    pull = (-gradient).amax(1).clamp(min=0) if positive else gradient.abs().amax(1)
    return ((coef * gradient).sum(1) + mu * pull).clamp(min=0), pull


def solve(gram: Gram, mus: Float64, *, positive: bool, tol: float, max_iter: int) -> Solution:
    """Solve for every radius of ``mus`` (T,), in any order, zero allowed."""
    ascending, place = np.unique(mus, return_inverse=True)
    T, (m, C) = len(ascending), gram.B.shape
    coef, gap, pull = np.zeros((T, C, m)), np.zeros((T, C)), np.zeros((T, C))
    n_iter = np.ones(C, dtype=np.int64)
    G, scale = torch.from_numpy(gram.G), np.maximum(gram.yy / 2, _TINY)
    for start in range(0, C, _BATCH):
        part = slice(start, start + _BATCH)
        b = torch.from_numpy(np.ascontiguousarray(gram.B.T[part]))
        found, n_iter[part] = _explore(G, b, ascending, positive=positive, max_iter=max_iter)
        for t, mu in enumerate(ascending):
            best, gaps, pulls = _polish(G, b, found[t], float(mu), positive=positive)
            coef[t, part], gap[t, part], pull[t, part] = best.numpy(), gaps.numpy(), pulls.numpy()
    for t, c in np.argwhere(~(gap <= tol * scale)):
        mu, goal = float(ascending[t]), float(tol * scale[c])
        done = finish(gram.G, gram.B[:, c], mu, coef[t, c], positive=positive, goal=goal, max_iter=max_iter)
        n_iter[c] += done.rounds
        coef[t, c] = done.coef
        target, weight = (torch.from_numpy(x[None].copy()) for x in (gram.B[:, c], done.coef))
        gaps, pulls = duality_gap(G, target, weight, mu, positive=positive)
        gap[t, c], pull[t, c] = float(gaps), float(pulls)
    # Inside the ball, or with no pull left beyond rounding, the constraint does not matter.
    room = ascending[:, None] - np.abs(coef).sum(axis=2)
    active = (room <= 1e-9 * ascending[:, None]) & (pull > 1e-12 * np.abs(gram.B).max(axis=0))
    place = place.ravel()
    return Solution(coef[place], gap[place], (gap / scale)[place], n_iter, active[place])


def _explore(
    G: Tensor, b: Tensor, mus: Float64, *, positive: bool, max_iter: int
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Return solutions (T, C, m) at ascending radii: block pivoting, and the homotopy where that does not end."""
    coef, steps = b.new_zeros(len(mus), *b.shape), torch.ones(len(b), dtype=torch.int64)
    still_open = torch.zeros(len(mus), len(b), dtype=torch.bool)
    for t in np.flatnonzero(mus > 0).tolist():
        # The signs at the radius before are a good first guess, except for a class that did not end there.
        guess = coef[t - 1].sign() if t > 0 else torch.zeros_like(b)
        done = pivot(G, b, float(mus[t]), guess, positive=positive, max_rounds=max_iter)
        coef[t], still_open[t] = done.coef, ~done.ended
        steps += done.rounds
    classes, radii = still_open.any(0).nonzero()[:, 0], still_open.any(1).nonzero()[:, 0]
    if len(classes):
        above = torch.from_numpy(mus)[radii]
        walked = homotopy(G, b[classes], above, positive=positive, max_steps=max_iter)
        coef[radii[:, None], classes] = torch.where(
            still_open[radii][:, classes, None], walked.coef, coef[radii[:, None], classes]
        )
        steps[classes] += walked.steps
    return coef, steps.numpy()


def _polish(G: Tensor, b: Tensor, coef: Tensor, mu: float, *, positive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Solve the optimality system on each support afresh; keep, class by class, the point of smaller gap."""
    start = _feasible(coef, mu)
    gap, pull = duality_gap(G, b, start, mu, positive=positive)
    width = int(start.ne(0).sum(1).max())
    if width == 0:
        return start, gap, pull
    order = start.abs().sort(1, descending=True)
    act, used = order.indices[:, :width], order.values[:, :width] > 0
    sign = start.gather(1, act).sign()
    factor, info = factorise(G, act, used)
    solved = refined_solve(G, act, used, factor, torch.stack([b.gather(1, act) * used, sign], 2))
    u, v = solved[:, :, 0], solved[:, :, 1]
    multiplier = (((sign * u).sum(1) - mu) / (sign * v).sum(1)).clamp(min=0)
    weight = u - multiplier[:, None] * v
    sound = (info == 0) & weight.isfinite().all(1) & ((weight * sign > 0) | ~used).all(1)
    weight = torch.where(sound[:, None] & used, weight, 0.0)
    fresh = _feasible(torch.zeros_like(start).scatter_add_(1, act, weight), mu)
    fresh_gap, fresh_pull = duality_gap(G, b, fresh, mu, positive=positive)
    better = sound & (fresh_gap <= gap)
    return (
        torch.where(better[:, None], fresh, start),
        torch.where(better, fresh_gap, gap),
        torch.where(better, fresh_pull, pull),
    )


def _feasible(coef: Tensor, mu: float) -> Tensor:
    """Scale down what rounding has left outside the ball."""
    total = coef.abs().sum(1, keepdim=True)
    return torch.where(total > mu, coef * (mu / total.clamp(min=_TINY)), coef)
