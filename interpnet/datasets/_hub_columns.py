"""The columns of a data set of Hugging Face: which holds images, which labels, and the labels as class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interpnet.datasets._labels import (
    IMAGE_KEYS,
    LABEL_KEYS,
    LabelList,
    Labels,
    Numbered,
    column_named,
    numbered,
    with_names,
)
from interpnet.datasets._walk import listed
from interpnet.errors import DataError

_BLOCK = 65536  # rows whose labels are read at once


class Table(NamedTuple):
    """One split."""

    rows: Any  # a datasets.Dataset
    name: str
    files: Sequence[Path]  # what it was read from


class Columns(NamedTuple):
    """Which column is which."""

    images: str
    labels: str


def find_columns(table: Table, options: Mapping[str, str]) -> Columns:
    features = table.rows.features
    names = list(features)
    what = f"split {table.name!r}"
    images = column_named(options.get("inputs"), names, (), "inputs", what)
    if images is None:
        typed = _of_type(features, "Image")
        images = column_named(None, typed or names, IMAGE_KEYS, "inputs", what)
        if images is None and len(typed) == 1:
            images = typed[0]
    if images is None:
        raise DataError(f"{what} has the columns {', '.join(names)}; say which holds the images: ?inputs=COLUMN")
    labels = column_named(options.get("labels"), names, LABEL_KEYS, "labels", what)
    if labels is None:
        typed = _of_type(features, "ClassLabel")
        if len(typed) != 1:
            raise DataError(f"{what} has the columns {', '.join(names)}; say which holds the labels: ?labels=COLUMN")
        labels = typed[0]
    return Columns(images, labels)


def _of_type(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def undecoded(package: Any, table: Table, column: str) -> Any:
    """Return rows whose images come as the bytes that were saved: every source has one decoder."""
    rows = table.rows.with_format(None).select_columns([column])
    feature = rows.features[column]
    if type(feature).__name__ == "Image":
        return rows.cast_column(column, package.Image(decode=False))
    if getattr(feature, "dtype", None) in {"binary", "large_binary"} or "bytes" in _keys_of(feature):
        return rows
    raise DataError(
        f"column {column!r} of split {table.name!r} is {feature}; expected images (datasets.Image) or their bytes. "
        f"rows.cast_column({column!r}, datasets.Image()) makes images of names of files; arrays can come from a "
        "function of your own (data.py:loaders)"
    )


def _keys_of(feature: Any) -> list[str]:
    if isinstance(feature, Mapping):
        return list(feature)
    return []


def numbered_rows(table: Table, training: Table, columns: Columns) -> Numbered:
    """Return the labels of a split as numbers of the training's classes."""
    if columns.labels not in training.rows.features:
        raise DataError(f"split {training.name!r} has no column {columns.labels!r}, as {table.name!r} has")
    names = [_class_names(one.rows.features[columns.labels]) for one in (table, training)]
    if names[0] != names[1]:
        raise DataError(
            f"the splits {training.name!r} and {table.name!r} have other classes under {columns.labels!r}: "
            f"{listed(names[1] or ['numbers'])} and {listed(names[0] or ['numbers'])}; expected the same in both"
        )
    wanted = _labels(table, columns.labels)

    def place(i: int) -> str:
        return f"row {i} of split {table.name!r}"

    if names[0] is not None:
        return with_names(wanted, names[0], place)
    known = wanted
    if training is not table:
        known = _labels(training, columns.labels)
    return numbered(wanted, known, place)


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of the classes that a column of labels, or of lists of these, brings along."""
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    names = getattr(inner, "names", None)
    if names is None:
        return None
    return [str(name) for name in names]


def _labels(table: Table, column: str) -> Labels:
    """Read a column of labels."""
    values = table.rows.with_format("arrow").select_columns([column])[:].column(column)
    plain = _numbers(values)
    if plain is not None:
        return Labels(plain, None, None)
    found = LabelList()
    row = 0

    def place() -> str:
        return f"row {row} of split {table.name!r}"

    for start in range(0, len(values), _BLOCK):
        for value in values.slice(start, _BLOCK).to_pylist():
            found.add(value, place)
            row += 1
    return found.labels()


def _numbers(values: Any) -> np.ndarray | None:
    """Return a column of class numbers as such, without a look at each; None where it holds something else."""
    if values.null_count or not str(values.type).startswith(("int", "uint")):
        return None
    numbers: np.ndarray = values.to_numpy().astype(np.int64)
    if len(numbers) and numbers.min() < 0:
        return None
    return numbers
