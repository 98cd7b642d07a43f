"""Checksums of files: a flipped bit, a cut, and a file of another run are noticed when the file is read.

They are XXH3 (64 bits), which reads memory faster than a disk delivers it; they find accidents, not forgeries.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from interpnet.errors import RunFolderError

#: The entry of a sealed JSON object that holds the checksum of all others.
SEAL = "checksum"
_CHUNK = 2**22  # bytes read at a time


def checksum(data: bytes | memoryview) -> str:
    """Return the checksum of bytes, 16 hexadecimal digits.

    Examples
    --------
    >>> checksum(b"interpnet")
    '95131bd0f183d07a'
    """
    return xxhash.xxh3_64_hexdigest(data)


def file_checksum(path: Path) -> str:
    """Return ``SIZE-CHECKSUM`` of a file, read in pieces; ``OSError`` where it cannot be read."""
    with path.open("rb", buffering=0) as handle:
        # No more room than the file needs: most are pictures of a few kilobytes, and making it would take longest.
        size, found = next_checksum(handle, sys.maxsize, room=path.stat().st_size)
    return f"{size}-{found}"


def next_checksum(handle: io.RawIOBase | io.FileIO, most: int, *, room: int = _CHUNK) -> tuple[int, str]:
    """Return how many of the next ``most`` bytes of an open file there are, and their checksum.

    They are read in pieces of at most ``room`` bytes: a part of a file can be larger than memory likes.
    """
    total = xxhash.xxh3_64()
    size = 0
    piece = memoryview(bytearray(max(1, min(room, most, _CHUNK))))
    while count := handle.readinto(piece[: min(len(piece), most - size)]):
        total.update(piece[:count])
        size += count
    return size, total.hexdigest()


def canonical(value: Any) -> bytes:
    """Return a JSON-able value as bytes that do not depend on the order of its keys.

    Examples
    --------
    >>> canonical({"b": [2], "a": 1})
    b'{"a":1,"b":[2]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the checksum of its content as one more entry; :func:`check_seal` verifies it.

    Examples
    --------
    >>> check_seal(seal({"rows": 3}), "a file")
    """
    content = {name: entry for name, entry in value.items() if name != SEAL}
    return content | {SEAL: checksum(canonical(content))}


def check_seal(value: Mapping[str, Any], what: str, remedy: str = "delete it to have it made again") -> None:
    """Raise ``RunFolderError`` where a sealed object is not what :func:`seal` returned."""
    content = {name: entry for name, entry in value.items() if name != SEAL}
    if value.get(SEAL) != checksum(canonical(content)):
        raise RunFolderError(f"{what} is damaged or was edited (its checksum does not fit its content); {remedy}")
