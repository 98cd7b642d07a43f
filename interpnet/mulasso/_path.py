"""Solutions at many radii, and the warning where the tolerance was missed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from interpnet.gram import Gram
from interpnet.mulasso._arguments import MAX_ITER, Options, check_grams, checked_radii
from interpnet.mulasso._solver._certified import Solution, solve
from interpnet.support.types import Float64


def mulasso_path(
    gram: Gram,
    mus: npt.ArrayLike,
    *,
    positive: bool = False,
    tol: float = 1e-6,
    max_iter: int = MAX_ITER,
    device: str | None = None,
    n_jobs: int | None = None,
) -> Float64:
    """Return the solutions at every radius of ``mus`` from one pass along the path.

    Parameters
    ----------
    gram : Gram
    mus : (T,) array
        Radii, above zero, in any order.
    positive, tol, max_iter, device, n_jobs
        As for :class:`~interpnet.mulasso.MuLasso`; errors and warnings are those of its ``fit_gram``.

    Returns
    -------
    (T, C, m) float64
        In the order of ``mus``.

    Examples
    --------
    >>> import numpy as np
    >>> gram = Gram.from_scores(np.eye(2), [0, 1])
    >>> mulasso_path(gram, [0.25, 2.0])[:, 0].tolist()
    [[0.25, 0.0], [1.0, 0.0]]
    """
    radii = np.atleast_1d(checked_radii(mus, "mus", "a vector of numbers", (0, 1)))
    options = Options(positive, tol, max_iter, device, n_jobs)
    check_grams(gram)
    solution = solve(gram, radii, options)
    warn_missed(solution, radii, np.arange(gram.n_classes), options, depth=3)
    return solution.coef


def warn_missed(solution: Solution, mus: Float64, classes: npt.NDArray[Any], options: Options, *, depth: int) -> None:
    """Warn, ``depth`` frames up (the caller of the public function), where the tolerance was missed.

    ``mus`` are the radii, (T,) or (T, C).
    """
    missed = ~(solution.relative <= options.tol)
    if not missed.any():
        return
    t, c = np.unravel_index(int(np.nan_to_num(solution.relative, nan=np.inf).argmax()), missed.shape)
    mu = mus[t, c] if mus.ndim == 2 else mus[t]
    warnings.warn(
        f"the relative duality gap is {solution.relative[t, c]:.2e} for class {classes[c]!s} "
        f"at mu={mu:g} (missed by {np.count_nonzero(missed.any(axis=0))} of {missed.shape[1]} classes), "
        f"above tol={options.tol:g}; raise max_iter (now {options.max_iter}) or tol, or lower mu: "
        "far beyond the l1 norm of a least squares solution the gap is rounding times mu",
        ConvergenceWarning,
        stacklevel=depth,
    )
