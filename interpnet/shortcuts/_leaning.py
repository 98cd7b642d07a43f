"""Which classes images from the field lean to, from log-odds alone. docs/measures.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from interpnet.ablation import adjusted
from interpnet.errors import DataError
from interpnet.support.brief import brief
from interpnet.support.checks import real_array, whole_numbers
from interpnet.support.types import Bools, Float64, Int64

_TAIL = 0.05  # share of training images whose log-odds are as high as those of a field image that leans to a class


@brief
@dataclass(frozen=True, eq=False)
class Leaning:
    """Which classes images from the field lean to."""

    images: Bools  # (F, C): whether a field image leans to a class
    n: Int64  # (C,): how many do
    expected: Float64  # (C,): the share of the training images that would
    p: Float64  # (C,): one-sided, adjusted over the classes for the share of false discoveries

    @property
    def order(self) -> Int64:
        """(C,): the classes, the most surprising first."""
        order: Int64 = np.lexsort((-self.n, self.p)).astype(np.int64)
        return order


def leaning(known: Any, labels: Any, field: Any) -> Leaning:
    """Compare the log-odds of images from the field with those of training images, class by class.

    A field image leans to a class if its log-odds of the class are higher than those of 95 % of the training images of
    other classes. The numbers of field and training images beyond that are compared by Fisher's exact test. It is what
    :func:`find` does with ``field=``; here logits that were kept are enough.

    Parameters
    ----------
    known : array (N, C)
        Log-odds of the training images, as :func:`interpnet.engine.all_log_odds` gives them.
    labels : array (N,) of int
        Their classes.
    field : array (F, C)
        Log-odds of the field images.

    Raises
    ------
    DataError
        Arrays of shapes that do not fit, NaN, or training images of a single class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> known, field = rng.normal(size=(100, 3)), rng.normal(size=(60, 3))
    >>> field[:20, 1] += 4.0
    >>> found = leaning(known, np.arange(100) % 3, field)
    >>> int(found.order[0]), int(found.n[1]) >= 20, bool(found.p[1] < 0.01)
    (1, True, True)
    """
    known, field, labels = _checked(known, labels, field)
    thresholds = np.quantile(known, 1 - _TAIL, axis=0)
    for k in np.unique(labels):  # of images of other classes
        thresholds[k] = np.quantile(known[labels != k, k], 1 - _TAIL)
    images = field > thresholds
    n, before = images.sum(0), (known > thresholds).sum(0)
    p = stats.hypergeom.sf(n - 1, len(known) + len(field), n + before, len(field))
    return Leaning(images, n, before / len(known), adjusted(p))


def _checked(known: Any, labels: Any, field: Any) -> tuple[Any, Any, Int64]:
    known, field = (real_array(one, name, error=DataError) for one, name in ((known, "known"), (field, "field")))
    labels = whole_numbers(labels, "labels", error=DataError)
    for one, name in ((known, "known"), (field, "field")):
        if one.ndim != 2 or not one.size or one.shape[1] != known.shape[1]:
            raise DataError(
                f"{name} has shape {one.shape}; expected log-odds (images, classes), of the same classes in known and "
                "field"
            )
        if np.isnan(one).any():
            raise DataError(f"{name} holds NaN; expected log-odds, as interpnet.engine.all_log_odds gives them")
    if labels.shape != known.shape[:1]:
        raise DataError(f"labels have shape {labels.shape}; expected a class for each of {len(known)} training images")
    if labels.min() < 0 or labels.max() >= known.shape[1]:
        raise DataError(f"labels reach from {labels.min()} to {labels.max()}; expected 0 to {known.shape[1] - 1}")
    if len(np.unique(labels)) < 2:
        raise DataError("labels are all of one class; expected training images of at least two")
    return known, field, labels
