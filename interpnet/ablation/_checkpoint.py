"""Recalls already measured, kept in a file, so that an interrupted study goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation._result import plain
from interpnet.errors import RunFolderError
from interpnet.support.checks import is_number
from interpnet.support.checksums import check_seal, seal
from interpnet.support.io import read_object, write_json
from interpnet.support.types import Float64, Int64

_FORMAT = "interpnet-ablation-checkpoint-1"


def _is_whole(kept: Any) -> bool:
    """Whether a checkpoint holds recalls, from 0 to 1 or None, of as many classes in every pass."""
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT or not isinstance(kept.get("recalls"), dict):
        return False
    rows = list(kept["recalls"].values())
    if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return False
    return all(value is None or (is_number(value) and 0 <= value <= 1) for row in rows for value in row)


class Measured:
    """Recalls by what was removed; a pass that was made before, in this run or an interrupted one, is not repeated.

    They are kept in the file ``path``, if any; one with another ``key`` (of model, images, weights and settings) is
    ignored and replaced. ``advance`` is called for every pass that was asked for, to move a progress bar.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, key: str = "") -> None:
        self._path = path
        self._key = key
        self.advance: Callable[[int], None] = lambda _passes: None
        self._known: dict[str, list[float | None]] = {}
        if path is not None and Path(path).exists():
            with suppress(RunFolderError):  # damaged: measure again, and replace it
                kept = read_object(path)
                if _is_whole(kept) and kept.get("key") == key:
                    check_seal(kept, repr(str(path)))
                    self._known = kept["recalls"]

    def get(self, what: str, lists: Sequence[Int64] | None, measure: Callable[[], Float64]) -> Float64:
        """Return the recalls of pass ``what`` with ``lists`` removed, measuring them if they are not known."""
        name = hashlib.sha256(what.encode())
        for row in lists or ():
            # The same channels in another order are the same removal; the bar tells where a list ends.
            name.update(np.sort(row).astype("<i8").tobytes() + b"|")
        digest = name.hexdigest()[:32]
        if digest not in self._known:
            self._known[digest] = plain(measure())
            if self._path is not None:
                write_json(self._path, seal({"format": _FORMAT, "key": self._key, "recalls": self._known}))
        self.advance(1)
        return np.array(self._known[digest], dtype=np.float64)
