"""Arguments of the mu-lasso: what came, what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.support.checks import is_whole, positive_number, true_or_false, whole_number
from interpnet.support.types import Float64

MAX_ITER = 20_000


@dataclass(frozen=True)
class Options:
    """How to solve, checked; the fields are those of :class:`interpnet.mulasso.MuLasso`."""

    positive: bool = False
    tol: float = 1e-6
    max_iter: int = MAX_ITER
    device: str | None = None
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", true_or_false(self.positive, "positive"))
        object.__setattr__(self, "tol", positive_number(self.tol, "tol"))
        object.__setattr__(self, "max_iter", whole_number(self.max_iter, "max_iter", least=1))
        if self.device is not None:
            _check_device(self.device)
        if self.n_jobs is not None and (not is_whole(self.n_jobs) or self.n_jobs == 0):
            raise InterpNetError(f"n_jobs is {self.n_jobs!r}; expected None, a number of threads, or -1 for all cores")


def _check_device(device: str) -> None:
    """Refuse a device that is not there, or that has no float64."""
    # torch is loaded here only, so that a saved stability selection can be read without it.
    from interpnet.engine import resolve_device

    if resolve_device(device).type not in {"cpu", "cuda"}:
        raise InterpNetError(f"device is {device!r}; expected 'cpu' or 'cuda': the solver works in float64")


def check_grams(*grams: object, rows: bool = False) -> None:
    """Refuse what is not a Gram, or with ``rows`` a RowGram, and a Gram that is clearly not positive semidefinite."""
    for gram in grams:
        if isinstance(gram, Gram):
            gram.check_definite()
        elif not rows or not _is_rows(gram):
            raise InterpNetError(
                f"gram is a {type(gram).__name__}; "
                "expected an interpnet.Gram (Gram.from_scores(X, y), or Gram(G, B, yy, n))"
            )


def _is_rows(gram: object) -> bool:
    # Loaded only where it can be one: it brings torch along, which a saved stability selection is read without.
    from interpnet.gram import RowGram

    return isinstance(gram, RowGram)


def checked_radii(value: Any, name: str, shape: str, ndims: tuple[int, ...]) -> Float64:
    """Return radii as float64, refusing what is not finite and above zero; ``shape`` says what is expected."""
    expected = f"expected {shape}, finite and above 0"
    try:
        radii = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise InterpNetError(f"{name} is {value!r}; {expected}") from error
    if radii.ndim not in ndims or radii.size == 0 or radii.dtype.kind not in "fiu":
        raise InterpNetError(f"{name} is {value!r}; {expected}")
    bad = ~np.isfinite(radii) | (radii <= 0)
    if bad.any():
        raise InterpNetError(f"{name} is or holds {radii[bad].flat[0]}; {expected}")
    return radii.astype(np.float64)


def check_mu(mu: Any) -> Float64:
    """Return the radius, or the radii of the classes, as float64."""
    return checked_radii(mu, "mu", "a number, or one per class", (0, 1))


def class_radii(mu: Any, n_classes: int) -> Float64:
    """Return the radius of each class (C,)."""
    radii = check_mu(mu)
    if radii.ndim == 1 and radii.shape != (n_classes,):
        raise InterpNetError(f"mu has shape {radii.shape}; expected a number, or {n_classes} numbers, one per class")
    return np.broadcast_to(radii, (n_classes,))


def plain_radii(radii: npt.ArrayLike) -> float | Float64:
    """Return one radius as a float, those of the classes as an array."""
    array = np.asarray(radii, dtype=np.float64)
    return array if array.ndim else float(array)


def class_labels(classes: npt.ArrayLike | None, n_classes: int) -> npt.NDArray[Any]:
    """Return the labels of the classes (C,), numbers where ``classes`` is None."""
    if classes is None:
        return np.arange(n_classes)
    labels = np.asarray(classes)
    if labels.shape != (n_classes,):
        raise InterpNetError(f"classes have shape {labels.shape}; expected ({n_classes},), one label per class")
    return labels
