"""The images of a data set cut into chunks of whole batches, and which of them rows that were written hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from interpnet.errors import DataError, RunFolderError
from interpnet.support.checks import is_whole

#: A range of positions in the order of the images, the end not included.
Range = tuple[int, int]
# Fewer, and a lost process would cost more; more, and nobody would gain.
_MOST_CHUNKS = 512
#: Of the sums that tell images from others.
MODULUS = 2**64


class Run(NamedTuple):
    """Consecutive images of which consecutive rows hold the scores; those without a row could not be read."""

    start: int  # positions in the order of the images, the stop not included
    stop: int
    rows: int
    # Modulo 2^64, see row_sums: of the images' digests, and of each times an odd number that rises with its row here.
    digests: int
    placed: int

    @property
    def skipped(self) -> int:
        """How many of its images could not be read."""
        return self.stop - self.start - self.rows

    def fingerprint(self, first_row: int) -> int:
        """Return what its rows add to the fingerprint of a table in which they begin at ``first_row``."""
        return (self.placed + 2 * first_row * self.digests) % MODULUS

    def grown(self, more: Run) -> Run:
        """Return it with the images that follow on it.

        Examples
        --------
        >>> Run(0, 2, 2, 5, 7).grown(Run(2, 3, 1, 1, 1))
        Run(start=0, stop=3, rows=3, digests=6, placed=12)
        """
        placed = (self.placed + more.fingerprint(self.rows)) % MODULUS
        digests = (self.digests + more.digests) % MODULUS
        return Run(self.start, more.stop, self.rows + more.rows, digests, placed)


def runs_from_json(value: Any, rows: int, skipped: int) -> list[Run]:
    """Return the runs that a table noted, of so many rows and images left out; ``ValueError`` for others."""
    if not isinstance(value, list) or not all(_is_run(entry) for entry in value):
        raise ValueError("runs cannot be right")
    runs = [Run(*entry) for entry in value]
    counted = (sum(run.rows for run in runs), sum(run.skipped for run in runs))
    if counted != (rows, skipped):
        raise ValueError(f"its runs have {counted[0]} rows and {counted[1]} images left out, not {rows} and {skipped}")
    return runs


def _is_run(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != len(Run._fields) or not all(map(is_whole, entry)):
        return False
    start, stop, rows, *sums = entry
    return 0 <= start <= stop and 0 <= rows <= stop - start and all(0 <= value < MODULUS for value in sums)


def per_chunk(n_batches: int) -> int:
    """Return how many batches make a chunk.

    Examples
    --------
    >>> per_chunk(20), per_chunk(512), per_chunk(513)
    (1, 1, 2)
    """
    return max(1, -(-n_batches // _MOST_CHUNKS))


def chunks_of(n: int, batch_size: int, ranges: Iterable[Range] | None = None) -> list[Range]:
    """Return ``n`` images as chunks of whole batches, or those in some ranges of them.

    Chunks begin at multiples of a number that depends on ``n`` and ``batch_size`` alone; ranges are cut there.

    Examples
    --------
    >>> chunks_of(10, 4), chunks_of(10, 4, [(2, 5), (8, 10)])
    ([(0, 4), (4, 8), (8, 10)], [(2, 4), (4, 5), (8, 10)])
    """
    size = batch_size * per_chunk(-(-n // batch_size))
    found = []
    for start, stop in [(0, n)] if ranges is None else ranges:
        while start < stop:
            end = min(stop, (start // size + 1) * size)
            found.append((start, end))
            start = end
    return found


def batches_of(ranges: Iterable[Range], batch_size: int) -> list[Range]:
    """Return the batches in some ranges: they begin at multiples of ``batch_size``, as those of all images do.

    Examples
    --------
    >>> batches_of([(0, 4), (6, 9)], 4)
    [(0, 4), (6, 8), (8, 9)]
    """
    found = []
    for start, stop in ranges:
        edges = [start, *range((start // batch_size + 1) * batch_size, stop, batch_size), stop]
        found += [(a, b) for a, b in pairwise(edges) if a < b]
    return found


def without(ranges: Iterable[Range], covered: Iterable[Range]) -> list[Range]:
    """Return what of some ranges, in rising order, others do not cover.

    Examples
    --------
    >>> without([(0, 10)], [(2, 4), (4, 5), (9, 12)])
    [(0, 2), (5, 9)]
    """
    known = sorted(covered)
    found = []
    for start, stop in ranges:
        for a, b in known:
            if b <= start or a >= stop:
                continue
            if a > start:
                found.append((start, a))
            start = max(start, b)
        if start < stop:
            found.append((start, stop))
    return found


class Placed(NamedTuple):
    """A run, and where it stands in its table."""

    table: str
    row: int  # of the table, where the run begins
    skip: int  # how many images its table left out before
    run: Run


def in_order(runs: Mapping[str, Sequence[Run]]) -> list[Placed]:
    """Return the runs of several tables, which have names, by position.

    Images that two of them hold are a :class:`RunFolderError`.
    """
    found = []
    for name, of_one in runs.items():
        row = 0
        skip = 0
        for run in of_one:
            found.append(Placed(name, row, skip, run))
            row += run.rows
            skip += run.skipped
    found.sort(key=lambda entry: entry.run[:2])
    for before, after in pairwise(found):
        if after.run.start < before.run.stop:
            raise RunFolderError(
                f"{before.table!r} and {after.table!r} both hold the scores of image {after.run.start}; expected each "
                "image once"
            )
    return found


def checked_shard(shard: Any, name: str = "shard") -> tuple[int, int]:
    """Return (number, how many) of a shard; :class:`DataError` unless the number lies in 1 .. how many.

    Examples
    --------
    >>> checked_shard([2, 3])
    (2, 3)
    """
    pair = isinstance(shard, tuple | list) and len(shard) == 2 and all(map(is_whole, shard))
    if not pair or not 1 <= shard[0] <= shard[1]:
        raise DataError(f"{name} is {shard!r}; expected (i, n): number i of n shards, i from 1 to n")
    return int(shard[0]), int(shard[1])
