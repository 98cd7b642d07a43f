"""A certified finish for classes the homotopy could not bring home: a feasible active-set descent.

The face of the current support is searched along a regularised Newton direction, cut where a weight would change sign;
then the columns that violate optimality most join. Any start is allowed, also with singular ``G``: the proximal term
changes the direction, not the solution. This is the fully corrective Frank-Wolfe method, with one column per round
Wolfe's algorithm for the nearest point of a polytope (Math. Programming 11, 1976).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from interpnet.support.types import Float64, Int64

# Proximal term relative to the diagonal: just above what Cholesky needs in float64; grown tenfold where it fails.
_PROXIMAL = 1e-13
# Newton rounds on one face; more than one is needed only where the proximal term has bent the direction.
_ROUNDS_ON_FACE = 4
# Rounds in a row in which the objective fell by no more than rounding.
_PROGRESS = 1e-15
_GIVE_UP_AFTER = 25


def finish(
    G: Float64, b: Float64, mu: float, start: Float64, *, positive: bool, goal: float, max_iter: int
) -> tuple[Float64, float, int]:
    """Descend from the feasible ``start`` (m,) until the absolute duality gap is at most ``goal``.

    Returns the point of smallest gap, that gap, and the rounds it took; the caller decides whether that is enough.
    """
    w = np.maximum(start, 0.0) if positive else start.copy()
    w[np.diagonal(G) <= 0] = 0.0  # an empty column changes nothing
    best = w.copy()
    best_gap = np.inf
    lowest = np.inf
    stale = 0
    several = True
    rounds = 0
    while True:
        total = float(np.abs(w).sum())
        if total > mu:  # by rounding, or by the caller's start
            w *= mu / total
        support = np.flatnonzero(w)
        gradient = w[support] @ G[support] - b
        slope = float(w @ gradient)
        if positive:
            pull = -gradient
            toward = np.ones_like(gradient)
        else:
            pull = np.abs(gradient)
            toward = -np.sign(gradient)
        # The certificate of docs/method.md, section 2.3.
        gap = slope + mu * max(0.0, float(pull.max()))
        # Once joining in bulk stops paying, columns join one by one: then the objective must fall, if only by little.
        several = several and gap < 0.9 * best_gap
        value = (slope - float(b @ w)) / 2
        stale = 0 if value < lowest - _PROGRESS * abs(value) else stale + 1
        lowest = min(lowest, value)
        if gap < best_gap:
            best = w.copy()
            best_gap = gap
        # A little below the goal, because a certificate that sums in another order may find a little more.
        if best_gap <= 0.99 * goal or stale > _GIVE_UP_AFTER or rounds == max_iter:
            return best, best_gap, rounds
        joining = _violators(w, pull, slope, several=several)
        active = np.concatenate([support, joining])
        sign = np.concatenate([np.sign(w[support]), toward[joining]])
        _descend(G, b, mu, w, active, sign)
        rounds += 1


def _violators(w: Float64, pull: Float64, slope: float, *, several: bool) -> Int64:
    """Return the free columns that pull hardest against the level of the support; one, or ``several``."""
    total = float(np.abs(w).sum())
    level = max(0.0, -slope / total) if total > 0 else 0.0
    most = max(1, int(np.count_nonzero(w)) // 8) if several else 1
    free = np.flatnonzero((w == 0) & (pull > level))
    return free[np.argsort(-pull[free], kind="stable")][:most]


def _descend(G: Float64, b: Float64, mu: float, w: Float64, active: Int64, sign: Float64) -> None:
    """Move ``w`` in place to the best point of the face ``active`` with ``sign``, or of a smaller one."""
    rounds = 0
    while len(active) and rounds < _ROUNDS_ON_FACE:
        block = G[np.ix_(active, active)]
        here = w[active]
        room = mu - float(sign @ here)
        gradient = block @ here - b[active]
        level = max(0.0, -float(here @ gradient) / mu)
        direction, tight = _direction(block, gradient, sign, room, level)
        inward = sign * direction
        # A column that has just joined and would go the wrong way is taken back before anything moves.
        back = (here == 0) & (inward <= 0)
        if back.any():
            active = active[~back]
            sign = sign[~back]
            continue
        with np.errstate(divide="ignore", over="ignore"):
            until_zero = np.where(inward < 0, np.abs(here) / -inward, np.inf)
        length = min(1.0, float(until_zero.min()))
        if not tight and length * float(inward.sum()) > room:
            length = max(0.0, room / float(inward.sum()))
        here = here + length * direction
        leaves = (until_zero <= length) | (sign * here <= 0)
        here[leaves] = 0.0
        w[active] = here
        active = active[~leaves]
        sign = sign[~leaves]
        if not leaves.any():
            rounds += 1


def _direction(block: Float64, gradient: Float64, sign: Float64, room: float, level: float) -> tuple[Float64, bool]:
    """Return the Newton direction on the face and whether it ends on the sphere ``|w|_1 = mu``."""
    diagonal = np.diagonal(block)
    proximal = _PROXIMAL
    while True:
        shifted = np.asfortranarray(block)
        shifted[np.diag_indices_from(shifted)] = diagonal * (1 + proximal)
        factor, info = dpotrf(shifted, lower=1, overwrite_a=1, clean=0)
        if info == 0:
            break
        proximal *= 10
    # The multiplier so far is taken out of the gradient first. What is left is small near the optimum, so that the
    # rounds on one face refine: otherwise two large vectors along a flat direction would cancel, each time again.
    newton, push = dpotrs(factor, np.column_stack([gradient + level * sign, sign]), lower=1)[0].T
    change = -(room + float(sign @ newton)) / float(sign @ push)
    if level + change <= 0:
        return level * push - newton, False
    return -(newton + change * push), True
