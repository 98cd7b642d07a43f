"""Atomic files: what a reader finds is whole or absent, also after a crash or a full disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError, RunFolderError

#: What a damaged file can raise in a reader that believes its content: numpy's, zip's, JSON's and our own.
DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error),
)
# Ours alone, so that what a killed run left can be told from the user's own hidden files.
_TEMPORARY = ".interpnet-"
_LARGEST_TEXT = 2**26
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    A folder that cannot be written or a full disk is a :class:`RunFolderError`; nothing half-written is left behind.
    ``durable=False`` leaves out the fsync, for many small files whose checksums are kept: after a crash of the machine
    some may be empty, and are then made again.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as tmp:
    ...     _ = tmp.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    target = as_path(path)
    tmp: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept because writers such as numpy.savez append one where it is missing.
        # A name may have 255 bytes, and a letter may take four.
        prefix = f"{_TEMPORARY}{target.stem[:30]}."
        fd, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
        os.close(fd)
        tmp = Path(name)
        yield tmp
        # Without it a crash soon after the renaming could leave an empty file.
        if durable:
            with tmp.open("rb+") as handle:
                os.fsync(handle.fileno())
        # mkstemp makes files private; a report is meant to be shared, so follow the umask instead.
        tmp.chmod(0o666 & ~_umask())
        tmp.replace(target)
        if durable:
            sync_folder(target.parent)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {str(target)!r}: {error.strerror or error}. "
            "Free disk space or choose a folder you may write to (--out)."
        ) from error
    finally:
        if tmp is not None:
            tmp.unlink(missing_ok=True)


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_own(path: Path, flags: int) -> IO[bytes]:
    """Open a file for writing that nobody else made a link, or make it; a link is an ``OSError``.

    A folder that somebody else filled may hold a link to any file of the user's.
    """
    return os.fdopen(os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "wb")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash: a file's own fsync does not cover its name."""
    # Windows cannot open a folder, and some network file systems cannot sync one.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: Path, below: Iterable[str] = ()) -> int:
    """Delete what killed writers left in a folder and in all of some folders in it; links are not followed.

    Return how many files that were.
    """
    found = list(folder.glob(f"{_TEMPORARY}*"))
    for name in below:
        if not (folder / name).is_symlink():
            found += (folder / name).rglob(f"{_TEMPORARY}*")
    files = [path for path in found if path.is_file() and not path.is_symlink()]
    for path in files:
        path.unlink(missing_ok=True)
    return len(files)


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it, or a file; of a link the link alone, never what it points to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def small_text(path: Path) -> str:
    """Read a UTF-8 file that a user wrote; ``ValueError`` for what is no file (a device never ends) or is too large."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    size = path.stat().st_size
    if size > _LARGEST_TEXT:
        raise ValueError(f"it has {size:,} bytes; expected a text of at most {_LARGEST_TEXT:,}")
    return path.read_text(encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented, strict JSON (NaN and infinity are refused) to ``path`` atomically."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    # A file name that is no UTF-8 has half surrogates, which UTF-8 cannot hold and JSON can.
    text = _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    write_text(path, text + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read strict JSON as :func:`write_json` writes it; a missing or damaged file is a :class:`RunFolderError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise RunFolderError(f"{str(path)!r} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{str(path)!r} cannot be read ({error}); delete it to have it made again") from error


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds one object; errors as :func:`read_json`, and another value is one too."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunFolderError(
            f"{str(path)!r} holds a {type(value).__name__}; expected a JSON object. Delete it to have it made again"
        )
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def as_path(path: Any, name: str = "path") -> Path:
    """Return ``path``, or raise an :class:`InterpNetError` where it names no file.

    Examples
    --------
    >>> as_path("runs/a").name
    'a'
    """
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise InterpNetError(f"{name} is {path!r}; expected the name of a file or folder")


def npz_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path``, refusing a name that does not end in ``.npz``."""
    if as_path(path).suffix != ".npz":
        raise InterpNetError(f"path is {str(path)!r}; expected a name that ends in .npz")
    return Path(path)


@contextmanager
def read_arrays(
    path: str | os.PathLike[str],
    names: Sequence[str],
    what: str,
    remedy: str = "delete it to have it made again",
    *,
    file_format: str | None = None,
    more: Sequence[str] = (),
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield the arrays ``names`` of an ``.npz`` file, and those of ``more`` that it has; nothing is unpickled.

    A file that is missing or damaged, lacks an array, or whose arrays do not make a ``what`` (an error within the
    ``with`` block) is a :class:`RunFolderError` that names the ``remedy``. So is one whose ``format`` is another than
    ``file_format``; files of versions that wrote none are read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.npz"
    >>> np.savez(path, two=np.array(2))
    >>> with read_arrays(path, ["two"], "number") as data:
    ...     int(data["two"])
    2
    """
    file = as_path(path)
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as data:
            if file_format is not None and "format" in data.files:
                _check_format(path, str(data["format"]), file_format, remedy)
            _check_complete(path, sorted(set(names) - set(data.files)), what, remedy)
            yield {name: data[name] for name in (*names, *more) if name in data.files}
    except FileNotFoundError as error:
        raise RunFolderError(f"{str(path)!r} does not exist") from error
    except RunFolderError:
        raise
    except DAMAGED as error:
        raise RunFolderError(f"{str(path)!r} holds no {what} that can be read ({error}); {remedy}") from error


def _check_format(path: str | os.PathLike[str], found: str, expected: str, remedy: str) -> None:
    if found != expected:
        raise RunFolderError(
            f"{str(path)!r} has format {found[:60]!r}; expected {expected!r}: read it with the version that wrote it, "
            f"or {remedy}"
        )


def _check_complete(path: str | os.PathLike[str], missing: Sequence[str], what: str, remedy: str) -> None:
    if missing:
        raise RunFolderError(f"{str(path)!r} holds no {what}: it lacks {missing}; {remedy}")
