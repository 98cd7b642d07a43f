"""Grams of disjoint parts of the images (folds, blocks) from one pass over the scores, one (m, m) matrix per part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError, InterpNetError
from interpnet.gram._checks import as_numpy
from interpnet.gram._gram import Gram, GramAccumulator
from interpnet.gram._memory import parts_fit
from interpnet.gram._sums import checked_blocks, checked_data, take_rows
from interpnet.support.checks import check_kinds, is_whole, whole_number
from interpnet.support.types import Int64

if TYPE_CHECKING:
    from interpnet.gram._rows import RowGram


def part_grams(
    X: npt.ArrayLike,
    L: Any,
    part: npt.ArrayLike,
    *,
    n_parts: int | None = None,
    n_classes: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
    block: int = 4096,
) -> list[Gram] | list[RowGram]:
    """Sum the Gram of each part of the rows in one pass over ``X``; parts whose Grams do not fit are kept as rows.

    Grams fit where they take at most half of the memory. Else each part is a :class:`RowGram`, which nothing is read
    for before the solver asks.

    Parameters
    ----------
    part : (N,) of integers
        Which part each row belongs to, 0 .. n_parts - 1.
    n_parts : int, optional
        By default the largest number plus one.
    X, L, n_classes, sample_weight, block
        As for :meth:`Gram.from_scores <interpnet.gram.Gram.from_scores>`.

    Raises
    ------
    DataError
        As ``Gram.from_scores``; a part without a row, or whose weights are all zero.

    Examples
    --------
    >>> import numpy as np
    >>> halves = part_grams(np.eye(4), [0, 1, 0, 1], [0, 0, 1, 1])
    >>> [half.n for half in halves], (halves[0] + halves[1]).G.tolist() == np.eye(4).tolist()
    ([2, 2], True)
    """
    check_kinds(part_grams, locals())
    scores, target, width, weight = checked_data(X, L, n_classes, sample_weight, block)
    chosen = as_numpy(part)
    if chosen.shape != scores.shape[:1] or not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(
            f"part has shape {chosen.shape} and type {chosen.dtype}; expected {scores.shape[0]} integers, one per row"
        )
    if n_parts is None:
        n_parts = int(chosen.max()) + 1
    if chosen.min() < 0 or chosen.max() >= n_parts:
        raise DataError(f"part runs from {chosen.min()} to {chosen.max()}; expected 0 .. {n_parts - 1}")
    rows = np.bincount(chosen.astype(np.int64), minlength=n_parts)
    if not rows.all():
        raise DataError(f"part {int(rows.argmin())} of {n_parts} has no row; expected at least one row per part")
    if not parts_fit(scores.shape[1], n_parts):
        # Loaded only where it is needed: it brings torch along.
        from interpnet.gram._rows import row_parts

        return row_parts((scores, target, width, weight), chosen, n_parts)
    sums = [GramAccumulator(scores.shape[1], width) for _ in range(n_parts)]
    start = 0
    # Each block goes to the parts it has rows of; without its name, it is gone before the next is made.
    for piece in checked_blocks(scores, target, width, weight, block):
        here = chosen[start : start + piece[0].shape[0]]
        for p in np.unique(here):
            sums[p].add_checked(take_rows(piece, np.flatnonzero(here == p)))
        start += len(here)
        del piece
    return [one.finish() for one in sums]


def random_parts(labels: npt.ArrayLike | int, n_parts: int, seed: int = 0) -> Int64:
    """Deal images into ``n_parts`` random parts of equal size, each class evenly; return each image's part (N,) int64.

    Parameters
    ----------
    labels : (N,) array, or int
        Classes to deal evenly, or the number of images where there are none.
    n_parts : int
        From 2 to the number of images; part sizes, and the counts of each class in them, differ by at most one.
    seed : int

    Examples
    --------
    >>> part = random_parts([0, 0, 0, 0, 1, 1], 2)
    >>> sorted(part[:4].tolist()), sorted(part[4:].tolist())
    ([0, 0, 1, 1], [0, 1])
    """
    if is_whole(labels):
        labels = np.zeros(whole_number(labels, "labels", least=0), dtype=np.int64)
    classes = as_numpy(labels)
    if classes.ndim != 1:
        raise InterpNetError(f"labels have shape {classes.shape}; expected (N,), or the number of images")
    whole_number(seed, "seed", least=0)
    if not is_whole(n_parts) or not 2 <= n_parts <= len(classes):
        raise InterpNetError(
            f"n_parts is {n_parts!r} for {len(classes)} images; expected a whole number from 2 to the number of images"
        )
    # Dealt in turn, as cards are: shuffled, then by class, one part after the other.
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    part = np.empty(len(classes), dtype=np.int64)
    part[by_class] = np.arange(len(classes)) % n_parts
    return part
