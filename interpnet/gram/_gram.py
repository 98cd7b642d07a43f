"""What the mu-lasso needs of the data: the sums of docs/method.md, section 2.2.

They are float64 even where the scores are float32: sums in float32 would lose what the duality gap certifies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError, InterpNetError
from interpnet.gram._checks import as_numpy, check_definite, check_gram, check_values, class_count, remainder
from interpnet.gram._memory import check_class_count, check_size
from interpnet.gram._sums import Block, DeviceSums, HostSums, checked_block, checked_blocks, checked_data, sums_for
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, instance_of, real_array, whole_number
from interpnet.support.io import atomic_path, npz_path, read_arrays
from interpnet.support.ranks import Ranks
from interpnet.support.types import Float64

# Written into every file; another format would need another reader.
_FORMAT = "interpnet-gram-1"


@brief
@dataclass(frozen=True, eq=False)
class Gram:
    r"""The sufficient statistics of ``C`` least squares problems on the same ``N`` rows (docs/method.md, section 2.2).

    .. math:: G = X^T D X, \quad B = X^T D L, \quad yy_j = \sum_i d_i L_{ij}^2

    with the weights d of the images, 1 by default. Grams add over shards, and a part's Gram can be taken away again.

    Parameters
    ----------
    G : (m, m) float64 array
        Symmetric, positive semidefinite; singular is fine.
    B : (m, C) float64 array
    yy : (C,) float64 array
        Sums of squares of the targets, not negative.
    n : int
        How many images were summed, whatever their weights.

    Raises
    ------
    InterpNetError
        Shapes that do not match, NaN or infinity, a ``G`` that is not symmetric, or entries beyond the Cauchy-Schwarz
        bounds. The full (cubic) test of definiteness is :meth:`check_definite`, which the solver calls.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> gram = Gram.from_scores(X[:1], [0], n_classes=2) + Gram.from_scores(X[1:], [1], n_classes=2)
    >>> gram.n, gram.G.tolist(), gram.yy.tolist()
    (2, [[1.25, 0.25], [0.25, 0.25]], [1.0, 1.0])
    """

    G: Float64
    B: Float64
    yy: Float64
    n: int
    # Whether G is known to be positive semidefinite: summed from scores, or already checked. Not part of the value.
    is_definite: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("G", "B", "yy"):
            given = real_array(getattr(self, name), f"Gram.{name}")
            # torch wants to share writable memory.
            object.__setattr__(self, name, np.require(given, np.float64, ["C", "W"]))
        object.__setattr__(self, "G", check_gram(self.G, self.B, self.yy, self.n))
        object.__setattr__(self, "n", int(self.n))

    @property
    def m(self) -> int:
        """Number of columns (channels)."""
        return int(self.G.shape[0])

    @property
    def diagonal(self) -> Float64:
        """The diagonal of G (m,): the columns' sums of squares."""
        return self.G.diagonal()

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
        # A sum of positive semidefinite matrices is one.
        definite = self.is_definite and other.is_definite
        return summed(self.G + other.G, self.B + other.B, self.yy + other.yy, self.n + other.n, definite=definite)

    def __sub__(self, other: Gram) -> Gram:
        if not isinstance(other, Gram):
            return NotImplemented
        rest = self.without(other)
        # That other is a part of self is not taken on trust.
        object.__setattr__(rest, "is_definite", False)
        return rest

    def without(self, part: Gram) -> Gram:
        """Return the Gram of the other images, where ``part`` was summed from some of the same images.

        ``total - part`` is the same, with the full test of definiteness still to come: :meth:`without` takes the
        caller's word that the images of ``part`` are among this Gram's, as a fold's are among all. Other shapes, no
        image left, and a difference that clearly is no Gram are refused.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
        >>> total = Gram.from_scores(X, X[:, :1])
        >>> total.without(Gram.from_scores(X[:1], X[:1, :1])).G
        array([[0.25, 0.25],
               [0.25, 4.25]])
        """
        instance_of(part, "part", Gram)
        if self.B.shape != part.B.shape:
            raise InterpNetError(
                f"cannot subtract a Gram of (m, C) = {part.B.shape} from one of {self.B.shape}: expected a Gram of "
                "some of the same images, with the same channels and classes"
            )
        if part.n >= self.n:
            raise InterpNetError(f"cannot subtract a Gram of {part.n} images from one of {self.n}: no image is left")
        G, B, yy = remainder((self.G, self.B, self.yy), (part.G, part.B, part.yy))
        return summed(G, B, yy, self.n - part.n, definite=self.is_definite and part.is_definite)

    @classmethod
    def from_scores(
        cls,
        X: npt.ArrayLike,
        L: Any,
        *,
        n_classes: int | None = None,
        sample_weight: npt.ArrayLike | None = None,
        block: int = 4096,
    ) -> Gram:
        """Sum over the rows of ``X``, ``block`` of them at a time (a memory map is read block by block).

        Parameters
        ----------
        X : (N, m) array
            Scores; float32 (also memory-mapped) or float64. A tensor on a CUDA device is summed there.
        L : (N, C) array or sparse matrix, or (N,) of integers
            Target matrix (also scipy.sparse or torch sparse), or class labels.
        n_classes : int, optional
            Number of classes for integer labels; by default the largest label plus one.
        sample_weight : (N,) array, optional
            Weight of each row, finite and not negative; 2 counts as the row twice.
        block : int
            Rows converted to float64 at a time.

        Raises
        ------
        DataError
            Empty data, shapes that do not match, NaN or infinity (row and column named), labels outside the
            classes, weights that are negative or all zero.

        Examples
        --------
        >>> import numpy as np
        >>> gram = Gram.from_scores(np.eye(3, dtype=np.float32), [0, 1, 1])
        >>> gram.B.tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
        """
        scores, target, width, weight = checked_data(X, L, n_classes, sample_weight, block)
        check_class_count(width, scores.shape[1])
        # Without a name of its own a block is gone before the next is made: memory is one block, not two.
        total = GramAccumulator(scores.shape[1], width)
        for part in checked_blocks(scores, target, width, weight, block):
            total.add_checked(part)
            del part
        return total.finish()

    def check_definite(self) -> None:
        """Refuse a ``G`` with an eigenvalue below -1e-6 once its columns are scaled to length one.

        The cubic test runs once: a Gram that passed remembers it, and sums over scores need none. Rounding (float32
        sums) stays far below the threshold.
        """
        if not self.is_definite:
            check_definite(self.G)
            object.__setattr__(self, "is_definite", True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file atomically (``format``, ``G``, ``B``, ``yy``, ``n``; nothing pickled)."""
        with atomic_path(npz_path(path)) as tmp:
            # Not compressed: float64 sums hardly shrink, and m can be ten thousand.
            np.savez(tmp, format=np.array(_FORMAT), G=self.G, B=self.B, yy=self.yy, n=np.int64(self.n))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Gram:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file is a RunFolderError."""
        with read_arrays(path, ("G", "B", "yy", "n"), "Gram", file_format=_FORMAT) as data:
            return cls(data["G"], data["B"], data["yy"], int(data["n"]))


def summed(G: Float64, B: Float64, yy: Float64, n: int, *, definite: bool) -> Gram:
    """Make a Gram of sums that can only be wrong by overflow: symmetric, and consistent, by construction."""
    check_values(G, B, yy, n)
    # Past __post_init__, whose checks read the (m, m) matrix several times.
    gram = object.__new__(Gram)
    for name, value in (("G", G), ("B", B), ("yy", yy), ("n", n), ("is_definite", definite)):
        object.__setattr__(gram, name, value)
    return gram


class GramAccumulator:
    """Sum a :class:`Gram` while the scores are being collected.

    ``m`` is the number of columns, ``n_classes`` that of targets, and ``n`` that of the rows added so far.

    Examples
    --------
    >>> import numpy as np
    >>> total = GramAccumulator(2, 2)
    >>> total.add(np.ones((3, 2), dtype=np.float32), np.array([0, 1, 1]))
    >>> total.gram().B.tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(self, m: int, n_classes: int) -> None:
        whole_number(m, "m", least=1)
        whole_number(n_classes, "n_classes", least=1)
        check_size(m, n_classes)
        self._shape = (m, n_classes)
        self._start()

    def _start(self) -> None:
        self.n = 0  # rows added
        self._weight = 0.0
        # Sums where the rows are, by device; m^2 numbers each, so they are made when the first rows come.
        self._at: dict[str, HostSums | DeviceSums] = {}

    def add(self, X: npt.ArrayLike, L: Any, sample_weight: npt.ArrayLike | None = None) -> None:
        """Add the rows ``X`` (n, m) with targets ``L`` (n, C), dense or sparse, or integer labels (n,).

        A tensor on a CUDA device is summed on that device; labels cost less than their one-hot matrix. Data that
        :meth:`Gram.from_scores` refuses are refused before anything is added.
        """
        self.add_checked(checked_block(X, L, sample_weight, self._shape, self.n))

    def add_checked(self, block: Block) -> None:
        """Add a block that :mod:`interpnet.gram` has checked."""
        rows, target, weight = block
        if rows.shape[0] == 0:
            return
        place = str(getattr(rows, "device", "cpu"))
        if place not in self._at:
            self._at[place] = sums_for(rows, *self._shape)
        self._at[place].add(rows, target, weight)
        self.n += rows.shape[0]
        self._weight += rows.shape[0] if weight is None else float(weight.sum())

    def gram(self) -> Gram:
        """Return the sums so far; later additions do not change what was returned."""
        return self._total(copy=True)

    def finish(self) -> Gram:
        """Return the sums without copying them, and start again from zero."""
        gram = self._total(copy=False)
        self._start()
        return gram

    def add_up(self, ranks: Ranks) -> None:
        """Make the sums those of all ranks, each of which added rows of its own, on every one."""
        if ranks.alone:
            return
        total = self._at.get("cpu")
        if self._at and (len(self._at) > 1 or not isinstance(total, HostSums)):
            total = HostSums.of(*self._arrays(copy=False))
        if not isinstance(total, HostSums):
            total = HostSums(*self._shape)
        total.add_up(ranks)
        self._at = {"cpu": total}
        self.n = int(ranks.sum(np.array([self.n]))[0])
        self._weight = float(ranks.sum(np.array([self._weight]))[0])

    def _arrays(self, *, copy: bool) -> tuple[Float64, Float64, Float64]:
        """Return G, B and yy of all devices."""
        first, *others = self._at.values()
        G, B, yy = first.arrays(copy=copy)
        for sums in others:
            for mine, more in zip((G, B, yy), sums.arrays(copy=copy), strict=True):
                mine += more
        return G, B, yy

    def _total(self, *, copy: bool) -> Gram:
        if self.n == 0:
            raise InterpNetError("Gram.n is 0; expected the number of images, at least 1")
        if self._weight == 0:
            raise DataError(f"sample_weight is zero for all {self.n} rows; expected at least one weight above zero")
        return summed(*self._arrays(copy=copy), self.n, definite=True)


def one_hot(labels: npt.ArrayLike, n_classes: int | None = None) -> npt.NDArray[np.float32]:
    """Return the (N, C) 0/1 target matrix of integer ``labels`` (N,) in ``0 .. n_classes - 1``; refuse others.

    Examples
    --------
    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    check_kinds(one_hot, locals())
    index = as_numpy(labels)
    if index.ndim != 1:
        raise DataError(f"labels have shape {index.shape}; expected (N,)")
    count = class_count(index, n_classes)
    # One label that runs wild would ask for terabytes.
    check_class_count(count, index.shape[0])
    target = np.zeros((index.shape[0], count), dtype=np.float32)
    target[np.arange(index.shape[0]), index.astype(np.int64)] = 1.0
    return target
