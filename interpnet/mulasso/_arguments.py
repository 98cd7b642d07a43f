"""Arguments of the mu-lasso: what came, what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.engine import resolve_device
from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.support.types import Float64


@dataclass(frozen=True)
class Options:
    """How to solve, checked; the fields are those of :class:`interpnet.mulasso.MuLasso`."""

    positive: bool
    tol: float
    max_iter: int
    device: str | None
    n_jobs: int | None

    def __post_init__(self) -> None:
        check_options(self.positive, self.tol, self.max_iter)
        check_device(self.device)
        check_n_jobs(self.n_jobs)


def check_type(gram: object) -> None:
    """Refuse what is no Gram."""
    if not isinstance(gram, Gram):
        raise InterpNetError(
            f"gram is a {type(gram).__name__}; "
            "expected an interpnet.Gram (Gram.from_scores(X, y), or Gram(G, B, yy, n))"
        )


def checked_radii(value: Any, name: str, shape: str, ndims: tuple[int, ...]) -> Float64:
    """Return radii as float64, refusing what is not finite and above zero; ``shape`` says what is expected."""
    try:
        radii = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise InterpNetError(f"{name} is {value!r}; expected {shape}, finite and above 0") from error
    if radii.ndim not in ndims or radii.size == 0 or radii.dtype.kind not in "fiu":
        raise InterpNetError(f"{name} is {value!r}; expected {shape}, finite and above 0")
    bad = ~np.isfinite(radii) | (radii <= 0)
    if bad.any():
        raise InterpNetError(f"{name} is or holds {radii[bad].flat[0]}; expected {shape}, finite and above 0")
    return radii.astype(np.float64)


def check_mu(mu: Any) -> Float64:
    """Return the radius, or the radii of the classes, as float64."""
    return checked_radii(mu, "mu", "a number, or one a class", (0, 1))


def class_radii(mu: Any, n_classes: int) -> Float64:
    """Return the radius of each class (C,)."""
    radii = check_mu(mu)
    if radii.ndim == 1 and radii.shape != (n_classes,):
        raise InterpNetError(f"mu has shape {radii.shape}; expected a number, or {n_classes} numbers, one a class")
    return np.broadcast_to(radii, (n_classes,))


def check_options(positive: object, tol: object, max_iter: object) -> None:
    """Refuse options of the wrong type or out of range."""
    if not isinstance(positive, bool | np.bool_):
        raise InterpNetError(f"positive is {positive!r}; expected True or False")
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not 0 < float(tol) < float("inf"):
        raise InterpNetError(f"tol is {tol!r}; expected a number above zero, such as 1e-6")
    if isinstance(max_iter, bool) or not isinstance(max_iter, int | np.integer) or max_iter < 1:
        raise InterpNetError(f"max_iter is {max_iter!r}; expected a whole number, at least 1")


def check_device(device: str | None) -> None:
    """Refuse a device that is not there, or that has no float64."""
    if device is not None and resolve_device(device).type not in {"cpu", "cuda"}:
        raise InterpNetError(f"device is {device!r}; expected 'cpu' or 'cuda': the solver works in float64")


def check_n_jobs(n_jobs: object) -> None:
    """Refuse what is no number of threads as joblib counts them."""
    if n_jobs is None:
        return
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise InterpNetError(f"n_jobs is {n_jobs!r}; expected None, a number of threads, or -1 for all cores")
