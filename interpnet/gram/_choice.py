"""A matrix or the rows: which of the two the memory has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.gram._gram import Gram
from interpnet.gram._memory import gram_fits

if TYPE_CHECKING:
    from interpnet.gram._rows import RowGram


def gram_or_rows(
    X: Any, L: Any, *, n_classes: int | None = None, sample_weight: npt.ArrayLike | None = None
) -> Gram | RowGram:
    """Return the Gram of scores and targets where its matrix fits into the memory, else their rows; read once.

    Arguments and errors are those of :meth:`Gram.from_scores`.

    Examples
    --------
    >>> type(gram_or_rows(np.eye(2), [0, 1])).__name__
    'Gram'
    """
    if gram_fits(np.shape(X)[-1]):
        return Gram.from_scores(X, L, n_classes=n_classes, sample_weight=sample_weight)
    # Loaded only where it is needed: it brings torch along.
    from interpnet.gram._rows import RowGram

    return RowGram.from_scores(X, L, n_classes=n_classes, sample_weight=sample_weight)
