r"""A Gram of which the matrix is never made: products with it are read from the rows, block by block.

For m columns that is m numbers for each class where the matrix takes m^2 (docs/method.md, section 2.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from interpnet.errors import DataError, InterpNetError
from interpnet.gram._checks import as_numpy, check_values
from interpnet.gram._gram import Gram, summed
from interpnet.gram._memory import check_class_count
from interpnet.gram._sums import (
    Block,
    Target,
    checked_blocks,
    checked_data,
    column_squares,
    mirror,
    scaled_rows,
    stays_on_device,
    take_rows,
    target_matrix,
)
from interpnet.support.checks import instance_of, optional, whole_number
from interpnet.support.ranks import ALONE, Ranks, ranks_of
from interpnet.support.types import Float64, Int64

# Numbers of the rows that are held in float64 at a time: 256 MB.
_NUMBERS = 2**25
_FEWEST_ROWS = 64
# Columns multiplied at a time.
_PANEL = 1024
_MOST_ROWS = 4096


class _Sums(NamedTuple):
    B: Float64
    yy: Float64
    diagonal: Float64
    n: int


class RowGram:
    r"""The least squares problems of a :class:`Gram`, kept as their rows X, targets L and weights d.

    It stands wherever a Gram does for the solver: ``B = X'DL``, ``yy`` and the diagonal of ``G = X'DX`` are summed in
    one pass, all else is read when it is asked for. Sums are float64.

    Attributes
    ----------
    m, n_classes : int
        Numbers of columns and of targets.
    passes, reads : int
        How often all of X was read so far, and how often some of its columns were.
    widest : int
        The most columns whose matrix was asked for: the largest working set.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32)
    >>> rows = RowGram.from_scores(X, [0, 1])
    >>> rows.B.tolist(), rows.diagonal.tolist(), rows.products(np.array([0, 1])).tolist()
    ([[1.0, 0.5], [0.0, 0.5]], [1.25, 0.25], [[1.25, 0.25], [0.25, 0.25]])
    """

    def __init__(
        self,
        data: tuple[Any, Any, int, Float64 | None],
        block: int,
        ranks: Ranks,
        chosen: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Take what ``checked_data`` returned; of all rows, or of those that are ``chosen`` (N,)."""
        self._data = data
        self._X, self._target, self.n_classes, self._weight = data
        self._block = block
        self._ranks = ranks
        self._chosen = chosen
        self._device = torch.device("cpu")
        if stays_on_device(self._X):
            self._device = self._X.device
        self.m = int(self._X.shape[1])
        self.passes = 0
        self.reads = 0
        self.widest = 0

    @classmethod
    def from_scores(
        cls,
        X: Any,
        L: Any,
        *,
        n_classes: int | None = None,
        sample_weight: npt.ArrayLike | None = None,
        block: int | None = None,
        group: Any = None,
    ) -> Self:
        """Keep the rows ``X`` where they are, and read them once.

        Parameters
        ----------
        X : (N, m) array
            Scores, float32 or float64: a memory map, a tensor on a CUDA device (all products then run there), or
            anything else that has a ``shape`` and a ``dtype`` and gives rows for a slice.
        L, n_classes, sample_weight
            As for :meth:`Gram.from_scores`.
        block : int, optional
            Rows converted to float64 at a time; by default about 256 MB of them.
        group : torch.distributed process group, or "default", optional
            Every rank passes its own rows, at least one, and the same ``n_classes``; the sums are those of all rows.

        Raises
        ------
        DataError
            As :meth:`Gram.from_scores`.
        RanksError
            Ranks with other numbers of columns or classes.
        """
        optional(whole_number, block, "block", least=1)
        ranks = ranks_of(group)
        data = checked_data(X, L, n_classes, sample_weight, block or 1, some=ranks.alone)
        m = int(data[0].shape[1])
        ranks.agree("the number of channels and of classes", [m, data[2]])
        check_class_count(data[2], m)
        rows = cls(data, block or _rows_at_a_time(m), ranks)
        rows.n  # noqa: B018 - what is wrong with the data is said now
        return rows

    @property
    def B(self) -> Float64:  # noqa: N802 - as a Gram has it
        """``X'DL`` (m, C)."""
        return self._sums.B

    @property
    def yy(self) -> Float64:
        """The targets' weighted sums of squares (C,)."""
        return self._sums.yy

    @property
    def diagonal(self) -> Float64:
        """The diagonal (m,) of ``X'DX``: the columns' sums of squares."""
        return self._sums.diagonal

    @property
    def n(self) -> int:
        """Number of rows, over all ranks."""
        return self._sums.n

    @cached_property
    def _sums(self) -> _Sums:
        Bt = np.zeros((self.n_classes, self.m))
        yy = np.zeros(self.n_classes)
        diagonal = np.zeros(self.m)
        count = np.zeros(2)  # of rows, and their weight
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow is named below
            for rows, target, weight in self._blocks():
                part = _tensor(rows)
                each = _each(weight, len(part))
                Bt += _target_product(scaled_rows(target, each), part)
                yy += column_squares(scaled_rows(target, np.sqrt(each)))
                count += [len(part), each.sum()]
                # The last use of the block: its numbers are overwritten.
                diagonal += (torch.from_numpy(each).to(part.device) @ part.square_()).cpu().numpy()
        self.passes += 1
        self._ranks.sum(Bt)
        self._ranks.sum(yy)
        self._ranks.sum(diagonal)
        self._ranks.sum(count)
        n = int(count[0])
        if not count[1]:
            raise DataError(f"sample_weight is zero for all {n} rows; expected at least one weight above zero")
        check_values(diagonal[None], Bt.T, yy, n)
        return _Sums(Bt.T, yy, diagonal, n)

    def check_definite(self) -> None:
        """Do nothing: ``X'DX`` is positive semidefinite."""

    def products(self, columns: Int64, last: int | None = None) -> Float64:
        """Return ``G`` of ``columns`` (k,) and of their ``last`` ones, by default all: (k, last) float64."""
        self.widest = max(self.widest, len(columns))
        first = 0
        if last is not None:
            first = len(columns) - last
        total = torch.zeros(len(columns), len(columns) - first, dtype=torch.float64, device=self._device)
        for rows, _, weight in self._column_blocks(columns):
            right = rows[:, first:]
            if weight is not None:
                right = right * torch.from_numpy(weight).to(self._device)[:, None]
            # Panels of columns down to the diagonal: up to half of the full product's arithmetic.
            for start in range(first, len(columns), _PANEL):
                end = min(start + _PANEL, len(columns))
                here = slice(start - first, end - first)
                total[:end, here].addmm_(rows[:, :end].T, right[:, here])
        self.reads += 1
        found = total.cpu().numpy()
        mirror(found[first:].T)
        return self._ranks.sum(found)

    def gradient(self, columns: Int64, weights: Float64, targets: Int64) -> Float64:
        """Return ``X'D(X w_p - L_j)`` for weights (P, k) on ``columns`` (k,) and targets j = ``targets[p]``: (P, m).

        One pass over X, whatever P.
        """
        total = torch.zeros(len(targets), self.m, dtype=torch.float64, device=self._device)
        chosen = torch.from_numpy(columns).to(self._device)
        coef = torch.from_numpy(np.ascontiguousarray(weights.T)).to(self._device)
        for rows, target, weight in self._blocks():
            part = _tensor(rows)
            residual = part.index_select(1, chosen) @ coef
            residual -= _dense(target, targets).to(self._device)
            if weight is not None:
                residual *= torch.from_numpy(weight).to(self._device)[:, None]
            total.addmm_(residual.T, part)
        self.passes += 1
        return self._ranks.sum(total.cpu().numpy())

    def squared_error(self, columns: Int64, weights: Float64, targets: Int64) -> Float64:
        """Return the weighted sums of squares (P,) of ``X w_p - L_j``, as :meth:`gradient` has them."""
        total = np.zeros(len(targets))
        coef = torch.from_numpy(np.ascontiguousarray(weights.T)).to(self._device)
        for rows, target, weight in self._column_blocks(columns):
            residual = (rows @ coef).cpu().numpy() - _dense(target, targets).numpy()
            total += _each(weight, len(rows)) @ residual**2
        self.reads += 1
        return self._ranks.sum(total)

    def on(self, columns: Int64, G: Float64, classes: Int64) -> Gram:
        """Return the Gram of some columns and classes, whose matrix ``G`` is known."""
        B = np.ascontiguousarray(self.B[np.ix_(columns, classes)])
        return summed(G, B, self.yy[classes], self.n, definite=True)

    def share(self, value: Any) -> Any:
        """Return rank 0's value, which JSON can hold, on all ranks: what they decide must be the same."""
        return self._ranks.share(value)

    def same(self, array: Float64) -> Float64:
        """Return rank 0's array, of the same shape on all ranks, on all ranks."""
        if self._ranks.alone:
            return array
        mine = np.zeros(array.shape)
        if self._ranks.first:
            mine += array
        return self._ranks.sum(mine)

    def part(self, chosen: npt.NDArray[np.bool_]) -> RowGram:
        """Return the problem of the rows that are ``chosen`` (N,) only; nothing is read before it is asked for."""
        if self._chosen is not None:
            chosen = chosen & self._chosen
        return RowGram(self._data, self._block, self._ranks, chosen)

    def __add__(self, other: RowGram) -> RowGram:
        """Return the problem of two parts of the same rows."""
        if not isinstance(other, RowGram):
            return NotImplemented
        mine, others = self._parts(other)
        if (mine & others).any():
            raise InterpNetError("cannot add parts that have rows in common")
        return RowGram(self._data, self._block, self._ranks, mine | others)

    def without(self, part: RowGram) -> RowGram:
        """Return the problem of the other rows, where ``part`` is one of the parts of these, as ``Gram.without``."""
        instance_of(part, "part", RowGram)
        mine, others = self._parts(part)
        if (others & ~mine).any() or not (mine & ~others).any():
            raise InterpNetError("cannot take away rows that are not among these, or all of them")
        return RowGram(self._data, self._block, self._ranks, mine & ~others)

    def _parts(self, other: RowGram) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which rows are in this part and in another part of the same rows."""
        if other._data is not self._data or self._chosen is None or other._chosen is None:
            raise InterpNetError("these are not parts of the same rows; expected what part_grams() returned")
        return self._chosen, other._chosen

    def _blocks(self) -> Iterator[Block]:
        start = 0
        for piece in checked_blocks(*self._data, self._block):
            if self._chosen is None:
                yield piece
            else:
                here = np.flatnonzero(self._chosen[start : start + piece[0].shape[0]])
                start += piece[0].shape[0]
                if len(here):
                    yield take_rows(piece, here)
            del piece

    def _column_blocks(self, columns: Int64) -> Iterator[tuple[Tensor, Target, Float64 | None]]:
        """Yield some columns of the rows, their targets and their weights; values that a pass has checked."""
        block = max(self._block, min(_rows_at_a_time(len(columns)), 8 * self._block))
        for start in range(0, self._X.shape[0], block):
            part = slice(start, start + block)
            rows = _columns(self._X[part], columns)
            weight = None
            if self._weight is not None:
                weight = self._weight[part]
            target = target_matrix(self._target[part], self.n_classes)
            if self._chosen is None:
                yield rows, target, weight
                continue
            here = np.flatnonzero(self._chosen[part])
            if len(here):
                yield take_rows((rows, target, weight), here)


def _rows_at_a_time(width: int) -> int:
    """Return how many rows of ``width`` numbers are converted at a time."""
    return min(max(_NUMBERS // max(width, 1), _FEWEST_ROWS), _MOST_ROWS)


def _tensor(rows: Any) -> Tensor:
    """Return checked rows, on the host or on a device, as a tensor that may be overwritten."""
    if isinstance(rows, Tensor):
        return rows.clone() if rows.dtype == torch.float64 else rows
    if not rows.flags.writeable or rows.base is not None:
        rows = rows.copy()
    return torch.from_numpy(rows)


def _columns(rows: Any, columns: Int64) -> Tensor:
    """Return some columns of rows in float64, where the rows are."""
    if isinstance(rows, Tensor) and stays_on_device(rows):
        return rows.detach().index_select(1, torch.from_numpy(columns).to(rows.device)).double()
    return torch.from_numpy(as_numpy(rows)[:, columns].astype(np.float64))


def _dense(target: Target, classes: Int64) -> Tensor:
    """Return the columns ``classes`` (P,) of targets (n, C) as a dense tensor."""
    if sparse.issparse(target):
        return torch.from_numpy(target[:, classes].toarray().astype(np.float64))
    return torch.from_numpy(target[:, classes].astype(np.float64))


def _each(weight: Float64 | None, n: int) -> Float64:
    if weight is None:
        return np.ones(n)
    return weight


def _target_product(target: Target, rows: Tensor) -> Float64:
    """Return ``L'X`` (C, m) of some rows."""
    if rows.device.type == "cpu":
        product: Float64 = target.T @ rows.numpy()
        return product
    dense = _dense(target, np.arange(target.shape[1])).to(rows.device)
    return (dense.T @ rows).cpu().numpy()


def row_parts(data: tuple[Any, Any, int, Float64 | None], part: Int64, n_parts: int) -> list[RowGram]:
    """Return the problem of each part of the rows that ``checked_data`` returned, by the part (N,) of each row."""
    block = _rows_at_a_time(int(data[0].shape[1]))
    return [RowGram(data, block, ALONE, part == p) for p in range(n_parts)]
