"""How well the chosen channels tell the classes on images that did not choose them, and where the explanation's lie."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

from experiments.common.subjects import Subject
from experiments.normalisation.scales import COUNTS, Scores, solutions
from interpnet.engine import Channel, ChannelIndex, find_sites
from interpnet.errors import DataError
from interpnet.evaluate import iou_auc
from interpnet.explanation import backpropagate, normalise, reduce_colours
from interpnet.support.types import Float64, Int64

FOLDS = 5  # of the training images


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
        base[held] = mean  # R2 is against the training mean
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
    left = ((target - predicted) ** 2).sum(0) / ((target - base) ** 2).sum(0)  # unexplained share, by class
    return {"r2": float(1 - left.mean()), "accuracy": float((predicted.argmax(1) == labels).mean())}


K = 3  # channels per image
_BATCH = 15  # images at a time


def top(responses: Float64, channels: ChannelIndex) -> list[list[Channel]]:
    """Return each image's up to three channels of largest positive response.

    Examples
    --------
    >>> [[c.index for c in row] for row in top(np.array([[1.0, -1.0, 3.0, 2.0, 0.5]]), ChannelIndex((("a", 5),)))]
    [[2, 3, 0]]
    """
    order = np.argsort(-responses, axis=1, kind="stable")[:, :K]  # weight times score (docs/method.md, section 4)
    return [[channels[int(c)] for c in row if x[c] > 0] for row, x in zip(order, responses, strict=True)]


def overlap(subject: Subject, X: Float64, w: Float64, channels: ChannelIndex, n_images: int) -> dict[str, float]:
    """Return the mean IoU-AUC of the combined maps (guided, resampled) for the true classes.

    ``X`` are the test images' scores in the units of ``w``. ``iou`` takes the positive part over colours (the
    library's default), ``iou_abs`` absolute values; ``blank`` is the share of images without any positive response.
    """
    if subject.masks is None:
        raise DataError(f"{subject.network} has no masks; expected an8flower")
    n = min(n_images, len(subject.test))
    picks = top(X[:n] * w[subject.test_labels[:n]], channels)
    sites = find_sites(subject.model, subject.test[:1]).select()
    values: dict[str, list[float]] = {"iou": [], "iou_abs": []}
    for start in range(0, n, _BATCH):
        rows = slice(start, min(start + _BATCH, n))
        images = subject.test[rows]
        # Without any channel nothing can be sent back, and the maps stay blank.
        signals = images.new_zeros(len(images), 1, *images.shape[1:])
        if any(picks[rows]):
            signals = backpropagate(subject.model, images, sites, picks[rows]).signals
        for key, reduction in (("iou", "positive"), ("iou_abs", "abs")):
            maps = normalise(reduce_colours(signals, reduction)).amax(1)
            values[key] += iou_auc(maps, subject.masks[rows], constant="zero").values.tolist()
    found = {key: round(float(np.mean(v)), 5) for key, v in values.items()}
    return {**found, "blank": round(sum(not row for row in picks) / n, 4)}
