"""Arguments of the mu-lasso: what came, what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import Gram


def check_type(gram: object) -> None:
    """Refuse what is no Gram."""
    if not isinstance(gram, Gram):
        raise InterpNetError(
            f"gram is a {type(gram).__name__}; "
            "expected an interpnet.Gram (Gram.from_scores(X, y), or Gram(G, B, yy, n))"
        )


def check_radii(radii: npt.NDArray[Any], name: str, *, ndim: int) -> None:
    """Refuse radii that are not ``ndim``-dimensional, finite and at least zero."""
    shape = "a number" if ndim == 0 else "a vector of numbers"
    if radii.ndim != ndim or radii.size == 0 or radii.dtype.kind not in "fiu":
        raise InterpNetError(f"{name} is {radii!r}; expected {shape}, finite and not negative")
    if not np.isfinite(radii).all() or (radii < 0).any():
        worst = radii[~np.isfinite(radii) | (radii < 0)].flat[0]
        raise InterpNetError(f"{name} is or holds {worst}; expected {shape}, finite and not negative")


def check_options(positive: object, tol: object, max_iter: object) -> None:
    """Refuse options of the wrong type or out of range."""
    if not isinstance(positive, bool | np.bool_):
        raise InterpNetError(f"positive is {positive!r}; expected True or False")
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not 0 < float(tol) < float("inf"):
        raise InterpNetError(f"tol is {tol!r}; expected a number above zero, such as 1e-6")
    if isinstance(max_iter, bool) or not isinstance(max_iter, int | np.integer) or max_iter < 1:
        raise InterpNetError(f"max_iter is {max_iter!r}; expected a whole number, at least 1")
