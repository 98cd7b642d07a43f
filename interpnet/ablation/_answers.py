"""What the untouched network says of every test image, by which two networks are compared image by image; no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interpnet.ablation._changes import MEASURES, Outcome
from interpnet.ablation._effect import Effect, effect_by_class
from interpnet.errors import InterpNetError
from interpnet.support.brief import brief
from interpnet.support.checks import one_of, real_array, whole_number
from interpnet.support.sealed import read_sealed, write_sealed
from interpnet.support.types import Bools, Float32, Int64

_FORMAT = "interpnet-answers-1"
_ARRAYS = ("images", "labels", "right", "log_odds")


@brief
@dataclass(frozen=True, eq=False)
class Answers:
    """One row for each image and its class, or for each label that it has: R rows.

    Attributes
    ----------
    images : array (R,) int64
        The number of each row's image, as the loader counts them from 0, or its position in a data set.
    labels : array (R,) int64
        The class.
    right : array (R,) bool
        Whether it is recognised.
    log_odds : array (R,) float32
        Those of the class.

    Examples
    --------
    >>> before = Answers(np.arange(3), np.array([0, 0, 1]), np.array([True, False, True]), np.zeros(3, np.float32))
    >>> after = Answers(np.arange(3), np.array([0, 0, 1]), np.array([True, True, True]), np.ones(3, np.float32))
    >>> before.change_to(after, "recall", 2).mean
    array([0.5, 0. ])
    """

    images: Int64
    labels: Int64
    right: Bools
    log_odds: Float32

    def __post_init__(self) -> None:
        for name, kind in zip(_ARRAYS, (np.int64, np.int64, np.bool_, np.float32), strict=True):
            array = real_array(getattr(self, name), name)
            if array.ndim != 1 or len(array) != len(self.images):
                raise InterpNetError(f"{name} has shape {array.shape}; expected a row for each of the images (R,)")
            object.__setattr__(self, name, array.astype(kind, copy=False))

    @property
    def outcome(self) -> Outcome:
        """What was measured of each row."""
        return Outcome(self.right, self.log_odds)

    def rows(self, kept: npt.NDArray[np.bool_] | Int64) -> Answers:
        """Return some rows: where a mask (R,) is true, or by their numbers."""
        return Answers(*(getattr(self, name)[kept] for name in _ARRAYS))

    def paired(self, other: Answers) -> tuple[Answers, Answers]:
        """Return the rows of both that are of the same image and class, in the same order."""
        size = 1 + max(int(one.labels.max(initial=0)) for one in (self, other))
        keys = [one.images * size + one.labels for one in (self, other)]
        _, mine, theirs = np.intersect1d(keys[0], keys[1], return_indices=True)
        return self.rows(mine), other.rows(theirs)

    def change_to(self, other: Answers, measure: str, n_classes: int, *, by_class: bool = True) -> Effect:
        """Return by how much one of ``MEASURES`` is larger in ``other``, paired by row; see :meth:`paired`.

        By class (C,) or, with ``by_class=False``, over all rows alike (1,). Rows of the same image count as one sample.
        """
        whole_number(n_classes, "n_classes", least=1)
        if not (np.array_equal(self.images, other.images) and np.array_equal(self.labels, other.labels)):
            raise InterpNetError("the answers are of other images or classes; pair them first: a.paired(b)")
        one_of(measure, "measure", MEASURES)
        # Of a single class the log-odds are infinite; such a change counts as not known.
        with np.errstate(invalid="ignore"):
            change = other.outcome.value(measure) - self.outcome.value(measure)
        classes = self.labels
        if not by_class:
            classes = np.zeros_like(classes)
            n_classes = 1
        images = None
        if len(np.unique(self.images)) < len(self.images):
            images = np.unique(self.images, return_inverse=True)[1].astype(np.int64)
        return effect_by_class(change, classes, n_classes, share=measure == "recall", images=images)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as one ``.npz`` file, atomically, with checksums and without pickling."""
        write_sealed(path, {name: getattr(self, name) for name in _ARRAYS}, {"format": _FORMAT}, small=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Answers:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file is a :class:`RunFolderError`."""
        with read_sealed(path, _ARRAYS, "answers", _FORMAT) as (_, arrays):
            return cls(**arrays)
