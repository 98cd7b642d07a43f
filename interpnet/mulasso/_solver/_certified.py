"""From a Gram matrix to certified solutions: block pivoting, homotopy where that fails, polish, certificate, descent.

docs/method.md, sections 2.3 (the certificate) and 2.5 (the solver).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from joblib import effective_n_jobs
from torch import Tensor

from interpnet.gram import Gram, RowGram
from interpnet.mulasso._arguments import Options
from interpnet.mulasso._solver._active_set_descent import finish
from interpnet.mulasso._solver._batched_systems import dense_image, factorise, pull_of, refined_solve
from interpnet.mulasso._solver._schedule import batch_size, batches, explore, share
from interpnet.mulasso._solver._workers import workers_of
from interpnet.support.progress import step_of
from interpnet.support.types import Float64, Int64

# Relative gap above which a solution is polished; it is rarely reached, as the pivots solve from scratch each time.
_POLISH = 1e-11
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Solution:
    """Certified solutions at T radii."""

    coef: Float64  # (T, C, m)
    gap: Float64  # (T, C): the absolute duality gap at coef
    relative: Float64  # (T, C): the gap over the objective at w = 0
    n_iter: Int64  # (C,): rounds of block pivoting and of the descent, events of the homotopy
    active: npt.NDArray[np.bool_]  # (T, C): whether the constraint holds the solution back


def objective_at_zero(gram: Gram | RowGram) -> Float64:
    """Return half of each target's sum of squares (C,), what relative gaps are relative to; never 0."""
    return np.maximum(gram.yy / 2, _TINY)


def duality_gap(G: Tensor, b: Tensor, coef: Tensor, mu: Tensor, *, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the duality gap (C,) of the feasible ``coef`` (C, m) at ``mu`` (C,), and the multiplier it implies."""
    # docs/method.md, section 2.3, from G, b and the weights alone: how they were found does not matter.
    gradient = dense_image(G, coef) - b
    pull = pull_of(-gradient, positive=positive).amax(1).clamp(min=0)
    return ((coef * gradient).sum(1) + mu * pull).clamp(min=0), pull


class _Classes(NamedTuple):
    """Some classes of a problem: what is solved at a time, and what a worker is sent."""

    b: Float64  # (C, m)
    mus: Float64  # (T, C), ascending along the first axis
    half: Float64  # (C,): half of each target's sum of squares
    start: Float64 | None  # (C, m)
    size: int  # classes that advance together


class _Found(NamedTuple):
    """What is found of some classes."""

    coef: Float64  # (T, C, m)
    gap: Float64  # (T, C)
    pull: Float64  # (T, C): the multiplier of the constraint
    steps: Int64  # (C,)


def solve(gram: Gram, mus: Float64, options: Options, start: Float64 | None = None) -> Solution:
    """Solve for every class at every radius ``mus``, (T,) or (T, C) where classes differ, above zero and in any order.

    The signs of ``start`` (C, m) are the first guess at each class's smallest radius. Threads share the classes, or the
    workers of the joblib backend that the user has chosen; that changes no bit of the result. A class whose targets go
    with no column, such as one without an image, has the weights 0 and takes no step.
    """
    radii = np.broadcast_to(mus.reshape(len(mus), -1), (len(mus), gram.n_classes))
    half = objective_at_zero(gram)
    taken = gram.B.any(axis=0)
    if taken.all():
        return _solution(gram.G, gram.B, radii, half, options, start)
    step_of("Solving")(int((~taken).sum()))
    T, C = radii.shape
    whole = _nothing(T, C, gram.m)
    if taken.any():
        first = None
        if start is not None:
            first = start[taken]
        some = _solution(gram.G, gram.B[:, taken], radii[:, taken], half[taken], options, first)
        whole.n_iter[taken] = some.n_iter
        for name in ("coef", "gap", "relative", "active"):
            getattr(whole, name)[:, taken] = getattr(some, name)
    return whole


def _nothing(T: int, C: int, m: int) -> Solution:
    """Return the solutions of classes that have none but 0; of many classes the system makes room only when written."""
    steps = np.zeros(C, dtype=np.int64)
    return Solution(np.zeros((T, C, m)), np.zeros((T, C)), np.zeros((T, C)), steps, np.zeros((T, C), dtype=np.bool_))


def _solution(
    G: Float64, B: Float64, radii: Float64, half: Float64, options: Options, start: Float64 | None
) -> Solution:
    """Solve for classes that all have images."""
    order = radii.argsort(axis=0, kind="stable")
    ascending = np.take_along_axis(radii, order, axis=0)
    coef, gap, pull, steps = _found(G, B, ascending, half, options, start)
    if (order != np.arange(len(order))[:, None]).any():
        back = order.argsort(axis=0)
        coef = np.take_along_axis(coef, back[:, :, None], 0)
        gap, pull = (np.take_along_axis(values, back, 0) for values in (gap, pull))
    return Solution(coef, gap, gap / half, steps, held_back(coef, radii, pull, B))


def held_back(coef: Float64, radii: Float64, pull: Float64, B: Float64) -> npt.NDArray[np.bool_]:
    """Return whether the constraint holds solutions (T, C, m) back (T, C), by radii and multipliers (T, C)."""
    # Inside the ball, or with no pull left beyond rounding, the constraint does not matter.
    room = radii - np.abs(coef).sum(axis=2)
    held: npt.NDArray[np.bool_] = (room <= 1e-9 * radii) & (pull > 1e-12 * np.abs(B).max(axis=0))
    return held


def _found(
    G: Float64, B: Float64, ascending: Float64, half: Float64, options: Options, start: Float64 | None
) -> _Found:
    """Share the classes out: to the workers that the user has chosen, or to threads."""
    device = torch.device(options.device or "cpu")
    m, C = B.shape
    size = batch_size(C, m, device)

    def classes(part: slice) -> _Classes:
        first = None
        if start is not None:
            first = start[part]
        return _Classes(np.ascontiguousarray(B[:, part].T), ascending[:, part], half[part], first, size)

    workers = workers_of(options.n_jobs)
    parts = batches(C, size)
    if workers is None or device.type != "cpu" or len(parts) == 1:
        threads = torch.get_num_threads()
        if options.n_jobs:
            threads = effective_n_jobs(options.n_jobs)
        return _solved(G, classes(slice(0, C)), options, threads)
    T = len(ascending)
    whole = _Found(np.empty((T, C, m)), np.empty((T, C)), np.empty((T, C)), np.empty(C, dtype=np.int64))
    advance = step_of("Solving")
    # A batch is one task: then a worker does what a thread does with it, to the bit.
    work = partial(_solved, options=options, threads=1)
    for part, found in zip(parts, workers.results(work, G, map(classes, parts)), strict=True):
        whole.coef[:, part] = found.coef
        whole.gap[:, part] = found.gap
        whole.pull[:, part] = found.pull
        whole.steps[part] = found.steps
        advance(part.stop - part.start)
    return whole


def _solved(matrix: Float64, classes: _Classes, options: Options, threads: int) -> _Found:
    """Return the weights of some classes, with what misses the tolerance brought home."""
    device = torch.device(options.device or "cpu")
    G = torch.from_numpy(matrix).to(device)
    # What a worker is sent may lie in memory that is read only: there these are copied.
    b, mus, half = (torch.from_numpy(np.require(x, requirements="W")).to(device) for x in classes[:3])
    start = np.zeros(b.shape) if classes.start is None else classes.start
    guess = torch.from_numpy(np.sign(start).astype(np.int8)).to(device)
    weights, steps = explore(G, b, mus, guess, options, threads, classes.size)
    polish = _POLISH * half
    gaps = torch.zeros_like(mus)
    pulls = torch.zeros_like(mus)

    def certify(part: slice) -> None:
        for t, mu in enumerate(mus[:, part]):
            certified = _certified(G, b[part], weights[t, part], mu, polish[part], positive=options.positive)
            weights[t, part], gaps[t, part], pulls[t, part] = certified

    share(certify, batches(len(b), classes.size), threads)
    found = _Found(weights.cpu().numpy(), gaps.cpu().numpy(), pulls.cpu().numpy(), steps.cpu().numpy())
    coef, gap, pull, _ = found
    goal = options.tol * classes.half
    for t, c in np.argwhere(~(gap <= goal)):
        mu = classes.mus[t, [c]]
        target = float(goal[c])
        coef[t, c], gap[t, c], pull[t, c], rounds = _brought_home(matrix, classes.b[c], mu, coef[t, c], target, options)
        found.steps[c] += rounds
    return found


def _brought_home(
    G: Float64, b: Float64, mu: Float64, start: Float64, goal: float, options: Options
) -> tuple[Float64, float, float, int]:
    """Descend from a solution of one class that misses the tolerance; return weights, gap, multiplier and rounds."""
    positive = options.positive
    coef, _, rounds = finish(G, b, float(mu[0]), start, positive=positive, goal=goal, max_iter=options.max_iter)
    rows = [torch.from_numpy(x) for x in (b[None].copy(), coef[None], mu)]
    gap, pull = duality_gap(torch.from_numpy(G), *rows, positive=positive)
    return coef, float(gap), float(pull), rounds


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
            best[c] = fresh[0]
            gap[c] = fresh_gap[0]
            pull[c] = fresh_pull[0]
    return best, gap, pull


def _polished(G: Tensor, b: Tensor, coef: Tensor, mu: Tensor) -> Tensor:
    """Solve the optimality system on the support of one class (1, m) again; zeros where that contradicts the signs."""
    columns = coef.nonzero()[:, 1][None]
    sign = coef.gather(1, columns).sign()
    used = torch.ones_like(sign)
    factor, info = factorise(G, columns, used)
    right = torch.stack([b.gather(1, columns), sign], 2)
    offset, slope = refined_solve(G, columns, used, factor, right).unbind(2)
    # The weights are offset - multiplier * slope; the radius decides the multiplier.
    multiplier = (((sign * offset).sum(1) - mu) / (sign * slope).sum(1)).clamp(min=0)
    weight = offset - multiplier[:, None] * slope
    polished = torch.zeros_like(coef)
    if int(info) == 0 and bool(((weight * sign > 0) & weight.isfinite()).all()):
        polished.scatter_(1, columns, weight)
    return polished


def _feasible(coef: Tensor, mu: Tensor) -> Tensor:
    """Scale down what rounding has left outside the ball."""
    total = coef.abs().sum(1)
    return torch.where((total > mu)[:, None], coef * (mu / total.clamp(min=_TINY))[:, None], coef)
