"""One command at a time in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from interpnet.errors import RunFolderError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, keep: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it does not exist; ``RunFolderError`` while another has it.

    At the end a folder that was made here goes again, with the lock, unless it holds the file ``keep``.
    """
    try:
        made = _make(folder)
        handle = _open(folder / LOCK)
    except OSError as error:
        raise RunFolderError(
            f"run folder {str(folder)!r} cannot be written: {error.strerror or error}. "
            "Choose a folder you may write to (--out)"
        ) from error
    try:
        if not _taken(handle, folder / LOCK):
            _refuse_busy(folder)
        try:
            yield
        finally:
            # While the lock is held: nobody else can be about to write here.
            if not (folder / keep).exists():
                _remove(folder, made)
    finally:
        os.close(handle)


def refuse_if_locked(folder: Path) -> None:
    """Raise ``RunFolderError`` where another process holds the lock of a folder now; the folder is left as it is."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        # No lock, or none of ours.
        return
    try:
        if not _taken(handle, folder / LOCK):
            _refuse_busy(folder)
    finally:
        os.close(handle)


def _refuse_busy(folder: Path) -> NoReturn:
    raise RunFolderError(
        f"another process is at work in run folder {str(folder)!r}; wait for it, or choose another folder (--out)"
    )


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the ones made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _open(path: Path) -> int:
    # Never through a link: who made the folder could have linked the name to a file of the user's.
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _taken(handle: int, path: Path) -> bool:
    """Take the lock; False where another process has it, or has just removed the file."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks there
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(folder: Path, made: list[Path]) -> None:
    """Remove the lock, and the folders made for it as far as they are empty."""
    with suppress(OSError):
        (folder / LOCK).unlink()
        for path in made:
            path.rmdir()
