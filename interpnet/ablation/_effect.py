"""Changes of images, kept as sums by class, and the intervals of their mean over classes; no torch.

A mean over classes counts every class alike, however many images it has: its variance is that of a stratified sample
(Cochran 1977, chapter 5), with Satterthwaite's degrees of freedom. docs/method.md, section 6.1, has the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from interpnet.ablation._clusters import Clusters, clustered, of_some
from interpnet.errors import InterpNetError
from interpnet.support.brief import brief
from interpnet.support.checks import number
from interpnet.support.types import Float64, Int64

LEVEL = 0.95


class _Spread(NamedTuple):
    """The mean over classes, its variance and the degrees of freedom of that."""

    mean: float
    variance: float
    df: float
    classes: int = 0
    one_draw: float = 0.0  # the part of the variance that a single draw for each class makes


class Draws(NamedTuple):
    """Of values that depend on channels drawn at random, where several images of a class share a draw."""

    number: Int64  # (C,): draws for each class
    variance: Float64  # (C,): what the draw alone adds to one pass's values; NaN if not known, below zero by chance
    passes: int = 1  # a value is the mean over so many passes, of which each has its own draws


@brief
@dataclass(frozen=True)
class Effect:
    """One value for each of many images, such as its change of log-odds, as sums by class: C classes.

    ``share`` says that the values lie in [-1, 1], being changes of recall.
    """

    mean: Float64  # (C,): NaN for a class without images
    variance: Float64  # (C,): of one image's value, n - 1 in the denominator; NaN for fewer than two images
    count: Int64  # (C,): images
    share: bool = False
    draws: Draws | None = None
    clusters: Clusters | None = None  # where one image can have several values

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which classes have a value (C,)."""
        return (self.count > 0) & np.isfinite(self.mean)

    def overall(self) -> float:
        """Return the mean over classes, NaN where none has images."""
        values = self.mean[self.known]
        if not len(values):
            return math.nan
        return float(values.mean())

    def stderr(self) -> float:
        """Return the standard error of :meth:`overall`, over images and draws; NaN for a single image."""
        return math.sqrt(self._spread().variance)

    def interval(self, level: float = LEVEL, *, one_draw: bool = False) -> tuple[float, float]:
        """Return the interval of :meth:`overall` over images, and over draws where there are any.

        ``one_draw``: of its difference from a single draw, which varies by itself.
        """
        if not 0 < number(level, "level") < 1:
            raise InterpNetError(f"level is {level}; expected a share between 0 and 1")
        spread = self._spread(one_draw=one_draw)
        if not math.isfinite(spread.variance):
            return math.nan, math.nan
        half = float(special.stdtrit(spread.df, 0.5 + level / 2)) * math.sqrt(spread.variance)
        if self.share:
            return max(spread.mean - half, -1.0), min(spread.mean + half, 1.0)
        return spread.mean - half, spread.mean + half

    def p_value(self, *, one_draw: bool = False) -> float:
        """Return the one-sided p-value of a mean over classes that is not above zero; 1 where nothing is known.

        It is never below 2^-n for n images that changed, the least that a test of signs can give. What single draws do
        is taken to have as long a tail as an exponential distribution: most channels do little, and a few do much.
        """
        spread = self._spread(one_draw=one_draw)
        if not math.isfinite(spread.variance) or spread.mean <= 0:
            return 1.0
        known = self.known
        n = self.count[known]
        changed = float(n.sum())
        if self.share:
            squares = np.nan_to_num(self.variance[known]) * (n - 1) + n * self.mean[known] ** 2
            # Of values of at most 1 at least so many are not zero.
            changed = math.ceil(float(squares.sum()) - 1e-9)
        if self.clusters is not None:
            # Values of one image are one test of signs.
            changed = math.ceil(changed * self.clusters.images / max(float(n.sum()), self.clusters.images) - 1e-9)
        least = math.exp2(-min(changed, 1000.0))
        if spread.variance == 0:
            return least
        t = spread.mean / math.sqrt(spread.variance)
        return max(float(special.stdtr(spread.df, -t)), _long_tail(spread, t), least)

    def __neg__(self) -> Effect:
        """Return the effect with its sign turned: a loss as a gain."""
        return Effect(-self.mean, self.variance, self.count, self.share, self.draws, self.clusters)

    def restricted(self, studied: npt.NDArray[np.bool_]) -> Effect:
        """Return the effect of some classes: what the others have is not known."""
        draws = self.draws
        if draws is not None:
            draws = draws._replace(
                number=np.where(studied, draws.number, 0), variance=np.where(studied, draws.variance, np.nan)
            )
        return Effect(
            mean=np.where(studied, self.mean, np.nan),
            variance=np.where(studied, self.variance, np.nan),
            count=np.where(studied, self.count, 0),
            share=self.share,
            draws=draws,
            clusters=of_some(self.clusters, studied),
        )

    def plus(self, *others: Effect) -> Effect:
        """Return the sum with effects of other images: means add up, and so do the variances of the means.

        The fewest images of a class give its degrees of freedom, no more than Welch's.
        """
        parts = (self, *others)
        count = np.min([part.count for part in parts], axis=0)
        error = np.sum([ratio(part.variance, part.count) for part in parts], axis=0)
        clusters = self.clusters
        for part in others:
            if clusters is not None and part.clusters is not None:
                clusters = clusters.plus(part.clusters)
        mean = np.sum([part.mean for part in parts], axis=0)
        return Effect(mean, error * count, count, self.share, self.draws, clusters)

    def of(self, c: int) -> Effect:
        """Return the effect of one class alone."""
        at = slice(c, c + 1)
        draws = self.draws
        if draws is not None:
            # One class's estimate is rough: never below what all classes together say.
            draws = Draws(draws.number[at], np.fmax(draws.variance[at], _pooled(draws.variance)), draws.passes)
        return Effect(self.mean[at], self.variance[at], self.count[at], self.share, draws)

    def _spread(self, *, one_draw: bool = False) -> _Spread:
        known = self.known
        n = self.count[known].astype(np.float64)
        means = self.mean[known]
        size = len(n)
        if not size or (size == 1 and n[0] < 2):
            return _Spread(self.overall(), math.nan, math.nan)
        several = n >= 2
        singles = means[~several]
        parts = self.variance[known][several] / n[several] / size**2
        freedom = n[several] - 1
        if len(singles) > 1:
            # Classes with one image are one stratum: their differences are counted as chance.
            parts = np.append(parts, len(singles) * singles.var(ddof=1) / size**2)
            freedom = np.append(freedom, len(singles) - 1)
        elif len(singles):
            # It is taken to vary as the others do.
            pooled = float((self.variance[known][several] * freedom).sum() / freedom.sum())
            parts = np.append(parts, pooled / size**2)
            freedom = np.append(freedom, freedom.sum())
        if self.clusters is not None:
            parts = np.append(parts, self.clusters.variance(known))
            freedom = np.append(freedom, max(float((n - 1).mean()), 1.0))
        of_one_draw = 0.0
        if self.draws is not None:
            of_draws = _pooled(self.draws.variance[known])
            if math.isnan(of_draws):
                return self._between_classes(means, float(parts.sum()))
            draws = np.maximum(self.draws.number[known][several], 1).astype(np.float64)
            # The images' variance holds the draws' already, as if each image had its own in every pass.
            weights = np.maximum(1 / draws - 1 / (self.draws.passes * n[several]), 0)
            if one_draw:
                weights = weights + 1
                of_one_draw = of_draws * len(weights) / size**2
            parts = np.append(parts, of_draws * float(weights.sum()) / size**2)
            freedom = np.append(freedom, max(float((draws - 1).sum()), 1.0))
        if self.share:
            # As if one further image had changed: no change among n images does not mean that none ever would.
            images = size**2 / float((1 / n).sum())
            parts = np.append(parts, 1 / (images * (images + 2)))
            freedom = np.append(freedom, max(float((n - 1).sum()), 1.0))
        total = float(parts.sum())
        df = float(freedom.sum())
        if total > 0:
            df = total**2 / float((parts**2 / freedom).sum())
        if self.draws is not None:
            # The variance between draws is less certain than Satterthwaite's rule takes it for.
            df = min(df, float((np.maximum(self.draws.number[known], 2) - 1).sum()))
        return _Spread(self.overall(), total, max(df, 1.0), size, of_one_draw)

    def _between_classes(self, means: Float64, within: float) -> _Spread:
        """Return the spread where nothing says what a draw changes: what differs between classes holds that too."""
        size = len(means)
        if size < 2:
            return _Spread(self.overall(), math.nan, math.nan)
        return _Spread(self.overall(), max(float(means.var(ddof=1)) / size, within), size - 1)


def _long_tail(spread: _Spread, t: float) -> float:
    """Return how often chance goes beyond t where the single draws in it have the skewness of an exponential.

    Pearson's type III: the gamma distribution of the same skewness, which a sum of independent parts has from its
    skewed part alone.
    """
    if spread.one_draw <= 0:
        return 0.0
    shape = min(spread.classes * (spread.variance / spread.one_draw) ** 3, 1e6)
    return float(special.gammaincc(shape, shape + t * math.sqrt(shape)))


def _pooled(variance: Float64) -> float:
    """Return the mean variance between draws over the classes where it is known, at least zero; NaN for none."""
    known = variance[np.isfinite(variance)]
    if not len(known):
        return math.nan
    return max(float(known.mean()), 0.0)


def effect_by_class(
    values: npt.ArrayLike,
    classes: Int64,
    n_classes: int,
    *,
    share: bool = False,
    draws: Draws | None = None,
    images: Int64 | None = None,
) -> Effect:
    """Return the :class:`Effect` of ``values`` (N,), NaN where an image has none, by the images' ``classes`` (N,).

    Where an image can have several values, ``images`` (N,) are the numbers of their images.

    Examples
    --------
    >>> effect_by_class([1.0, 3.0, 5.0], np.array([0, 0, 2]), 3).mean
    array([ 2., nan,  5.])
    """
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    array = array[known]
    classes = classes[known]
    count = np.bincount(classes, minlength=n_classes)
    mean = ratio(np.bincount(classes, weights=array, minlength=n_classes), count)
    if images is not None:
        found = clustered(array, classes, images[known], n_classes, mean)
        return Effect(mean, found.variance, found.images, share, draws, found.clusters)
    squares = np.bincount(classes, weights=(array - mean[classes]) ** 2, minlength=n_classes)
    return Effect(mean, ratio(squares, count - 1), count, share, draws)


def recall_interval(
    recall: Float64,
    count: npt.NDArray[Any],
    level: float = LEVEL,
    draws: Draws | None = None,
    clusters: Clusters | None = None,
) -> tuple[float, float]:
    """Return the interval of the mean over classes of their recalls (C,), of ``count`` images each; within [0, 1].

    It is over images, and over ``draws`` where there are any. ``clusters`` is what images of several classes add.

    The exact binomial interval for as many images as a simple sample of the same variance would have (Korn and
    Graubard 1998). NaN recalls are left out.

    Examples
    --------
    >>> [round(end, 3) for end in recall_interval(np.array([1.0, 0.9]), np.array([10, 10]))]
    [0.751, 0.999]
    """
    if not 0 < number(level, "level") < 1:
        raise InterpNetError(f"level is {level}; expected a share between 0 and 1")
    known = np.isfinite(recall) & (count > 0)
    p = np.clip(recall[known], 0.0, 1.0)
    n = count[known].astype(np.float64)
    if not len(n):
        return math.nan, math.nan
    mean = float(p.mean())
    images = len(n) ** 2 / float((1 / n).sum())
    several = n >= 2
    spread = np.full(len(n), mean * (1 - mean))  # of one image, where a class has only one
    spread[several] = (p * (1 - p) * n / np.maximum(n - 1, 1))[several]
    # Classes that differ make the variance smaller than that of a simple sample; one image more keeps it from zero.
    one = 1 / images**2
    design = (float((spread / n).sum()) / len(n) ** 2 + one) / (mean * (1 - mean) / images + one)
    design = min(design, 1.0)
    if draws is not None and 0 < mean < 1:
        more = np.maximum(1 / np.maximum(draws.number[known], 1) - 1 / (draws.passes * n), 0)
        of_draws = np.nan_to_num(_pooled(draws.variance[known])) * float(more.sum()) / len(n) ** 2
        design += of_draws * images / (mean * (1 - mean))
    if clusters is not None and 0 < mean < 1:
        design += clusters.variance(known) * images / (mean * (1 - mean))
    sample = images / design
    tail = (1 - level) / 2
    low = 0.0
    high = 1.0
    if mean > 0:
        low = float(special.betaincinv(mean * sample, (1 - mean) * sample + 1, tail))
    if mean < 1:
        high = float(special.betaincinv(mean * sample + 1, (1 - mean) * sample, 1 - tail))
    return low, high


def adjusted(p_values: Float64) -> Float64:
    """Return p-values adjusted for the share of false discoveries among several (Benjamini and Hochberg 1995).

    NaN, where nothing was tested, stays and does not count.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.04, 0.04,  nan])
    """
    result = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    ranks = np.arange(1, len(order) + 1)
    raised = p_values[order] * len(order) / ranks
    result[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return result


def ratio(sums: Any, count: Any) -> Float64:
    """Return sums divided by counts, NaN where the count is zero."""
    shares: Float64 = np.divide(sums, count, out=np.full(np.shape(sums), np.nan), where=count > 0)
    return shares


def of_studied(studied: npt.NDArray[np.bool_], values: Float64 | None) -> Float64 | None:
    """Return values of classes, the last axis, with NaN for those that are not studied (C,)."""
    if values is None:
        return None
    return np.where(studied, values, np.nan)
