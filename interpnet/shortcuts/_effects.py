"""What the rest of an image and what its exchanged part do to a class's log-odds, or to a channel's score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from interpnet.support.types import Float64, Int64

_COEFFICIENTS = 3


@dataclass(frozen=True)
class Effects:
    """Least-squares effects on some numbers, each (K, m) unless said otherwise: K classes, m numbers of each."""

    rest: Float64  # a: how much the number rises where the rest is of the class
    part: Float64  # b: how much it rises where the part is
    variance: Float64  # (K, m, 2, 2): of a and b, robust against unequal variances (White 1980)
    freedom: Int64  # (K,): degrees of freedom of an interval

    @property
    def share(self) -> Float64:
        """``max(b, 0) / (max(a, 0) + max(b, 0))``; NaN where neither effect is above 0."""
        b = np.maximum(self.part, 0.0)
        total = np.maximum(self.rest, 0.0) + b
        share: Float64 = np.divide(b, total, out=np.full_like(total, np.nan), where=total > 0)
        return share

    def error(self) -> Float64:
        """Return the standard error of the share ``b / (a + b)``, by the delta method."""
        a, b = self.rest, self.part
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.stack([-b, a], -1) / ((a + b) ** 2)[..., None]
            error: Float64 = np.sqrt(np.einsum("kmi,kmij,kmj->km", slope, self.variance, slope))
        return error

    def interval(self, level: float = 0.95) -> tuple[Float64, Float64]:
        """Return the ends of the share's interval, within 0 to 1; NaN where it has none."""
        half = stats.t.ppf((1 + level) / 2, np.maximum(self.freedom, 1))[:, None] * self.error()
        return np.clip(self.share - half, 0.0, 1.0), np.clip(self.share + half, 0.0, 1.0)


def class_effects(values: Float64, rest: Int64, part: Int64, n_classes: int) -> Effects:
    r"""Fit ``value_k = e + a [rest is of k] + b [part is of k]`` for each class k to its own column.

    Parameters
    ----------
    values : (E, K)
        Of E images with an exchanged part; column k belongs to class k.
    rest, part : (E,)
        The classes of their rests and of their parts.
    n_classes : int
        K.

    Returns
    -------
    Effects
        With m = 1; NaN for a class whose rests and parts cannot be told apart.
    """
    return _fitted(values[:, :, None], rest, part, np.arange(n_classes))


def number_effects(values: Float64, rest: Int64, part: Int64, classes: Int64) -> Effects:
    """Fit the same for each of ``classes`` (K,) to every column of ``values`` (E, m), the scores of channels say."""
    return _fitted(np.broadcast_to(values[:, None], (len(values), 1, values.shape[1])), rest, part, classes)


def _fitted(values: Float64, rest: Int64, part: Int64, classes: Int64) -> Effects:
    m = values.shape[2]
    a, b = (np.full((len(classes), m), np.nan) for _ in range(2))
    variance = np.full((len(classes), m, 2, 2), np.nan)
    freedom = np.zeros(len(classes), dtype=np.int64)
    for at, k in enumerate(classes):
        design = np.stack([np.ones(len(values)), rest == k, part == k], 1)
        counts = np.array([(x & y).sum() for x in (rest == k, rest != k) for y in (part == k, part != k)])
        inverse = _inverse(design)
        if inverse is None:
            continue
        own = values[:, min(at, values.shape[1] - 1)]
        found = inverse @ (design.T @ own)
        a[at], b[at] = found[1:]
        # The fewest images that any of the two effects rests on.
        freedom[at] = max(1, min(counts[1], counts[2], counts[3]) - 1)
        residual = own - design @ found
        spread = len(own) / max(1, len(own) - _COEFFICIENTS)
        meat = np.einsum("ei,em,ej->mij", design, residual**2, design)
        variance[at] = spread * (inverse @ meat @ inverse)[:, 1:, 1:]
    return Effects(a, b, variance, freedom)


def _inverse(design: Float64) -> Float64 | None:
    gram = design.T @ design
    if len(design) <= _COEFFICIENTS or np.linalg.matrix_rank(gram) < _COEFFICIENTS:
        return None
    inverse: Float64 = np.asarray(np.linalg.inv(gram), dtype=np.float64)
    return inverse
