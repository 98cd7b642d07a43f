"""What the mu-lasso needs of the data: ``G = X'X``, ``B = X'L`` and the column sums of ``L^2``.

All three add over images, so shards add, memory is m^2 whatever the number of images, and the
scores never have to be in memory at once. Sums are float64 even where the scores are float32:
N products of float32 numbers summed in float32 would lose what the duality gap certifies.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

from interpnet._gram_checks import as_numpy, check_definite, check_gram, class_count, float64_array, locate_bad, numeric
from interpnet._io import atomic_path
from interpnet.errors import DataError, InterpNetError, RunFolderError

Float64 = npt.NDArray[np.float64]

_MIRROR_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Gram:
    r"""The sufficient statistics of ``C`` least squares problems on the same ``N`` rows.

    .. math:: G = X^T X, \quad B = X^T L, \quad yy_j = \sum_i L_{ij}^2

    so that :math:`\tfrac12 \|X w - L_j\|^2 = \tfrac12 w^T G w - B_j^T w + \tfrac12 yy_j`.

    Parameters
    ----------
    G : (m, m) array, float64
        Symmetric, positive semidefinite; singular is fine.
    B : (m, C) array, float64
    yy : (C,) array, float64
        Sums of squares of the targets, not negative.
    n : int
        How many images were summed.

    Raises
    ------
    InterpNetError
        Shapes that do not match, NaN or infinity (named by column or class), a ``G`` that is not symmetric
        or breaks :math:`|G_{ij}| \le \sqrt{G_{ii} G_{jj}}`, a ``B`` that breaks :math:`|B_{ij}| \le
        \sqrt{G_{ii} yy_j}`. The full (cubic) test of definiteness is :meth:`check_definite`, which the
        solver calls.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> half = [Gram.from_scores(X[i : i + 1], np.array([i]), n_classes=2) for i in range(2)]
    >>> gram = half[0] + half[1]
    >>> gram.G
    array([[1.25, 0.25],
           [0.25, 0.25]])
    >>> gram.n, gram.yy.tolist()
    (2, [1.0, 1.0])
    """

    G: Float64
    B: Float64
    yy: Float64
    n: int

    def __post_init__(self) -> None:
        G, B, yy = (float64_array(name, getattr(self, name)) for name in ("G", "B", "yy"))
        G = check_gram(G, B, yy, self.n)
        for name, value in (("G", G), ("B", B), ("yy", yy), ("n", int(self.n))):
            object.__setattr__(self, name, value)

    @property
    def m(self) -> int:
        """Number of columns (channels)."""
        return int(self.G.shape[0])

    @property
    def n_classes(self) -> int:
        """Number of targets."""
        return int(self.B.shape[1])

    def __add__(self, other: Gram) -> Gram:
        if not isinstance(other, Gram):
            return NotImplemented
        if self.B.shape != other.B.shape:
            raise InterpNetError(
                f"cannot add Grams of (m, C) = {self.B.shape} and {other.B.shape}: shards must come from "
                "the same channels and the same classes"
            )
        return Gram(self.G + other.G, self.B + other.B, self.yy + other.yy, self.n + other.n)

    @classmethod
    def from_scores(
        cls, X: npt.ArrayLike, L: npt.ArrayLike, *, n_classes: int | None = None, block: int = 4096
    ) -> Gram:
        """Sum over the rows of ``X``, ``block`` of them at a time (a memory map is read block by block).

        Parameters
        ----------
        X : (N, m) array
            Scores; float32 (also memory-mapped) or float64.
        L : (N, C) array, or (N,) of integers
            Target matrix, or class labels, which are one-hot encoded block by block.
        n_classes : int, optional
            Number of classes for integer labels; by default the largest label plus one.
        block : int
            Rows converted to float64 at a time.

        Raises
        ------
        DataError
            Empty data, shapes that do not match, NaN or infinity (row and column named), labels outside the
            classes.

        Examples
        --------
        >>> import numpy as np
        >>> gram = Gram.from_scores(np.eye(3, dtype=np.float32), [0, 1, 1])
        >>> gram.B.tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
        """
        scores, target = as_numpy(X), as_numpy(L)
        if scores.ndim != 2 or 0 in scores.shape:
            raise DataError(f"X has shape {scores.shape}; expected (N, m) with at least one row and one column")
        if block < 1:
            raise InterpNetError(f"block is {block}; expected a number of rows, at least 1")
        if target.shape[:1] != scores.shape[:1]:
            raise DataError(f"X has {scores.shape[0]} rows but L has shape {target.shape}; expected one target a row")
        if target.ndim == 1:
            width = class_count(target, n_classes)
        elif target.ndim == 2:
            width = target.shape[1]
        else:
            raise DataError(f"L has shape {target.shape}; expected (N, C) targets or (N,) integer labels")
        total = GramAccumulator(scores.shape[1], width)
        for start in range(0, scores.shape[0], block):
            total.add(scores[start : start + block], target[start : start + block])
        return total.gram()

    def check_definite(self) -> None:
        """Refuse a ``G`` with an eigenvalue below -1e-6 once its columns are scaled to length one.

        Raises
        ------
        InterpNetError
            With what to do. Rounding (float32 sums) stays far below the threshold.

        Examples
        --------
        >>> import numpy as np
        >>> Gram(np.eye(2), np.zeros((2, 1)), np.ones(1), 2).check_definite()
        """
        check_definite(self.G)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file atomically (arrays ``G``, ``B``, ``yy``, ``n``; nothing pickled)."""
        if Path(path).suffix != ".npz":
            raise InterpNetError(f"path is {str(path)!r}; expected a name that ends in .npz")
        with atomic_path(path) as tmp:
            np.savez(tmp, G=self.G, B=self.B, yy=self.yy, n=np.int64(self.n))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Gram:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RunFolderError
            The file is missing, damaged, or holds something else.
        """
        try:
            with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as data:
                missing = {"G", "B", "yy", "n"} - set(data.files)
                if missing:
                    raise RunFolderError(f"{str(path)!r} is not a Gram: it lacks {sorted(missing)}")
                return cls(data["G"], data["B"], data["yy"], int(data["n"]))
        except FileNotFoundError as error:
            raise RunFolderError(f"{str(path)!r} does not exist") from error
        except InterpNetError:
            raise
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RunFolderError(
                f"{str(path)!r} is not a readable Gram ({error}); delete it to have it made again"
            ) from error


def check_size(m: int) -> None:
    """Raise unless the Gram matrix of ``m`` columns, and the solver's copy of it, fit this machine's memory.

    Raises
    ------
    DataError
        With the matrix's size, the machine's memory, and what to do.

    Examples
    --------
    >>> check_size(1000)
    """
    needed, memory = 2 * 8 * m * m, _physical_memory()
    if memory is not None and needed > memory:
        raise DataError(
            f"the Gram matrix of {m:,} channels takes {needed / 2 / 2**30:.1f} GiB, twice that while it is solved, and "
            f"this machine has {memory / 2**30:.1f} GiB; score fewer layers, such as the last modules by name "
            "(layers=, --layers), which `interpnet layers MODEL` prints"
        )


def _physical_memory() -> int | None:
    """Return the machine's memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


class GramAccumulator:
    """Sum a :class:`Gram` while the scores are being collected.

    Parameters
    ----------
    m : int
        Number of columns.
    n_classes : int
        Number of targets.

    Examples
    --------
    >>> import numpy as np
    >>> total = GramAccumulator(2, 2)
    >>> total.add(np.ones((3, 2), dtype=np.float32), np.array([0, 1, 1]))
    >>> total.gram().B.tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(self, m: int, n_classes: int) -> None:
        if m < 1 or n_classes < 1:
            raise InterpNetError(f"m is {m} and n_classes is {n_classes}; expected at least one of each")
        # Only the upper triangle is summed, in Fortran order, so that BLAS adds into it in place.
        check_size(m)
        self._upper = np.zeros((m, m), order="F")
        self._B = np.zeros((m, n_classes))
        self._yy = np.zeros(n_classes)
        self.n = 0

    def add(self, X: npt.ArrayLike, L: npt.ArrayLike) -> None:
        """Add the rows ``X`` (n, m) with targets ``L`` (n, C) or integer labels (n,).

        Raises
        ------
        DataError
            Wrong shapes, NaN or infinity, or labels outside the classes; nothing is added then.
        """
        m, n_classes = self._B.shape
        rows, raw = as_numpy(X), as_numpy(L)
        if rows.ndim != 2 or rows.shape[1] != m:
            raise DataError(f"X has shape {rows.shape}; expected (n, {m})")
        if raw.ndim == 1:
            raw = one_hot(raw, n_classes)
        if raw.shape != (rows.shape[0], n_classes):
            raise DataError(f"L has shape {raw.shape}; expected ({rows.shape[0]}, {n_classes})")
        block = np.ascontiguousarray(numeric("X", rows), dtype=np.float64)
        target = np.ascontiguousarray(numeric("L", raw), dtype=np.float64)
        for name, array in (("X", block), ("L", target)):
            fault = locate_bad(name, array, self.n)
            if fault is not None:
                raise DataError(fault)
        if block.shape[0] == 0:
            return
        # block.T is Fortran-ordered without a copy; syrk does half of gemm's arithmetic.
        self._upper = dsyrk(1.0, block.T, beta=1.0, c=self._upper, overwrite_c=1)
        self._B += block.T @ target
        self._yy += np.einsum("ij,ij->j", target, target)
        self.n += block.shape[0]

    def gram(self) -> Gram:
        """Return the sums so far; later additions do not change what was returned."""
        full = np.array(self._upper.T, order="C", copy=True)  # now the lower triangle
        m = full.shape[0]
        for i in range(0, m, _MIRROR_BLOCK):
            rows = slice(i, i + _MIRROR_BLOCK)
            full[rows, i + _MIRROR_BLOCK :] = full[i + _MIRROR_BLOCK :, rows].T
            corner = np.tril(full[rows, rows])
            full[rows, rows] = corner + np.tril(corner, -1).T
        return Gram(full, self._B.copy(), self._yy.copy(), self.n)


def one_hot(labels: npt.ArrayLike, n_classes: int | None = None) -> npt.NDArray[np.float32]:
    """Return the (N, C) 0/1 target matrix of integer ``labels`` (N,) in ``0 .. n_classes - 1``.

    Raises
    ------
    DataError
        Labels that are not whole numbers, or outside the classes.

    Examples
    --------
    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    index = as_numpy(labels)
    if index.ndim != 1:
        raise DataError(f"labels have shape {index.shape}; expected (N,)")
    count = class_count(index, n_classes)
    target = np.zeros((index.shape[0], count), dtype=np.float32)
    target[np.arange(index.shape[0]), index.astype(np.int64)] = 1.0
    return target
