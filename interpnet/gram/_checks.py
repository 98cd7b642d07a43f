"""Are these data, and is this a Gram matrix? Checks that name what is at fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf

from interpnet.errors import DataError, InterpNetError
from interpnet.support.checks import is_whole, refuse_masked, shown, whole_number
from interpnet.support.types import Float64

Sums: TypeAlias = tuple[Float64, Float64, Float64]

# Rows compared at a time, so that no second (m, m) matrix is needed.
_ROWS = 256
# Rounding of float32 sums reaches about 1e-6 of sqrt(G_ii G_jj); a mistake (a wrong matrix, mixed columns) far more.
_LOOSE = 1e-5
_SYMMETRY = 1e-8
_DEFINITE = 1e-6
# What float64 sums over up to millions of images can be off, relative to the whole sum.
_ROUNDING = 1e-12
_NO_PART = "expected to subtract a Gram of some of the same images, with the same weights"


def numeric(name: str, array: npt.NDArray[Any], error: type[InterpNetError] = DataError) -> npt.NDArray[Any]:
    """Return ``array``, refusing what holds no real numbers."""
    if array.dtype.kind not in "fiub":
        raise error(f"{name} has type {array.dtype}; expected real numbers")
    return array


def locate_nonfinite(array: Float64) -> tuple[int, ...] | None:
    """Return the index of the first NaN or infinity, or None."""
    # The sum is one pass without a temporary; only where it is not finite do we look further (it may overflow).
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if np.isfinite(total):
        return None
    return next((tuple(place.tolist()) for place in np.argwhere(~np.isfinite(array))), None)


def locate_bad(name: str, array: Float64, first_row: int = 0) -> str | None:
    """Return a message that names the first NaN or infinity of the matrix ``array``, or None."""
    where = locate_nonfinite(array)
    if where is None:
        return None
    return nonfinite_message(name, array[where], first_row + where[0], where[1])


def nonfinite_message(name: str, value: Any, row: int, column: int) -> str:
    """Say where a matrix holds NaN or infinity."""
    what = "NaN" if np.isnan(value) else "infinity"
    return f"{name} contains {what} at row {row}, column {column}; every value must be finite"


def check_values(G: Float64, B: Float64, yy: Float64, n: object) -> None:
    """Check the number of images, and that no sum is NaN or infinite (scores beyond 1e150 overflow)."""
    if not is_whole(n) or int(n) < 1:
        raise InterpNetError(f"Gram.n is {n!r}; expected the number of images, at least 1")
    for name, array, axis in (("G", G, "column"), ("B", B, "class"), ("yy", yy, "class")):
        where = locate_nonfinite(array)
        if where is not None:
            raise InterpNetError(
                f"Gram.{name} holds {array[where]} at {axis} {where[-1]} (index {where}); every value must be finite"
            )


def check_gram(G: Float64, B: Float64, yy: Float64, n: object) -> Float64:
    """Check shapes, values, symmetry and the Cauchy-Schwarz bounds; return ``G``, exactly symmetric."""
    if G.ndim != 2 or G.shape[0] != G.shape[1] or G.shape[0] == 0:
        raise InterpNetError(f"Gram.G has shape {G.shape}; expected (m, m) with m at least 1")
    m = G.shape[0]
    if B.ndim != 2 or B.shape[0] != m or B.shape[1] == 0:
        raise InterpNetError(f"Gram.B has shape {B.shape}; expected ({m}, C) with C at least 1")
    if yy.shape != (B.shape[1],):
        raise InterpNetError(f"Gram.yy has shape {yy.shape}; expected ({B.shape[1]},), one value per class")
    check_values(G, B, yy, n)
    # Cauchy-Schwarz: |G_ij| <= sqrt(G_ii G_jj) and |B_ij| <= sqrt(G_ii yy_j); eigenvalues would take m^3 operations.
    diagonal = np.diagonal(G)
    if diagonal.min() < 0:
        column = int(diagonal.argmin())
        raise InterpNetError(
            f"Gram.G is not positive semidefinite: its diagonal is {diagonal[column]:.3g} at column {column}; "
            "expected G = X'X"
        )
    if yy.min() < 0:
        raise InterpNetError(f"Gram.yy is {yy.min():.3g} at class {int(yy.argmin())}; expected a sum of squares")
    root = np.sqrt(diagonal)
    symmetric = _check_matrix(G, root)
    excess = np.abs(B) - (1 + _LOOSE) * root[:, None] * np.sqrt(yy)
    if excess.max() > 0:
        column, target = _largest(excess)
        raise InterpNetError(
            f"Gram.B is {B[column, target]:.6g} at column {column}, class {target}, "
            f"more than sqrt(G_ii yy_j) = {root[column] * np.sqrt(yy[target]):.6g} allows; "
            "G, B and yy do not come from the same data"
        )
    if symmetric:
        return G
    return (G + G.T) / 2


def _check_matrix(G: Float64, root: Float64) -> bool:
    """Check symmetry and |G_ij| <= sqrt(G_ii G_jj) by rows; return whether G is exactly symmetric."""
    exact = True
    for rows in _blocks(len(G)):
        bound = root[rows, None] * root
        difference = np.abs(G[rows] - G[:, rows].T)
        exact = exact and not difference.any()
        beyond = np.abs(G[rows]) - (1 + _LOOSE) * bound
        for excess, fault in (
            (difference - _SYMMETRY * bound, "is not symmetric"),
            (beyond, "is not positive semidefinite (|G_ij| > sqrt(G_ii G_jj))"),
        ):
            if excess.max() > 0:
                i, j = _largest(excess, rows.start)
                raise InterpNetError(
                    f"Gram.G {fault} at columns {i} and {j}: {G[i, j]:.6g} and {G[j, i]:.6g}; expected G = X'X"
                )
    return exact


def _blocks(m: int) -> Iterator[slice]:
    """Yield the rows of an (m, m) matrix, some at a time."""
    return (slice(start, start + _ROWS) for start in range(0, m, _ROWS))


def _largest(excess: Float64, first_row: int = 0) -> tuple[int, int]:
    """Return row and column of the largest entry."""
    i, j = np.unravel_index(int(excess.argmax()), excess.shape)
    return first_row + int(i), int(j)


def remainder(total: Sums, part: Sums) -> Sums:
    """Return (G, B, yy) of ``total`` minus ``part``, refusing what is no Gram beyond rounding."""
    G, B, yy = (whole - some for whole, some in zip(total, part, strict=True))
    whole = total[0].diagonal()
    for name, rest, before in (("G", G.diagonal(), whole), ("yy", yy, total[2])):
        if (rest < -_ROUNDING * before).any():
            raise InterpNetError(f"what is left of Gram.{name} is {rest.min():.3g} at {int(rest.argmin())}; {_NO_PART}")
    # What is left of a column or class that only the part has is rounding, of either sign: it is nothing.
    gone = G.diagonal() <= _ROUNDING * whole
    G[gone] = 0.0
    G[:, gone] = 0.0
    B[gone] = 0.0
    absent = yy <= _ROUNDING * total[2]
    B[:, absent] = 0.0
    yy[absent] = 0.0
    whole_root = np.sqrt(whole)
    root = np.sqrt(G.diagonal())
    for rows in _blocks(len(G)):
        bound = (1 + _LOOSE) * root[rows, None] * root + _ROUNDING * whole_root[rows, None] * whole_root
        excess = np.abs(G[rows]) - bound
        if excess.max() > 0:
            i, j = _largest(excess, rows.start)
            raise InterpNetError(f"what is left after subtracting is no Gram (columns {i} and {j}); {_NO_PART}")
    return G, B, yy


def check_definite(G: Float64) -> None:
    """Refuse a matrix whose scaled form ``D G D`` (unit diagonal) has an eigenvalue clearly below zero."""
    root = np.sqrt(np.diagonal(G))
    scale = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    # Cholesky of the slightly shifted, scaled matrix: one copy, m^3/3 operations, no eigenvalues needed.
    scaled = G * scale[:, None]
    scaled *= scale
    scaled[np.diag_indices_from(scaled)] = 1.0 + _DEFINITE
    info = int(dpotrf(scaled.T, lower=1, overwrite_a=1, clean=0)[1])
    if info > 0:
        raise InterpNetError(
            f"Gram.G is clearly not positive semidefinite: the block of its first {info} columns "
            "has a negative eigenvalue; expected G = X'X (were shards subtracted, or columns mixed up?)"
        )


def class_count(labels: npt.NDArray[Any], n_classes: int | None) -> int:
    """Check integer labels and return the number of classes."""
    if labels.size == 0:
        raise DataError("there are no labels; expected at least one")
    if labels.dtype == np.bool_ or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels have type {labels.dtype}; expected integers 0, 1, 2, ... or an (N, C) target matrix")
    high = int(labels.max())
    count = high + 1 if n_classes is None else whole_number(n_classes, "n_classes", least=1, error=DataError)
    # Python's whole numbers: the largest of uint64 plus one would overflow.
    low = int(labels.min())
    worst = low if low < 0 else high
    if not 0 <= worst < count:
        raise DataError(f"label {worst} is outside the {count} classes 0 .. {count - 1}")
    return count


def as_numpy(value: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return ``value`` (array, memory map, list, or torch tensor on any device) as a numpy array."""
    refuse_masked(value, "the array", error=DataError)
    if not hasattr(value, "detach") and not isinstance(value, list | tuple):
        return np.asarray(value)
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{shown(value)} cannot be read as an array ({str(error).splitlines()[0]}); expected a dense one of numbers"
        ) from error
