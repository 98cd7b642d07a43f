"""Data sets that Hugging Face's package ``datasets`` keeps on a disk, as a source: rows are read by their number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

from interpnet.datasets._files import Encoded
from interpnet.datasets._hub_columns import Table, find_columns, numbered_rows, undecoded
from interpnet.datasets._labels import Numbered
from interpnet.datasets._places import SAVED, Place, Splits, parsed, splits_of
from interpnet.datasets._sources import EncodedSource, is_hashed_whole, shown
from interpnet.datasets._splits import pair_of
from interpnet.datasets._walk import listed
from interpnet.errors import DataError, InterpNetError, did_you_mean
from interpnet.support.extras import require

_ENDINGS = (".parquet", ".arrow")
_CHECKED_EVERY = 1024  # reads
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)


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
        columns = find_columns(table, place.options)
        labels = numbered_rows(table, training, columns)
        images = _opened(place.pattern, lambda: undecoded(package, table, columns.images))
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
        self._states = self._looked_at()
        self._n_read = 0

    def encoded(self, i: int) -> Encoded:
        """Return the bytes of row ``i``, or the file that it names; a row without an image is a ValueError."""
        # Not at each row: a data set can have a thousand files.
        if self._n_read % _CHECKED_EVERY == 0 and self._looked_at() != self._states:
            raise DataError(
                f"a file of {self.names[i].rpartition('/')[0]!r} changed while it was read: images would be others "
                "than their labels say. Leave it alone during an audit, and start again"
            )
        self._n_read += 1
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

    def _looked_at(self) -> list[tuple[int, int]]:
        """Return the size and the time of change of each file; one that is gone has neither."""
        found = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                found.append((-1, -1))
            else:
                found.append((status.st_size, status.st_mtime_ns))
        return found

    def content_digest(self) -> bytes:
        """Hash each image's size and bytes; of more than 1 GiB of files, their sizes and times of change."""
        digest = hashlib.sha256(b"content")
        if not is_hashed_whole(sum(size for size, _changed in self._states)):
            digest = hashlib.sha256(b"stat")
            for size, changed in self._states:
                digest.update(f"{size}\0{changed}\0".encode())
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


def _tables(package: Any, place: Place) -> tuple[Table, Table, tuple[str, ...]]:
    """Return the training and the test split, and notes on others."""
    folder = Path(place.pattern).expanduser()
    if not any((folder / name).is_file() for name in SAVED):
        if not folder.exists() and not set("*?[{") & set(place.pattern):
            _refuse_missing(folder, place.pattern)
        splits = splits_of(place, _ENDINGS)
        return (*_of_files(package, splits), splits.notes)
    saved = _opened(place.pattern, lambda: package.load_from_disk(str(folder)))
    if isinstance(saved, package.Dataset):
        table = Table(saved, folder.name, _files_of(saved))
        if "test" not in place.options:
            return table, table, ()
        raise DataError(f"{place.pattern!r} has one split; ?test= names a split of several, such as validation")
    tables = {str(name): Table(rows, str(name), _files_of(rows)) for name, rows in saved.items()}
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


def _of_files(package: Any, splits: Splits) -> tuple[Table, Table]:
    training = _of_some(package, splits.train, "train")
    if splits.test == splits.train:
        return training, training
    return training, _of_some(package, splits.test, "test")


def _of_some(package: Any, files: Sequence[Path], name: str) -> Table:
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
    return Table(rows, name, files)


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
