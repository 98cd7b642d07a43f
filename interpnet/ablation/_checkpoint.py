"""Recalls already measured, kept in a file, so that an interrupted study goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import RunFolderError
from interpnet.support.io import read_json, write_json
from interpnet.support.types import Float64

_FORMAT = "interpnet-ablation-checkpoint-1"


class Measured:
    """Recalls by what was removed; a pass that was made before, in this run or an interrupted one, is not repeated.

    Parameters
    ----------
    path : path, optional
        The file; without it results are kept in memory only.
    key : str
        Identifies model, images, weights and settings: a file with another key is ignored and replaced.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, key: str = "") -> None:
        self._path, self._key = path, key
        self._known: dict[str, list[float | None]] = {}
        if path is not None and Path(path).exists():
            try:
                kept: dict[str, Any] = read_json(path)
            except RunFolderError:
                return  # damaged: measure again
            if kept.get("format") == _FORMAT and kept.get("key") == key:
                self._known = kept["recalls"]

    def get(self, what: str, lists: Sequence[npt.NDArray[np.int64]] | None, measure: Callable[[], Float64]) -> Float64:
        """Return the recalls of pass ``what`` with ``lists`` removed, measuring them if they are not known."""
        name = hashlib.sha256(what.encode())
        for row in lists or ():
            name.update(np.sort(row).astype("<i8").tobytes() + b"|")
        digest = name.hexdigest()[:32]
        if digest not in self._known:
            self._known[digest] = [None if np.isnan(v) else float(v) for v in measure()]
            if self._path is not None:
                write_json(self._path, {"format": _FORMAT, "key": self._key, "recalls": self._known})
        return np.array(self._known[digest], dtype=np.float64)
