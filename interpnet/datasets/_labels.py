"""Labels as shards and tables have them: class numbers, names of classes, or several of either for an image."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.errors import DataError, did_you_mean
from interpnet.support.types import Bools, Int64

#: What the image and the label are called where nobody has named them: keys of dictionaries, columns, members.
IMAGE_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")
# A number beyond is an identifier, and a list of as many classes would fill the memory.
_MOST_CLASSES = 1_000_000
_LONGEST_NAME = 200
_SHOWN = 60
_KINDS = {
    (int, False): "a class number",
    (str, False): "the name of a class",
    (int, True): "a list of class numbers",
    (str, True): "a list of names",
}


@dataclass(frozen=True)
class Labels:
    """The labels of many images in arrays."""

    values: Int64  # class numbers, or positions in ``names``; of image after image where each can have several
    counts: Int64 | None  # (N,) how many labels each image has; None where each has one
    names: tuple[str, ...] | None  # None where labels are class numbers


class LabelList:
    """Collects the labels of image after image; all are of one kind, or a :class:`DataError` names the place.

    Examples
    --------
    >>> found = LabelList()
    >>> for name in ("dog", "cat", "dog"):
    ...     found.add(name, lambda: "line 1")
    >>> found.labels().values.tolist(), found.labels().names
    ([0, 1, 0], ('dog', 'cat'))
    """

    def __init__(self) -> None:
        self._values = array("q")
        self._counts = array("q")
        self._numbers: dict[str, int] = {}
        self._kind: tuple[type, bool] | None = None

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, label: Any, place: Callable[[], str]) -> None:
        """Take the next image's label: an int, a str, or a list of either; ``place`` says where it stands."""
        several = isinstance(label, list | tuple)
        values = label
        if not several:
            values = [label]
        for value in values:
            self._take(value, several, label, place)
        self._counts.append(len(values))
        if several and self._kind is None:
            # Empty lists alone tell nothing of what stands in the others.
            return
        if several != (self._kind or (int, several))[1]:
            raise self._differs(label, place)

    def _take(self, value: Any, several: bool, label: Any, place: Callable[[], str]) -> None:
        kind = (type(value), several)
        if self._kind is None and kind in _KINDS:
            self._kind = kind
        if kind != self._kind:
            raise self._differs(label, place)
        if isinstance(value, int):
            if not 0 <= value < _MOST_CLASSES:
                raise DataError(
                    f"{place()} has the label {value}; expected a class number from 0. A set whose labels are hidden "
                    "cannot be audited: choose another split"
                )
            self._values.append(value)
            return
        name = value.strip()
        if not name or len(name) > _LONGEST_NAME or "\n" in name:
            raise DataError(f"{place()} has the label {value[:_SHOWN]!r}; expected the name of a class, on one line")
        self._values.append(self._numbers.setdefault(name, len(self._numbers)))

    def _differs(self, label: Any, place: Callable[[], str]) -> DataError:
        expected = "a class number, the name of a class, or a list of either"
        if self._kind is not None and len(self):
            expected = f"{_KINDS[self._kind]}, as the images before it have"
        came = f"{str(label)[:_SHOWN]!r} ({type(label).__name__})"
        return DataError(f"{place()} has the label {came}; expected {expected}")

    def labels(self) -> Labels:
        """Return what has been collected."""
        kind, several = self._kind or (int, True)
        counts = None
        if several:
            counts = np.array(self._counts, dtype=np.int64)
        names = None
        if kind is str:
            names = tuple(self._numbers)
        return Labels(np.array(self._values, dtype=np.int64), counts, names)


@dataclass(frozen=True)
class Numbered:
    """Labels as a source has them: numbers (N,) of its classes, or targets (N, C)."""

    labels: Int64 | Bools
    classes: tuple[str, ...]
    numbered: bool  # whether the classes have no other names than their numbers


def numbered(wanted: Labels, training: Labels, place: Callable[[int], str]) -> Numbered:
    """Return the labels of one split as numbers of the training images' classes.

    Names of classes are those of the training, in the order of their letters, as with folders; one that the training
    lacks is a :class:`DataError`, and ``place(i)`` says where image ``i`` is. Class numbers have no names. Lists of 0
    and 1, of the same length for every image, are a target for each class.
    """
    if (wanted.counts is None, wanted.names is None) != (training.counts is None, training.names is None):
        raise DataError(
            f"{place(0)} has labels of another kind than the training images; expected class numbers in both, names in "
            "both, or lists in both"
        )
    if wanted.counts is not None:
        rows = _rows_of_targets(wanted, training)
        if rows is not None:
            return Numbered(rows, tuple(map(str, range(rows.shape[1]))), True)
    values = wanted.values
    if wanted.names is None or training.names is None:
        largest = max((int(part.values.max()) for part in (wanted, training) if part.values.size), default=0)
        classes = tuple(map(str, range(max(2, largest + 1))))
    else:
        classes = tuple(sorted(training.names))
        at = {name: i for i, name in enumerate(classes)}
        values = _translated(wanted, at, place)
    if wanted.counts is None:
        return Numbered(values, classes, wanted.names is None)
    return Numbered(_targets(values, wanted.counts, len(classes), place), classes, wanted.names is None)


def with_names(wanted: Labels, names: Sequence[str], place: Callable[[int], str]) -> Numbered:
    """Return class numbers as labels of classes whose names are known; a number beyond is a :class:`DataError`."""
    beyond = np.flatnonzero(wanted.values >= len(names))
    if len(beyond):
        i = int(beyond[0])
        raise DataError(
            f"{place(_image_of(wanted, i))} has the label {wanted.values[i]}; expected 0 to {len(names) - 1}, for the "
            f"{len(names)} names of classes"
        )
    if wanted.counts is None:
        return Numbered(wanted.values, tuple(names), False)
    return Numbered(_targets(wanted.values, wanted.counts, len(names), place), tuple(names), False)


def _translated(wanted: Labels, at: Mapping[str, int], place: Callable[[int], str]) -> Int64:
    names = wanted.names or ()
    numbers = np.array([at.get(name, -1) for name in names], dtype=np.int64)
    values: Int64 = numbers[wanted.values]
    foreign = np.flatnonzero(values < 0)
    if len(foreign):
        name = names[int(wanted.values[foreign[0]])]
        raise DataError(
            f"{place(_image_of(wanted, int(foreign[0])))} is of the class {name!r}, which the training images lack"
            f"{did_you_mean(name, list(at))}"
        )
    return values


def _image_of(labels: Labels, value: int) -> int:
    """Return which image a value belongs to."""
    if labels.counts is None:
        return value
    return int(np.searchsorted(np.cumsum(labels.counts), value, side="right"))


def _rows_of_targets(wanted: Labels, training: Labels) -> Bools | None:
    """Return lists of 0 and 1, one for each class, as targets (N, C); None where they are lists of labels."""
    lengths = set()
    for part in (wanted, training):
        if part.counts is None or part.names is not None or part.values.size == 0 or part.values.max() > 1:
            return None
        lengths |= set(np.unique(part.counts).tolist())
    if len(lengths) != 1 or lengths == {1}:
        return None
    rows: Bools = wanted.values.reshape(-1, lengths.pop()).astype(bool)
    return rows


def _targets(values: Int64, counts: Int64, n_classes: int, place: Callable[[int], str]) -> Bools:
    targets: Bools = np.zeros((len(counts), n_classes), dtype=bool)
    rows = np.repeat(np.arange(len(counts)), counts)
    targets[rows, values] = True
    doubled = np.flatnonzero(targets.sum(1) != counts)
    if len(doubled):
        raise DataError(
            f"{place(int(doubled[0]))} has a label twice; expected each label once, or for every image a list of 0 and "
            "1 for all classes"
        )
    return targets


def column_named(given: str | None, columns: Sequence[str], known: Sequence[str], option: str, what: str) -> str | None:
    """Return the column that is called ``given`` or, without that, by one of the known words; None where none is.

    Examples
    --------
    >>> column_named(None, ["img", "label"], LABEL_KEYS, "labels", "the data set")
    'label'
    """
    if given is not None:
        if given not in columns:
            raise DataError(
                f"{what} has no {given!r} for {option}={given}; it has {', '.join(columns)}"
                f"{did_you_mean(given, columns)}"
            )
        return given
    return next((name for name in known if name in columns), None)
