"""What every mu-lasso estimator does: solve with checked options, keep the weights, decide, predict, score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from interpnet.errors import DataError
from interpnet.gram import Gram, RowGram, as_numpy, as_target, locate_bad, stays_on_device
from interpnet.mulasso._arguments import MAX_ITER, Options, class_radii
from interpnet.mulasso._path import solve_warned
from interpnet.mulasso._targets import check_class_weight
from interpnet.support.checks import refuse_masked
from interpnet.support.types import Float64

# Rows of scores that are read, and converted to float64, at a time.
ROWS = 4096

if TYPE_CHECKING:

    class _Estimator:
        """What scikit-learn's mix-ins, which have no types, provide."""
else:

    class _Estimator(ClassifierMixin, BaseEstimator):
        """A scikit-learn classifier."""


# A dataclass writes the constructor, which scikit-learn reads the parameters from.
@dataclass(kw_only=True, eq=False, repr=False)
class LinearModel(_Estimator):
    """Weights ``coef_`` (C, m) without intercept."""

    positive: bool = False
    tol: float = 1e-6
    max_iter: int = MAX_ITER
    class_weight: Any = None
    device: str | None = None
    n_jobs: int | None = None

    def decision_function(self, X: npt.ArrayLike) -> Float64:
        """Return ``X @ coef_.T``, (N, C) float64: one column per class, also where there are only two."""
        check_is_fitted(self)
        scores = self._scores(X, reset=False)
        result = np.empty((scores.shape[0], self.coef_.shape[0]))
        # In blocks, so that a memory map is never read as a whole.
        for start in range(0, scores.shape[0], ROWS):
            rows = as_numpy(scores[start : start + ROWS])
            where = locate_bad("X", rows, start)
            if where is not None:
                raise DataError(where)
            result[start : start + ROWS] = rows @ self.coef_.T
        return result

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the labels (N,) of the largest decision value; the targets (N, C) if fitted to a matrix."""
        values = self.decision_function(X)
        return self.classes_[values.argmax(axis=1)] if self._labels else values

    def score(self, X: npt.ArrayLike, y: Any, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy for labels, the mean coefficient of determination for a target matrix."""
        target = as_target(y)
        if target.ndim == 1:
            return float(accuracy_score(target, self.predict(X), sample_weight=sample_weight))
        if sparse.issparse(target):
            target = target.toarray()
        return float(r2_score(target, self.predict(X), sample_weight=sample_weight))

    def _options(self) -> Options:
        """Check the parameters, before the data are read."""
        check_class_weight(self.class_weight)
        return Options(self.positive, self.tol, self.max_iter, self.device, self.n_jobs)

    def _fit_radii(
        self,
        gram: Gram | RowGram,
        mu: npt.ArrayLike,
        options: Options,
        classes: npt.NDArray[Any],
        *,
        labels: bool,
        start: Float64 | None = None,
    ) -> Self:
        """Solve at the radii (C,), or at one for all, and keep the weights; a method that users call calls this."""
        # One row of the path: the solver takes radii (T, C).
        radii = class_radii(mu, gram.n_classes)[None]
        solution = solve_warned(gram, radii, options, depth=4, classes=classes, start=start)
        self.classes_ = classes
        self.coef_ = solution.coef[0]
        self.dual_gap_ = solution.gap[0]
        self.relative_gap_ = solution.relative[0]
        self.mu_active_ = solution.active[0]
        self.n_iter_ = solution.n_iter
        self._labels = labels
        return self

    def _scores(self, X: Any, *, reset: bool) -> Any:
        """Check ``X`` as scikit-learn does, but leave the search for NaN to the pass that names the place."""
        refuse_masked(X, "X", error=DataError)
        if stays_on_device(X):
            # Its shape alone is checked: one number, strided to that shape, stands in for the values.
            stand_in = np.broadcast_to(np.float32(0), tuple(X.shape))
            validate_data(self, stand_in, reset=reset, ensure_all_finite=False)
            return X
        if hasattr(X, "detach"):
            X = as_numpy(X)
        return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False)
