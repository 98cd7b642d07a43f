"""What shape and texture do to numbers of the images: decisions, log-odds and scores; pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.common.tables import Interval
from interpnet.support.types import Float64, Int64

_DRAWS = 1000  # of a bootstrap


class Effects(NamedTuple):
    """What the shape and the texture of a class add to a number, by least squares."""

    shape: Float64  # (C, ...)
    texture: Float64  # (C, ...)


class Followed(NamedTuple):
    """Which part of the variance of each channel's score goes with the shape's class and with the texture's."""

    shape: Float64  # (m,)
    texture: Float64  # (m,)

    @classmethod
    def of(cls, products: Effects, spread: Float64, classes: Int64 | slice = slice(None)) -> Followed:
        """Return the means over some classes of :func:`products`, over the squared standard deviation (m,)."""
        parts = [part[classes].mean(0) for part in products]
        return cls(*(np.divide(p, spread**2, out=np.zeros_like(p), where=spread > 0) for p in parts))

    @property
    def both(self) -> Float64:
        """What goes with either (m,)."""
        return self.shape + self.texture

    @property
    def texture_share(self) -> Float64:
        """The texture's part of what goes with either (m,), between 0 and 1; NaN where nothing does."""
        shape, texture = (np.maximum(part, 0.0) for part in self)
        total = shape + texture
        share: Float64 = np.divide(texture, total, out=np.full(total.shape, np.nan), where=total > 0)
        return share


def decisions(probabilities: Float64, groups: list[list[int]]) -> Int64:
    """Return the class (N,) whose outputs have the largest mean probability, of probabilities (N, 1000).

    Geirhos et al. (2019) average over the outputs of a class, so that a class of many outputs has no advantage.
    """
    said: Int64 = np.stack([probabilities[:, group].mean(1) for group in groups], 1).argmax(1)
    return said


def own_effects(z: Float64, shape: Int64, texture: Int64, weights: Float64 | None = None) -> Effects:
    """Return what a class's own shape and texture add to its number, z (N, C): ``z_c = a + b shape_c + t texture_c``.

    ``weights`` (N,) count the images. Where a class has no image of its shape, or none of its texture, both are NaN.
    """
    w = np.ones(len(z)) if weights is None else weights
    levels = np.arange(z.shape[1])[:, None]
    design = np.stack([np.ones(z.T.shape), shape == levels, texture == levels], 2)  # (C, N, 3)
    weighted = (design * w[:, None]).transpose(0, 2, 1)
    normal = weighted @ design
    known = np.linalg.matrix_rank(normal) == 3
    found = np.full((z.shape[1], 3), np.nan)
    found[known] = np.linalg.solve(normal[known], (weighted @ z.T[:, :, None])[known])[:, :, 0]
    return Effects(found[:, 1], found[:, 2])


def shape_share(effects: Effects) -> Float64:
    """Return the shape's part (C,) of what a class's own shape and texture add; NaN where they add nothing."""
    total = effects.shape + effects.texture
    share: Float64 = np.divide(effects.shape, total, out=np.full(total.shape, np.nan), where=total > 0)
    return share


def class_effects(x: Float64, shape: Int64, texture: Int64, n_classes: int) -> Effects:
    """Return what each class's shape and texture add to scores x (N, m), by one least squares a score.

    The model has all shapes and all textures; effects (C, m) sum to 0 over the shapes and over the textures.
    """
    design = np.hstack([_levels(shape, n_classes), _levels(texture, n_classes)])
    found = np.split(np.linalg.lstsq(design, x, rcond=None)[0], 2)
    return Effects(*(part - part.mean(0) for part in found))


def products(x: Float64, shape_picture: Int64, texture_picture: Int64, n_classes: int, per_class: int) -> Effects:
    """Return the squares of what each class's shape and texture add to scores x (N, m), each (C, m), unbiased.

    A class's pictures are dealt into three parts by their number modulo 3, and what its shape adds is estimated from
    each part, all textures in the model (and the other way round). The mean product of two parts' effects (C, m) is
    the square of the effect that a class has whatever the picture: neither noise nor a picture's own looks give any.
    Each class needs pictures in two parts at least.
    """
    classes = [pictures // per_class for pictures in (shape_picture, texture_picture)]
    found = []
    for own, pictures, other in zip(classes, (shape_picture, texture_picture), classes[::-1], strict=True):
        cells = own + n_classes * (pictures % per_class % 3)
        design = np.hstack([_levels(cells, 3 * n_classes), _levels(other, n_classes)])
        effects = np.linalg.lstsq(design, x, rcond=None)[0][: 3 * n_classes]
        effects[~np.isin(np.arange(3 * n_classes), cells)] = np.nan  # a part without pictures says nothing
        effects = effects.reshape(3, n_classes, -1)
        effects -= np.nanmean(effects, axis=1, keepdims=True)
        found.append(np.nanmean([effects[0] * effects[1], effects[0] * effects[2], effects[1] * effects[2]], axis=0))
    return Effects(*found)


def _levels(labels: Int64, n: int) -> Float64:
    """Return (N, n): 1 where an image has a label."""
    return np.eye(n)[labels]


def told_apart(x: Float64, labels: Int64) -> Float64:
    """Return (m,): how well scores x (N, m) tell each kind from all others, the mean ROC-AUC over the kinds.

    Below one half counts as above it: a low score tells a kind as well.
    """
    ranks = stats.rankdata(x, axis=0)
    kinds = np.unique(labels)
    areas = []
    for kind in kinds:
        mine = labels == kind
        n = int(mine.sum())
        area = (ranks[mine].sum(0) - n * (n + 1) / 2) / (n * (len(labels) - n))
        areas.append(np.maximum(area, 1 - area))
    mean: Float64 = np.mean(areas, axis=0)
    return mean


def both_resampled(
    number: Callable[[Float64], Float64], shape_picture: Int64, texture_picture: Int64, per_class: int, seed: int = 0
) -> tuple[Float64, Float64]:
    """Return the ends of the 95 % intervals of numbers that depend on the images' weights (N,).

    The pictures that gave the shapes and those that gave the textures are resampled, each within its class (the
    picture's number over ``per_class``), and an image counts as often as both of its pictures together (Owen 2007):
    images that share a picture are not independent.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_DRAWS):
        weights = np.ones(len(shape_picture))
        for pictures in (shape_picture, texture_picture):
            known, place = np.unique(pictures, return_inverse=True)
            counts = np.zeros(len(known))
            for c in np.unique(known // per_class):
                own = np.flatnonzero(known // per_class == c)
                counts += np.bincount(rng.choice(own, len(own)), minlength=len(known))
            weights *= counts[place]
        drawn.append(number(weights))
    low, high = np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)
    return low, high


def interval_of(number: Callable[[Int64], float], n: int, seed: int = 0) -> Interval:
    """Return a number of n rows (classes or layers) with its bootstrap interval over them."""
    rng = np.random.default_rng(seed)
    drawn = [number(rng.integers(0, n, n)) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(number(np.arange(n))), float(low), float(high))


def mean_of(values: Float64) -> Interval:
    """Return the mean of a number of each class or layer, with its bootstrap interval."""
    return interval_of(lambda rows: float(values[rows].mean()), len(values))


def drawn_alike(named: Int64, layer_of: Int64, rng: np.random.Generator) -> Int64:
    """Return as many channels drawn at random, from the same layers as the named ones, none of which is drawn."""
    free = np.setdiff1d(np.arange(len(layer_of)), named)
    picks = [rng.choice(free[layer_of[free] == layer_of[j]]) for j in named]
    return np.array(picks, dtype=np.int64)
