"""The mu-lasso with its radius chosen on held-out images, from one pass over the scores (docs/method.md, section 2.6).

Only the accuracy, which is no sum of squares, reads each row once more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import Gram, part_grams
from interpnet.mulasso._arguments import Options, check_grams, checked_radii, class_labels, plain_radii
from interpnet.mulasso._folds import assign_folds, held_out_accuracy
from interpnet.mulasso._linear_model import LinearModel
from interpnet.mulasso._path import solve_warned
from interpnet.mulasso._selection_curve import (
    SelectionCurve,
    affordable,
    choose,
    choose_by_accuracy,
    default_mus,
    mean_and_se,
    squared_error,
)
from interpnet.mulasso._targets import read_targets
from interpnet.support.checks import one_of, optional, positive_number, true_or_false, whole_number
from interpnet.support.progress import step_of
from interpnet.support.types import Float64


@dataclass(eq=False, repr=False)
class MuLassoCV(LinearModel):
    """:class:`~interpnet.mulasso.MuLasso` with mu chosen by cross-validation.

    Parameters
    ----------
    mus : (T,) array, optional
        Radii to try; by default 20 in geometric progression, from about one channel per class to hundreds, in units of
        the median over classes of the best single channel's least squares weight (which makes the grid follow the
        scale of the scores).
    cv : int, splitter, or iterable of (train, test)
        Folds: a number (stratified by class for labels), or scikit-learn's splitters whose test sets do not overlap.
    rule : "one_se", "best" or "accuracy"
        The smallest mu whose mean held-out error is within one standard error (over the folds) of the smallest; the mu
        of the smallest; or the smallest mu whose mean held-out accuracy is within one standard error of the best, which
        names far fewer channels. The last needs one label per image and the scores themselves.
    most_channels : float, optional
        Leave out every mu that names more channels per class, mean over classes and folds; the smallest mu always
        stays.
    positive, tol, max_iter, class_weight, device, n_jobs
        As for MuLasso.
    per_class : bool
        Choose one mu per class, each by its own error.
    accuracy : bool
        Also measure the accuracy along the path: N T C m operations, the only ones that grow with the images.
    random_state : int, or None
        Seed of the folds where ``cv`` is a number.

    Attributes
    ----------
    mu_, mu_best_, mu_one_se_ : float, or (C,) float64 with ``per_class``
        The radius taken, and those of the two rules by error; ``most_channels`` bounds all three.
    mus_ : (T,) float64
        Radii tried, ascending.
    error_path_ : (folds, T, C) float64
        Held-out squared error per image (per unit of weight, where images are weighted).
    accuracy_path_ : (folds, T) float64, or None
        Share of held-out images named rightly, weighted by ``sample_weight``; None for targets without labels.
    n_channels_path_ : (folds, T, C) int
        Channels with a nonzero weight.
    curve_ : SelectionCurve
        Means and standard errors of all three, and the choice; ``curve_.to_json()`` writes it down.
    coef_, dual_gap_, relative_gap_, mu_active_, n_iter_, classes_, n_features_in_
        As for MuLasso, fitted to all images at ``mu_``.

    Notes
    -----
    Memory is one (m, m) matrix per fold and three more. A memory map is read twice, never held. Where the folds'
    matrices take more than half of the memory, every fold is solved from the rows, in a few passes over ``X``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1, 2], 60)
    >>> X = rng.random((180, 8)) + 2.0 * np.eye(8)[labels]
    >>> model = MuLassoCV(mus=[0.05, 0.2, 0.6, 1.0, 3.0]).fit(X, labels)
    >>> model.mu_ <= model.mu_best_, model.score(X, labels)
    (True, 1.0)
    """

    mus: npt.ArrayLike | None = None
    _: KW_ONLY
    cv: Any = 5
    rule: str = "one_se"
    per_class: bool = False
    accuracy: bool = True
    random_state: int | None = 0
    most_channels: float | None = None

    def fit(self, X: npt.ArrayLike, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Choose mu and fit from scores.

        ``X``, ``y`` and ``sample_weight``, errors and warnings are those of :meth:`MuLasso.fit
        <interpnet.mulasso.MuLasso.fit>`. Further errors are folds that overlap or are empty, and more folds than images
        of any class. A UserWarning says that the chosen mu is at an end of the radii tried, or that a class has fewer
        images than there are folds.
        """
        options = self._options()
        scores = self._scores(X, reset=True)
        target = read_targets(y, scores.shape[0], sample_weight, self.class_weight)
        if self.rule == "accuracy" and not target.labels:
            raise InterpNetError("rule is 'accuracy', but y is a matrix of targets; expected one label per image")
        fold = assign_folds(self.cv, target, scores.shape[0], self.random_state)
        folds = int(fold.max()) + 1
        part = np.where(fold < 0, folds, fold)  # rows that no fold holds out are one part more
        grams = part_grams(scores, target.L, part, n_classes=len(target.classes), sample_weight=target.weight)
        # Errors are per unit of weight, so that folds of different weight compare.
        mass = np.bincount(part, weights=target.weight)[:folds].astype(np.float64)

        def accuracy(k: int, coef: Float64) -> Float64:
            return held_out_accuracy(scores, target, np.flatnonzero(fold == k), coef, options.device)

        measure = accuracy if target.labels and self.accuracy else None
        total = self._choose(grams, mass, options, target.classes, measure)
        return self._fit_radii(total, self.mu_, options, target.classes, labels=target.labels)

    def fit_grams(self, grams: Sequence[Gram], *, classes: npt.ArrayLike | None = None) -> Self:
        """Choose mu and fit from the Grams of the folds alone; there is no accuracy then.

        There are two Grams or more, one per fold, of disjoint images, such as :func:`interpnet.gram.part_grams` sums;
        ``classes`` and errors are as for ``MuLasso.fit_gram``.

        Examples
        --------
        >>> from interpnet.gram import part_grams, random_parts
        >>> labels = np.repeat([0, 1], 30)
        >>> X = np.random.default_rng(0).random((60, 4)) + np.eye(4)[labels]
        >>> folds = part_grams(X, labels, random_parts(labels, 5))
        >>> MuLassoCV(mus=[0.1, 0.5, 1.0, 2.0, 4.0]).fit_grams(folds).error_path_.shape
        (5, 5, 2)
        """
        options = self._options()
        if self.class_weight is not None:
            raise InterpNetError("class_weight is set, but Grams have no images left to weigh: sum them with weights")
        if self.rule == "accuracy":
            raise InterpNetError("rule is 'accuracy', but Grams have no images left to name: choose by error, or fit")
        grams = list(grams)
        if len(grams) < 2:
            raise InterpNetError(f"grams holds {len(grams)} Grams; expected one per fold, at least two")
        check_grams(*grams, rows=True)
        labels = class_labels(classes, grams[0].n_classes)
        self.n_features_in_ = grams[0].m
        total = self._choose(grams, np.array([float(gram.n) for gram in grams]), options, labels, None)
        return self._fit_radii(total, self.mu_, options, labels, labels=True)

    def _options(self) -> Options:
        optional(whole_number, self.random_state, "random_state", least=0, most=2**32 - 1)
        if isinstance(self.cv, bool | str | float):
            whole_number(self.cv, "cv", least=2)
        one_of(self.rule, "rule", ("accuracy", "one_se", "best"))
        true_or_false(self.per_class, "per_class")
        true_or_false(self.accuracy, "accuracy")
        if self.rule == "accuracy" and (self.per_class or not self.accuracy):
            raise InterpNetError(
                "rule is 'accuracy', which needs accuracy=True and per_class=False: the classes are named together"
            )
        optional(positive_number, self.most_channels, "most_channels")
        if self.mus is not None:
            checked_radii(self.mus, "mus", "a vector of numbers", (1,))
        return super()._options()

    def _choose(
        self,
        grams: Sequence[Any],
        mass: Float64,
        options: Options,
        classes: npt.NDArray[Any],
        accuracy: Callable[[int, Float64], Float64] | None,
    ) -> Any:
        """Solve the path without each fold, measure it there, choose, and return the Gram, or RowGram, of all images.

        ``mass`` is the folds' weight, and ``accuracy`` measures the weights of a path on a fold.
        """
        total = sum(grams[1:], grams[0])
        mus = default_mus(total, positive=options.positive) if self.mus is None else self.mus
        self.mus_ = np.unique(np.asarray(mus, dtype=np.float64))
        errors = []
        channels = []
        shares = []
        advance = step_of("Choosing mu")
        # A last Gram without mass holds the rows that no fold holds out.
        for k, gram in enumerate(grams[: len(mass)]):
            solution = solve_warned(total.without(gram), self.mus_, options, depth=4, classes=classes)
            errors.append(squared_error(gram, solution.coef) / mass[k])
            channels.append(np.count_nonzero(solution.coef, axis=2))
            if accuracy is not None:
                shares.append(accuracy(k, solution.coef))
            advance(1)
        self.error_path_ = np.array(errors)
        self.n_channels_path_ = np.array(channels, dtype=np.int64)
        self.accuracy_path_ = None if accuracy is None else np.array(shares)
        self._read_off()
        return total

    def _read_off(self) -> None:
        """Take the radius from what the folds measured, and say where the grid was too short."""
        # docs/method.md, section 2.6: one mu serves all classes unless per_class asks for one each.
        overall = self.error_path_.mean(axis=2)
        channels = self.n_channels_path_.mean(axis=(0, 2))
        allowed = affordable(channels, self.most_channels)
        errors = self.error_path_ if self.per_class else overall
        best, one_se = choose(errors[:, allowed])
        self.mu_best_ = plain_radii(self.mus_[allowed][best])
        self.mu_one_se_ = plain_radii(self.mus_[allowed][one_se])
        self.mu_ = self.mu_one_se_
        if self.rule == "best":
            self.mu_ = self.mu_best_
        if self.rule == "accuracy" and self.accuracy_path_ is not None:
            self.mu_ = float(self.mus_[choose_by_accuracy(self.accuracy_path_, allowed)])
        error_mean, error_se = mean_and_se(overall)
        accuracy_mean = None
        accuracy_se = None
        if self.accuracy_path_ is not None:
            accuracy_mean, accuracy_se = mean_and_se(self.accuracy_path_)
        self.curve_ = SelectionCurve(
            mus=self.mus_,
            error_mean=error_mean,
            error_se=error_se,
            accuracy_mean=accuracy_mean,
            accuracy_se=accuracy_se,
            channels_mean=channels,
            chosen=self.mu_,
            best=self.mu_best_,
            one_se=self.mu_one_se_,
            rule=self.rule,
            n_folds=len(self.error_path_),
            most=self.most_channels,
        )
        ends = np.intersect1d(self.mu_, list(self.curve_.ends))
        if len(self.mus_) > 2 and len(ends):
            warnings.warn(
                f"the chosen mu is {' and '.join(f'{mu:g}' for mu in ends)}, at an end of the {len(self.mus_)} radii "
                f"tried ({self.mus_[0]:g} to {self.mus_[-1]:g}); give mus a wider range to be sure",
                UserWarning,
                stacklevel=4,
            )
