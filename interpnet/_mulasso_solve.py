"""From a Gram matrix to certified solutions: homotopy, polish on the support, certificate, finish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet._mulasso_finish import finish
from interpnet._mulasso_homotopy import factorise, homotopy, refined_solve
from interpnet.gram import Gram

Float64 = npt.NDArray[np.float64]

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
        Events of the homotopy plus rounds of the finish.
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
    G, b = torch.from_numpy(gram.G), torch.from_numpy(np.ascontiguousarray(gram.B.T))
    scale = np.maximum(gram.yy / 2, _TINY)
    ascending, place = np.unique(mus, return_inverse=True)
    above = ascending[ascending > 0]
    coef = torch.zeros(len(ascending), *b.shape, dtype=torch.float64)
    n_iter = np.ones(b.shape[0], dtype=np.int64)
    if len(above):
        found = homotopy(G, b, torch.from_numpy(above), positive=positive, max_steps=max_iter)
        coef[len(ascending) - len(above) :] = found.coef
        n_iter += found.steps.numpy()
    gap, active = np.zeros((len(ascending), b.shape[0])), np.zeros((len(ascending), b.shape[0]), dtype=bool)
    for t, mu in enumerate(ascending):
        best, gaps, pull = _polish(G, b, coef[t], float(mu), positive=positive)
        for c in np.flatnonzero(~(gaps.numpy() <= tol * scale)):
            done = finish(
                gram.G,
                gram.B[:, c],
                float(mu),
                best[c].numpy(),
                positive=positive,
                goal=tol * scale[c],
                max_iter=max_iter,
            )
            best[c] = torch.from_numpy(done.coef)
            n_iter[c] += done.rounds
            gaps[c : c + 1], pull[c : c + 1] = duality_gap(
                G, b[c : c + 1], best[c : c + 1], float(mu), positive=positive
            )
        coef[t], gap[t] = best, gaps.numpy()
        room = mu - best.abs().sum(1).numpy()
        # Inside the ball, or with no pull left beyond rounding, the constraint does not matter.
        active[t] = (room <= 1e-9 * mu) & (pull.numpy() > 1e-12 * np.abs(gram.B).max(0))
    return Solution(
        coef.numpy()[place.ravel()],
        gap[place.ravel()],
        (gap / scale)[place.ravel()],
        n_iter,
        active[place.ravel()],
    )


def _polish(
    G: Tensor, b: Tensor, coef: Tensor, mu: float, *, positive: bool
) -> tuple[Tensor, Tensor, Tensor]:
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
