"""What an interrupted stage has done already: a record for each thing, found again while its inputs are the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.support.checksums import check_seal, file_checksum, seal
from interpnet.support.io import read_object, write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """Records below a folder, all made from the same inputs."""

    folder: Path
    key: str  # digest of everything the records depend on
    pictures: Callable[[Record], list[str]]  # the files that a record names, relative to the folder

    def get(self, stem: str) -> Record | None:
        """Return a record made with the same inputs, if it and its pictures are still as written, or ``None``."""
        path = self.folder / f"{stem}.json"
        with suppress(RunFolderError, OSError):
            saved = read_object(path)
            check_seal(saved, repr(str(path)))
            record: Record = saved["record"]
            names = self.pictures(record)
            if saved["key"] == self.key and saved["files"] == self._checksums(names):
                return record
        return None

    def put(self, stem: str, record: Record) -> None:
        """Write a record, once its pictures are written."""
        content = {"key": self.key, "record": record, "files": self._checksums(self.pictures(record))}
        write_json(self.folder / f"{stem}.json", seal(content))

    def _checksums(self, names: list[str]) -> dict[str, str]:
        return {name: file_checksum(self.folder / name) for name in names}
