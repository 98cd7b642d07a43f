"""What an interrupted stage has done already: a record for each thing, found again while its inputs are the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.support.io import read_json, write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """Records below a folder, all made from the same inputs."""

    folder: Path
    key: str  # digest of everything the records depend on
    pictures: Callable[[Record], list[str]]  # the files that a record names, relative to the folder

    def get(self, stem: str) -> Record | None:
        """Return a record made with the same inputs whose pictures are there, or ``None``."""
        with suppress(RunFolderError, KeyError):
            saved = read_json(self.folder / f"{stem}.json")
            record: Record = saved["record"]
            if saved["key"] == self.key and all((self.folder / name).is_file() for name in self.pictures(record)):
                return record
        return None

    def put(self, stem: str, record: Record) -> None:
        """Write a record, once its pictures are written."""
        write_json(self.folder / f"{stem}.json", {"key": self.key, "record": record})
