"""Going on with an interrupted collection: which images its rows hold already, and that they are the same ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import DataError, RunFolderError
from interpnet.scores._batches import Loader, NoImageError, Prepare, batches_from, peek, unpack
from interpnet.scores._chunks import Run
from interpnet.scores._files import ScoreFiles
from interpnet.scores._labels import Labels
from interpnet.scores._repeat import image_digests


class Fresh(NamedTuple):
    """What one batch adds to the rows there are: the images from ``known`` on, if any, and images left out."""

    images: Tensor  # the whole batch: another size might round otherwise than in a pass without interruption
    known: int  # the first so many are in the rows already
    labels: Tensor  # checked, of the others; so are the positions in the data set
    indices: Tensor
    run: Run  # of these rows and images left out
    skipped: list[Any]


def opened(
    loader: Loader,
    out: str | os.PathLike[str] | None,
    key: str,
    *,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> tuple[int, int, Tensor, Iterator[Any]]:
    """Return how many images an earlier run dealt with, where the batches begin, the first images and the batches."""
    keys = {"inputs": inputs, "labels": labels}
    done, complete = _dealt_with(out, key)
    begin = 0
    # A function is asked for the images after those. Of a complete collection the first ones tell that it is the same
    # network; so do they where nothing is left to read.
    if done and callable(loader) and not complete:
        begin = done
    try:
        first, batches = peek(batches_from(loader, begin, **keys), **keys, prepare=prepare)
    except NoImageError:
        if not begin:
            raise
        first, _ = peek(batches_from(loader, 0, **keys), **keys, prepare=prepare)
        batches = iter(())
    return done, begin, first, batches


def _dealt_with(out: str | os.PathLike[str] | None, key: str) -> tuple[int, bool]:
    """Return how many images the collection ``key`` in a folder has dealt with, and whether it is complete."""
    # Without a key nothing tells whose rows these are, so they are collected again.
    if out is None or not key:
        return 0, False
    # A damaged state is refused by whoever writes to the folder.
    with suppress(RunFolderError):
        state = ScoreFiles(Path(out)).read_state()
        if state["key"] == key:
            return state["consumed"], state["complete"]
    return 0, False


def row_sums(images: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return two numbers (64 bits) for images with their labels in the first rows of a table.

    The second adds up over consecutive rows (modulo 2^64), whatever batches they came in; twice the first, times the
    number of the first row, moves it there.
    """
    digests = 3 * image_digests(images) + image_digests(labels)
    # Odd, so that no bit is lost, and different, so that rows cannot change places.
    places = 2 * np.arange(len(digests), dtype=np.uint64) + 1
    return int(digests.sum(dtype=np.uint64)), int((digests * places).sum(dtype=np.uint64))


def row_fingerprint(images: Tensor, labels: Tensor, first_row: int) -> int:
    """Return the second of :func:`row_sums` for rows from ``first_row`` on."""
    digests, placed = row_sums(images, labels)
    return (placed + 2 * first_row * digests) % 2**64


def known_fingerprint(info: Mapping[str, Any]) -> str | None:
    """Return the fingerprint of the rows that a table's notes describe, ``None`` where they have none."""
    found = info.get("fingerprint")
    if isinstance(found, str) and re.fullmatch("[0-9a-f]{16}", found):
        return found
    return None


def added(fingerprint: str, more: int) -> str:
    """Return the sum of a fingerprint in hexadecimal digits and another one."""
    return f"{(int(fingerprint, 16) + more) % 2**64:016x}"


def fresh_rows(
    batches: Iterable[Any],
    begin: int,
    known_as: Labels,
    *,
    rows: int,
    skipped: int,
    fingerprint: str | None,
    track: bool,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    positions: str | None = None,
) -> Iterator[Fresh]:
    """Yield what the batches from image ``begin`` on add to the ``rows`` and ``skipped`` images there are.

    Where the batches begin at the first image, the committed ones are left out again, whatever the size of the batches,
    once they are known to be the same (``fingerprint``, if any); other or fewer ones are a :class:`DataError`.
    ``track`` asks for the new rows' fingerprints, else they are 0.
    """
    left = 0 if begin else rows
    skips_left = 0 if begin else skipped
    row = 0
    seen = 0
    end = begin
    for raw in batches:
        batch = unpack(raw, inputs=inputs, labels=labels, prepare=prepare, indices=positions)
        n = batch.images.shape[0]
        indices = torch.arange(end, end + n) if batch.indices is None else batch.indices.clone()
        end += n + len(batch.skipped)
        known = min(n, left)
        left -= known
        noted = min(len(batch.skipped), skips_left)
        skips_left -= noted
        numbers = indices
        sums = (0, 0)
        if n:
            numbers = known_as.checked(batch.labels, n, indices).cpu()
            if known and fingerprint is not None:
                seen += row_fingerprint(batch.images[:known], numbers[:known], row)
                if not left and seen % 2**64 != int(fingerprint, 16):
                    _refuse(rows)
            row += known
            if track:
                sums = row_sums(batch.images[known:], numbers[known:])
        if known == n and noted == len(batch.skipped):
            continue
        skipped_here = batch.skipped[noted:]
        run = Run(end - (n - known) - len(skipped_here), end, n - known, *sums)
        yield Fresh(batch.images, known, numbers[known:], indices[known:], run, skipped_here)
    if left:
        _refuse(rows)


def _refuse(rows: int) -> None:
    raise DataError(
        f"the first {rows} images are not those that an interrupted collection scored; pass the same images in the "
        "same order (no shuffling, no random augmentation), or delete the folder to collect again"
    )
