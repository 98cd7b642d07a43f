"""The exact homotopy of the mu-lasso: LARS with drops on the Gram matrix, all classes in step.

docs/method.md, section 2.5. The lines of weights and correlations are kept as offset and slope, not as running values:
both come from the current inverse at any multiplier, and rounding does not add up along the path.

Sources: Osborne, Presnell & Turlach, "A new approach to variable selection in least
squares problems", IMA J. Numer. Anal. 20 (2000), 389-403; Efron, Hastie, Johnstone & Tibshirani, "Least angle
regression", Ann. Statist. 32 (2004), 407-499, with the drops of their section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.mulasso._solver._batched_systems import factorise, pull_of, refined_solve, rows_of
from interpnet.mulasso._solver._homotopy_state import ActiveSet, Correlations, GramRows, Progress

# A column whose Schur complement is below this share of its own square is linearly dependent on the active ones.
_DEPENDENT = 1e-11
# A free column whose correlation falls as fast as the multiplier (a slope of 1 up to rounding) never reaches it.
_TIED = 1e-10
# Where the multiplier has fallen this far the correlations are rounding: the constraint is not active.
_FLOOR = 1e-14
# On the active set the correlations' slope is the sign. Deviation at which the inverse is computed again, and the
# number of steps after which that is looked at.
_DRIFT = 1e-6
_CHECK_EVERY = 32
# Slots for active columns at first, and the fewest that are added where they run out.
_SLOTS = 32
# Share of the largest weight by which a weight may have the wrong sign, or the radius be missed, without being broken.
_BROKEN = 1e-5
# Rounding of the weights relative to the least squares weights on the same support, of which they are a difference.
_ROUNDING = 1e-11

_NEVER = float("-inf")


@dataclass(frozen=True)
class HomotopyResult:
    """Solutions at the radii asked for, exact up to rounding."""

    coef: Tensor  # (T, C, m)
    steps: Tensor  # (C,): events
    stalled: Tensor  # (C,) bool: which classes gave up on the way


def homotopy(
    G: Tensor,
    b: Tensor,
    mus: Tensor,
    *,
    positive: bool,
    max_steps: int,
    on_event: Callable[[Tensor, Tensor], None] | None = None,
) -> HomotopyResult:
    """Follow every class from w = 0 to the largest of its radii ``mus`` (T, C), ascending along the first axis.

    ``on_event`` is called at every event with the classes it concerns (n,) and the weights there (n, m). The solutions
    are exact up to rounding, except for classes in ``stalled`` (more than ``max_steps`` events, or a numerically
    singular active set): theirs is the last solution reached, a feasible start for another method.
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
        walk.give_up(walk.progress.alive.nonzero()[:, 0])
    return walk.result


class _Walk:
    """The classes still under way; rows of every tensor are classes, ``progress.ids`` says which."""

    def __init__(
        self, G: Tensor, b: Tensor, mus: Tensor, positive: bool, on_event: Callable[[Tensor, Tensor], None] | None
    ) -> None:
        C, m = b.shape
        self.G = G
        self.mus = mus
        self.positive = positive
        self.on_event = on_event
        self.diagonal = G.diagonal().contiguous()
        # What Correlations.bar is while nothing is active: an empty column never joins.
        self.open = torch.where(self.diagonal > 0, 0.0, _NEVER).to(b.dtype)
        self.rows = GramRows(G)
        none = torch.zeros(C, dtype=torch.int64, device=b.device)
        self.result = HomotopyResult(b.new_zeros(len(mus), C, m), none.clone(), none.bool())
        self.every = torch.arange(C, device=b.device)
        self.vacant = min(_SLOTS, m)  # a lower bound on the free slots of every class
        self.active = ActiveSet.empty(b, self.vacant)
        self.correlation = Correlations(b, b.clone(), torch.zeros_like(b), self.open.repeat(C, 1))
        self.progress = Progress(
            ids=self.every.clone(),
            idle=none.clone(),
            target=none.clone(),
            multiplier=b.new_full((C,), float("inf")),
            floor=_FLOOR * b.abs().amax(1),
            alive=~none.bool(),
            safe=torch.zeros_like(b),
        )

    def advance(self) -> bool:
        """Take every class to its next event; return whether any is still under way."""
        join, column = self._next_join()
        drop, slot = self._next_drop()
        multiplier = torch.maximum(join, drop)
        at_end = ~(multiplier > self.progress.floor)
        multiplier = torch.where(at_end, 0.0, multiplier)
        self._write_passed(multiplier, at_end)
        alive = self.progress.alive
        if not bool(alive.any()):
            return False
        self._move_to(multiplier)
        drops = drop >= join
        self._change(alive & ~drops, column, alive & drops, slot)
        return bool(self.progress.alive.any())

    def _next_join(self) -> tuple[Tensor, Tensor]:
        """Return the largest multiplier at which a free column reaches the bound, and that column."""
        offset = self.correlation.offset
        slope = self.correlation.slope
        # c_j is within the bound now, so it can only reach the side of its offset's sign: the event lies at the
        # multiplier |offset| / (1 - sign(offset) slope) (Efron et al. 2004, equation 2.13).
        reach = pull_of(offset, positive=self.positive)
        room = 1 - (slope if self.positive else torch.copysign(slope, offset * slope))
        event = torch.where(room > _TIED, reach / room, _NEVER)
        event.clamp_(max=self.progress.multiplier[:, None]).add_(self.correlation.bar)
        multiplier, column = event.max(1)
        return multiplier, column

    def _next_drop(self) -> tuple[Tensor, Tensor]:
        """Return the largest multiplier at which an active weight reaches zero, and its slot."""
        active = self.active
        event = torch.where(active.used & (active.sign * active.slope < 0), active.offset / active.slope, _NEVER)
        multiplier, slot = torch.minimum(event, self.progress.multiplier[:, None]).max(1)
        return multiplier, slot

    def _write_passed(self, multiplier: Tensor, at_end: Tensor) -> None:
        """Write down the solutions at the radii passed before ``multiplier`` is reached."""
        # Between two events the l1 norm is linear in the multiplier.
        total = (self.active.sign * self.active.offset).sum(1)
        slope = (self.active.sign * self.active.slope).sum(1)
        radius = total - multiplier * slope
        progress = self.progress
        while True:
            wanted = self.mus[progress.target, progress.ids]
            hit = progress.alive & ((radius >= wanted) | at_end)
            if not bool(hit.any()):
                return
            row = hit.nonzero()[:, 0]
            where = (total[row] - wanted[row]) / slope[row]
            where = torch.where(radius[row] >= wanted[row], where, multiplier[row])
            where = torch.minimum(torch.maximum(where, multiplier[row]), progress.multiplier[row])
            self._write(row, where, progress.target[row])
            progress.target[row] += 1
            progress.alive &= progress.target < len(self.mus)
            progress.target.clamp_(max=len(self.mus) - 1)

    def _write(self, row: Tensor, multiplier: Tensor, target: Tensor) -> None:
        """Write down the points of the classes ``row``; the last safe one where a point is broken."""
        ids = self.progress.ids[row]
        point, broken = self._point(row, multiplier)
        broken |= point.abs().sum(1) > self.mus[target, ids] * (1 + _BROKEN)
        self.result.coef[target, ids] = torch.where(broken[:, None], self.progress.safe[row], point)
        self.result.stalled[ids[broken]] = True

    def _point(self, row: Tensor, multiplier: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights (r, m) of the classes ``row`` at a multiplier (r,), and which contradict their signs."""
        # Before the first column joins the multiplier is infinite and there is nothing to write.
        multiplier = torch.where(multiplier.isfinite(), multiplier, 0.0)
        offset = self.active.offset[row]
        weight = offset - multiplier[:, None] * self.active.slope[row]
        along = weight * self.active.sign[row]
        allowed = _BROKEN * along.amax(1) + _ROUNDING * offset.abs().amax(1)
        broken = ~(along.amin(1) >= -allowed)
        # A weight about to leave may be rounded to the wrong side of zero.
        weight = torch.where(along > 0, weight, 0.0)
        return weight.new_zeros(len(row), len(self.G)).scatter_add_(1, self.active.column[row], weight), broken

    def _move_to(self, multiplier: Tensor) -> None:
        """Lower the multipliers of the classes alive, and report the event."""
        progress = self.progress
        self.result.steps[progress.ids] += progress.alive
        progress.idle = torch.where(multiplier < progress.multiplier * (1 - 1e-13), 0, progress.idle + 1)
        progress.multiplier = torch.where(progress.alive, multiplier, progress.multiplier)
        if self.on_event is not None:
            row = progress.alive.nonzero()[:, 0]
            self.on_event(progress.ids[row], self._point(row, progress.multiplier[row])[0])

    def _change(self, joins: Tensor, column: Tensor, drops: Tensor, slot: Tensor) -> None:
        """Let ``column`` join where ``joins``, or ``slot`` drop where ``drops``: one update of rank one."""
        self._make_room()
        active = self.active
        correlation = self.correlation
        every = self.every
        slot = torch.where(joins, active.used.to(torch.uint8).argmin(1), slot)
        self.rows.add(column[joins])
        direction = self._direction(joins, column, slot)
        active.column[every, slot] = torch.where(joins, column, active.column[every, slot])
        direction = torch.where((joins | drops)[:, None], direction, 0.0)
        image = self.rows.image(active.column, direction)
        schur = image[every, column]
        joined = joins & (schur > _DEPENDENT * self.diagonal[column])
        correlation.bar[every, column] = torch.where(joins, _NEVER, correlation.bar[every, column])
        offset = correlation.offset[every, column]
        slope = correlation.slope[every, column]
        sign = torch.ones_like(offset)
        if not self.positive:
            sign.masked_fill_(offset + self.progress.multiplier * slope < 0, -1.0)
        # After a join the correlation of the column is sign * multiplier; after a drop the weight of the slot is 0.
        pivot = torch.where(joins, schur, -direction[every, slot])
        by_offset = torch.where(joins, offset, active.offset[every, slot]) / pivot
        by_slope = torch.where(joins, sign - slope, active.slope[every, slot]) / pivot
        sound = joined | drops
        by_offset = torch.where(sound, by_offset, 0.0)[:, None]
        by_slope = torch.where(sound, by_slope, 0.0)[:, None]
        scale = torch.where(sound, 1 / pivot, 0.0)[:, None]
        active.offset += by_offset * direction
        active.slope += by_slope * direction
        correlation.offset -= by_offset * image
        correlation.slope += by_slope * image
        active.inverse.baddbmm_((scale * direction)[:, :, None], direction[:, None, :])
        self._book(joined, drops, slot, sign)

    def _direction(self, joins: Tensor, column: Tensor, slot: Tensor) -> Tensor:
        """Return z (C, K): (-inv(G_AA) G_Aj, 1) for a join, the slot's column of the inverse for a drop."""
        active = self.active
        cross = self.G[column[:, None], active.column] * active.used
        # Row times matrix: bmm is fast there.
        solved = torch.bmm(cross[:, None, :], active.inverse)[:, 0]
        direction = torch.where(joins[:, None], -solved, active.inverse[self.every, slot])
        direction[self.every, slot] = torch.where(joins, 1.0, direction[self.every, slot])
        return direction

    def _make_room(self) -> None:
        """Add slots where the classes might have none left."""
        # A step fills one slot at most, so the slots need not be counted every time.
        self.vacant -= 1
        if self.vacant >= 0:
            return
        K = self.active.column.shape[1]
        self.vacant = K - int(self.active.used.sum(1).max()) - 1
        if self.vacant >= 0:
            return
        more = min(max(_SLOTS, K // 2), len(self.G) + 1 - K)
        self.active = self.active.widened(more)
        self.vacant += more

    def _book(self, joined: Tensor, drops: Tensor, slot: Tensor, sign: Tensor) -> None:
        """Mark the slots taken and freed; a drop gives dependent columns another chance."""
        active = self.active
        row = joined.nonzero()[:, 0]
        active.used[row, slot[row]] = True
        active.sign[row, slot[row]] = sign[row]
        row = drops.nonzero()[:, 0]
        if len(row) == 0:
            return
        active.free(row, slot[row])
        barred = torch.where(active.used[row], _NEVER, 0.0).to(self.open.dtype)
        self.correlation.bar[row] = self.open.repeat(len(row), 1).scatter_add_(1, active.column[row], barred)

    def refresh(self) -> None:
        """Compute again what has drifted: the inverse, weights and correlations of the classes concerned."""
        active = self.active
        correlation = self.correlation
        # On the active set the correlations are sign * multiplier: slope is the sign, and offset is 0.
        drift = (correlation.slope.gather(1, active.column) - active.sign).abs()
        drift = torch.where(active.used, drift, 0.0).amax(1)
        shift = torch.where(active.used, correlation.offset.gather(1, active.column).abs(), 0.0).amax(1)
        sound = (drift < _DRIFT) & (shift <= _DRIFT * self.progress.multiplier)
        row = (self.progress.alive & ~sound).nonzero()[:, 0]
        if len(row) == 0:
            return
        b = correlation.at_zero
        factor, info = factorise(self.G, active.column[row], active.used[row].to(b.dtype))
        self.give_up(row[info != 0])
        row = row[info == 0]
        factor = factor[info == 0]
        used = active.used[row]
        column = active.column[row]
        active.inverse[row] = torch.cholesky_inverse(factor) * (used[:, :, None] & used[:, None, :])
        right = torch.stack([b[row].gather(1, column) * used, active.sign[row]], 2)
        both = refined_solve(self.G, column, used.to(b.dtype), factor, right)
        active.offset[row], active.slope[row] = both.unbind(2)
        spread = right.new_zeros(len(row), len(self.G), 2)
        spread.scatter_add_(1, column[:, :, None].expand(-1, -1, 2), both)
        image = (self.G @ spread.permute(1, 0, 2).flatten(1)).reshape(len(self.G), len(row), 2)
        correlation.offset[row] = b[row] - image[:, :, 0].T
        correlation.slope[row] = image[:, :, 1].T

    def secure(self) -> None:
        """Keep every present point as a start for another method; end classes that broke or run in circles."""
        progress = self.progress
        row = progress.alive.nonzero()[:, 0]
        point, broken = self._point(row, progress.multiplier[row])
        progress.safe[row] = torch.where(broken[:, None], progress.safe[row], point)
        cycling = progress.idle[row] > len(self.G) + 50
        self.give_up(row[broken | cycling])

    def give_up(self, rows: Tensor) -> None:
        """Leave the classes ``rows`` where they are, for another method to go on from."""
        progress = self.progress
        for row in rows.tolist():
            self.result.coef[int(progress.target[row]) :, progress.ids[row]] = progress.safe[row]
            self.result.stalled[progress.ids[row]] = True
            progress.alive[row] = False

    def compact(self) -> None:
        """Drop finished classes from the state once they are half of it."""
        alive = self.progress.alive
        if 2 * int(alive.sum()) > len(alive):
            return
        keep = alive.nonzero()[:, 0]
        self.every = self.every[: len(keep)]
        self.active = rows_of(self.active, keep)
        self.correlation = rows_of(self.correlation, keep)
        self.progress = rows_of(self.progress, keep)
