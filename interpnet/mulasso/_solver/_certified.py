"""From a Gram matrix to certified solutions: block pivoting, homotopy where that fails, polish, certificate, finish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from joblib import effective_n_jobs
from torch import Tensor

from interpnet.gram import Gram
from interpnet.mulasso._solver._active_set_descent import finish
from interpnet.mulasso._solver._batched_systems import dense_image, factorise, refined_solve
from interpnet.mulasso._solver._schedule import batches, explore, share
from interpnet.support.types import Float64

# Relative gap above which a solution is polished; it is rarely reached, as the pivots solve from scratch each time.
_POLISH = 1e-11
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


def duality_gap(G: Tensor, b: Tensor, coef: Tensor, mu: Tensor, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the duality gap (C,) of the feasible ``coef`` (C, m) at ``mu`` (C,), and the multiplier it implies."""
    gradient = dense_image(G, coef) - b
    pull = (-gradient).amax(1).clamp(min=0) if positive else gradient.abs().amax(1)
    return ((coef * gradient).sum(1) + mu * pull).clamp(min=0), pull


def solve(
    gram: Gram,
    mus: Float64,
    *,
    positive: bool,
    tol: float,
    max_iter: int,
    start: Float64 | None = None,
    device: str | None = None,
    n_jobs: int | None = None,
) -> Solution:
    """Solve for every radius.

    Parameters
    ----------
    gram : Gram
    mus : (T,) or (T, C) float64
        Radii above zero, in any order; a column a class where classes differ.
    positive, tol, max_iter
        As for :class:`interpnet.mulasso.MuLasso`.
    start : (C, m) float64, optional
        Weights whose signs are the first guess at each class's smallest radius.
    device : str, optional
        Where the arithmetic runs; the CPU by default.
    n_jobs : int, optional
        Threads that share the classes out (CPU); as many as torch uses by default.
    """
    m, C = gram.B.shape
    where, threads = torch.device(device or "cpu"), effective_n_jobs(n_jobs) if n_jobs else torch.get_num_threads()
    radii = np.broadcast_to(mus[:, None] if mus.ndim == 1 else mus, (len(mus), C))
    order = radii.argsort(axis=0, kind="stable")
    ascending = torch.from_numpy(np.take_along_axis(radii, order, axis=0)).to(where)
    G, b = torch.from_numpy(gram.G).to(where), torch.from_numpy(np.ascontiguousarray(gram.B.T)).to(where)
    guess = None if start is None else torch.from_numpy(np.sign(start).astype(np.int8)).to(where)
    coef, steps = explore(G, b, ascending, guess, positive=positive, max_iter=max_iter, threads=threads)
    scale = torch.from_numpy(np.maximum(gram.yy / 2, _TINY)).to(where)
    gap, pull = torch.zeros_like(ascending), torch.zeros_like(ascending)

    def certify(part: slice) -> None:
        for t, mu in enumerate(ascending[:, part]):
            coef[t, part], gap[t, part], pull[t, part] = _certified(
                G, b[part], coef[t, part], mu, _POLISH * scale[part], positive=positive
            )

    share(certify, batches(C, m, where, threads), threads)
    result = [x.cpu().numpy() for x in (coef, gap, pull, steps)]
    return _finished(gram, ascending.cpu().numpy(), order, *result, positive=positive, tol=tol, max_iter=max_iter)


def _finished(
    gram: Gram,
    ascending: Float64,
    order: npt.NDArray[np.int64],
    coef: Float64,
    gap: Float64,
    pull: Float64,
    steps: npt.NDArray[np.int64],
    *,
    positive: bool,
    tol: float,
    max_iter: int,
) -> Solution:
    """Bring home what missed the tolerance, and put the radii back into the caller's order."""
    scale = np.maximum(gram.yy / 2, _TINY)
    for t, c in np.argwhere(~(gap <= tol * scale)):
        mu, goal = float(ascending[t, c]), float(tol * scale[c])
        done = finish(gram.G, gram.B[:, c], mu, coef[t, c], positive=positive, goal=goal, max_iter=max_iter)
        steps[c] += done.rounds
        coef[t, c] = done.coef
        G, *rows = (
            torch.from_numpy(x) for x in (gram.G, gram.B[:, c][None].copy(), done.coef[None], ascending[t, [c]])
        )
        gap[t, c], pull[t, c] = (float(x) for x in duality_gap(G, *rows, positive=positive))
    # Inside the ball, or with no pull left beyond rounding, the constraint does not matter.
    room = ascending - np.abs(coef).sum(axis=2)
    active = (room <= 1e-9 * ascending) & (pull > 1e-12 * np.abs(gram.B).max(axis=0))
    if not (order == np.arange(len(order))[:, None]).all():
        back = order.argsort(axis=0)
        coef = np.take_along_axis(coef, back[:, :, None], axis=0)
        gap, active = (np.take_along_axis(x, back, axis=0) for x in (gap, active))
    return Solution(coef, gap, gap / scale, steps, active)


def _certified(
    G: Tensor, b: Tensor, coef: Tensor, mu: Tensor, goal: Tensor, *, positive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return feasible weights (C, m), gaps and multipliers; weights with a gap above ``goal`` are polished."""
    best = _feasible(coef, mu)
    gap, pull = duality_gap(G, b, best, mu, positive=positive)
    for c in (gap > goal).nonzero()[:, 0].tolist():
        one = slice(c, c + 1)
        fresh = _feasible(_polished(G, b[one], best[one], mu[one]), mu[one])
        fresh_gap, fresh_pull = duality_gap(G, b[one], fresh, mu[one], positive=positive)
        if bool(fresh_gap < gap[c]):
            best[c], gap[c], pull[c] = fresh[0], fresh_gap[0], fresh_pull[0]
    return best, gap, pull


def _polished(G: Tensor, b: Tensor, coef: Tensor, mu: Tensor) -> Tensor:
    """Solve the optimality system on the support of one class (1, m) afresh; zeros where that contradicts the signs."""
    act = coef.nonzero()[:, 1][None]
    sign = coef.gather(1, act).sign()
    used = torch.ones_like(sign)
    factor, info = factorise(G, act, used)
    u, v = refined_solve(G, act, used, factor, torch.stack([b.gather(1, act), sign], 2)).unbind(2)
    multiplier = (((sign * u).sum(1) - mu) / (sign * v).sum(1)).clamp(min=0)
    weight = u - multiplier[:, None] * v
    sound = int(info) == 0 and bool(((weight * sign > 0) & weight.isfinite()).all())
    return torch.zeros_like(coef).scatter_(1, act, weight) if sound else torch.zeros_like(coef)


def _feasible(coef: Tensor, mu: Tensor) -> Tensor:
    """Scale down what rounding has left outside the ball."""
    total = coef.abs().sum(1)
    return torch.where((total > mu)[:, None], coef * (mu / total.clamp(min=_TINY))[:, None], coef)
