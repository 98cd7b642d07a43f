r"""The whole path of the mu-lasso, exactly: the radii at which a channel joins or leaves, and the weights there.

Between two neighbouring break points the solution is linear in mu, so they say everything about every radius.

Source: Osborne, Presnell & Turlach, "On the LASSO and its dual", J. Comput. Graph. Statist. 9 (2000).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso._arguments import Options, check_grams, checked_radii
from interpnet.mulasso._solver._batched_systems import pull_of
from interpnet.mulasso._solver._certified import objective_at_zero, solve
from interpnet.mulasso._solver._homotopy import homotopy
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.types import Float64

# Events closer together than this share of the largest radius are one break point.
_TOGETHER = 1e-12
# Weights below this share of the radius are rounding (on real scores: rounding up to 1e-11 of it, weights from 1e-7).
_NO_WEIGHT = 1e-9
_MAX_ITER = 100_000


@brief
@dataclass(frozen=True, eq=False)
class BreakPoints:
    r"""The path of one class from mu = 0 up to ``mu[-1]``.

    Attributes
    ----------
    mu : (E,) float64
        Radii, ascending, beginning with 0; the last is the one asked for, or the one beyond which the constraint
        no longer binds.
    multiplier : (E,) float64
        Largest correlation :math:`\max_i |X_i^T (L_j - X w)|` (w >= 0: the largest positive one): how much the
        objective falls for each unit of mu.
    coef : (E, m) scipy.sparse.csr_matrix
        Weights at the break points.
    relative_gap : (E,) float64
        Certificates, as in :class:`~interpnet.mulasso.MuLasso`.
    """

    mu: Float64
    multiplier: Float64
    coef: sparse.csr_matrix
    relative_gap: Float64

    def __len__(self) -> int:
        return len(self.mu)

    def at(self, mu: float) -> Float64:
        """Return the weights (m,) at a radius, by interpolation between its neighbours.

        A radius beyond the path's end is refused where the constraint still binds there.
        """
        radius = float(checked_radii(mu, "mu", "a number", (0,)))
        if radius >= self.mu[-1]:
            if radius > self.mu[-1] and self.multiplier[-1] > 1e-9 * self.multiplier[0]:
                raise InterpNetError(f"mu is {radius:g}; expected at most {self.mu[-1]:g}, where this path ends")
            return self._row(len(self) - 1)
        e = int(np.searchsorted(self.mu, radius, side="right"))
        share = (radius - self.mu[e - 1]) / (self.mu[e] - self.mu[e - 1])
        between: Float64 = (1 - share) * self._row(e - 1) + share * self._row(e)
        return between

    def _row(self, e: int) -> Float64:
        row: Float64 = self.coef[[e]].toarray()[0]
        return row

    def first(self) -> Float64:
        """Return the radius (m,) at which each channel first has a weight; infinity where it has none."""
        place = self.coef.tocoo()
        found = np.full(self.coef.shape[1], np.inf)
        # A channel's weight is zero at the break point where it joins: it joined one before its first weight.
        np.minimum.at(found, place.col, self.mu[np.maximum(place.row - 1, 0)])
        return found


def mulasso_breakpoints(
    gram: Gram, mu: float, *, classes: Sequence[int] | None = None, positive: bool = False, tol: float = 1e-6
) -> list[BreakPoints]:
    """Return the break points of the classes' paths from 0 to ``mu``.

    The events come from the homotopy, all classes in step; the weights at each radius are then solved for and certified
    like any other. The dense weights of one class's path, (E, m), are held at a time.

    Parameters
    ----------
    gram : Gram
    mu : float
        Radius at which the paths end.
    classes : sequence of int, optional
        Classes wanted; all by default. One that does not exist is an InterpNetError.
    positive, tol
        As for :class:`~interpnet.mulasso.MuLasso`, as are errors.

    Warns
    -----
    ConvergenceWarning
        ``tol`` was missed, or a path could not be followed to its end.

    Examples
    --------
    >>> import numpy as np
    >>> gram = Gram(np.diag([1.0, 4.0]), np.array([[1.0], [2.0]]), np.array([2.0]), 2)
    >>> path = mulasso_breakpoints(gram, 5.0)[0]
    >>> path.mu.tolist(), path.multiplier.tolist()
    ([0.0, 0.25, 1.5], [2.0, 1.0, 0.0])
    >>> path.at(0.25).tolist(), path.at(3.0).tolist()
    ([0.0, 0.25], [1.0, 0.5])
    """
    check_kinds(mulasso_breakpoints, locals(), but=["mu"])
    end = float(checked_radii(mu, "mu", "a number", (0,)))
    options = Options(positive, tol, _MAX_ITER)
    check_grams(gram)
    wanted = list(range(gram.n_classes))
    if classes is not None:
        wanted = [whole_number(int(c), "a class in classes", least=0, most=gram.n_classes - 1) for c in classes]
    radii: list[list[float]] = [[] for _ in wanted]

    def note(ids: Tensor, weight: Tensor) -> None:
        for i, radius in zip(ids.tolist(), weight.abs().sum(1).tolist(), strict=True):
            radii[i].append(radius)

    b = torch.from_numpy(np.ascontiguousarray(gram.B.T[wanted]))
    mus = torch.full((1, len(wanted)), end, dtype=torch.float64)
    walked = homotopy(torch.from_numpy(gram.G), b, mus, positive=options.positive, max_steps=_MAX_ITER, on_event=note)
    if bool(walked.stalled.any()):
        lost = [wanted[i] for i in walked.stalled.nonzero()[:, 0].tolist()]
        warnings.warn(
            f"the path of class {', '.join(map(str, lost))} could not be followed to mu={end:g} (columns that depend "
            "on each other): break points are missing near its end; the weights that are given are certified",
            ConvergenceWarning,
            stacklevel=2,
        )
    ends = walked.coef[0].abs().sum(1).tolist()
    return [
        _path(gram, c, np.array([*found, last]), options) for c, found, last in zip(wanted, radii, ends, strict=True)
    ]


def _path(gram: Gram, c: int, radii: Float64, options: Options) -> BreakPoints:
    """Solve for one class at its break points."""
    end = float(radii[-1])
    ascending = np.unique(radii[(radii > _TOGETHER * end) & (radii <= end)])
    ascending = ascending[np.append(np.diff(ascending) > _TOGETHER * end, True)[: len(ascending)]]
    one = Gram(gram.G, gram.B[:, [c]].copy(), gram.yy[[c]].copy(), gram.n)
    start = _largest(one.B.T, options)
    if len(ascending) == 0:
        return BreakPoints(np.zeros(1), start, sparse.csr_matrix((1, gram.m)), np.zeros(1))
    weight = solve(one, ascending, options).coef[:, 0]
    # The channel that joins or leaves at a break point has no weight there; rounding leaves it a very small one.
    coef = np.where(np.abs(weight) > _NO_WEIGHT * ascending[:, None], weight, 0.0)
    correlation = one.B[:, 0] - coef @ gram.G
    multiplier = _largest(correlation, options)
    # The certificate of docs/method.md, section 2.3, for the weights that are returned.
    gap = np.maximum(ascending * multiplier - (coef * correlation).sum(axis=1), 0.0) / objective_at_zero(one)
    if (gap > options.tol).any():
        t = int(gap.argmax())
        warnings.warn(
            f"the relative duality gap is {gap[t]:.2e} for class {c} at mu={ascending[t]:g}, above tol={options.tol:g}",
            ConvergenceWarning,
            stacklevel=3,
        )
    return BreakPoints(
        np.concatenate([[0.0], ascending]),
        np.concatenate([start, multiplier]),
        sparse.csr_matrix(np.vstack([np.zeros(gram.m), coef])),
        np.concatenate([[0.0], gap]),
    )


def _largest(correlation: Float64, options: Options) -> Float64:
    """Return the multiplier (T,) that correlations (T, m) imply."""
    largest: Float64 = np.maximum(pull_of(correlation, positive=options.positive).max(axis=1), 0.0)
    return largest
