"""The rows of a study: an image and a class that it has, and which other class's channels each row loses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from interpnet.ablation._effect import ratio
from interpnet.errors import DataError
from interpnet.support.types import Bools, Float64, Int64

# Of more cells, the images without a label are a sample, not all.
_MOST_CELLS = 1 << 20


class Alarms(NamedTuple):
    """Images, each with a label that it does not have, sorted by image: what may become a false alarm."""

    images: Int64  # (Q,)
    labels: Int64  # (Q,)
    removed: Bools  # (Q,): whether the image also runs without the label's channels
    # (Q,): for how many images without the label it stands, of those that run whole and of those that run without.
    weights: tuple[Float64, Float64]

    def rates(self, whole: Bools, without: Bools, n_classes: int) -> tuple[Float64, Float64]:
        """Return the share of the images without a label that are given it (C,), whole and without its channels."""
        found = []
        for given, weights in zip((whole, without), self.weights, strict=True):
            images = np.bincount(self.labels, weights=weights, minlength=n_classes)
            found.append(ratio(np.bincount(self.labels, weights=weights * given, minlength=n_classes), images))
        return found[0], found[1]


_NONE: Int64 = np.zeros(0, dtype=np.int64)
#: What there is where classes exclude each other, for then recalls say all.
NO_ALARMS = Alarms(_NONE, _NONE, _NONE.astype(np.bool_), (_NONE.astype(np.float64), _NONE.astype(np.float64)))


@dataclass(frozen=True)
class Rows:
    """The rows of a study where an image has one class: the images.

    Attributes
    ----------
    labels : array (R,) int64
    images : array (R,) int64
        The number of each row's image, rising.
    n_images, n_classes : int
    named : array (C,) bool
        The classes that have channels to lose.
    """

    labels: Int64
    images: Int64
    n_images: int
    n_classes: int
    named: Bools

    @classmethod
    def of(cls, labels: npt.NDArray[Any], n_classes: int, named: Bools | None = None) -> Rows:
        """Return the rows of class numbers (N,), or of the labels that images have (N, C).

        Only the channels of the classes ``named`` (C,) are lost by images of others; by default those of all.

        Examples
        --------
        >>> rows = Rows.of(np.array([[True, False], [True, True], [False, False]]), 2)
        >>> rows.images.tolist(), rows.labels.tolist()
        ([0, 1, 1], [0, 0, 1])
        """
        if named is None or not named.any():
            named = np.ones(n_classes, dtype=bool)
        if labels.ndim == 1:
            return cls(labels, np.arange(len(labels)), len(labels), n_classes, named)
        images, own = np.nonzero(labels)
        if not len(images):
            raise DataError(f"none of the {len(labels)} images has a label; expected targets with some ones")
        return LabelRows(own, images, len(labels), n_classes, named, labels.astype(bool))

    def foreign(self, seed: int, turn: int) -> Int64:
        """Return which other class's channels each row loses (R,), for each turn another one.

        A row for which there is no other one loses its own.
        """
        return foreign_classes(self.labels, self.n_classes, seed, turn, self.named)

    def alarms(self, seed: int, turns: int) -> Alarms:
        """Return none."""
        del seed, turns
        return NO_ALARMS


@dataclass(frozen=True)
class LabelRows(Rows):
    """The rows of a study where an image has any number of labels: every image with each label that it has.

    ``targets`` (N, C) of bool are these labels.
    """

    targets: Bools

    def foreign(self, seed: int, turn: int) -> Int64:
        """Return which label's channels each row loses (R,): one that its image lacks, for each turn another one.

        A row that has met all of these, or whose image has every label, loses its own.
        """
        return self._missing(seed, turn)[: len(self.labels)]

    def _missing(self, seed: int, turn: int) -> Int64:
        """Return the label that each row loses the channels of; behind the rows follow the images without a label."""
        rng = np.random.default_rng([seed, 1])
        sets, of_image = np.unique(self.targets, axis=0, return_inverse=True)
        # Its shape is another one in some versions of numpy.
        of_row = of_image.reshape(-1)[np.concatenate([self.images, self._bare])]
        rows_of = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row, minlength=len(sets)))[:-1])
        found = np.concatenate([self.labels, np.zeros(len(self._bare), dtype=np.int64)])
        for has, own in zip(sets, rows_of, strict=True):
            rows = rng.permutation(own)
            others = rng.permutation(np.flatnonzero(~has))
            others = others[self.named[others]]
            if turn < len(others):
                found[rows] = _dealt(others, len(rows), turn)
        return found

    @property
    def _bare(self) -> Int64:
        return np.flatnonzero(~self.targets.any(1))

    def alarms(self, seed: int, turns: int) -> Alarms:
        """Return the images with labels that they do not have: all such pairs, or a sample where they are too many.

        Without the label's channels run those that do so in the ``turns`` of :meth:`foreign` anyway, and the images
        without any label in as many turns.
        """
        images = np.concatenate([self.images, self._bare])
        # With one turn fewer than there are labels with channels, every one that a row's image lacks was met, but an
        # image without any lacks one more.
        turns += turns == np.count_nonzero(self.named) - 1
        removed = np.unique([images * self.n_classes + self._missing(seed, turn) for turn in range(turns)])
        lacks = ~self.targets.reshape(-1)
        # A row's own label stands where there is no other one.
        removed = removed[lacks[removed]]
        asked = removed
        if len(lacks) <= _MOST_CELLS:
            asked = np.flatnonzero(lacks)
        of, labels = np.divmod(asked, self.n_classes)
        also = np.isin(asked, removed)
        lacking = (~self.targets & self.named).sum(1)
        chances = np.bincount(of[also], minlength=self.n_images) / np.maximum(lacking, 1)
        weights = np.divide(1.0, chances[of], out=np.zeros(len(of)), where=also)
        # A label without channels loses nothing.
        weights[~self.named[labels]] = 1.0
        whole = weights
        if len(lacks) <= _MOST_CELLS:
            whole = np.ones(len(of))
        return Alarms(of, labels, also, (whole, weights))


def deal(classes: Int64) -> Int64:
    """Deal the rows of each class out to groups of two, or three at the end; return each row's group (R,).

    Examples
    --------
    >>> deal(np.array([0, 0, 1, 0, 0, 0, 1, 0, 1]))
    array([0, 1, 0, 2, 0, 1, 0, 2, 0])
    """
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups = np.zeros(len(classes), dtype=np.int64)
    groups[order] = rank % np.repeat(np.maximum(counts // 2, 1), counts)
    return groups


def foreign_classes(labels: Int64, n_classes: int, seed: int, turn: int = 0, named: Bools | None = None) -> Int64:
    """Return which other class's channels each image loses in one pass: docs/method.md, section 6.1.

    In C - 1 turns every image meets every other class once, and in few turns few pairs of classes are met twice.
    With ``named`` (C,) it meets the classes that have channels; its own, where there is no other one.
    """
    if named is None:
        named = np.ones(n_classes, dtype=bool)
    rng = np.random.default_rng([seed, 1])
    # A stable sort, so that each class's images stand in their own order.
    images = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=n_classes))[:-1])
    classes = np.arange(n_classes)
    foreign = labels.copy()
    # Also for a class without images, so that the draws of the classes after it do not depend on it; after the last
    # class with images nothing depends on them.
    for c in range(int(labels.max()) + 1):
        rows = rng.permutation(images[c])
        others = rng.permutation(np.delete(classes, c))
        others = others[named[others]]
        # A single class has no others.
        if len(others) and len(rows):
            foreign[rows] = _dealt(others, len(rows), turn)
    return foreign


def _dealt(others: Int64, n: int, turn: int) -> Int64:
    """Return the other class of each of n rows, spread evenly over all ``others``."""
    # A turn begins where the one before it ended, and one further after every full round.
    begin = turn * n + turn * math.gcd(n, len(others)) // len(others)
    return others[(begin + np.arange(n)) % len(others)]
