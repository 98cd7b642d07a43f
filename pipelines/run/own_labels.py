"""Labels as a program's own data have them: numbers, names, or rows with a number for each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from interpnet.errors import DataError, did_you_mean

_EXPECTED = "expected class numbers, names with classes=, or rows of zeros and ones, one column for each class"
Number = Callable[[Any], Any]


def plain(label: Any) -> Any:
    """Return a label of torch's or numpy's as Python's own; an array of one number is that number.

    Examples
    --------
    >>> plain(np.array([3])), plain(np.int64(2)), plain([0, 1]), plain(b"cat")
    (3, 2, [0, 1], 'cat')
    """
    if isinstance(label, Tensor | np.generic | np.ndarray):
        label = np.asarray(label).tolist()
    if isinstance(label, tuple):
        label = list(label)
    if isinstance(label, list) and len(label) == 1:
        return label[0]
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    return label


def reader_of(labels: Sequence[Any], classes: Sequence[str] | None) -> Number:
    """Return the function that makes class numbers, or rows of several labels, of labels such as all of these.

    Labels of several kinds, names without ``classes`` or none of them, and numbers that are not whole are a
    :class:`DataError`.

    Examples
    --------
    >>> reader_of(["dog", "cat"], ["cat", "dog"])("dog"), reader_of([[0, 1], [1, 0]], None)([0, 1])
    (1, 1)
    >>> reader_of([[0, 1], [1, 1]], None)([0, 1])
    [0, 1]
    """
    known = [plain(label) for label in labels]
    kinds = {_kind(label) for label in known}
    if len(kinds) > 1:
        first, second = sorted(kinds)[:2]
        raise DataError(f"labels change from {first} to {second} between images; {_EXPECTED}")
    kind = next(iter(kinds), "numbers")
    if kind == "nothing":
        raise DataError(f"the images come without labels; expected (image, label) pairs or batches; {_EXPECTED}")
    if kind == "names":
        return _by_name(known, classes)
    if kind == "rows":
        return _by_row(known)
    for label in known:
        # What a binary network's loss wants: 0.0 and 1.0.
        if label not in (0, 1) and kind != "numbers":
            raise DataError(f"labels are {kind} such as {label!r}; {_EXPECTED}")
    return lambda label: int(plain(label))


def _kind(label: Any) -> str:
    if label is None:
        return "nothing"
    if isinstance(label, str):
        return "names"
    if isinstance(label, list):
        return "rows"
    if isinstance(label, bool):
        return "true and false"
    if isinstance(label, int):
        return "numbers"
    if isinstance(label, float):
        return "fractions"
    raise DataError(f"labels: a {type(label).__name__} came; {_EXPECTED}")


def _by_name(known: Sequence[str], classes: Sequence[str] | None) -> Number:
    if classes is None:
        some = ", ".join(map(repr, sorted(set(known))[:4]))
        raise DataError(
            f"labels are names ({some}, ...); give classes=[...], the names of the network's outputs in their order"
        )
    number = {name: i for i, name in enumerate(classes)}
    for name in known:
        if name not in number:
            raise DataError(f"label {name!r} is none of the {len(number)} classes{did_you_mean(name, list(number))}")
    return lambda label: number[plain(label)]


def _by_row(known: Sequence[Sequence[Any]]) -> Number:
    widths = {len(row) for row in known}
    if len(widths) > 1:
        raise DataError(f"labels are rows of {' and '.join(map(str, sorted(widths)[:3]))} numbers; {_EXPECTED}")
    flat = [value for row in known for value in row]
    for value in flat:
        if value not in (0, 1):
            raise DataError(
                f"labels are rows that hold {value!r}; expected zeros and ones, one column for each class"
                " (soft labels of mixed images: give the images without mixing)"
            )
    if all(sum(row) == 1 for row in known):
        return lambda label: plain(label).index(1)
    return lambda label: [int(value) for value in plain(label)]
