"""Where each image of tar shards lies, in arrays; those of many images are kept for the next command."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets._an8flower.cache import read_folder, write_folder
from interpnet.datasets._labels import Labels

NAMES_AT_ONCE = 256  # whose lengths are added up to find one
#: Below so many images, reading the headers again takes no longer than a second or two.
_KEPT_FROM = 100_000
_FORMAT = "interpnet-shards-1"
_ARRAYS = ("firsts", "blocks", "sizes", "names", "name_sizes", "name_places")
_OF_LABELS = ("values", "counts", "facts")


@dataclass(frozen=True)
class Shard:
    """A tar file as it was when it was looked at."""

    path: str
    size: int
    changed: int  # nanoseconds

    @classmethod
    def at(cls, path: Path) -> Shard:
        """Look at a file."""
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Index:
    """Where each image of some shards lies; 10 bytes for an image and those of its name, beside its label."""

    shards: tuple[Shard, ...]
    firsts: np.ndarray  # (shards + 1,) the number of each shard's first image
    blocks: np.ndarray  # (N,) uint32: where its bytes begin, in blocks of the tar
    sizes: np.ndarray  # (N,) uint32
    labels: Labels
    left_out: Counter[str]
    names: np.ndarray  # uint8: all names, one after another
    name_sizes: np.ndarray  # (N,) uint16
    name_places: np.ndarray  # of every 256th name

    def __len__(self) -> int:
        return len(self.blocks)

    def shard_of(self, i: int) -> int:
        """Return which shard image ``i`` is in."""
        return int(np.searchsorted(self.firsts, i, side="right")) - 1

    def name(self, i: int) -> str:
        """Return the name of image ``i`` in its shard, as text that can be written anywhere."""
        group, rest = divmod(i, NAMES_AT_ONCE)
        start = int(self.name_places[group]) + int(self.name_sizes[i - rest : i].sum(dtype=np.int64))
        return self.names[start : start + int(self.name_sizes[i])].tobytes().decode()

    def names_of(self, first: int, last: int) -> list[str]:
        """Return the names of images side by side, in less time than one by one."""
        start = first - first % NAMES_AT_ONCE
        ends = int(self.name_places[start // NAMES_AT_ONCE]) + np.cumsum(self.name_sizes[start:last], dtype=np.int64)
        begin = int(ends[0]) - int(self.name_sizes[start])
        text = self.names[begin : int(ends[-1])].tobytes()
        places = [begin, *ends.tolist()]
        pairs = list(pairwise(places))[first - start :]
        return [text[one - begin : other - begin].decode() for one, other in pairs]

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes, without labels."""
        arrays = (self.firsts, self.blocks, self.sizes, self.names, self.name_sizes, self.name_places)
        return sum(one.nbytes for one in arrays)


@dataclass(frozen=True)
class Wanted:
    """Which members hold the image and the label, where a user says so."""

    inputs: str | None = None
    labels: str | None = None


def kept_index(shards: tuple[Shard, ...], wanted: Wanted) -> Index | None:
    """Return the index that was kept of these shards, in files that all processes share; None without one."""
    arrays = read_folder(_folder(shards, wanted), _options(shards, wanted), (*_ARRAYS, *_OF_LABELS), mapped=True)
    if arrays is None:
        return None
    facts = json.loads(arrays["facts"].tobytes())
    counts = None
    if facts["several"]:
        counts = arrays["counts"]
    names = facts["names"]
    labels = Labels(arrays["values"], counts, names and tuple(names))
    return Index(shards, labels=labels, left_out=Counter(facts["left_out"]), **{name: arrays[name] for name in _ARRAYS})


def keep_index(index: Index, wanted: Wanted) -> None:
    """Keep an index of many images; without a place for it the next command makes it again."""
    if len(index) < _KEPT_FROM:
        return
    labels = index.labels
    facts = {"names": labels.names, "several": labels.counts is not None, "left_out": index.left_out}
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    arrays["values"] = labels.values
    arrays["counts"] = np.zeros(0, dtype=np.int64)
    if labels.counts is not None:
        arrays["counts"] = labels.counts
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    write_folder(_folder(index.shards, wanted), _options(index.shards, wanted), arrays)


def _options(shards: tuple[Shard, ...], wanted: Wanted) -> dict[str, Any]:
    known = [[str(Path(shard.path).absolute()), shard.size, shard.changed] for shard in shards]
    return {"format": _FORMAT, "shards": known, **asdict(wanted)}


def _folder(shards: tuple[Shard, ...], wanted: Wanted) -> Path:
    """Return the folder of an index: another for shards that changed since."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(json.dumps(_options(shards, wanted)).encode()).hexdigest()
    return Path(base) / "interpnet" / "shards" / digest[:32]
