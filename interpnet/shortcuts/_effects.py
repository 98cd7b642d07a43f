"""What the rest of an image and what its exchanged part do to a class's log-odds, or to a channel's score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from interpnet.support.types import Float64, Int64

_COEFFICIENTS = 5  # a constant, two effects, two covariates


@dataclass(frozen=True)
class Effects:
    """Least-squares effects on m numbers."""

    rest: Float64  # (m,): a, how much a number rises where the rest is of the class
    part: Float64  # (m,): b, how much it rises where the part is
    whole: Float64  # (m,): how much it is larger in intact images of the class than in others
    variance: Float64  # (m, 2, 2): of a and b, robust against unequal variances (White 1980)
    freedom: int  # degrees of freedom of an interval; 0 where there are no effects
    control: Effects | None = None  # of another part, beyond which the share is read

    @property
    def share(self) -> Float64:
        """(m,): b+ over a+ + b+, or over half of the whole where less is left; NaN where neither is above 0.

        x+ is x where it is above 0, else 0. An exchange that breaks an image leaves little of a and of b, whose share
        would mean nothing. With a control its share is taken off, down to 0; NaN where the control has no effects.
        """
        b = np.maximum(self.part, 0.0)
        total = self._total()
        share: Float64 = np.divide(b, total, out=np.full_like(total, np.nan), where=total > 0)
        if self.control is not None:
            # Where neither rest nor part of the control speaks for the class, there is nothing to take off.
            less = np.nan_to_num(self.control.share, nan=0.0) if self.control.freedom else np.nan
            share = np.maximum(share - less, 0.0)
        return share

    def beyond(self, control: Effects) -> Effects:
        """Return these effects with a share beyond that of other exchanges."""
        return replace(self, control=control, freedom=min(self.freedom, control.freedom))

    def _total(self) -> Float64:
        total: Float64 = np.maximum(np.maximum(self.rest, 0.0) + np.maximum(self.part, 0.0), self.whole / 2)
        return total

    def error(self) -> Float64:
        """Return the standard error (m,) of the share, by the delta method; that of a control is independent."""
        a = self.rest
        b = self.part
        fixed = self.whole / 2 > a + b
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.stack([-b, a], -1) / ((a + b) ** 2)[:, None]
            alone = np.stack([np.zeros_like(b), 2 / self.whole], -1)
            slope = np.where(fixed[:, None], alone, slope)
            error: Float64 = np.sqrt(np.einsum("mi,mij,mj->m", slope, self.variance, slope))
        if self.control is not None:
            error = np.hypot(error, self.control.error())
        return error

    def interval(self, level: float = 0.95) -> tuple[Float64, Float64]:
        """Return the ends (m,) of the share's interval, within 0 to 1; NaN where it has none."""
        half = stats.t.ppf((1 + level) / 2, max(self.freedom, 1)) * self.error()
        return np.clip(self.share - half, 0.0, 1.0), np.clip(self.share + half, 0.0, 1.0)


def effects_of(values: Float64, rest: Int64, donor: Int64, intact: Float64, labels: Int64, k: int) -> Effects:
    r"""Fit ``value = e + a [rest is of k] + b [donor is of k] + g u + h v`` to every column.

    u is what the rest's image has of the same number before the exchange, less the mean over the images that are like
    it of class k or not, and v the donor's. They leave a and b what they are and take away what differs between images
    anyway: for a small part nearly all of the variance.

    Parameters
    ----------
    values : (E, m)
        Of E images with an exchanged part.
    rest, donor : (E,)
        Which images the rests and the parts come from.
    intact : (N, m)
        The same numbers of the images as they are.
    labels : (N,)
        Their classes.
    k : int
        The class.

    Returns
    -------
    Effects
        NaN, with no degree of freedom, for a class whose rests and parts cannot be told apart.
    """
    m = values.shape[1]
    own = labels == k
    of_rest = own[rest]
    of_part = own[donor]
    counts = [(of_rest & of_part).sum(), (of_rest & ~of_part).sum(), (~of_rest & of_part).sum()]
    neither = len(values) - sum(counts)
    design = np.stack([np.ones(len(values)), of_rest, of_part], 1)
    if len(values) <= _COEFFICIENTS or np.linalg.matrix_rank(design) < design.shape[1]:
        nothing = np.full(m, np.nan)
        return Effects(nothing, nothing, nothing, np.full((m, 2, 2), np.nan), 0)
    mine, others = _mean(intact, own), _mean(intact, ~own)
    centred = intact - np.where(own[:, None], mine, others)
    inverse = np.linalg.inv(design.T @ design)
    project = inverse @ design.T
    # By Frisch, Waugh and Lovell: first what the classes do is taken out of values and covariates.
    before = centred[rest]
    given = centred[donor]
    coefficients, left = _parted(values, design, project)
    of_before, before = _parted(before, design, project)
    of_given, given = _parted(given, design, project)
    g, h = _two_slopes(before, given, left)
    found = coefficients - g * of_before - h * of_given
    residual = left - g * before - h * given
    spread = len(values) / (len(values) - _COEFFICIENTS)
    variance = np.einsum("ie,em,je->mij", project, residual**2, project) * spread
    # The fewest images that any of the two effects rests on.
    freedom = max(1, min(counts[1], counts[2], neither) - 1)
    return Effects(found[1], found[2], mine - others, variance[:, 1:, 1:], int(freedom))


def _mean(values: Float64, rows: Int64) -> Float64:
    if not rows.any():
        return np.zeros(values.shape[1])
    mean: Float64 = values[rows].mean(0)
    return mean


def _parted(values: Float64, design: Float64, project: Float64) -> tuple[Float64, Float64]:
    """Return the coefficients (3, m) of a design in columns, and what they leave (E, m)."""
    coefficients = project @ values
    return coefficients, values - design @ coefficients


def _two_slopes(first: Float64, second: Float64, values: Float64) -> tuple[Float64, Float64]:
    """Return the slopes (m,) of two covariates, each (E, m), column by column; 0 for one that does not vary."""
    aa, bb, ab = (np.einsum("em,em->m", x, y) for x, y in ((first, first), (second, second), (first, second)))
    ay, by = (np.einsum("em,em->m", x, values) for x in (first, second))
    least = 1e-12 * np.maximum(aa, bb)
    determinant = aa * bb - ab**2
    both = determinant > 1e-9 * np.maximum(aa * bb, 1e-300)
    safe = np.where(both, determinant, 1.0)
    g = np.where(both, (bb * ay - ab * by) / safe, np.divide(ay, aa, out=np.zeros_like(ay), where=aa > least))
    h = np.where(both, (aa * by - ab * ay) / safe, 0.0)
    return g, h
