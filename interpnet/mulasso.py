r"""The mu-lasso: which columns explain a class, under a budget on the l1 norm, with a certificate.

For each class j

.. math:: \min_w \tfrac12 \|X w - L_j\|^2 \quad \text{where } \|w\|_1 \le \mu \ (\text{optionally } w \ge 0),

without intercept and without scaling of columns. The returned ``w`` comes with its duality gap, computed
from G, B and w alone: with :math:`g = G w - B_j`,

.. math:: \text{gap} = w^T g + \mu \max_i |g_i| \qquad (w \ge 0:\ w^T g + \mu \max(0, \max_i -g_i)),

and no feasible point has an objective lower by more than the gap. Where the columns are linearly dependent,
as the layers' scores are, several ``w`` are optimal: compare objectives and predictions, not coefficients.

Sources: Oramas, Wang & Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019 (the problem); Jaggi,
"Revisiting Frank-Wolfe", ICML 2013 (the gap); `interpnet/_mulasso_homotopy.py` (the method).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from interpnet._gram_checks import as_numpy, locate_bad
from interpnet._mulasso_checks import check_options, check_radii, check_type
from interpnet._mulasso_solve import Solution, solve
from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram

Float64 = npt.NDArray[np.float64]

_ROWS = 4096
_MAX_ITER = 20_000

if TYPE_CHECKING:

    class _Estimator:
        """What scikit-learn's mix-ins, which have no types, provide."""
else:

    class _Estimator(ClassifierMixin, BaseEstimator):
        """A scikit-learn classifier."""


class MuLasso(_Estimator):
    """Least squares on one-hot classes (or any targets) with an l1 budget a class; exact and certified.

    Parameters
    ----------
    mu : float
        Radius of the l1 ball; 0 gives w = 0. One radius for every class.
    positive : bool
        Also require w >= 0.
    tol : float
        Largest relative duality gap. The gap is relative to the objective at w = 0, half the target's sum
        of squares.
    max_iter : int
        Largest number of steps a class (changes of the active set).

    Attributes
    ----------
    coef_ : (C, m) float64
        Weights; ``||coef_[j]||_1 <= mu``.
    dual_gap_ : (C,) float64
        Absolute duality gap at ``coef_``, in units of the objective.
    relative_gap_ : (C,) float64
        ``dual_gap_ / (yy / 2)``; what ``tol`` is compared with. 0 for a class without any image.
    mu_active_ : (C,) bool
        Whether the constraint holds the solution back. Where it does not, ``coef_`` is a least squares
        solution.
    n_iter_ : (C,) int
        Steps taken.
    classes_ : (C,) array
        Class labels, in the order of the rows of ``coef_``.
    n_features_in_ : int
        m.

    Notes
    -----
    ``y`` decides what :meth:`predict` returns: labels for a vector of labels, real targets for a matrix of
    targets (also one of a single column).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0, 0.2], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.0, 1.0, 0.2]])
    >>> model = MuLasso(mu=0.8).fit(X, [0, 0, 1, 1])
    >>> model.predict(X).tolist()
    [0, 0, 1, 1]
    >>> np.abs(model.coef_).sum(axis=1).round(6).tolist()
    [0.8, 0.8]
    >>> bool(model.relative_gap_.max() <= model.tol)
    True
    """

    def __init__(
        self, mu: float = 10.0, *, positive: bool = False, tol: float = 1e-6, max_iter: int = _MAX_ITER
    ) -> None:
        self.mu = mu
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit from scores.

        Parameters
        ----------
        X : (N, m) array, memory map or torch tensor
            Scores. Read in blocks; only an (m, m) matrix is kept.
        y : (N,) labels or (N, C) targets
            Labels of any type scikit-learn takes for classes, or a real target matrix.

        Raises
        ------
        ValueError
            (scikit-learn's, or :class:`~interpnet.errors.InterpNetError`, which is one) Empty data, NaN or
            infinity (row and column named), shapes that do not match, a vector of continuous targets,
            parameters out of range.

        Warns
        -----
        ConvergenceWarning
            ``tol`` was not reached; with the gap, the tolerance and the remedy.
        """
        self._check_parameters()
        if y is None:
            raise DataError("y is None; this estimator requires y to be passed, but the target y is None")
        target = as_numpy(y)
        scores = self._scores(X, reset=True)
        if target.ndim == 1:
            check_classification_targets(target)
            classes, index = np.unique(target, return_inverse=True)
            gram = Gram.from_scores(scores, index, n_classes=len(classes), block=_ROWS)
        else:
            gram = Gram.from_scores(scores, target, block=_ROWS)
            classes = np.arange(gram.n_classes)
        return self._solve(gram, classes, labels=target.ndim == 1)

    def fit_gram(self, gram: Gram, *, classes: npt.ArrayLike | None = None) -> Self:
        """Fit from a :class:`~interpnet.gram.Gram`.

        Parameters
        ----------
        gram : Gram
        classes : (C,) array, optional
            Labels :meth:`predict` returns; by default 0 .. C - 1.

        Raises
        ------
        InterpNetError
            Not a Gram, or one whose ``G`` is clearly not positive semidefinite; parameters out of range.

        Warns
        -----
        ConvergenceWarning
            As :meth:`fit`.

        Examples
        --------
        >>> import numpy as np
        >>> gram = Gram.from_scores(np.eye(2), [0, 1])
        >>> MuLasso(mu=0.5).fit_gram(gram).coef_.tolist()
        [[0.5, 0.0], [0.0, 0.5]]
        """
        self._check_parameters()
        check_type(gram)
        gram.check_definite()
        labels = np.arange(gram.n_classes) if classes is None else np.asarray(classes)
        if labels.shape != (gram.n_classes,):
            raise InterpNetError(f"classes have shape {labels.shape}; expected ({gram.n_classes},), one label a class")
        self.n_features_in_ = gram.m
        return self._solve(gram, labels, labels=True)

    def decision_function(self, X: npt.ArrayLike) -> Float64:
        """Return ``X @ coef_.T``, (N, C) float64: one column a class, also where there are only two."""
        check_is_fitted(self)
        scores = self._scores(X, reset=False)
        result = np.empty((scores.shape[0], self.coef_.shape[0]))
        for start in range(0, scores.shape[0], _ROWS):
            rows = scores[start : start + _ROWS]
            where = locate_bad("X", np.asarray(rows, dtype=np.float64), start)
            if where is not None:
                raise DataError(where)
            result[start : start + _ROWS] = rows @ self.coef_.T
        return result

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the labels (N,) of the largest decision value; the targets (N, C) if fitted to a matrix."""
        values = self.decision_function(X)
        return self.classes_[values.argmax(axis=1)] if self._labels else values

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy for labels, the mean coefficient of determination for a target matrix."""
        metric = accuracy_score if np.ndim(as_numpy(y)) == 1 else r2_score
        return float(metric(as_numpy(y), self.predict(X), sample_weight=sample_weight))

    def _solve(self, gram: Gram, classes: npt.NDArray[Any], *, labels: bool) -> Self:
        radius = np.array([float(self.mu)])
        solution = solve(gram, radius, positive=self.positive, tol=self.tol, max_iter=self.max_iter)
        _warn(solution, radius, classes, tol=self.tol, max_iter=self.max_iter, depth=4)
        self.classes_ = classes
        self.coef_ = solution.coef[0]
        self.dual_gap_ = solution.gap[0]
        self.relative_gap_ = solution.relative[0]
        self.mu_active_ = solution.active[0]
        self.n_iter_ = solution.n_iter
        self._labels = labels
        return self

    def _scores(self, X: npt.ArrayLike, *, reset: bool) -> npt.NDArray[Any]:
        """Check ``X`` as scikit-learn does, but leave the search for NaN to the pass that names the place."""
        value = X if not hasattr(X, "detach") else as_numpy(X)
        checked: npt.NDArray[Any] = validate_data(
            self, value, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False
        )
        return checked

    def _check_parameters(self) -> None:
        check_radii(np.asarray(self.mu), "mu", ndim=0)
        check_options(self.positive, self.tol, self.max_iter)


def mulasso_path(
    gram: Gram, mus: npt.ArrayLike, *, positive: bool = False, tol: float = 1e-6, max_iter: int = _MAX_ITER
) -> Float64:
    """Return the solutions at every radius of ``mus`` from one pass along the path.

    Parameters
    ----------
    gram : Gram
    mus : (T,) array
        Radii, not negative, in any order.
    positive, tol, max_iter
        As for :class:`MuLasso`.

    Returns
    -------
    (T, C, m) float64
        In the order of ``mus``.

    Raises
    ------
    InterpNetError
        As :meth:`MuLasso.fit_gram`.

    Warns
    -----
    ConvergenceWarning
        ``tol`` was not reached at some radius.

    Examples
    --------
    >>> import numpy as np
    >>> gram = Gram.from_scores(np.eye(2), [0, 1])
    >>> mulasso_path(gram, [0.25, 2.0])[:, 0].tolist()
    [[0.25, 0.0], [1.0, 0.0]]
    """
    radii = np.atleast_1d(np.asarray(mus))
    check_radii(radii, "mus", ndim=1)
    check_options(positive, tol, max_iter)
    check_type(gram)
    gram.check_definite()
    radii = radii.astype(np.float64)
    solution = solve(gram, radii, positive=positive, tol=tol, max_iter=max_iter)
    _warn(solution, radii, np.arange(gram.n_classes), tol=tol, max_iter=max_iter, depth=3)
    return solution.coef


def _warn(
    solution: Solution, mus: Float64, classes: npt.NDArray[Any], *, tol: float, max_iter: int, depth: int
) -> None:
    """Warn, ``depth`` frames up (the caller of the public function), where the tolerance was missed."""
    missed = ~(solution.relative <= tol)
    if not missed.any():
        return
    t, c = np.unravel_index(int(np.nan_to_num(solution.relative, nan=np.inf).argmax()), missed.shape)
    warnings.warn(
        f"the relative duality gap is {solution.relative[t, c]:.2e} for class {classes[c]!s} "
        f"at mu={mus[t]:g} (missed by {np.count_nonzero(missed.any(axis=0))} of {missed.shape[1]} classes), "
        f"above tol={tol:g}; raise max_iter (now {max_iter}) or tol, or lower mu: "
        "far beyond the l1 norm of a least squares solution the gap is rounding times mu",
        ConvergenceWarning,
        stacklevel=depth,
    )
