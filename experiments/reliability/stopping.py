"""Ways to stop a process at a chosen moment, seen from inside it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

#: What Python reports before it changes or opens a file.
_CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link"}


def kill_at(nth: int, folder: str = "", number: int = signal.SIGKILL) -> None:
    """Make this process get a signal at its n-th file operation on paths that hold ``/folder/``.

    Counting starts now, and the operation itself does not happen.
    """
    left = [nth]

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES and f"/{folder}/" in f"/{arguments[0]}":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)

    sys.addaudithook(count)


def count_changes(folders: list[str]) -> dict[str, int]:
    """Count file operations on paths below each folder from now on, in what is returned."""
    seen = dict.fromkeys(folders, 0)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            for folder in folders:
                seen[folder] += f"/{folder}/" in f"/{arguments[0]}"

    sys.addaudithook(count)
    return seen
