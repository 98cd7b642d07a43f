"""How well the chosen channels tell the classes, on images that did not choose them."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

from experiments.normalisation.scales import COUNTS, Scores, solutions
from interpnet.support.types import Float64, Int64

FOLDS = 5


def cross_validated(found: Scores, labels: Int64, target: Float64) -> dict[str, dict[str, float]]:
    """Return for each count R2 and accuracy of the mu-lasso, and of least squares on the channels it chose.

    The second is free of the lasso's shrinkage, which differs with the unit of the scores. R2 is the mean over
    classes, against each class's training mean.
    """
    predicted = {(k, how): np.zeros_like(target) for k in COUNTS for how in ("lasso", "refit")}
    base = np.zeros_like(target)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fit_on, held in folds.split(labels, labels):
        shift, scale = found.scaled(fit_on)
        X, held_out = ((found.train[rows] - shift) / scale for rows in (fit_on, held))
        mean = target[fit_on].mean(0)
        base[held] = mean
        coefs, _ = solutions(X, target[fit_on])
        for k, w in coefs.items():
            # Centred columns cannot say the mean, which the others can; without it they would lose for that.
            predicted[k, "lasso"][held] = held_out @ w.T + mean * bool(found.columns)
            predicted[k, "refit"][held] = refitted(X, target[fit_on], held_out, w)
    return {
        str(k): {
            f"{what}_{how}": round(value, 5)
            for how in ("lasso", "refit")
            for what, value in quality(predicted[k, how], base, target, labels).items()
        }
        for k in COUNTS
    }


def refitted(X: Float64, target: Float64, held_out: Float64, w: Float64) -> Float64:
    """Return least squares predictions (with an intercept) from each class's channels of nonzero weight."""
    columns = []
    for c, weights in enumerate(w):
        chosen = np.flatnonzero(weights)
        inside, outside = (np.column_stack([np.ones(len(rows)), rows[:, chosen]]) for rows in (X, held_out))
        columns.append(outside @ np.linalg.lstsq(inside, target[:, c], rcond=None)[0])
    return np.stack(columns, 1)


def quality(predicted: Float64, base: Float64, target: Float64, labels: Int64) -> dict[str, float]:
    """Return R2 (mean over classes) and accuracy of the largest prediction.

    Examples
    --------
    >>> target = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> quality(target * 0.5 + 0.25, np.full((2, 2), 0.5), target, np.array([0, 1]))
    {'r2': 0.75, 'accuracy': 1.0}
    """
    left = ((target - predicted) ** 2).sum(0) / ((target - base) ** 2).sum(0)
    return {"r2": float(1 - left.mean()), "accuracy": float((predicted.argmax(1) == labels).mean())}
