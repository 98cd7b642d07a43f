"""What passes have measured, kept in a file, so that an interrupted study goes on where it stopped."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation._changes import Outcome
from interpnet.errors import RunFolderError
from interpnet.support.checks import is_whole
from interpnet.support.checksums import check_seal, seal
from interpnet.support.io import read_object, write_json
from interpnet.support.types import Int64

_FORMAT = "interpnet-ablation-checkpoint-2"


def _read(kept: Any) -> dict[str, Outcome] | None:
    """Return the passes of a checkpoint, None for one that does not hold as many images in every pass."""
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT or not isinstance(kept.get("passes"), dict):
        return None
    n = kept.get("images")
    if not is_whole(n):
        return None
    passes = {}
    for name, entry in kept["passes"].items():
        try:
            bits = np.frombuffer(base64.b64decode(entry["right"], validate=True), np.uint8)
            log_odds = np.frombuffer(base64.b64decode(entry["log_odds"], validate=True), "<f4")
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None
        if len(log_odds) != n or len(bits) != -(-n // 8) or not np.isfinite(log_odds).all():
            return None
        passes[name] = Outcome(np.unpackbits(bits, count=n).astype(bool), log_odds.astype(np.float32))
    return passes


def _plain(outcome: Outcome) -> dict[str, str]:
    """Return an outcome for JSON: bits, and float32 numbers from the lowest byte."""
    parts = {"right": np.packbits(outcome.right), "log_odds": outcome.log_odds.astype("<f4")}
    return {name: base64.b64encode(array.tobytes()).decode("ascii") for name, array in parts.items()}


class Measured:
    """Outcomes by what was removed; a pass that was made before, in this run or an interrupted one, is not repeated.

    They are kept in the file ``path``, if any; one with another ``key`` (of model, images, weights and settings) is
    ignored and replaced. ``advance`` is called for every pass that was asked for, to move a progress bar.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, key: str = "") -> None:
        self._path = path
        self._key = key
        self.advance: Callable[[int], None] = lambda _passes: None
        self._known: dict[str, Outcome] = {}
        self._written: dict[str, dict[str, str]] = {}
        if path is not None and Path(path).exists():
            with suppress(RunFolderError):  # damaged: measure again, and replace it
                kept = read_object(path)
                passes = _read(kept)
                if passes is not None and kept.get("key") == key:
                    check_seal(kept, repr(str(path)))
                    self._known = passes
                    self._written = kept["passes"]

    def get(self, what: str, lists: Sequence[Int64] | None, measure: Callable[[], Outcome]) -> Outcome:
        """Return the outcome of pass ``what`` with ``lists`` removed, measuring it if it is not known."""
        name = hashlib.sha256(what.encode())
        for row in lists or ():
            # The same channels in another order are the same removal; the bar tells where a list ends.
            name.update(np.sort(row).astype("<i8").tobytes() + b"|")
        digest = name.hexdigest()[:32]
        if digest not in self._known:
            outcome = measure()
            self._known[digest] = outcome
            if self._path is not None:
                self._written[digest] = _plain(outcome)
                entries = {"format": _FORMAT, "key": self._key, "images": len(outcome.right), "passes": self._written}
                write_json(self._path, seal(entries))
        self.advance(1)
        return self._known[digest]
