"""Atomic files: what a reader finds is whole or absent, also after a crash or a full disk."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError, RunFolderError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    A folder that cannot be written or a full disk is a :class:`RunFolderError`; nothing half-written is left behind.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as tmp:
    ...     _ = tmp.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    target = Path(path)
    tmp: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept because writers such as numpy.savez append one where it is missing.
        fd, name = tempfile.mkstemp(prefix=f".{target.stem[:60]}.", suffix=target.suffix, dir=target.parent)
        os.close(fd)
        tmp = Path(name)
        yield tmp
        # Without it a crash soon after the renaming could leave an empty file.
        with tmp.open("rb+") as handle:
            os.fsync(handle.fileno())
        # mkstemp makes files private; a report is meant to be shared, so follow the umask instead.
        tmp.chmod(0o666 & ~_umask())
        tmp.replace(target)
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented, strict JSON (NaN and infinity are refused) to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON written by :func:`write_json`; a missing or damaged file is a :class:`RunFolderError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{str(path)!r} does not exist") from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{str(path)!r} cannot be read ({error}); delete it to have it made again") from error


def npz_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path``, refusing a name that does not end in ``.npz``."""
    if Path(path).suffix != ".npz":
        raise InterpNetError(f"path is {str(path)!r}; expected a name that ends in .npz")
    return Path(path)


@contextmanager
def read_arrays(
    path: str | os.PathLike[str], names: Sequence[str], what: str, remedy: str = "delete it to have it made again"
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield the arrays ``names`` of an ``.npz`` file; nothing is unpickled.

    A file that is missing or damaged, lacks an array, or whose arrays do not make a ``what`` (an error within the
    ``with`` block) is a :class:`RunFolderError` that names the ``remedy``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.npz"
    >>> np.savez(path, two=np.array(2))
    >>> with read_arrays(path, ["two"], "number") as data:
    ...     int(data["two"])
    2
    """
    try:
        with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as data:
            _check_complete(path, sorted(set(names) - set(data.files)), what, remedy)
            yield {name: data[name] for name in names}
    except FileNotFoundError as error:
        raise RunFolderError(f"{str(path)!r} does not exist") from error
    except RunFolderError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{str(path)!r} holds no {what} that can be read ({error}); {remedy}") from error


def _check_complete(path: str | os.PathLike[str], missing: Sequence[str], what: str, remedy: str) -> None:
    if missing:
        raise RunFolderError(f"{str(path)!r} holds no {what}: it lacks {missing}; {remedy}")
