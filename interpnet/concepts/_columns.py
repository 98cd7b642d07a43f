"""What is to be read off an image: a value for each, as numbers of the values that occur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from interpnet.errors import DataError
from interpnet.support.checks import is_whole, refuse_masked, shown, text
from interpnet.support.types import Int64

_CONTINUOUS = (
    "a probe tells values apart that occur often; make a few of them, such as "
    "numpy.digitize(values, numpy.quantile(values, [1/3, 2/3]))"
)


@dataclass(frozen=True)
class Column:
    """A value for each of N images."""

    name: str
    values: tuple[str | int, ...]  # that occur, sorted
    numbers: Int64  # (N,): which of them, -1 for none


def columns_of(targets: Any, n: int) -> list[Column]:
    """Return the columns that a user names, each with ``n`` values.

    Examples
    --------
    >>> [one.values for one in columns_of({"colour": ["red", None, "blue"], "cue": [True, False, True]}, 3)]
    [('blue', 'red'), (0, 1)]
    """
    if not isinstance(targets, Mapping):
        return [column_of(targets, "targets", n)]
    if not targets:
        raise DataError("targets is an empty dictionary; expected values by name, or None for the loader's labels")
    return [column_of(values, text(name, "a name in targets", error=DataError), n) for name, values in targets.items()]


def column_of(values: Any, name: str, n: int) -> Column:
    """Return one column of ``n`` values: whole numbers, truths, strings, or ``None`` for an image without."""
    refuse_masked(values, name, error=DataError)
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise DataError(f"{name} is {shown(values)}; expected a value for each image, in the loader's order")
    # Of a list numpy would make one type, such as strings of the numbers among strings.
    array = np.asarray(values) if hasattr(values, "dtype") else np.array(values, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{name}: shape {array.shape} came; expected one value for each of {n} images. Of several labels an image, "
            "give each a column of its own: targets={'one': labels[:, 0], ...}"
        )
    if len(array) != n:
        raise DataError(f"{name}: {len(array)} values came, and the loader has {n} images; one for each")
    if array.dtype.kind == "f":
        raise DataError(f"{name} holds {array.dtype} numbers; {_CONTINUOUS}")
    entries = array.tolist()
    known = [entry for entry in entries if entry is not None]
    if not (all(isinstance(entry, str) for entry in known) or all(_counts(entry) for entry in known)):
        odd = next((e for e in known if not isinstance(e, str) and not _counts(e)), known[0] if known else None)
        raise DataError(
            f"{name} holds {shown(odd)} among others; expected whole numbers, truths or strings, and None for an image "
            f"without. Of other numbers, {_CONTINUOUS}"
        )
    if not isinstance(next(iter(known), 0), str):
        known = [int(entry) for entry in known]
    order = sorted(set(known))
    place = {value: number for number, value in enumerate(order)}
    numbers = np.array([-1 if entry is None else place[entry] for entry in entries], dtype=np.int64)
    return Column(name, tuple(order), numbers)


def _counts(entry: object) -> bool:
    return isinstance(entry, bool) or is_whole(entry)


def check_column(column: Column, same: Int64, folds: int) -> None:
    """Raise :class:`DataError` unless two values occur, each in as many different images as there are folds."""
    if len(column.values) < 2:
        only = f", {column.values[0]!r}," if column.values else ""
        raise DataError(f"{column.name} has {len(column.values)} value{only} in all images; expected at least two")
    for number, value in enumerate(column.values):
        count = len(np.unique(same[column.numbers == number]))
        if count < folds:
            raise DataError(
                f"{column.name}: the value {value!r} has {count} different image{'s' * (count != 1)}; expected at "
                f"least {folds}, one in each fold. Merge rare values, or give None for images to leave out"
            )
