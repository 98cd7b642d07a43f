"""Precision of labels, from their recalls and false alarms; docs/method.md, section 6.1."""

from __future__ import annotations

import numpy as np

from interpnet.ablation._effect import ratio
from interpnet.support.types import Float64, Int64


def precision_of(support: Int64, n_images: int, recall: Float64, false_alarms: Float64 | None) -> Float64 | None:
    """Return p r / (p r + (1 - p) f): of recall r, false alarms f and the share p of the images with the label (C,).

    NaN for a label that no image is given; None where there are no false alarms to count.

    Examples
    --------
    >>> precision_of(np.array([2]), 10, np.array([0.5]), np.array([0.125]))
    array([0.5])
    """
    if false_alarms is None:
        return None
    share = support / n_images
    # Where there are no images with the label, or none without it, that side counts nothing.
    right = np.where(share > 0, share * recall, 0.0)
    wrong = np.where(share < 1, (1 - share) * false_alarms, 0.0)
    return ratio(right, right + wrong)
