"""Generated images kept in a folder: whole or absent, and made again where a byte has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.support.io import write_json

Arrays = dict[str, np.ndarray]
_FACTS = "facts.json"
# No process writes for as long as this, so an older temporary folder was left by a process that was killed.
_ABANDONED_SECONDS = 24 * 3600


def read_folder(
    folder: Path, options: dict[str, Any], names: tuple[str, ...], *, mapped: bool = False
) -> Arrays | None:
    """Return the arrays of a folder, or None where it is absent, damaged, or of other options.

    Every file's SHA-256 is compared with the one noted when the folder was written. ``mapped`` arrays stay in their
    files, where all processes of a machine share them.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["options"] != options or set(facts["sha256"]) != set(names):
            return None
        arrays = {}
        for name in names:
            path = folder / f"{name}.npy"
            # Before it is parsed: a damaged header could ask for any amount of memory.
            if _digest(path) != facts["sha256"][name]:
                return None
            arrays[name] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return arrays


def write_folder(folder: Path, options: dict[str, Any], arrays: Arrays) -> bool:
    """Write arrays as .npy files into a folder that appears as a whole; return whether that was possible.

    The files are written in a temporary folder beside it and moved at the end. A folder of that name is a damaged
    one (see :func:`read_folder`) and is replaced. What killed processes left there a day ago is removed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
        ) as tmp:
            whole = Path(tmp) / "whole"
            whole.mkdir()
            # Whatever this user's umask: data sets are shared by those of a machine.
            whole.chmod(0o755)
            for name, array in arrays.items():
                np.save(whole / f"{name}.npy", array, allow_pickle=False)
            digests = {name: _digest(whole / f"{name}.npy") for name in arrays}
            write_json(whole / _FACTS, {"options": options, "sha256": digests})
            if folder.exists():
                if read_folder(folder, options, tuple(arrays)) is not None:
                    return True  # another process was quicker
                folder.rename(Path(tmp) / "damaged")
            whole.rename(folder)
    except (OSError, ValueError):
        # Nowhere to write, or no room left: the images are in memory anyway.
        return False
    return True


def _sweep(folder: Path) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):  # its owner has just renamed it
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
