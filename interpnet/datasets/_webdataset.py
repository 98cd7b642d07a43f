"""Tar shards of webdataset as a source: each image read by its place, so that any order and any part can be had."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from interpnet.datasets._index import Index, Shard, Wanted
from interpnet.datasets._labels import numbered
from interpnet.datasets._places import parsed, splits_of
from interpnet.datasets._samples import index_of
from interpnet.datasets._sources import EncodedSource, is_hashed_whole, shown
from interpnet.datasets._tar import BLOCK
from interpnet.datasets._walk import counted
from interpnet.errors import DataError

_ENDINGS = (".tar",)
_MOST_OPEN = 64


def read_shards(text: str, split: str, max_value: float | None = None) -> ShardSource:
    """Index the images of one split of tar shards; ``text`` is ``PATTERN``, with options as :func:`parsed` reads them.

    Samples are those that webdataset makes of the shards, in the same order. Each has an image and a label: a member
    ``.cls`` with a class number or a name, ``.json`` with one or several under ``label``, or ``.txt``. What is
    missing, double, damaged or not on this machine is a :class:`DataError` that names shard and sample.
    """
    place = parsed(text)
    splits = splits_of(place, _ENDINGS)
    wanted = Wanted(place.options.get("inputs"), place.options.get("labels"))
    index = index_of(tuple(map(Shard.at, splits.of(split))), wanted)
    training = index_of(tuple(map(Shard.at, splits.train)), wanted)
    source = ShardSource(index, max_value)
    found = numbered(index.labels, training.labels, lambda i: f"image {source.names[i]!r}")
    source.labels = found.labels
    source.classes = found.classes
    source.numbered = found.numbered
    source.notes = splits.notes
    if index.left_out:
        source.warned = (shown(f"Members of the shards that were left out: {counted(index.left_out)}."),)
        source.notes += source.warned
    return source


class ShardSource(EncodedSource):
    """Images in tar files, named by shard and member."""

    def __init__(self, index: Index, max_value: float | None = None) -> None:
        super().__init__(index.labels.values, (), _Names(index))
        self.index = index
        self.max_value = max_value
        self._files = _OpenFiles()

    def encoded(self, i: int) -> bytes:
        """Read the bytes of image ``i``; a shard that changed since it was indexed is a :class:`DataError`."""
        shard = self.index.shards[self.index.shard_of(i)]
        size = int(self.index.sizes[i])
        try:
            content = self._files.read(shard, int(self.index.blocks[i]) * BLOCK, size)
        except OSError as error:
            raise DataError(f"shard {shard.path!r} cannot be read: {error.strerror or error}") from error
        if len(content) < size:
            raise _changed(shard)
        return content

    def content_digest(self) -> bytes:
        """Hash each image's size and bytes; of more than 1 GiB, the size and time of change of each shard."""
        if not is_hashed_whole(int(self.index.sizes.sum(dtype=np.int64))):
            digest = hashlib.sha256(b"stat")
            for shard in self.index.shards:
                digest.update(f"{shard.size}\0{shard.changed}\0".encode())
            return digest.digest()
        digest = hashlib.sha256(b"content")
        for i in range(len(self.index)):
            digest.update(f"{self.index.sizes[i]}\0".encode())
            digest.update(self.encoded(i))
        return digest.digest()


class _Names(Sequence[str]):
    """The names of images, made when they are asked for: as text they would take more memory than all else."""

    def __init__(self, index: Index) -> None:
        self._index = index
        paths = [shard.path for shard in index.shards]
        common = os.path.dirname(paths[0])  # noqa: PTH120
        if len({os.path.dirname(path) for path in paths}) > 1:  # noqa: PTH120
            common = os.path.commonpath(paths)
        self._shards = [shown(Path(os.path.relpath(path, common or ".")).as_posix()) for path in paths]

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return self._several(range(*i.indices(len(self))))
        return f"{self._shards[self._index.shard_of(i)]}/{self._index.name(i)}"

    def _several(self, wanted: range) -> list[str]:
        if wanted.step != 1 or not wanted:
            return [self[at] for at in wanted]
        names = self._index.names_of(wanted.start, wanted.stop)
        shards = np.searchsorted(self._index.firsts, wanted, side="right") - 1
        return [f"{self._shards[shard]}/{name}" for shard, name in zip(shards.tolist(), names, strict=True)]


class _OpenFiles:
    """Files opened for reading at places; the one that was not used for longest is closed.

    A place is given with each read, so that processes that were forked share no position.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Shard, int] = OrderedDict()
        weakref.finalize(self, _close, self._open)

    def __getstate__(self) -> dict[str, Any]:
        # A started process opens its own.
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _OpenFiles.__init__(self)

    def read(self, shard: Shard, at: int, size: int) -> bytes:
        """Return ``size`` bytes, less at the end of the file."""
        descriptor = self._open.get(shard)
        if descriptor is None:
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            descriptor = os.open(shard.path, os.O_RDONLY)
            self._open[shard] = descriptor
        self._open.move_to_end(shard)
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (shard.size, shard.changed):
            raise _changed(shard)
        return os.pread(descriptor, size, at)


def _close(files: OrderedDict[Shard, int]) -> None:
    for descriptor in files.values():
        os.close(descriptor)
    files.clear()


def _changed(shard: Shard) -> DataError:
    return DataError(
        f"shard {shard.path!r} changed while it was read: images would be others than their labels say. Leave it alone "
        "during an audit, and start again"
    )
