"""Rows added into G, B and yy: float64, in place, on the host or on the CUDA device the scores are on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg.blas import dsyrk

from interpnet.errors import DataError
from interpnet.gram._checks import as_numpy, class_count, locate_bad, nonfinite_message, numeric
from interpnet.support.checks import whole_number
from interpnet.support.progress import step_of
from interpnet.support.ranks import Ranks
from interpnet.support.types import Float64, Int64

if TYPE_CHECKING:
    import torch

#: Rows of scores: a float64 matrix on the host, or a tensor on its device.
Rows: TypeAlias = Any
#: Targets of some rows, (n, C): a float64 matrix, or scipy's csr_array of float64.
Target: TypeAlias = Any
Block: TypeAlias = "tuple[Rows, Target, Float64 | None]"

# Rows and columns mirrored at a time, so that both triangles' blocks stay in the cache.
_MIRROR = 512
# Columns multiplied at a time, on a device and where there are many.
_PANEL = 2048


def stays_on_device(X: object) -> bool:
    """Tell whether ``X`` is a tensor whose sums run where it is; MPS, for one, has no float64."""
    device = getattr(X, "device", None)
    return getattr(device, "type", None) == "cuda"


def as_scores(X: Any) -> Any:
    """Return a tensor on a CUDA device without its history, a reader as it is, and anything else as a numpy array."""
    if stays_on_device(X):
        return X.detach()
    if is_reader(X):
        return X
    return as_numpy(X)


def is_reader(X: Any) -> bool:
    """Whether ``X`` is no array, but has a shape and a dtype and gives rows for a slice, as h5py's data sets do.

    Examples
    --------
    >>> is_reader(np.eye(2)), is_reader([[1.0]])
    (False, False)
    """
    if isinstance(X, np.ndarray) or hasattr(X, "detach") or sparse.issparse(X):
        return False
    return all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__"))


def as_target(L: Any) -> Any:
    """Return targets as a numpy array (N,) or (N, C), or as a scipy csr_array (N, C) if they are sparse."""
    if str(getattr(L, "layout", "")).startswith("torch.sparse"):
        L = L.detach().cpu().to_sparse_coo().coalesce()
        L = sparse.coo_array((L.values().numpy(), L.indices().numpy()), shape=tuple(L.shape))
    if not sparse.issparse(L):
        return as_numpy(L)
    if L.ndim != 2:
        raise DataError(f"L is sparse of shape {L.shape}; expected (N, C)")
    csr = sparse.csr_array(L)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()  # two entries at one place are one number: its square is not the sum of theirs
    return csr


def checked_weight(weight: Any, n: int, name: str = "sample_weight") -> Float64 | None:
    """Return weights (n,) as float64, refusing what is not finite or negative; None stays None."""
    if weight is None:
        return None
    array = numeric(name, as_numpy(weight)).astype(np.float64)
    if array.shape != (n,):
        raise DataError(f"{name} has shape {array.shape}; expected ({n},), one weight per row")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{name} is {array[row]} at row {row}; expected finite weights, not negative")
    return array


def check_some_weight(weight: Float64 | None, name: str = "sample_weight") -> None:
    """Refuse weights that leave nothing."""
    if weight is not None and not weight.any():
        raise DataError(f"{name} is zero for all {len(weight)} rows; expected at least one weight above zero")


def _checked_rows(X: Any, m: int, first_row: int) -> Rows:
    """Return the rows ``X`` (n, m) in float64, refusing NaN and infinity by row and column."""
    rows = as_scores(X)
    if rows.ndim != 2 or rows.shape[1] != m:
        raise DataError(f"X has shape {tuple(rows.shape)}; expected (n, {m})")
    if not stays_on_device(X):
        return _finite("X", rows, first_row)
    rows = rows.double()
    # One number comes from the device; the rows follow only where something is at fault.
    if not rows.sum().isfinite():
        _finite("X", rows.cpu().numpy(), first_row)
    return rows


def _finite(name: str, matrix: npt.NDArray[Any], first_row: int) -> Float64:
    """Return a matrix as contiguous float64, refusing NaN and infinity by row and column."""
    array = np.ascontiguousarray(numeric(name, matrix), dtype=np.float64)
    fault = locate_bad(name, array, first_row)
    if fault is not None:
        raise DataError(fault)
    return array


def _checked_target(L: Any, n: int, n_classes: int, first_row: int) -> Target:
    """Return the targets of ``n`` rows, integer labels as a sparse 0/1 matrix."""
    if not sparse.issparse(L) and L.ndim == 1:
        # An empty block has no labels to check.
        if L.size:
            class_count(L, n_classes)
        L = target_matrix(L, n_classes)
    if L.shape != (n, n_classes):
        raise DataError(f"L has shape {L.shape}; expected ({n}, {n_classes})")
    if not sparse.issparse(L):
        return _finite("L", L, first_row)
    bad = ~np.isfinite(numeric("L", L.data))
    if bad.any():
        places = L.tocoo()
        row = int(places.row[bad][0])
        column = int(places.col[bad][0])
        raise DataError(nonfinite_message("L", L.data[bad][0], first_row + row, column))
    return L.astype(np.float64, copy=False)


def target_matrix(target: Target, n_classes: int) -> Target:
    """Return targets (n, C) as they are, and class numbers (n,) as a sparse 0/1 matrix (n, C) of float64."""
    if sparse.issparse(target) or target.ndim == 2:
        return target
    n = len(target)
    return sparse.csr_array((np.ones(n), target.astype(np.int64), np.arange(n + 1)), shape=(n, n_classes))


def checked_blocks(X: Any, L: Any, n_classes: int, weight: Float64 | None, block: int) -> Iterator[Block]:
    """Yield checked (rows, targets, weights), ``block`` rows at a time, from what :func:`checked_data` returned."""
    N, m = X.shape
    advance = step_of("Summing scores")
    for start in range(0, N, block):
        part = slice(start, start + block)
        # Without a name of its own here, a block is gone before the next is made if the caller drops it.
        yield checked_block(X[part], L[part], _some(weight, part), (m, n_classes), start)
        advance(min(block, N - start))


def checked_block(X: Any, L: Any, weight: Any, shape: tuple[int, int], first_row: int) -> Block:
    """Check rows, targets and weights against the ``shape`` (m, C); ``first_row`` is where they begin, for messages."""
    rows = _checked_rows(X, shape[0], first_row)
    n = rows.shape[0]
    return rows, _checked_target(as_target(L), n, shape[1], first_row), checked_weight(weight, n)


def _some(weight: Float64 | None, index: Any) -> Float64 | None:
    """Return the weights of some rows."""
    return None if weight is None else weight[index]


def checked_data(
    X: Any, L: Any, n_classes: int | None, sample_weight: Any, block: int, *, some: bool = True
) -> tuple[Any, Any, int, Float64 | None]:
    """Check shapes, labels and weights without reading X; return X, L, the number of classes and the weights.

    ``some`` refuses weights that are all zero.
    """
    target = as_target(L)
    X = as_scores(X)
    if len(X.shape) != 2 or 0 in X.shape:
        raise DataError(f"X has shape {tuple(X.shape)}; expected (N, m) with at least one row and one column")
    whole_number(block, "block", least=1)
    n = X.shape[0]
    if target.shape[:1] != (n,):
        raise DataError(f"X has {n} rows but L has shape {target.shape}; expected one target per row")
    if target.ndim not in {1, 2} or 0 in target.shape:
        raise DataError(f"L has shape {target.shape}; expected (N, C) targets or (N,) integer labels")
    width = class_count(target, n_classes) if target.ndim == 1 else target.shape[1]
    weight = checked_weight(sample_weight, n)
    if some:
        check_some_weight(weight)
    return X, target, width, weight


def take_rows(block: Block, index: Int64) -> Block:
    """Return the rows ``index`` of a block."""
    rows, target, weight = block
    return rows[index], target[index], _some(weight, index)


def sums_for(rows: Rows, m: int, n_classes: int) -> HostSums | DeviceSums:
    """Return empty sums where the rows are."""
    return DeviceSums(m, n_classes, rows.device) if stays_on_device(rows) else HostSums(m, n_classes)


# OpenBLAS's syrk ends the process on more than one thread where there are more columns than about 17,000 (seen with
# 0.3.31): wider sums are made panel by panel.
_WIDEST = 8192


class HostSums:
    """Sums in the machine's memory."""

    def __init__(self, m: int, n_classes: int) -> None:
        # Only the upper triangle is summed, in Fortran order, so that BLAS adds into it in place; B is kept
        # transposed, so that sparse targets add whole rows.
        self._upper = np.zeros((m, m), order="F")
        self._Bt = np.zeros((n_classes, m))
        self._yy = np.zeros(n_classes)

    def add(self, rows: Float64, target: Target, weight: Float64 | None) -> None:
        """Add float64 rows (n, m) with targets (n, C)."""
        if weight is not None:
            root = np.sqrt(weight)
            rows = rows * root[:, None]
            target = scaled_rows(target, root)
        if len(self._upper) > _WIDEST:
            self._add_in_blocks(rows)
        else:
            # rows.T is Fortran-ordered without a copy; syrk does half of gemm's arithmetic.
            self._upper = dsyrk(1.0, rows.T, beta=1.0, c=self._upper, overwrite_c=1)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow is named when the Gram is made
            self._Bt += target.T @ rows
            self._yy += column_squares(target)

    def _add_in_blocks(self, rows: Float64) -> None:
        """Add the upper triangle of rows.T @ rows by blocks of columns, down to each block's diagonal."""
        for start in range(0, len(self._upper), _PANEL):
            here = slice(start, start + _PANEL)
            above = slice(0, start + _PANEL)
            self._upper[above, here] += rows[:, above].T @ rows[:, here]

    @classmethod
    def of(cls, G: Float64, B: Float64, yy: Float64) -> HostSums:
        """Return sums that go on from some (symmetric) ones, in their memory."""
        sums = cls(0, 0)
        sums.__dict__.update(_upper=G.T, _Bt=np.ascontiguousarray(B.T), _yy=yy)
        return sums

    def arrays(self, *, copy: bool) -> tuple[Float64, Float64, Float64]:
        """Return G, B and yy; without ``copy`` the sums' own memory, after which nothing may be added."""
        full = self._upper.T  # now the lower triangle
        if copy:
            full = full.copy()
        mirror(full)
        # Of one class, or one column, the transpose is contiguous as it is: only a copy is sure to be one.
        return full, self._Bt.T.copy(), self._yy.copy()

    def add_up(self, ranks: Ranks) -> None:
        """Add the sums of all ranks."""
        lower = self._upper.T
        # Some rows at a time, as far as the diagonal reaches in them: nearly half of the matrix does not travel.
        for start in range(0, len(lower), _MIRROR):
            panel = lower[start : start + _MIRROR, : start + _MIRROR]
            panel[...] = ranks.sum(np.array(panel, order="C"))
        ranks.sum(self._Bt)
        ranks.sum(self._yy)


class DeviceSums:
    """The same sums in a device's memory, with torch."""

    def __init__(self, m: int, n_classes: int, device: torch.device) -> None:
        import torch

        self._device = device
        self._lower = torch.zeros(m, m, dtype=torch.float64, device=device)
        self._Bt = torch.zeros(n_classes, m, dtype=torch.float64, device=device)
        self._yy = np.zeros(n_classes)

    def add(self, rows: torch.Tensor, target: Target, weight: Float64 | None) -> None:
        """Add float64 rows (n, m) on the device with targets (n, C) from the host."""
        import torch

        if weight is not None:
            root = np.sqrt(weight)
            rows = rows * torch.from_numpy(root).to(self._device)[:, None]
            target = scaled_rows(target, root)
        # Column panels of the lower triangle: half of the full product's arithmetic.
        for start in range(0, rows.shape[1], _PANEL):
            part = slice(start, start + _PANEL)
            self._lower[start:, part].addmm_(rows[:, start:].T, rows[:, part])
        if sparse.issparse(target):
            coo = target.tocoo()
            places = torch.from_numpy(np.stack([coo.col, coo.row]).astype(np.int64))
            # Some versions of torch warn where it is not said whether the places are checked.
            with torch.sparse.check_sparse_tensor_invariants():  # type: ignore[no-untyped-call]
                turned = torch.sparse_coo_tensor(places, torch.from_numpy(coo.data), target.shape[::-1])
            self._Bt += torch.sparse.mm(turned.to(self._device), rows)
        else:
            self._Bt.addmm_(torch.from_numpy(target).to(self._device).T, rows)
        self._yy += column_squares(target)

    def arrays(self, *, copy: bool) -> tuple[Float64, Float64, Float64]:
        """Return G, B and yy in the machine's memory."""
        del copy  # they always are copies
        G = self._lower.to("cpu", copy=True).numpy()
        mirror(G)
        return G, self._Bt.cpu().numpy().T.copy(), self._yy.copy()


def mirror(lower: Float64) -> None:
    """Copy the lower triangle onto the upper, block by block, in place."""
    for i in range(0, lower.shape[0], _MIRROR):
        rows = slice(i, i + _MIRROR)
        lower[rows, i + _MIRROR :] = lower[i + _MIRROR :, rows].T
        corner = np.tril(lower[rows, rows])
        lower[rows, rows] = corner + np.tril(corner, -1).T


def scaled_rows(target: Target, root: Float64) -> Target:
    """Return the targets with row i times ``root[i]``."""
    if not sparse.issparse(target):
        return target * root[:, None]
    data = target.data * np.repeat(root, np.diff(target.indptr))
    return sparse.csr_array((data, target.indices, target.indptr), shape=target.shape)


def column_squares(target: Target) -> Float64:
    """Return the columns' sums of squares (C,)."""
    if sparse.issparse(target):
        return np.bincount(target.indices, target.data**2, minlength=target.shape[1]).astype(np.float64, copy=False)
    squares: Float64 = np.einsum("ij,ij->j", target, target)
    return squares
