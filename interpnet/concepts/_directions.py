"""Concept activation vectors, as weights of the images that they are made of.

A vector is ``v = sum_i a_i h_i`` with h_i the map of image i, flat. So everything that is asked of it (its length, what
an image's map has along it, the derivative along it) follows from the products of the images' maps with each other and
with the gradients, whatever the number of positions. docs/concepts.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from interpnet.support.types import Float32, Float64, Int64

_BLOCK = 8192  # columns that are made float64 at once
_FOLDS = 5
_RANK = 1e-10  # an eigenvalue below this share of the largest is rounding

#: From the products (N, N) of maps, and the rows of two sets: the weights (N,) of a vector towards the first set, and
#: the number that tells the first set's images, above it, from the second's.
Way = Callable[[Float64, Int64, Int64], tuple[Float64, float]]


def products(rows: Float32, gradients: Float32) -> tuple[Float64, Float64]:
    """Return the products (N, N) of maps (N, D) less their mean, and those (M, N) of gradients (M, D) with them.

    Examples
    --------
    >>> among, along = products(np.float32([[1, 0], [3, 0]]), np.float32([[2, 5]]))
    >>> among.tolist(), along.tolist()
    ([[1.0, -1.0], [-1.0, 1.0]], [[-2.0, 2.0]])
    """
    among = np.zeros((len(rows), len(rows)))
    along = np.zeros((len(gradients), len(rows)))
    for start in range(0, rows.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        block = rows[:, columns].astype(np.float64)
        block -= block.mean(0)
        among += block @ block.T
        along += gradients[:, columns].astype(np.float64) @ block.T
    return among, along


def combined(weights: Float64, rows: Float32) -> Float32:
    """Return unit vectors (P, D) from weights (N, P), each of sum 0, of maps (N, D)."""
    found = np.empty((weights.shape[1], rows.shape[1]), np.float32)
    squares = np.zeros((weights.shape[1], 1))
    for start in range(0, rows.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        block = rows[:, columns].astype(np.float64)
        made = weights.T @ (block - block.mean(0))
        squares += (made**2).sum(1, keepdims=True)
        found[:, columns] = made
    found /= np.sqrt(squares)
    return found


def difference(among: Float64, one: Int64, other: Int64) -> tuple[Float64, float]:
    """Return the difference of the means of two sets, and the middle between them.

    Examples
    --------
    >>> among, _ = products(np.float32([[1], [3], [7]]), np.zeros((0, 1), np.float32))
    >>> weights, middle = difference(among, np.array([2]), np.array([0, 1]))
    >>> weights.tolist(), round(middle, 6)
    ([-0.5, -0.5, 1.0], 4.166667)
    """
    weights = np.zeros(len(among))
    weights[one] += 1 / len(one)
    weights[other] -= 1 / len(other)
    middle = among[one].mean(0) + among[other].mean(0)
    return weights, float(middle @ weights) / 2


def linear(among: Float64, one: Int64, other: Int64) -> tuple[Float64, float]:
    """Return the weights of a logistic regression that tells two sets apart, and its threshold.

    Scikit-learn's, with its penalty |w|^2 / 2 on maps whose mean squared distance from their mean is 1, and with both
    sets of the same weight in all. It is fitted in the space that the images span, where the solution lies.
    """
    from sklearn.linear_model import LogisticRegression

    both = np.concatenate([one, other])
    inner = among[np.ix_(both, both)]
    inner = inner - inner.mean(0) - inner.mean(1, keepdims=True) + inner.mean()
    values, vectors = np.linalg.eigh(inner)
    kept = values > _RANK * max(values[-1], 0.0)
    weights = np.zeros(len(among))
    if not kept.any():
        return weights, 0.0
    values, vectors = values[kept], vectors[:, kept]
    size = np.sqrt(values.sum() / len(both))
    points = vectors * np.sqrt(values) / size
    labels = np.arange(len(both)) < len(one)
    fitted = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-8).fit(points, labels)
    own = vectors @ (fitted.coef_[0] / np.sqrt(values)) / size
    weights[both] = own - own.mean()
    # What the images have along it differs from what was fitted by a number that is the same for all of them.
    along = among[both] @ weights
    return weights, float((along - points @ fitted.coef_[0]).mean() - fitted.intercept_[0])


#: By its name, how a vector is made.
WAYS: dict[str, Way] = {"difference": difference, "linear": linear}


def held_out(
    among: Float64, one: Int64, other: Int64, way: Way, same: Int64, draws: np.random.Generator
) -> tuple[float, float]:
    """Return the share of images of each of two sets that a vector made of other images puts on the right side.

    In at most five folds; equal images (N,) share a number in ``same``, and a fold.
    """
    folds = min(_FOLDS, *(len(np.unique(same[rows])) for rows in (one, other)))
    if folds < 2:
        return np.nan, np.nan
    fold_of = np.empty(len(among), dtype=np.int64)
    for rows in (one, other):
        numbers, which = np.unique(same[rows], return_inverse=True)
        fold_of[rows] = draws.permutation(np.arange(len(numbers)) % folds)[which]
    right: list[list[bool]] = [[], []]
    for fold in range(folds):
        known = [rows[fold_of[rows] != fold] for rows in (one, other)]
        weights, middle = way(among, *known)
        for side, rows in enumerate((one, other)):
            along = among[rows[fold_of[rows] == fold]] @ weights
            # On the middle is on neither side.
            right[side] += list((along > middle) if side == 0 else (along < middle))
    return float(np.mean(right[0])), float(np.mean(right[1]))
