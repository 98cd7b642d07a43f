"""What a study has measured, kept in a file, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import base64
import binascii
import glob
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation._changes import Outcome
from interpnet.errors import RunFolderError
from interpnet.support.checksums import check_seal, seal
from interpnet.support.io import read_object, write_json
from interpnet.support.ranks import ALONE, Ranks

_FORMAT = "interpnet-ablation-checkpoint-3"
# The file is written again once measuring has taken so many times as long as writing it.
_PATIENCE = 20


def _read(kept: Any) -> dict[str, Outcome] | None:
    """Return the outcomes of a checkpoint, None for one in which something is not as it should be."""
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT or not isinstance(kept.get("measured"), dict):
        return None
    measured = {}
    for name, entry in kept["measured"].items():
        try:
            bits = np.frombuffer(base64.b64decode(entry["right"], validate=True), np.uint8)
            log_odds = np.frombuffer(base64.b64decode(entry["log_odds"], validate=True), "<f4")
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None
        n = len(log_odds)
        if len(bits) != -(-n // 8) or not np.isfinite(log_odds).all():
            return None
        measured[name] = Outcome(np.unpackbits(bits, count=n).astype(bool), log_odds.astype(np.float32))
    return measured


def _plain(outcome: Outcome) -> dict[str, str]:
    """Return an outcome for JSON: bits, and float32 numbers from the lowest byte."""
    parts = {"right": np.packbits(outcome.right), "log_odds": outcome.log_odds.astype("<f4")}
    return {name: base64.b64encode(array.tobytes()).decode("ascii") for name, array in parts.items()}


def _of_rank(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}-rank{rank}{path.suffix}")


def checkpoints_beside(path: Path) -> list[Path]:
    """Return the files that other ranks of several wrote beside the checkpoint ``path``."""
    found = sorted(path.parent.glob(f"{glob.escape(path.stem)}-rank*{glob.escape(path.suffix)}"))
    return [other for other in found if re.fullmatch(r"-rank\d+", other.stem.removeprefix(path.stem))]


class Measured:
    """Outcomes by name; what was measured before, in this run or an interrupted one, is not measured again.

    They are kept in the file ``path``, if any; one with another ``key`` (of model, images, weights and settings) is
    ignored and replaced. The file is written now and then, and by :meth:`save`. Of several ranks all but the first have
    files of their own beside it; the next study joins them.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, key: str = "", ranks: Ranks = ALONE) -> None:
        self._path = path
        self._key = key
        self._known: dict[str, Outcome] = {}
        self._entries: dict[str, dict[str, str]] = {}
        self._unsaved = False
        self._next = 0.0
        if path is None:
            return
        if ranks.first:
            self._join(Path(path))
        ranks.wait()
        if not ranks.first:
            self._load(Path(path))
            # The first one's file has these.
            self._entries = {}
            self._path = _of_rank(Path(path), ranks.rank)

    def _load(self, path: Path) -> None:
        """Take over what a file holds of the same study."""
        if not path.exists():
            return
        with suppress(RunFolderError):  # damaged: measure again, and replace it
            kept = read_object(path)
            measured = _read(kept)
            if measured is not None and kept.get("key") == self._key:
                check_seal(kept, repr(str(path)))
                self._known |= measured
                self._entries |= kept["measured"]

    def _join(self, path: Path) -> None:
        """Take over what all files hold, in the first one of them."""
        self._load(path)
        others = checkpoints_beside(path)
        if not others:
            return
        for other in others:
            self._load(other)
        self._unsaved = True
        self.save()
        for other in others:
            other.unlink(missing_ok=True)

    def get(self, name: str, size: int, measure: Callable[[], Outcome]) -> Outcome:
        """Return the outcome called ``name``, of ``size`` removals, measuring it where it is not known."""
        if name not in self._known or len(self._known[name].right) != size:
            self._known[name] = measure()
            if self._path is not None:
                self._entries[name] = _plain(self._known[name])
                self._unsaved = True
                if time.monotonic() >= self._next:
                    self.save()
        return self._known[name]

    def save(self) -> None:
        """Write to the file what it does not hold yet."""
        if not self._unsaved or self._path is None:
            return
        begun = time.monotonic()
        write_json(self._path, seal({"format": _FORMAT, "key": self._key, "measured": self._entries}))
        self._unsaved = False
        ended = time.monotonic()
        self._next = ended + _PATIENCE * (ended - begun)
