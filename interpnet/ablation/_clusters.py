"""Several values of one image: what they have in common makes means over classes less certain; no torch.

The variance of a mean of values that come in clusters (here: images) is that of the sums of each cluster's influences
(Liang and Zeger 1986). docs/method.md, section 6.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from interpnet.support.types import Bools, Float64, Int64


class Clusters(NamedTuple):
    """What images with values in several classes add to the variance of a mean over classes."""

    # (C,): over images, the influence on the class's mean times that on the means of all other classes, summed.
    shared: Float64
    images: int

    def variance(self, known: Bools) -> float:
        """Return what is added to the variance of the mean over the ``known`` classes (C,); never less than nothing."""
        size = int(known.sum())
        return max(float(self.shared[known].sum()), 0.0) / max(size, 1) ** 2

    def restricted(self, studied: Bools) -> Clusters:
        """Return the same for some classes; what they share with the others of these is taken to be the same share."""
        known = int(np.count_nonzero(self.shared))
        there = int(np.count_nonzero(self.shared[studied]))
        part = float(max(there - 1, 0)) / float(max(known - 1, 1))
        return Clusters(np.where(studied, self.shared * part, 0.0), self.images)

    def plus(self, other: Clusters) -> Clusters:
        """Return what a sum with other values adds."""
        return Clusters(self.shared + other.shared, min(self.images, other.images))


def of_some(clusters: Clusters | None, studied: Bools) -> Clusters | None:
    """Return clusters for some classes (C,); None where there are none."""
    if clusters is None:
        return None
    return clusters.restricted(studied)


class Clustered(NamedTuple):
    """Values by class, of images that can have several values, also in one class."""

    variance: Float64  # (C,): of one image's value, so that over the count it is the variance of the class's mean
    images: Int64  # (C,)
    clusters: Clusters


def clustered(values: Float64, classes: Int64, images: Int64, n_classes: int, mean: Float64) -> Clustered:
    """Return the spread of finite ``values`` (R,) of ``images`` (R,) around the ``mean`` (C,) of their ``classes``.

    Examples
    --------
    >>> found = clustered(np.array([1.0, 3.0]), np.zeros(2, int), np.array([4, 7]), 1, np.array([2.0]))
    >>> found.variance, found.images
    (array([2.]), array([2]))
    """
    rows = np.maximum(np.bincount(classes, minlength=n_classes), 1)
    cells, of = np.unique(images * n_classes + classes, return_inverse=True)
    image, cls = np.divmod(cells, n_classes)
    _, image = np.unique(image, return_inverse=True)
    # By how much each image moves the mean of each class that it has values in.
    influence = _sums(of, values - mean[classes], len(cells)) / rows[cls]
    count = np.bincount(cls, minlength=n_classes)
    squares = _sums(cls, influence**2, n_classes)
    variance = np.full(n_classes, np.nan)
    several = count > 1
    variance[several] = (squares * count**2)[several] / (count[several] - 1)
    whole = _sums(image, influence, int(image.max(initial=-1)) + 1)
    shared = _sums(cls, influence * (whole[image] - influence), n_classes)
    return Clustered(variance, count, Clusters(shared, len(whole)))


def _sums(at: Int64, values: Float64, size: int) -> Float64:
    return np.bincount(at, weights=values, minlength=size).astype(np.float64)
