"""Numbers that say how suspicious a class looks, from scores, responses and heatmaps that somebody else made."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats
from sklearn.cluster import SpectralClustering
from sklearn.metrics import silhouette_score
from torch import Tensor

from interpnet.support.types import Float64, Int64

_GRID = 16  # cells along a side of the maps that are clustered
_FEWEST = 8  # maps that can be clustered
_NEIGHBOURS = 7


def standardised(x: Float64, labels: Int64) -> Float64:
    """Return (C, m): the difference of a class's mean score to the others', over the score's standard deviation.

    ``x`` (N, m) are scores of N images, ``labels`` (N,) their classes, each of which has an image.
    """
    spread = x.std(0)  # a constant score tells no classes apart
    rows = [x[labels == c].mean(0) - x[labels != c].mean(0) for c in range(int(labels.max()) + 1)]
    return np.stack(rows) / np.where(spread > 0, spread, np.inf)


def bimodality(response: Float64) -> float | None:
    """Return Sarle's bimodality coefficient of numbers (N,), None where they are all the same.

    ``(skewness^2 + 1) / kurtosis``: 5/9 for a uniform distribution, 1/3 for a normal one, 1 for two points. Where a cue
    disagrees now and then, a class that relies on it answers some of its own training images as it does others'.
    """
    if response.std() == 0:
        return None
    return float((stats.skew(response) ** 2 + 1) / stats.kurtosis(response, fisher=False))


def separations(maps: Tensor, groups: Int64, n_groups: int) -> Float64:
    """Return (G,): how well the maps (N, H, W) of each group (N,) fall into two clusters, as a silhouette.

    After Lapuschkin et al., Nature Communications 2019: maps at 16x16 cells, spectral clustering of their neighbours'
    graph. Theirs looks at the clusters by eye; here their separation is the number. A group of fewer than 8 maps is 0.
    """
    height, width = maps.shape[1:]
    cells = maps.abs().reshape(len(maps), _GRID, height // _GRID, _GRID, width // _GRID).sum((2, 4))
    coarse = cells.flatten(1).double()
    small = (coarse / coarse.sum(1, keepdim=True).clamp(min=1e-12)).numpy()
    found = np.zeros(n_groups)
    for g in range(n_groups):
        here = small[groups == g]
        if len(here) < _FEWEST:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a graph in several parts is two clusters, too
            graph = {"affinity": "nearest_neighbors", "n_neighbors": min(_NEIGHBOURS, len(here) - 1)}
            clusters = SpectralClustering(2, random_state=0, **graph).fit_predict(here)
        if len(set(clusters)) == 2:
            found[g] = silhouette_score(here, clusters)
    return found


def shares_of(maps: Float64) -> Float64:
    """Return the maps (N, H, W) that are not blank, each over its sum."""
    lit = maps[maps.sum((1, 2)) > 0]
    shares: Float64 = lit / lit.sum((1, 2), keepdims=True)
    return shares


def outside_middle(shares: Float64) -> Float64:
    """Return (N,): which part of each map (N, S, S) lies outside a Gaussian of a quarter of the side, 1 at its peak."""
    size = shares.shape[1]
    across = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (0.25 * size)) ** 2)
    outside: Float64 = 1.0 - (shares * np.outer(across, across)).sum((1, 2))
    return outside


def area_of(shares: Float64) -> Float64:
    """Return (N,): the area that each map (N, S, S) covers, the exponential of its entropy over the image's."""
    flat = shares.reshape(len(shares), -1)
    area: Float64 = np.exp(stats.entropy(flat, axis=1)) / flat.shape[1]
    return area
