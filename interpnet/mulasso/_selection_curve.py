"""Held-out error along the path, computed from Grams alone, and the choice of a radius by it.

docs/method.md, section 2.6. Neither torch nor scikit-learn is needed here: the report reads a saved curve without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.gram import Gram
from interpnet.support.brief import brief
from interpnet.support.types import Float64

if TYPE_CHECKING:
    from interpnet.gram import RowGram

Index = npt.NDArray[np.intp]

# In units of one channel's typical weight: from one or two channels per class to hundreds of them. On the scores of
# CIFAR-10 ResNet-20 (m = 688) the path runs from 2.3 to 585 channels per class, non-negative from 2.3 to 4.8.
_FROM = 0.1
_TO = 50.0
_COUNT = 20


@brief
@dataclass(frozen=True)
class SelectionCurve:
    """What was measured at each radius, averaged over folds and classes.

    Examples
    --------
    >>> two = np.array([1.0, 2.0])
    >>> curve = SelectionCurve(two, two / 4, two / 40, None, None, 3 * two, 1.0, 1.0, 1.0, "best", 5)
    >>> SelectionCurve.from_json(curve.to_json()).channels_mean.tolist()
    [3.0, 6.0]
    """

    mus: Float64  # radii (T,), ascending
    # Held-out squared error per image (T,), mean over the classes: its mean over the folds, and its standard error.
    error_mean: Float64
    error_se: Float64
    # Share of held-out images (T,) whose largest decision value is their class's; None without labels.
    accuracy_mean: Float64 | None
    accuracy_se: Float64 | None
    channels_mean: Float64  # channels (T,) with a nonzero weight per class
    # The radius taken, the one of smallest error, and the smallest within one standard error of it; (C,) where each
    # class has its own.
    chosen: float | Float64
    best: float | Float64
    one_se: float | Float64
    rule: str  # "accuracy", "one_se" or "best"
    n_folds: int
    most: float | None = None  # no radius that names more channels per class was taken; None for no such bound

    def position(self, mu: float) -> int:
        """Return where ``mu`` stands among the radii tried."""
        return int(np.argmin(np.abs(self.mus - mu)))

    @property
    def end(self) -> str:
        """``"smallest"`` or ``"largest"`` where the one radius taken is that of those tried, else empty.

        It is empty, too, where the classes have radii of their own that differ.
        """
        taken = np.unique(self.chosen)
        if len(taken) != 1:
            return ""
        return self.ends.get(float(taken[0]), "")

    @property
    def ends(self) -> dict[float, str]:
        """The radii beyond which one that was not tried may do better, each with its name."""
        ends = {float(self.mus[-1]): "largest"}
        # Below the smallest that is accurate enough there are only fewer channels.
        if self.rule != "accuracy":
            ends = {float(self.mus[0]): "smallest"} | ends
        return ends

    @property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which radii (T,) name no more channels than ``most``; the smallest always counts."""
        return affordable(self.channels_mean, self.most)

    @property
    def enough(self) -> float | None:
        """The smallest radius whose accuracy is within one standard error of the best; None where that is not known."""
        # The squared error goes on falling long after the accuracy has stopped rising: a reader who wants few channels
        # should know.
        if self.accuracy_mean is None or self.accuracy_se is None:
            return None
        return float(self.mus[_least_within(self.accuracy_mean, self.accuracy_se)])

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers; :meth:`from_json` reads them back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {name: value.tolist() for name, value in values.items() if isinstance(value, np.ndarray)}
        return values | lists

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SelectionCurve:
        """Read what :meth:`to_json` gave."""
        # Curves from before there was a bound on the channels have none.
        known: dict[str, Any] = {"most": None} | {
            field.name: data[field.name] for field in fields(cls) if field.name in data
        }
        lists = {name: np.asarray(value, np.float64) for name, value in known.items() if isinstance(value, list)}
        return cls(**(known | lists))


def default_mus(gram: Gram | RowGram, *, positive: bool) -> Float64:
    """Return 20 radii in geometric progression, in units of what one channel weighs."""
    # docs/method.md, section 2.6. Scores a times as large make weights, unit and grid all 1/a times as large, so that
    # the choice does not depend on the scale of the scores.
    diagonal = gram.diagonal
    live = diagonal > 0
    pull = np.maximum(gram.B[live], 0.0) if positive else np.abs(gram.B[live])
    unit = 1.0
    if live.any() and pull.any():
        root = np.sqrt(diagonal[live])[:, None]
        column = (pull / root).argmax(axis=0)
        weight = pull[column, np.arange(gram.n_classes)] / diagonal[live][column]
        unit = float(np.median(weight[weight > 0]))
    return unit * np.geomspace(_FROM, _TO, _COUNT)


def squared_error(gram: Gram | RowGram, coef: Float64) -> Float64:
    r"""Return :math:`\|X w - l\|^2 = w^T G w - 2 B_j^T w + yy_j` of ``coef`` (T, C, m), (T, C); a Gram needs no X."""
    if not isinstance(gram, Gram):
        flat = coef.reshape(-1, gram.m)
        columns = np.flatnonzero(flat.any(axis=0))
        targets = np.tile(np.arange(gram.n_classes), len(coef))
        return gram.squared_error(columns, flat[:, columns], targets).reshape(coef.shape[:2])
    # Few weights need few rows of G.
    quadratic = np.empty(coef.shape[:2])
    few = np.count_nonzero(coef, axis=2) < gram.m // 8
    for t, c in np.argwhere(few):
        support = np.flatnonzero(coef[t, c])
        weight = coef[t, c, support]
        quadratic[t, c] = weight @ gram.G[np.ix_(support, support)] @ weight
    for t in range(len(coef)):
        full = coef[t, ~few[t]]
        quadratic[t, ~few[t]] = np.einsum("ij,ij->i", full @ gram.G, full)
    error: Float64 = quadratic - 2 * np.einsum("tcm,mc->tc", coef, gram.B) + gram.yy
    return np.maximum(error, 0.0)  # below zero by rounding where the fit is perfect


def mean_and_se(values: Float64) -> tuple[Float64, Float64]:
    """Return the mean over folds (the first axis) and its standard error; zero error for a single fold."""
    folds = len(values)
    mean = values.mean(axis=0)
    if folds == 1:
        return mean, np.zeros(values.shape[1:])
    return mean, values.std(axis=0, ddof=1) / np.sqrt(folds)


def choose(errors: Float64) -> tuple[Index, Index]:
    """Return, from held-out errors (folds, T, ...) at ascending radii, where the best and the one-SE radius stand."""
    # Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984, section 3.4.3: the smallest radius
    # whose mean error is within one standard error of the smallest.
    mean, se = mean_and_se(errors)
    best = mean.argmin(axis=0)
    limit = np.take_along_axis(mean + se, best[None], axis=0)
    return best, (mean <= limit).argmax(axis=0)


def choose_by_accuracy(accuracy: Float64, allowed: npt.NDArray[np.bool_]) -> int:
    """Return, from accuracies (folds, T) at ascending radii, where the smallest within one standard error stands.

    Only radii that are ``allowed`` (T,) count, for the best as well.
    """
    mean, se = mean_and_se(accuracy)
    return _least_within(np.where(allowed, mean, -np.inf), se)


def affordable(channels: Float64, most: float | None) -> npt.NDArray[np.bool_]:
    """Return which of ascending radii (T,) name at most ``most`` channels per class, (T,); always the smallest one."""
    within = np.ones(len(channels), dtype=bool)
    if most is not None:
        within = channels <= most
    within[0] = True
    return within


def _least_within(mean: Float64, se: Float64) -> int:
    """Return the first place where ``mean`` is at most one standard error below its largest."""
    best = int(np.argmax(mean))
    return int(np.argmax(mean >= mean[best] - se[best]))
