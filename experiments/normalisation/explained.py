"""Where the explanation's channels lie: overlap of their maps with the pixels that tell the class."""

from __future__ import annotations

import numpy as np

from experiments.common.subjects import Subject
from interpnet.engine import Channel, ChannelIndex, find_sites
from interpnet.errors import DataError
from interpnet.evaluate import iou_auc
from interpnet.explanation import backpropagate, normalise, reduce_colours
from interpnet.support.types import Float64

K = 3
_BATCH = 15


def top(responses: Float64, channels: ChannelIndex) -> list[list[Channel]]:
    """Return each image's up to three channels of largest positive response.

    Examples
    --------
    >>> [[c.index for c in row] for row in top(np.array([[1.0, -1.0, 3.0, 2.0, 0.5]]), ChannelIndex((("a", 5),)))]
    [[2, 3, 0]]
    """
    order = np.argsort(-responses, axis=1, kind="stable")[:, :K]
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
