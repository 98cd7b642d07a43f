"""The parts of a filter visualization as files, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.support.io import atomic_path

from ..run.folder import digest

Arrays = dict[str, npt.NDArray[Any]]
_KEY = "key"  # the name of the digest among a file's arrays


@dataclass(frozen=True)
class Parts:
    """A folder with one ``.npz`` file per part, each with the digest of what it was made from.

    Examples
    --------
    >>> import tempfile
    >>> parts = Parts(Path(tempfile.mkdtemp()), "model and images")
    >>> parts.get("squares", {"n": 3}, lambda: {"x": np.arange(3) ** 2})["x"].tolist()
    [0, 1, 4]
    >>> parts.get("squares", {"n": 3}, lambda: 1 / 0)["x"].tolist()
    [0, 1, 4]
    """

    folder: Path  # made with the first part
    base: str  # digest of everything that all parts depend on
    reused: list[str] = field(default_factory=list)  # names of the parts that were there

    def get(self, name: str, settings: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return a part's arrays: those on disk where they were made from the same things, else made and written."""
        key = digest([self.base, name, dict(settings)])
        readable = re.sub(r"[^A-Za-z0-9_.]+", "-", name)[:80].strip("-.") or "part"
        path = self.folder / f"{readable}-{digest(name)[:6]}.npz"  # names that read alike stay apart
        known = _read(path, key)
        if known is not None:
            self.reused.append(name)
            return known
        arrays = make()  # may take minutes, so it is written at once
        with atomic_path(path) as tmp, tmp.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **{_KEY: np.array(key)}, **arrays)
        return arrays


def _read(path: Path, key: str) -> Arrays | None:
    """Return the arrays of a file made from ``key``; ``None`` where it is another's, damaged, or absent."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive[_KEY]) != key:
                return None
            return {name: archive[name] for name in archive.files if name != _KEY}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
