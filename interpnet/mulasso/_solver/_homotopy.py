r"""The exact homotopy of the mu-lasso: LARS with drops on the Gram matrix, all classes in step.

On the active set A with signs s the solution is linear in the multiplier,
:math:`w_A = u - \lambda v` with :math:`u = G_{AA}^{-1} b_A` and :math:`v = G_{AA}^{-1} s`, and the
correlations are :math:`c = b - G w = P + \lambda Q`. The next event as :math:`\lambda` falls is a column
joining (:math:`|c_j| = \lambda`) or a weight reaching zero. Either is a change of rank one along a
direction z of every one of u, v, P, Q and the inverse, so a step costs one product ``z @ G`` for all
classes together. P and Q are intercept and slope, not running values: w and c at any multiplier come from
the current factorisation, and rounding does not add up along the path.

Sources: Osborne, Presnell & Turlach, "A new approach to variable selection in least squares problems", IMA
J. Numer. Anal. 20 (2000); Efron, Hastie, Johnstone & Tibshirani, "Least angle regression", Ann. Statist. 32
(2004).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import factorise, refined_solve

# A column whose Schur complement is below this share of its own square is linearly dependent on the active
# ones.
_DEPENDENT = 1e-11
# A free column tied with the active ones (|Q_j| = 1 up to rounding) never crosses them.
_TIED = 1e-10
# Where the multiplier has fallen this far the correlations are rounding: the constraint is not active.
_FLOOR = 1e-14
# Deviation of Q from the signs on the active set at which the inverse is computed afresh, and how often
# that is looked at.
_DRIFT = 1e-6
_CHECK_EVERY = 32
# Share of the largest weight by which a weight may have the wrong sign, and the radius be missed, before a
# point counts as broken.
_BROKEN = 1e-5
# Rounding of the weights relative to the least squares weights on the same support, of which they are a
# difference.
_ROUNDING = 1e-11

_NEVER = float("-inf")


@dataclass(frozen=True)
class HomotopyResult:
    """Solutions (T, C, m) at the requested radii, events (C,) and which classes gave up on the way (C,)."""

    coef: Tensor
    steps: Tensor
    stalled: Tensor


def homotopy(
    G: Tensor,
    b: Tensor,
    mus: Tensor,
    *,
    positive: bool,
    max_steps: int,
    on_event: Callable[[Tensor, Tensor], None] | None = None,
) -> HomotopyResult:
    """Follow every class from w = 0 to the largest radius.

    Parameters
    ----------
    G : (m, m) float64 tensor
    b : (C, m) float64 tensor
        Correlations of the columns with each target.
    mus : (T, C) float64 tensor
        Radii above zero, ascending along the first axis.
    positive : bool
        Weights may not be negative.
    max_steps : int
        Events a class may take.
    on_event : callable, optional
        Called at every event with the classes it concerns (n,) and the weights there (n, m).

    Returns
    -------
    HomotopyResult
        Exact up to rounding, except for classes in ``stalled`` (no more steps, or a numerically singular
        active set): theirs is the last solution reached, a feasible start for another method.
    """
    walk = _Walk(G, b, mus, positive, on_event)
    for step in range(1, max_steps + 1):
        if not walk.advance():
            break
        if step % _CHECK_EVERY == 0:
            walk.refresh()
            walk.secure()
            walk.compact()
    else:
        walk.give_up(walk.alive)
    walk.steps[walk.ids] = walk.count
    return HomotopyResult(walk.coef, walk.steps, walk.stalled)


class _Walk:
    """State of the classes still under way; rows of every tensor are classes, ``ids`` says which."""

    def __init__(
        self, G: Tensor, b: Tensor, mus: Tensor, positive: bool, on_event: Callable[[Tensor, Tensor], None] | None
    ) -> None:
        (C, m), K = b.shape, min(32, b.shape[1])
        self.on_event = on_event
        self.G, self.mus, self.positive = G, mus, positive
        self.diagonal = G.diagonal().contiguous()
        # Rows of G of the columns active so far in any class: few, early on; a step's product runs over them only.
        self.rows, self.enrolled = G.new_empty(32, m), 0
        self.place = torch.zeros(m, dtype=torch.int64, device=G.device)
        self.known = torch.zeros(m, dtype=torch.bool, device=G.device)
        self.coef = b.new_zeros(len(mus), C, m)
        self.steps = torch.zeros(C, dtype=torch.int64, device=b.device)
        self.stalled = torch.zeros(C, dtype=torch.bool, device=b.device)
        self.every = torch.arange(C, device=b.device)
        # Per class, in the order of the mathematics above.
        self.ids = self.every.clone()
        self.count = torch.zeros_like(self.ids)  # events so far
        self.b, self.P, self.Q = b, b.clone(), torch.zeros_like(b)
        # 0 for a column that may join, -inf for one that is active or was found dependent.
        self.bar = torch.where(self.diagonal > 0, 0.0, _NEVER).to(b.dtype).repeat(C, 1)
        self.act = torch.zeros(C, K, dtype=torch.int64, device=b.device)
        self.used = torch.zeros(C, K, dtype=torch.bool, device=b.device)
        self.s, self.u, self.v = b.new_zeros(C, K), b.new_zeros(C, K), b.new_zeros(C, K)
        self.inv = b.new_zeros(C, K, K)
        self.vacant = K  # a lower bound on the free slots of every class
        self.lam = b.new_full((C,), float("inf"))
        self.floor = _FLOOR * b.abs().amax(1)
        self.target = torch.zeros(C, dtype=torch.int64, device=b.device)  # the next radius to report
        self.idle = torch.zeros(C, dtype=torch.int64, device=b.device)  # steps of length zero in a row
        self.alive = torch.ones(C, dtype=torch.bool, device=b.device)
        self.safe = torch.zeros_like(b)  # the last point that was looked at and found in order

    def advance(self) -> bool:
        """Take every class to its next event; return whether any is still under way."""
        join, column = self._next_join()
        drop, slot = self._next_drop()
        lam = torch.maximum(join, drop)
        at_end = ~(lam > self.floor)
        lam = torch.where(at_end, 0.0, lam)
        self._report(lam, at_end)
        if not bool(self.alive.any()):
            return False
        self.count += self.alive
        self.idle = torch.where(lam < self.lam * (1 - 1e-13), 0, self.idle + 1)
        self.lam = torch.where(self.alive, lam, self.lam)
        if self.on_event is not None:
            row = self.alive.nonzero()[:, 0]
            self.on_event(self.ids[row], self._point(row, self.lam[row])[0])
        is_drop = drop >= join
        self._change(self.alive & ~is_drop, column, self.alive & is_drop, slot)
        return bool(self.alive.any())

    def _next_join(self) -> tuple[Tensor, Tensor]:
        """Return the largest multiplier at which a free column reaches the bound, and that column."""
        # c_j = P_j + lam Q_j, within the bound now, can only reach the side of P_j's sign: lam = |P_j| / (1
        # - sign(P_j) Q_j).
        if self.positive:
            reach, room = self.P, 1 - self.Q
        else:
            reach, room = self.P.abs(), 1 - torch.copysign(self.Q, self.P * self.Q)
        event = torch.where(room > _TIED, reach / room, _NEVER)
        event.clamp_(max=self.lam[:, None]).add_(self.bar)
        best = event.max(1)
        return best.values, best.indices

    def _next_drop(self) -> tuple[Tensor, Tensor]:
        """Return the largest multiplier at which an active weight reaches zero, and its slot."""
        event = torch.where(self.used & (self.s * self.v < 0), self.u / self.v, _NEVER)
        best = torch.minimum(event, self.lam[:, None]).max(1)
        return best.values, best.indices

    def _report(self, lam: Tensor, at_end: Tensor) -> None:
        """Write down the solutions at the radii passed before ``lam`` is reached."""
        total, slope = (self.s * self.u).sum(1), (self.s * self.v).sum(1)
        radius = total - lam * slope
        while True:
            wanted = self.mus[self.target, self.ids]
            hit = self.alive & ((radius >= wanted) | at_end)
            if not bool(hit.any()):
                return
            row = hit.nonzero()[:, 0]
            where = (total[row] - wanted[row]) / slope[row]
            where = torch.where(radius[row] >= wanted[row], where, lam[row])
            self._write(row, torch.minimum(torch.maximum(where, lam[row]), self.lam[row]), self.target[row])
            self.target[row] += 1
            self.alive &= self.target < len(self.mus)
            self.target.clamp_(max=len(self.mus) - 1)

    def _write(self, row: Tensor, lam: Tensor, target: Tensor) -> None:
        full, broken = self._point(row, lam)
        broken |= full.abs().sum(1) > self.mus[target, self.ids[row]] * (1 + _BROKEN)
        self.coef[target, self.ids[row]] = torch.where(broken[:, None], self.safe[row], full)
        self.stalled[self.ids[row[broken]]] = True

    def _point(self, row: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights (r, m) of the classes ``row`` at ``lam``, and which contradict their signs."""
        # Before the first column joins the multiplier is infinite and there is nothing to write.
        lam = torch.where(lam.isfinite(), lam, 0.0)
        weight = self.u[row] - lam[:, None] * self.v[row]
        along = weight * self.s[row]
        allowed = _BROKEN * along.amax(1) + _ROUNDING * self.u[row].abs().amax(1)
        broken = ~(along.amin(1) >= -allowed)
        # A weight about to leave may be rounded to the wrong side of zero.
        weight = torch.where(along > 0, weight, 0.0)
        return weight.new_zeros(len(row), self.b.shape[1]).scatter_add_(1, self.act[row], weight), broken

    def _change(self, joins: Tensor, column: Tensor, drops: Tensor, slot: Tensor) -> None:
        """Let ``column`` join where ``joins``, or ``slot`` drop where ``drops``: one update of rank one."""
        # A step fills one slot at most, so the slots need not be counted every time.
        self.vacant -= 1
        if self.vacant < 0:
            self._grow()
        every = self.every
        slot = torch.where(joins, self.used.to(torch.uint8).argmin(1), slot)
        self._enrol(column[joins])
        # Join: z = (-inv G_Aj, 1); drop: z = the slot's column of the inverse. (Row times matrix: bmm is fast there.)
        cross = self.G[column[:, None], self.act] * self.used
        z = torch.where(joins[:, None], -torch.bmm(cross[:, None, :], self.inv)[:, 0], self.inv[every, slot])
        z[every, slot] = torch.where(joins, 1.0, z[every, slot])
        self.act[every, slot] = torch.where(joins, column, self.act[every, slot])
        z = torch.where((joins | drops)[:, None], z, 0.0)
        image = z.new_zeros(len(z), self.enrolled).scatter_add_(1, self.place[self.act], z) @ self.rows[: self.enrolled]
        schur, own = image[every, column], self.diagonal[column]
        bad = joins & ~(schur > _DEPENDENT * own)
        self.bar[every, column] = torch.where(joins, _NEVER, self.bar[every, column])
        P, Q = self.P[every, column], self.Q[every, column]
        sign = torch.ones_like(P) if self.positive else torch.where(P + self.lam * Q < 0, -1.0, 1.0).to(P.dtype)
        pivot = torch.where(joins, schur, -z[every, slot])
        du = torch.where(joins, P, self.u[every, slot]) / pivot
        dv = torch.where(joins, sign - Q, self.v[every, slot]) / pivot
        ok = (joins & ~bad) | drops
        du, dv, scale = (torch.where(ok, x, 0.0) for x in (du, dv, 1 / pivot))
        self.u += du[:, None] * z
        self.v += dv[:, None] * z
        self.P -= du[:, None] * image
        self.Q += dv[:, None] * image
        self.inv.baddbmm_((scale[:, None] * z)[:, :, None], z[:, None, :])
        self._book(joins & ~bad, drops, slot, sign)

    def _enrol(self, columns: Tensor) -> None:
        """Add the columns that are active for the first time in any class to those the products run over."""
        fresh = columns[~self.known[columns]]
        if len(fresh) == 0:
            return
        fresh = torch.unique(fresh)
        end = self.enrolled + len(fresh)
        if end > len(self.rows):
            more = min(max(end, 2 * len(self.rows)), len(self.G)) - len(self.rows)
            self.rows = torch.cat([self.rows, self.rows.new_empty(more, len(self.G))])
        self.rows[self.enrolled : end] = self.G[fresh]
        self.place[fresh] = torch.arange(self.enrolled, end, device=fresh.device)
        self.known[fresh] = True
        self.enrolled = end

    def _book(self, joined: Tensor, drops: Tensor, slot: Tensor, sign: Tensor) -> None:
        """Mark the slots taken and freed; a drop gives dependent columns another chance."""
        row = joined.nonzero()[:, 0]
        self.used[row, slot[row]] = True
        self.s[row, slot[row]] = sign[row]
        row = drops.nonzero()[:, 0]
        if len(row) == 0:
            return
        gone = slot[row]
        for array in (self.used, self.s, self.u, self.v, self.inv):
            array[row, gone] = 0
        self.inv[row, :, gone] = 0
        bar = torch.where(self.diagonal > 0, 0.0, _NEVER).to(self.b.dtype).repeat(len(row), 1)
        active = torch.where(self.used[row], _NEVER, 0.0).to(self.b.dtype)
        self.bar[row] = bar.scatter_add_(1, self.act[row], active)

    def _grow(self) -> None:
        K = self.act.shape[1]
        self.vacant = K - int(self.used.sum(1).max()) - 1
        if self.vacant >= 0:
            return
        more = min(max(32, K // 2), self.b.shape[1] + 1 - K)
        for name in ("act", "used", "s", "u", "v"):
            setattr(self, name, torch.nn.functional.pad(getattr(self, name), (0, more)))
        self.inv = torch.nn.functional.pad(self.inv, (0, more, 0, more))
        self.vacant += more

    def refresh(self) -> None:
        """Compute afresh what has drifted: u, v, P, Q and the inverse of the classes concerned."""
        drift = torch.where(self.used, (self.Q.gather(1, self.act) - self.s).abs(), 0.0).amax(1)
        shift = torch.where(self.used, self.P.gather(1, self.act).abs(), 0.0).amax(1)
        row = (self.alive & ~((drift < _DRIFT) & (shift <= _DRIFT * self.lam))).nonzero()[:, 0]
        if len(row) == 0:
            return
        factor, info = factorise(self.G, self.act[row], self.used[row].to(self.b.dtype))
        self._fail(row[info != 0])
        row, factor = row[info == 0], factor[info == 0]
        used, act = self.used[row], self.act[row]
        self.inv[row] = torch.cholesky_inverse(factor) * (used[:, :, None] & used[:, None, :])
        right = torch.stack([self.b[row].gather(1, act) * used, self.s[row]], 2)
        both = refined_solve(self.G, act, used.to(self.b.dtype), factor, right)
        self.u[row], self.v[row] = both[:, :, 0], both[:, :, 1]
        spread = right.new_zeros(len(row), self.b.shape[1], 2).scatter_add_(1, act[:, :, None].expand(-1, -1, 2), both)
        image = (self.G @ spread.permute(1, 0, 2).flatten(1)).reshape(len(self.G), len(row), 2)
        self.P[row] = self.b[row] - image[:, :, 0].T
        self.Q[row] = image[:, :, 1].T

    def secure(self) -> None:
        """Keep every present point as a start for another method; end classes that broke or run in circles."""
        row = self.alive.nonzero()[:, 0]
        point, broken = self._point(row, self.lam[row])
        self.safe[row] = torch.where(broken[:, None], self.safe[row], point)
        cycling = self.idle[row] > self.b.shape[1] + 50
        self._fail(row[broken | cycling])

    def _fail(self, row: Tensor) -> None:
        failed = torch.zeros_like(self.alive)
        failed[row] = True
        self.give_up(failed & self.alive)

    def give_up(self, who: Tensor) -> None:
        """Leave the classes ``who`` where they are, for another method to go on from."""
        for row in who.nonzero()[:, 0].tolist():
            self.coef[int(self.target[row]) :, self.ids[row]] = self.safe[row]
            self.stalled[self.ids[row]] = True
            self.alive[row] = False

    def compact(self) -> None:
        """Drop finished classes from the state once they are half of it."""
        if 2 * int(self.alive.sum()) > len(self.alive):
            return
        self.steps[self.ids] = self.count
        keep = self.alive.nonzero()[:, 0]
        self.every = self.every[: len(keep)]
        for name in (
            "ids", "count", "b", "P", "Q", "bar", "act", "used", "s", "u", "v", "inv", "lam", "floor", "target",
            "idle", "alive", "safe",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[keep])
