"""The images of tar shards, as webdataset groups them: which member is the image, and which says its label."""

from __future__ import annotations

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets._files import ENDINGS
from interpnet.datasets._index import NAMES_AT_ONCE, Index, Shard, Wanted, keep_index, kept_index
from interpnet.datasets._labels import LABEL_KEYS, LabelList
from interpnet.datasets._sources import shown
from interpnet.datasets._tar import BLOCK, Member, members
from interpnet.errors import DataError
from interpnet.support.progress import progress_bar

#: Members that hold the label of an image, the first that is there.
LABEL_MEMBERS = ("cls", "json", "txt")
# What webdataset keeps for itself.
_META = re.compile(r"__[^/]*__($|/)")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_LABEL_BYTES = 1 << 20
_MOST_IMAGE_BYTES = (1 << 32) - 1


@lru_cache(maxsize=4)
def index_of(shards: tuple[Shard, ...], wanted: Wanted) -> Index:
    """Find the images of shards; a sample without image or label, or there twice, is a :class:`DataError`."""
    known = kept_index(shards, wanted)
    if known is not None:
        return known
    building = _Building(wanted)
    with progress_bar("Reading the headers of shards", len(shards), unit="shards") as advance:
        for shard in shards:
            building.add(shard)
            advance(1)
    index = building.index(shards)
    keep_index(index, wanted)
    return kept_index(shards, wanted) or index


@dataclass
class _Building:
    """Collects what an :class:`Index` holds."""

    wanted: Wanted
    firsts: list[int] = field(default_factory=lambda: [0])
    blocks: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    name_sizes: array[int] = field(default_factory=lambda: array("H"))
    names: bytearray = field(default_factory=bytearray)
    labels: LabelList = field(default_factory=LabelList)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, shard: Shard) -> None:
        """Take the images of a shard."""
        path = Path(shard.path)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"shard {shard.path!r} cannot be read: {error.strerror or error}") from error
        try:
            before = len(self.blocks)
            keys: set[str] = set()
            for key, parts in self._samples(path, descriptor):
                if key in keys:
                    raise DataError(
                        f"shard {shard.path!r} has the sample {shown(key)!r} twice; expected the members of each "
                        "sample side by side, and each sample once"
                    )
                keys.add(key)
                self._take(_Sample(path, descriptor, key, parts))
            if len(self.blocks) == before:
                raise DataError(f"shard {shard.path!r} has no images ({sum(self.left_out.values())} other members)")
        finally:
            os.close(descriptor)
        self.firsts.append(len(self.blocks))

    def _samples(self, path: Path, descriptor: int) -> Iterator[tuple[str, dict[str, Member]]]:
        """Yield the members side by side that have the same name up to its first dot, by what follows it."""
        key = ""
        parts: dict[str, Member] = {}
        for member in members(path, descriptor):
            folder, slash, file = member.name.rpartition("/")
            stem, dot, suffix = file.partition(".")
            if not stem or not dot or _META.match(member.name):
                self.left_out["hidden or without an ending"] += 1
                continue
            if member.is_link:
                self.left_out["links"] += 1
                continue
            own = f"{folder}{slash}{stem}"
            suffix = suffix.lower()
            if own != key:
                if parts:
                    yield key, parts
                key = own
                parts = {}
            if suffix in parts:
                raise DataError(f"shard {str(path)!r} has the member {shown(member.name)!r} twice; expected it once")
            parts[suffix] = member
        if parts:
            yield key, parts

    def _take(self, sample: _Sample) -> None:
        image = sample.image(self.wanted.inputs)
        self.labels.add(sample.label(self.wanted.labels), sample.place)
        name = shown(image.name).encode()
        self.blocks.append(image.offset // BLOCK)
        self.sizes.append(image.size)
        self.name_sizes.append(len(name))
        self.names += name

    def index(self, shards: tuple[Shard, ...]) -> Index:
        """Return what was found."""
        name_sizes = np.array(self.name_sizes, dtype=np.uint16)
        ends = np.concatenate([[0], np.cumsum(name_sizes, dtype=np.int64)])
        return Index(
            shards,
            np.array(self.firsts, dtype=np.int64),
            np.array(self.blocks, dtype=np.uint32),
            np.array(self.sizes, dtype=np.uint32),
            self.labels.labels(),
            self.left_out,
            np.frombuffer(bytes(self.names), dtype=np.uint8),
            name_sizes,
            ends[::NAMES_AT_ONCE].copy(),
        )


@dataclass(frozen=True)
class _Sample:
    """The members of one sample."""

    shard: Path
    descriptor: int
    key: str
    parts: dict[str, Member]

    def place(self) -> str:
        return f"sample {shown(self.key)!r} of shard {str(self.shard)!r}"

    def image(self, wanted: str | None) -> Member:
        """Return the member that is the image."""
        suffixes = [suffix for suffix in self.parts if f".{suffix.rpartition('.')[2]}" in ENDINGS]
        if wanted is not None:
            suffixes = [suffix for suffix in wanted.lower().split(",") if suffix in self.parts][:1]
        elif len(suffixes) > 1:
            # Beside the image, .seg.png and the like are further pictures of it.
            suffixes = [suffix for suffix in suffixes if "." not in suffix] or suffixes
        if not suffixes:
            text = "no image"
            if wanted is not None:
                text = f"no member .{wanted}, which inputs= names,"
            raise DataError(f"{self.place()} has {text} among its members ({self._listed()}); expected one")
        if len(suffixes) > 1:
            raise DataError(
                f"{self.place()} has several images ({', '.join(f'.{one}' for one in suffixes)}); say which: "
                f"?inputs={suffixes[0]}"
            )
        found = self.parts[suffixes[0]]
        if found.size > _MOST_IMAGE_BYTES or found.offset // BLOCK > _MOST_IMAGE_BYTES:
            raise DataError(
                f"{self.place()} has an image of {found.size} bytes at byte {found.offset}; too far to read"
            )
        return found

    def label(self, wanted: str | None) -> Any:
        """Return the label as it stands in its member."""
        suffix = wanted
        if suffix is None or suffix.lower() not in self.parts:
            suffix = next((one for one in LABEL_MEMBERS if one in self.parts), None)
            if wanted is not None and "json" in self.parts:
                suffix = "json"
        if suffix is None:
            raise DataError(
                f"{self.place()} has no label among its members ({self._listed()}); expected .cls (a class number or "
                "name), .json with label, or .txt; or say which: ?labels=MEMBER"
            )
        suffix = suffix.lower()
        key = wanted
        if wanted is not None and suffix == wanted.lower():
            key = None
        text = self._text(suffix)
        if suffix.rpartition(".")[2] == "json":
            return self._of_json(text, suffix, key)
        if key is not None:
            raise DataError(f"{self.place()} has no {key!r} for labels={key} ({self._listed()})")
        text = text.strip()
        if not text:
            raise DataError(f"{self.place()} has an empty label (.{suffix})")
        if _NUMBER.fullmatch(text):
            return int(text)
        return text

    def _text(self, suffix: str) -> str:
        member = self.parts[suffix]
        content = member.start
        if member.size > _MOST_LABEL_BYTES:
            raise DataError(f"{self.place()} has a label of {member.size} bytes (.{suffix}); expected a short text")
        if len(content) < member.size:
            content = os.pread(self.descriptor, member.size, member.offset)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.place()} has a label that is no UTF-8 text (.{suffix})") from error

    def _of_json(self, text: str, suffix: str, key: str | None) -> Any:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.place()} has a .{suffix} that cannot be read: {error}") from error
        if not isinstance(content, dict):
            if key is not None:
                raise DataError(f"{self.place()} has no {key!r} in its .{suffix}, which is no dictionary")
            return content
        names: Sequence[str] = LABEL_KEYS
        if key is not None:
            names = (key,)
        found = next((name for name in names if name in content), None)
        if found is None:
            there = ", ".join(list(content)[:8]) or "nothing"
            raise DataError(
                f"{self.place()} has no {' or '.join(names)} in its .{suffix} (there: {there}); say which key: "
                "?labels=KEY"
            )
        return content[found]

    def _listed(self) -> str:
        return ", ".join(f".{suffix}" for suffix in self.parts)
