"""The mu-lasso of every class at one radius: docs/method.md, section 2 (2.1 the problem, 2.3 the certificate).

Sources: Oramas, Wang & Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019 (the problem); Jaggi,
"Revisiting Frank-Wolfe", ICML 2013 (the gap).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import Gram, RowGram, gram_or_rows
from interpnet.mulasso._arguments import Options, check_grams, check_mu, class_labels
from interpnet.mulasso._linear_model import LinearModel
from interpnet.mulasso._targets import read_targets
from interpnet.support.checks import true_or_false
from interpnet.support.types import Float64


@dataclass(eq=False, repr=False)
class MuLasso(LinearModel):
    r"""Least squares on one-hot classes (or any targets) with an l1 budget per class; exact and certified.

    .. math:: \min_w \tfrac12 \|X w - L_j\|^2 \quad \text{where } \|w\|_1 \le \mu \ (\text{optionally } w \ge 0)

    There is no intercept, and no column is scaled.

    Parameters
    ----------
    mu : float, or (C,) array
        Radius of the l1 ball, above 0: one for every class, or each class its own.
    positive : bool
        Also require w >= 0.
    tol : float
        Largest duality gap, relative to the objective at w = 0, half the target's sum of squares.
    max_iter : int
        Largest number of steps per class (changes of the active set).
    class_weight : None, "balanced", or dict of label: weight
        What the squared error of each class's images counts, as scikit-learn has it: ``"balanced"`` gives every
        class the same total, N / (C N_j) per image; a class that a dictionary leaves out counts 1. For labels only.
    warm_start : bool
        Start from the weights of the last fit where their shape is the same; the solution is the same to ``tol``.
    device : None, "cpu" or "cuda"
        Where to solve; None is the CPU. The sums over a tensor on a CUDA device run on that device in any case.
    n_jobs : int, optional
        Threads, as joblib counts them: -1 is all cores; None takes torch's number of threads. Within
        ``joblib.parallel_config(backend="loky" | "dask" | "ray")`` that backend's workers, None for all of them. The
        result is the same bit for bit.

    Attributes
    ----------
    coef_ : (C, m) float64
        Weights; ``||coef_[j]||_1 <= mu``.
    dual_gap_ : (C,) float64
        Absolute duality gap at ``coef_``, in units of the objective.
    relative_gap_ : (C,) float64
        ``dual_gap_ / (yy / 2)``; what ``tol`` is compared with. 0 for a class without any image.
    mu_active_ : (C,) bool
        Whether the constraint holds the solution back. Where it does not, ``coef_`` is a least squares solution.
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

    mu: float | npt.ArrayLike = 10.0
    warm_start: bool = field(default=False, kw_only=True)

    def fit(self, X: npt.ArrayLike, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Fit from scores.

        Parameters
        ----------
        X : (N, m) array, memory map or torch tensor
            Scores. Read in blocks; only an (m, m) matrix is kept. Where that does not fit into the memory, the
            solution is found on working sets of channels and certified on all of them, in a few passes over ``X``.
        y : (N,) labels or (N, C) targets
            Labels of any type scikit-learn takes for classes, of two classes at least, or a real target matrix, which
            may be sparse.
        sample_weight : (N,) array, optional
            What the squared error of each row counts, finite and not negative; 2 counts as the row twice.

        Raises
        ------
        ValueError
            (scikit-learn's, or :class:`~interpnet.errors.InterpNetError`, which is one) Empty data, NaN or
            infinity (row and column named), shapes that do not match, a vector of continuous targets, labels of one
            class or beyond 64 bits, weights that are negative or all zero, parameters out of range.

        Warns
        -----
        ConvergenceWarning
            ``tol`` was not reached; with the gap, the tolerance and the remedy.
        """
        # Parameters first: reading the scores can take minutes.
        options = self._options()
        scores = self._scores(X, reset=True)
        target = read_targets(y, scores.shape[0], sample_weight, self.class_weight)
        gram = gram_or_rows(scores, target.L, n_classes=len(target.classes), sample_weight=target.weight)
        return self._fit_radii(gram, self.mu, options, target.classes, labels=target.labels, start=self._start(gram))

    def fit_gram(self, gram: Gram | RowGram, *, classes: npt.ArrayLike | None = None) -> Self:
        """Fit from a :class:`~interpnet.gram.Gram`, or a :class:`~interpnet.gram.RowGram`; warns as :meth:`fit`.

        ``classes`` (C,) are the labels that :meth:`predict` returns, by default 0 .. C - 1.

        Raises
        ------
        InterpNetError
            Not a Gram, or one whose ``G`` is clearly not positive semidefinite; parameters out of range; a
            ``class_weight``, which needs the images.

        Examples
        --------
        >>> import numpy as np
        >>> MuLasso(mu=0.5).fit_gram(Gram.from_scores(np.eye(2), [0, 1])).coef_.tolist()
        [[0.5, 0.0], [0.0, 0.5]]
        """
        options = self._options()
        check_grams(gram, rows=True)
        if self.class_weight is not None:
            raise InterpNetError(
                f"class_weight is {self.class_weight!r}, but a Gram has no images left to weigh; expected None: "
                "give the weights to Gram.from_scores(..., sample_weight=...)"
            )
        labels = class_labels(classes, gram.n_classes)
        # Without scores there is nothing scikit-learn could count the features of.
        self.n_features_in_ = gram.m
        return self._fit_radii(gram, self.mu, options, labels, labels=True, start=self._start(gram))

    def _options(self) -> Options:
        check_mu(self.mu)
        true_or_false(self.warm_start, "warm_start")
        return super()._options()

    def _start(self, gram: Gram | RowGram) -> Float64 | None:
        """Return the weights of the last fit, where a warm start is asked for and they fit this problem."""
        before: Float64 | None = getattr(self, "coef_", None)
        fits = self.warm_start and before is not None and before.shape == gram.B.T.shape
        return before if fits else None
