"""The members of a tar file by the headers alone: where each one's bytes lie, so that any can be read by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from interpnet.datasets._sources import shown
from interpnet.errors import DataError

# The format is POSIX.1-1988 (ustar) with the extensions of GNU tar and of POSIX.1-2001 (pax).
BLOCK = 512
_EMPTY = bytes(BLOCK)
_FILES = b"0\0007"
_LINKS = b"12"  # to other members, and symbolic ones
_OF_NEXT = b"Lx"  # the name, or settings, of the member after it
_PASSED_OVER = b"3456gKVD"  # devices, folders, pipes; settings of all, names of links, labels of volumes
_OF_OTHERS = b"gK"
_WITHOUT_BYTES = b"123456"
_CHECKSUM = slice(148, 156)
_LONGEST_NAME = 4096
_AT_ONCE = 1 << 20
# The first bytes of what is often called .tar, too.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "ZIP"}


class Member(NamedTuple):
    """A file in a tar; nothing is ever unpacked to where its name says."""

    name: str
    offset: int  # where its bytes begin
    size: int
    start: bytes  # its first bytes, up to a block
    is_link: bool  # without bytes of its own


def members(path: Path, descriptor: int) -> Iterator[Member]:
    """Yield the files and links of a tar in their order; a :class:`DataError` names the member where it is damaged."""
    total = os.fstat(descriptor).st_size
    reader = _Headers(path, descriptor, total)
    reader.check_kind()
    while (member := reader.next()) is not None:
        yield member


class _Headers:
    """Goes from header to header."""

    def __init__(self, path: Path, descriptor: int, total: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._total = total
        self._at = 0
        self._last = ""
        self._count = 0

    def check_kind(self) -> None:
        if self._total == 0:
            raise DataError(f"shard {str(self._path)!r} is empty (0 bytes); write or copy it again")
        start = os.pread(self._descriptor, 8, 0)
        for magic, name in _COMPRESSED.items():
            if start.startswith(magic):
                raise DataError(
                    f"shard {str(self._path)!r} is compressed ({name}): no image in it can be read by itself. Write it "
                    "as plain tar; images are compressed already"
                )

    def next(self) -> Member | None:
        """Return the next file or link; None at the end."""
        name: str | None = None
        size: int | None = None
        while True:
            two = os.pread(self._descriptor, 2 * BLOCK, self._at)
            header = two[:BLOCK]
            if header == _EMPTY:
                self._check_end()
                return None
            self._check(header)
            kind = header[156:157]
            begins = self._at + BLOCK
            length = self._length(header, kind, size)
            if kind in _FILES or kind in _LINKS:
                found = name or _name(header)
                self._went_to(found, begins + length)
                # A folder of the format before ustar is a file whose name says so.
                if not found.endswith("/"):
                    return Member(found, begins, length, two[BLOCK : BLOCK + min(BLOCK, length)], kind in _LINKS)
                name = size = None
            elif kind in _OF_NEXT:
                content = self._content(begins, length)
                if kind == b"L":
                    name = _text(content.split(b"\0", 1)[0])
                else:
                    name, size = self._extended(content, name, size)
                self._at = _rounded(begins + length)
            elif kind in _PASSED_OVER:
                self._at = _rounded(begins + length)
                # What a header before it said was of this one, not of the next.
                if kind not in _OF_OTHERS:
                    name = size = None
            else:
                self._count += 1
                raise DataError(
                    f"{self._place()} is of a kind that is not read here ({kind!r}), after {shown(self._last)!r}; "
                    "expected plain files, as webdataset and tar write them (no --sparse)"
                )

    def _length(self, header: bytes, kind: bytes, size: int | None) -> int:
        """Return how many bytes follow a header."""
        if kind in _WITHOUT_BYTES:
            return 0
        length = self._number(header[124:136])
        if size is not None:
            length = size
        if length < 0:
            self._count += 1
            raise DataError(f"{self._place()} has no length in its header; write or copy the shard again")
        return length

    def _went_to(self, name: str, ends: int) -> None:
        """Note the member that was met."""
        self._count += 1
        self._last = name
        if len(name) > _LONGEST_NAME:
            raise DataError(
                f"member number {self._count} of shard {str(self._path)!r} has a name of {len(name)} characters; "
                f"expected at most {_LONGEST_NAME}"
            )
        if ends > self._total:
            raise self._cut_off()
        self._at = _rounded(ends)

    def _check(self, header: bytes) -> None:
        """Refuse a header that is cut off or damaged."""
        if len(header) < BLOCK:
            if header or self._at > self._total:
                raise self._cut_off()
            raise DataError(
                f"shard {str(self._path)!r} ends after member {shown(self._last)!r} (number {self._count}) without the "
                "empty blocks that close a tar: writing or copying it was cut off. Write or copy it again"
            )
        checksum = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
        if self._number(header[_CHECKSUM]) == checksum:
            return
        if self._count == 0:
            raise DataError(f"shard {str(self._path)!r} is no tar file; expected shards as webdataset writes them")
        raise DataError(
            f"shard {str(self._path)!r} is damaged behind member {shown(self._last)!r} (number {self._count}), at byte "
            f"{self._at}; write or copy it again"
        )

    def _check_end(self) -> None:
        """Refuse what comes behind the end: tars that were joined, of which only the first would be read."""
        at = self._at
        while at < self._total:
            part = os.pread(self._descriptor, _AT_ONCE, at)
            if part.strip(b"\0"):
                raise DataError(
                    f"shard {str(self._path)!r} goes on behind its end, after member {shown(self._last)!r} (number "
                    f"{self._count}), as tars do that were joined by cat; give each as a shard of its own"
                )
            at += len(part)

    def _cut_off(self) -> DataError:
        return DataError(
            f"{self._place()} is cut off: the file ends at byte {self._total}; write or copy the shard again"
        )

    def _place(self) -> str:
        return f"member {shown(self._last)!r} (number {self._count}) of shard {str(self._path)!r}"

    def _content(self, begins: int, length: int) -> bytes:
        """Return what a header of its own has to say of the next one."""
        if length > _AT_ONCE or begins + length > self._total:
            self._count += 1
            raise self._cut_off()
        return os.pread(self._descriptor, length, begins)

    def _number(self, field: bytes) -> int:
        """Return a number of a header: octal digits or, for large ones of GNU tar, bytes; -1 where it is neither."""
        if field[0] & 0x80:
            return int.from_bytes(field[1:], "big")
        try:
            return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
        except ValueError:
            return -1

    def _extended(self, content: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
        """Read a header of pax: records "LENGTH KEY=VALUE" and a line's end."""
        while content:
            length, space, _ = content.partition(b" ")
            if not space or not length.isdigit() or not len(length) < int(length) <= len(content):
                self._count += 1
                raise DataError(f"{self._place()} has a damaged extended header; write or copy the shard again")
            key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
            content = content[int(length) :]
            if key == b"path":
                name = _text(value)
            elif key == b"size" and value.isdigit():
                size = int(value)
            elif key.startswith(b"GNU.sparse"):
                self._count += 1
                raise DataError(f"{self._place()} is a sparse file; write the shard without them (no --sparse)")
        return name, size


def _rounded(at: int) -> int:
    return (at + BLOCK - 1) // BLOCK * BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _name(header: bytes) -> str:
    """Return a header's name, which ustar can split in two."""
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    return _text(name)
