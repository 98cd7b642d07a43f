"""The mu-lasso on a grid of radii that ends where enough channels have a weight, in any unit of the scores."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from interpnet.gram import Gram
from interpnet.mulasso import mulasso_path
from interpnet.support.types import Float64

RADII = 320  # along the path
SPAN = 3_000.0  # the last radius over the first
_DOUBLINGS = 30  # a billion times the first guess


def along(gram: Gram, count: int, *, positive: bool = False, steps: int | None = None) -> tuple[Float64, Float64]:
    """Return radii (T,), ascending, and the weights there (T, C, m); T is ``steps``, by default :data:`RADII`.

    The last radius is not much larger than needed for every class to have ``count`` channels, or so large that the
    constraint no longer binds where a class never has as many. Certificates are the caller's business: an
    order needs no tight gap, and no warning is shown.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # see above
        end = _end(gram, count, positive=positive)
        radii = np.geomspace(end / SPAN, end, steps or RADII)
        return radii, mulasso_path(gram, radii, positive=positive)


def _end(gram: Gram, count: int, *, positive: bool) -> float:
    def enough(radius: float) -> bool:
        w = mulasso_path(gram, [radius], positive=positive)[0]
        unbound = np.abs(w).sum(1) < 0.999 * radius  # the constraint |w|_1 <= mu is slack (docs/method.md, section 2)
        return bool(((np.count_nonzero(w, axis=1) >= count) | unbound).all())

    # About the l1 norm of a fit by one channel; scalings differ by orders of magnitude.
    low = high = float(np.max(gram.yy / np.maximum(np.abs(gram.B).max(0), 1e-300)))
    for _ in range(_DOUBLINGS):
        if enough(high):
            break
        low = high
        high = 2 * high
    for _ in range(3):  # eight times finer than a doubling
        middle = (low * high) ** 0.5
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def entry(radii: Float64, coefs: Float64) -> Float64:
    """Return the radius at which each channel first has a weight (C, m); infinity where it has none."""
    there = coefs != 0
    found: Float64 = np.where(there.any(0), radii[there.argmax(0)], np.inf)
    return found
