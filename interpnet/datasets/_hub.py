"""Data sets that Hugging Face's package ``datasets`` keeps on a disk, as a source: rows are read by their number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from interpnet.datasets._files import Encoded
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
from interpnet.datasets._places import SAVED, Place, Splits, parsed, splits_of
from interpnet.datasets._sources import EncodedSource, is_hashed_whole, shown
from interpnet.datasets._splits import pair_of
from interpnet.datasets._walk import listed
from interpnet.errors import DataError, InterpNetError, did_you_mean
from interpnet.support.extras import require

_ENDINGS = (".parquet", ".arrow")
_BLOCK = 65536  # rows whose labels are read at once
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)


class _Table(NamedTuple):
    """One split."""

    rows: Any  # a datasets.Dataset
    name: str
    files: Sequence[Path]  # what it was read from


class _Columns(NamedTuple):
    """Which column is which."""

    images: str
    labels: str


def read_hub(text: str, split: str, max_value: float | None = None) -> HubSource:
    """Open one split of a data set on a disk; ``text`` is ``PATH``, with options as :func:`parsed` reads them.

    PATH is what ``save_to_disk`` wrote, or one or several files of arrow or parquet, whose names tell splits as those
    of shards do. The image column is the one of type Image, or the one that is called so; the label column is called
    so, or is the one of type ClassLabel. Everything else is a :class:`DataError` that names the columns.
    """
    place = parsed(text)
    package = require("datasets", f"data 'hf:{place.pattern}'", extra="data")
    with _quiet(package):
        training, test, notes = _tables(package, place)
        table = training
        if split != "train":
            table = test
        if not len(table.rows):
            raise DataError(f"split {table.name!r} of {place.pattern!r} has no rows")
        columns = _columns(table, place.options)
        labels = _numbered(table, training, columns)
        images = _opened(place.pattern, lambda: _undecoded(package, table, columns.images))
    name = table.name
    if name != Path(place.pattern).name:
        name = f"{Path(place.pattern).name}/{name}"
    source = HubSource(images, columns.images, name, table.files, labels)
    source.max_value = max_value
    source.notes = notes
    return source


class HubSource(EncodedSource):
    """Images in the rows of a table, named by their number."""

    def __init__(self, rows: Any, column: str, name: str, files: Sequence[Path], labels: Numbered) -> None:
        super().__init__(labels.labels, labels.classes, _RowNames(shown(name), len(rows)))
        self.numbered = labels.numbered
        self._rows = rows
        self._column = column
        self._files = files

    def encoded(self, i: int) -> Encoded:
        """Return the bytes of row ``i``, or the file that it names; a row without an image is a ValueError."""
        value = self._rows[i][self._column]
        path = None
        if isinstance(value, Mapping):
            path = value.get("path")
            value = value.get("bytes")
        if isinstance(value, bytes):
            return value
        if value is None and isinstance(path, str) and "://" not in path:
            return Path(path)
        raise ValueError("its row holds no image")

    def content_digest(self) -> bytes:
        """Hash each image's size and bytes; of more than 1 GiB of files, their sizes and times of change."""
        states = [file.stat() for file in self._files]
        digest = hashlib.sha256(b"content")
        if not is_hashed_whole(sum(state.st_size for state in states)):
            digest = hashlib.sha256(b"stat")
            for state in states:
                digest.update(f"{state.st_size}\0{state.st_mtime_ns}\0".encode())
            return digest.digest()
        for i in range(len(self.labels)):
            try:
                content = self.encoded(i)
            except ValueError:
                # Whoever reads the image gets the error.
                content = b""
            if isinstance(content, Path):
                content = content.read_bytes()
            digest.update(f"{len(content)}\0".encode())
            digest.update(content)
        return digest.digest()


class _RowNames(Sequence[str]):
    """Names of rows, made when they are asked for."""

    def __init__(self, name: str, n: int) -> None:
        self._name = name
        self._n = n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[at] for at in range(*i.indices(self._n))]
        return f"{self._name}/{i}"


@contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Let the package show no bars of its own."""
    shown_before = not package.utils.are_progress_bars_disabled()
    package.disable_progress_bars()
    try:
        yield
    finally:
        if shown_before:
            package.enable_progress_bars()


def _tables(package: Any, place: Place) -> tuple[_Table, _Table, tuple[str, ...]]:
    """Return the training and the test split, and notes on others."""
    folder = Path(place.pattern).expanduser()
    if not any((folder / name).is_file() for name in SAVED):
        if not folder.exists() and not set("*?[{") & set(place.pattern):
            _refuse_missing(folder, place.pattern)
        splits = splits_of(place, _ENDINGS)
        return (*_of_files(package, splits), splits.notes)
    saved = _opened(place.pattern, lambda: package.load_from_disk(str(folder)))
    if isinstance(saved, package.Dataset):
        table = _Table(saved, folder.name, _files_of(saved))
        if "test" not in place.options:
            return table, table, ()
        raise DataError(f"{place.pattern!r} has one split; ?test= names a split of several, such as validation")
    tables = {str(name): _Table(rows, str(name), _files_of(rows)) for name, rows in saved.items()}
    training, test = _named(list(tables), place)
    left = [name for name in tables if name not in {training, test}]
    notes = []
    if left or (training, test) != ("train", "test"):
        text = f"Training images are those of {training!r}, test images those of {test!r}"
        if left:
            text += f"; left out beside them: {listed(left)}"
        notes.append(shown(f"{text}."))
    return tables[training], tables[test], tuple(notes)


def _named(names: Sequence[str], place: Place) -> tuple[str, str]:
    """Return which split is for the training and which for the test."""
    training, tests = pair_of(names)
    wanted = place.options.get("test")
    if wanted is not None and wanted not in names:
        raise DataError(
            f"{place.pattern!r} has no split {wanted!r} for ?test={wanted}; it has {', '.join(names)}"
            f"{did_you_mean(wanted, names)}"
        )
    if len(names) == 1:
        return names[0], names[0]
    if wanted is not None and "train" in names:
        return "train", wanted
    if len(training) != 1 or not tests:
        raise DataError(
            f"{place.pattern!r} has the splits {', '.join(names)}; expected train and one of test, validation. Give "
            "the folder of one split to use it for both"
        )
    return training[0], wanted or tests[0]


def _refuse_missing(folder: Path, pattern: str) -> None:
    near = []
    if folder.parent.is_dir():
        near = [entry.name for entry in folder.parent.iterdir()]
    raise DataError(
        f"{pattern!r} is not on this machine{did_you_mean(folder.name, near)}; hf: reads what is on a disk. Save a "
        "data set of the hub first: datasets.load_dataset(NAME).save_to_disk(PATH)"
    )


def _of_files(package: Any, splits: Splits) -> tuple[_Table, _Table]:
    training = _of_some(package, splits.train, "train")
    if splits.test == splits.train:
        return training, training
    return training, _of_some(package, splits.test, "test")


def _of_some(package: Any, files: Sequence[Path], name: str) -> _Table:
    """Open files of one kind: arrow as it is, parquet by the copy in arrow that the package makes in its cache."""
    kinds = {file.suffix.lower() for file in files}
    if kinds == {".parquet"}:
        rows = _opened(str(files[0]), lambda: package.Dataset.from_parquet([str(file) for file in files]))
    elif kinds == {".arrow"}:
        parts = [_opened(str(file), lambda file=file: package.Dataset.from_file(str(file))) for file in files]
        rows = _opened(str(files[0]), lambda: package.concatenate_datasets(parts))
    else:
        raise DataError(
            f"{str(files[0].parent)!r} has files of {', '.join(sorted(kinds))}; expected a folder of save_to_disk, "
            "files of arrow, or files of parquet"
        )
    return _Table(rows, name, files)


def _opened(place: str, work: Any) -> Any:
    """Call the package, with a :class:`DataError` for files that it cannot read."""
    try:
        return work()
    except InterpNetError:
        raise
    except _UNREADABLE as error:
        reason = error
    except Exception as error:
        # The package's own errors derive from Exception alone.
        if type(error).__module__.split(".")[0] != "datasets":
            raise
        reason = RuntimeError(f"{error} {error.__cause__ or ''}".strip())
    raise DataError(f"{place!r} is no data set that the package datasets can read: {reason}") from reason


def _files_of(rows: Any) -> list[Path]:
    return [Path(entry["filename"]) for entry in rows.cache_files]


def _columns(table: _Table, options: Mapping[str, str]) -> _Columns:
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
    return _Columns(images, labels)


def _of_type(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def _undecoded(package: Any, table: _Table, column: str) -> Any:
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


def _numbered(table: _Table, training: _Table, columns: _Columns) -> Numbered:
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


def _labels(table: _Table, column: str) -> Labels:
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
