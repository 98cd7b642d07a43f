"""A table of image files with their labels, as CSV: one label per image, or any number."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interpnet.datasets._sources import FolderSource
from interpnet.datasets._splits import TEST_KINDS, split_name
from interpnet.errors import DataError, did_you_mean

# What the columns are called, in small letters; all others are classes.
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "name", "id")
_SEVERAL_COLUMNS = ("labels", "tags", "classes")
_ONE_COLUMNS = ("label", "class")
_SPLIT_COLUMNS = ("split", "set", "subset")
_VALUES = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}
_SEPARATORS = ";|"
_TABLES = ("labels.csv", "images.csv", "annotations.csv", "metadata.csv")
_SHOWN = 4
_BOTH = ("train", "test")


def read_table(path: str, split: str, max_value: float | None = None) -> FolderSource:
    """List the images of one split of a table; anything in it that is not understood is a DataError with its line.

    The table is a CSV file, or a folder with ``labels.csv`` or with one file for each split, such as ``train.csv`` and
    ``test.csv``. Its columns are the file's name, relative to the table; then one of 0 and 1 for each class, or one of
    names separated by semicolons (``labels``), or of one name (``label``); and, if there are several splits in it,
    ``split``. The classes stand in the order of their columns, or of the names' letters over all splits. Labels are
    targets, but class numbers under ``label``; of a single class there are two, ``not NAME`` and ``NAME``.
    """
    found = _tables(Path(path).expanduser())
    tables = {name: _read(table) for name, table in found.items()}
    rows = [row for table in tables.values() for row in table.rows]
    if not any(row.labels for row in rows):
        raise DataError(f"no row of table {path!r} has a label; expected some")
    classes = _classes(tables)
    single = next(iter(tables.values())).single
    splits = {row.split for row in rows}
    wanted = _wanted(splits, split, path)
    chosen = [row for row in rows if row.split == wanted]
    # Also across the two splits: an image that the network learnt from says nothing as a test.
    used = {_wanted(splits, one, path) for one in _BOTH}
    _check_twice([row for row in rows if row.split in used])
    _check_there(chosen)
    root = next(iter(found.values())).parent
    left_out = sorted(name for name in splits if name and name not in used)
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (f"Splits of the table that are not used: {', '.join(left_out)}.",)
    source = FolderSource(root, [(row.file, 0) for row in chosen], classes, max_value=max_value, notes=notes)
    at = {name: i for i, name in enumerate(classes)}
    if single:
        source.labels = np.array([at[row.labels[0]] for row in chosen])
        return source
    if len(classes) == 1:
        source.classes = (f"not {source.classes[0]}", source.classes[0])
        source.labels = np.array([len(row.labels) for row in chosen])
        return source
    source.labels = np.zeros((len(chosen), len(classes)), dtype=bool)
    for i, row in enumerate(chosen):
        source.labels[i, [at[name] for name in row.labels]] = True
    return source


@dataclass(frozen=True)
class _Row:
    """One image."""

    file: str
    labels: tuple[str, ...]
    split: str  # its kind; empty where the table has none
    place: str  # the line, for errors
    there: Path


@dataclass(frozen=True)
class _Table:
    """One file, read."""

    path: Path
    rows: Sequence[_Row]
    columns: tuple[str, ...]  # of the classes; empty where the rows name them
    single: bool  # whether each row has one label


def _tables(path: Path) -> dict[str, Path]:
    """Return the files that make up the table by their split; one file, which may tell them itself, under ''."""
    if path.is_file():
        return {"": path}
    if path.exists() and not path.is_dir():
        raise DataError(f"{str(path)!r} is a pipe or device; expected a CSV file, or a folder with one")
    if not path.is_dir():
        near = []
        if path.parent.is_dir():
            near = [entry.name for entry in path.parent.iterdir()]
        raise DataError(f"table {str(path)!r} does not exist{did_you_mean(path.name, near)}")
    for name in _TABLES:
        if (path / name).is_file():
            return {"": path / name}
    found = {}
    for file in sorted(path.glob("*.csv")):
        named = split_name(file.stem)
        if named is not None and not named.rest:
            found[named.kind] = file
    if "train" not in found or len(found) < 2:
        there = ", ".join(file.name for file in sorted(path.glob("*.csv"))[:_SHOWN]) or "no CSV file"
        raise DataError(
            f"folder {str(path)!r} has {there}; expected labels.csv, or train.csv and test.csv, or csv: with the table"
        )
    return found


def _read(path: Path) -> _Table:
    """Read one file of rows."""
    split = split_name(path.stem)
    kind = ""
    if split is not None and not split.rest:
        kind = split.kind
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = csv.reader(handle)
            header = next(lines, [])
            columns = _columns(header, path)
            rows = [_row(cells, header, columns, kind, path, lines.line_num) for cells in lines if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"table {str(path)!r} cannot be read ({error}); expected CSV in UTF-8") from error
    if not rows:
        raise DataError(f"table {str(path)!r} has no row below its header; expected one per image")
    classes: tuple[str, ...] = ()
    if columns.names is None:
        classes = tuple(header[i].strip() for i in columns.classes)
    return _Table(path, rows, classes, columns.single)


@dataclass(frozen=True)
class _Columns:
    """Which column is which."""

    file: int
    names: int | None  # of the labels' names
    split: int | None
    classes: tuple[int, ...]
    single: bool  # whether there is one name in each row


def _columns(header: Sequence[str], path: Path) -> _Columns:
    named = [name.strip() for name in header]
    small = [name.lower() for name in named]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise DataError(f"table {str(path)!r} has two columns called {twice[0]!r}; expected different names")
    if not small or small[0] not in _FILE_COLUMNS:
        first = "nothing"
        if named:
            first = repr(named[0])
        if len(named) == 1 and any(separator in named[0] for separator in (";", "\t")):
            first += " (cells are separated by commas)"
        raise DataError(
            f"the first column of table {str(path)!r} is {first}; expected the files' names under "
            f"{', '.join(_FILE_COLUMNS[:_SHOWN])}, then a column of 0 and 1 for each class, or one called labels"
        )
    split = next((i for i, name in enumerate(small) if i and name in _SPLIT_COLUMNS), None)
    rest = [i for i in range(1, len(named)) if i != split]
    names = None
    if len(rest) == 1 and small[rest[0]] in (*_SEVERAL_COLUMNS, *_ONE_COLUMNS):
        names = rest[0]
    if not rest or not all(named[i] for i in rest):
        raise DataError(f"table {str(path)!r} has a column without a name, or none of a class; expected named classes")
    return _Columns(0, names, split, tuple(rest), names is not None and small[names] in _ONE_COLUMNS)


def _row(cells: Sequence[str], header: Sequence[str], columns: _Columns, kind: str, path: Path, line: int) -> _Row:
    place = f"line {line} of {path.name!r}"
    if len(cells) != len(header):
        raise DataError(f"{place} has {len(cells)} cells and the header {len(header)}; expected as many")
    file = cells[columns.file].strip()
    if not file:
        raise DataError(f"{place} names no file")
    split = kind
    if columns.split is not None:
        word = cells[columns.split].strip()
        named = split_name(word)
        if named is None:
            raise DataError(f"{place} has the split {word!r}; expected train, test, or the like")
        split = named.kind
    if columns.names is not None:
        labels = tuple(_names(cells[columns.names], place))
        if columns.single and len(labels) != 1:
            raise DataError(
                f"{place} has {len(labels)} labels under {header[columns.names]!r}; expected one. Call the column "
                "'labels' where an image can have several"
            )
    else:
        labels = tuple(header[i].strip() for i in columns.classes if _value(cells[i], header[i], place))
    return _Row(file, labels, split, place, path.parent / file)


def _value(cell: str, column: str, place: str) -> bool:
    found = _VALUES.get(cell.strip().lower())
    if found is None:
        raise DataError(f"{place} has {cell!r} under {column!r}; expected 0 or 1 for every class")
    return found


def _names(cell: str, place: str) -> Iterator[str]:
    for separator in _SEPARATORS:
        cell = cell.replace(separator, ";")
    names = [name.strip() for name in cell.split(";") if name.strip()]
    if len(set(names)) < len(names):
        raise DataError(f"{place} has a label twice: {cell!r}")
    yield from names


def _classes(tables: Mapping[str, _Table]) -> tuple[str, ...]:
    """Return the classes, which all files must agree on where they are columns."""
    first, *others = tables.values()
    for other in others:
        if (other.columns, other.single) != (first.columns, first.single):
            differ = sorted(set(other.columns) ^ set(first.columns)) or ["their order, or label and labels"]
            raise DataError(
                f"the columns of tables {first.path.name!r} and {other.path.name!r} differ "
                f"({', '.join(differ[:_SHOWN])}); expected the same classes in the same order"
            )
    if first.columns:
        return first.columns
    return tuple(sorted({name for table in tables.values() for row in table.rows for name in row.labels}))


def _wanted(splits: set[str], split: str, path: str) -> str:
    """Return the kind of split that stands for ``split``; without splits all rows are both."""
    if splits == {""}:
        return ""
    kinds: tuple[str, ...] = ("train",)
    if split != "train":
        kinds = TEST_KINDS
    for kind in kinds:
        if kind in splits:
            return kind
    raise DataError(
        f"table {path!r} has the splits {', '.join(sorted(name or 'none' for name in splits))}; expected train and test"
    )


def _check_twice(rows: Sequence[_Row]) -> None:
    """Refuse files that stand twice."""
    seen: dict[str, _Row] = {}
    for row in rows:
        if row.file in seen:
            raise DataError(f"{row.place} has {row.file!r}, as {seen[row.file].place} has; expected each file once")
        seen[row.file] = row


def _check_there(rows: Sequence[_Row]) -> None:
    """Refuse files that are not there."""
    missing = [row for row in rows if not row.there.is_file()]
    if missing:
        first = missing[0]
        raise DataError(
            f"{first.place} names {first.file!r}, which is no file beside the table; {len(missing)} of {len(rows)} are "
            "not there. Names are relative to the table's folder"
        )
