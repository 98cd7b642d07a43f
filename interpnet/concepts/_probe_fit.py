"""Fitting linear classifiers on the rows of a layer, and asking them about images that they were not fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from interpnet.support.types import Bools, Float32, Int64


def fold_numbers(numbers: Int64, same: Int64, folds: int, draws: np.random.Generator) -> Int64:
    """Return a fold (N,) for each image: every value in equal shares, equal images together.

    ``numbers`` (N,) are the images' values and ``same`` (N,) is equal for equal images.

    Examples
    --------
    >>> fold_numbers(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 3]), 2, np.random.default_rng(0)).tolist()
    [0, 0, 1, 0, 1]
    """
    _, first, which = np.unique(same, return_index=True, return_inverse=True)
    fold = np.empty(len(first), dtype=np.int64)
    start = 0
    for value in np.unique(numbers[first]):
        rows = draws.permutation(np.flatnonzero(numbers[first] == value))
        fold[rows] = (start + np.arange(len(rows))) % folds
        # The next value goes on where this one ended, so that folds are of one size.
        start += len(rows)
    return fold[which]


def shuffled(numbers: Int64, same: Int64, draws: np.random.Generator) -> Int64:
    """Return the values of a control task (N,): those of other images, drawn without replacement; equal images' equal.

    Examples
    --------
    >>> shuffled(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), np.random.default_rng(1)).tolist()
    [0, 0, 1, 1]
    """
    _, first, which = np.unique(same, return_index=True, return_inverse=True)
    control: Int64 = draws.permutation(numbers[first])[which]
    return control


def asked(rows: Float32, numbers: Int64, fold: Int64, strength: float) -> tuple[Bools, float]:
    """Return which images (N,) a classifier fitted on the other folds is right about, and its share on its own images.

    Logistic regression (scikit-learn, ``C = strength``) on features of mean 0 and standard deviation 1 among the images
    that it is fitted on, divided by the root of their number.
    """
    right = np.zeros(len(rows), dtype=np.bool_)
    own = []
    for number in np.unique(fold):
        held = fold == number
        known = rows[~held].astype(np.float64)
        mean = known.mean(0)
        # What never changes says nothing, whatever it is divided by.
        scale = np.where(known.std(0) > 0, known.std(0), 1.0) * np.sqrt(rows.shape[1])
        fitted = _classifier(strength).fit((known - mean) / scale, numbers[~held])
        right[held] = fitted.predict((rows[held] - mean) / scale) == numbers[held]
        own.append(float((fitted.predict((known - mean) / scale) == numbers[~held]).mean()))
    return right, float(np.mean(own))


def _classifier(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000)
