"""Solutions at many radii, and the warning where the tolerance was missed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from interpnet.gram import Gram, RowGram
from interpnet.mulasso._arguments import MAX_ITER, Options, check_grams, checked_radii, class_labels
from interpnet.mulasso._solver._certified import Solution, solve
from interpnet.mulasso._working_sets import solve_by_rows
from interpnet.support.checks import check_kinds
from interpnet.support.types import Float64


def mulasso_path(
    gram: Gram | RowGram,
    mus: npt.ArrayLike,
    *,
    positive: bool = False,
    tol: float = 1e-6,
    max_iter: int = MAX_ITER,
    device: str | None = None,
    n_jobs: int | None = None,
) -> Float64:
    """Return the solutions (T, C, m) float64 at every radius of ``mus``, in its order, from one pass along the path.

    Parameters
    ----------
    gram : Gram or RowGram
    mus : (T,) array
        Radii, above zero, in any order.
    positive, tol, max_iter, device, n_jobs
        As for :class:`~interpnet.mulasso.MuLasso`; errors and warnings are those of its ``fit_gram``.

    Examples
    --------
    >>> import numpy as np
    >>> gram = Gram.from_scores(np.eye(2), [0, 1])
    >>> mulasso_path(gram, [0.25, 2.0])[:, 0].tolist()
    [[0.25, 0.0], [1.0, 0.0]]
    """
    check_kinds(mulasso_path, locals())
    # One pass: the solution at a radius is the first guess at the next.
    radii = np.atleast_1d(checked_radii(mus, "mus", "a vector of numbers", (0, 1)))
    options = Options(positive, tol, max_iter, device, n_jobs)
    check_grams(gram, rows=True)
    return solve_warned(gram, radii, options, depth=3).coef


def solve_warned(
    gram: Gram | RowGram,
    mus: Float64,
    options: Options,
    *,
    depth: int,
    classes: npt.NDArray[Any] | None = None,
    start: Float64 | None = None,
) -> Solution:
    """Solve at the radii ``mus``, (T,) or (T, C), and warn ``depth`` frames up where the tolerance was missed.

    The frame is that of the caller of the public function; ``classes`` are labels for the message.
    """
    if isinstance(gram, Gram):
        solution = solve(gram, mus, options, start)
    else:
        solution = solve_by_rows(gram, mus, options, start)
    # Written so that a gap of NaN counts as missed.
    missed = ~(solution.relative <= options.tol)
    if not missed.any():
        return solution
    t, c = np.unravel_index(int(np.nan_to_num(solution.relative, nan=np.inf).argmax()), missed.shape)
    mu = np.broadcast_to(mus.reshape(len(mus), -1), missed.shape)[t, c]
    name = class_labels(classes, gram.n_classes)[c]
    warnings.warn(
        f"the relative duality gap is {solution.relative[t, c]:.2e} for class {name!s} "
        f"at mu={mu:g} (missed by {np.count_nonzero(missed.any(axis=0))} of {missed.shape[1]} classes), "
        f"above tol={options.tol:g}; raise max_iter (now {options.max_iter}) or tol, or lower mu: "
        "far beyond the l1 norm of a least squares solution the gap is rounding times mu",
        ConvergenceWarning,
        stacklevel=depth,
    )
    return solution
