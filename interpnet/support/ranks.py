"""Several processes at work on one thing: who does what, sums over all of them, and what to say of a lost one.

The only place that talks to ``torch.distributed``, which is imported where a group exists. What travels is JSON or the
bytes of arrays, never a pickle. Every function here must be called by all ranks of a group, in the same order; for one
process alone it does nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError, LostRankError, RanksError

T = TypeVar("T")
Scalars = TypeVar("Scalars", bound=np.generic)
# A rank may work for hours while others wait; that a peer is gone is told by its closed connections, not by a clock.
_PATIENCE = timedelta(days=30)
# Elements of one message of a sum, and how many are under way at once: faster than one message for all.
_BLOCK = 2**20
_UNDER_WAY = 8
# Seconds between two looks whether a message has arrived: a signal is heeded in between.
_SHORTEST_LOOK = 1e-4
_LONGEST_LOOK = 0.02
_FAREWELL = 0.1
_SHOWN = 120  # characters of a value in an error
_SUMMED = frozenset(map(np.dtype, ("float64", "float32", "int64", "int32", "uint8")))
GO_ON = "the same command goes on with what is missing, also with another number of processes"


@dataclass(frozen=True)
class Ranks:
    """One process of several: its number, how many there are, and the group through which they talk."""

    rank: int
    world: int
    group: Any  # a process group for arrays in main memory; None for a process alone
    peers: tuple[tuple[str, int], ...] = ()  # of every rank its machine and its process number

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and prints what one process writes and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.world == 1

    def mine(self, n: int) -> range:
        """Return the numbers below ``n`` that this rank deals with: every world-th one.

        Examples
        --------
        >>> list(Ranks(1, 4, None).mine(10))
        [1, 5, 9]
        """
        return range(self.rank, n, self.world)

    def has(self, i: int) -> bool:
        """Whether this rank deals with number ``i``.

        Examples
        --------
        >>> Ranks(1, 4, None).has(9)
        True
        """
        return i % self.world == self.rank

    def sum(self, array: npt.NDArray[Scalars]) -> npt.NDArray[Scalars]:
        """Add up an array of the same shape and dtype over all ranks, in place, and return it.

        float64, float32, int64, int32 or uint8, contiguous; every rank gets the same numbers bit for bit.

        Examples
        --------
        >>> ALONE.sum(np.ones(3))
        array([1., 1., 1.])
        """
        if self.world == 1:
            return array
        if array.dtype not in _SUMMED or not array.flags.c_contiguous or not array.flags.writeable:
            raise TypeError(f"a {array.dtype} array cannot be summed over ranks in place")
        self.agree("the shape of what is summed", [list(array.shape), str(array.dtype)])
        from torch.distributed import all_reduce

        whole = _tensor(array.reshape(-1))
        under_way: deque[Any] = deque()
        for block in whole.split(_BLOCK):
            if len(under_way) == _UNDER_WAY:
                self._wait_for(under_way.popleft())
            under_way.append(self._start(all_reduce, block))
        for work in under_way:
            self._wait_for(work)
        return array

    def share(self, value: T) -> T:
        """Return rank 0's value, which JSON can hold, on all ranks; what other ranks pass does not matter.

        Examples
        --------
        >>> ALONE.share({"complete": True})
        {'complete': True}
        """
        if self.world == 1:
            return value
        text = b""
        if self.first:
            text = _encoded(value)
        size = np.array([len(text)], dtype=np.int64)
        self._broadcast(size, 0)
        received = np.zeros(int(size[0]), dtype=np.uint8)
        if self.first:
            received[:] = np.frombuffer(text, dtype=np.uint8)
        self._broadcast(received, 0)
        shared: T = json.loads(received.tobytes())
        return shared

    def collect(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on every rank; JSON must be able to hold them.

        Examples
        --------
        >>> ALONE.collect(3)
        [3]
        """
        if self.world == 1:
            return [value]
        text = np.frombuffer(_encoded(value), dtype=np.uint8)
        sizes = self._sizes(len(text))
        texts = np.split(self._concatenated(text, sizes), np.cumsum(sizes)[:-1])
        return [json.loads(part.tobytes()) for part in texts]

    def gather_rows(self, array: npt.NDArray[Scalars]) -> npt.NDArray[Scalars]:
        """Return the arrays (n_r, ...) of all ranks one below the other, on every rank; only n_r may differ.

        Examples
        --------
        >>> ALONE.gather_rows(np.zeros((2, 3))).shape
        (2, 3)
        """
        if self.world == 1:
            return array
        if array.dtype.hasobject or not array.ndim:
            raise TypeError(f"a {array.dtype} array of {array.ndim} dimensions cannot be gathered over ranks")
        self.agree("the shape of the rows that are gathered", [list(array.shape[1:]), array.dtype.str])
        rows = self._sizes(len(array))
        width = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        own = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
        joined = self._concatenated(own, [n * width for n in rows])
        return joined.view(array.dtype).reshape(sum(rows), *array.shape[1:])

    def in_turn(self, array: npt.NDArray[Scalars]) -> npt.NDArray[Scalars]:
        """Return the rows of all ranks in the order of the numbers of :meth:`mine`, one row for each number.

        Examples
        --------
        >>> ALONE.in_turn(np.arange(3)).tolist()
        [0, 1, 2]
        """
        rows = self.gather_rows(array)
        n = len(rows)
        numbers = np.concatenate([np.arange(rank, n, self.world) for rank in range(self.world)])
        return rows[np.argsort(numbers)]

    def wait(self) -> None:
        """Wait until every rank has come here, however long that takes; a lost one is a :class:`LostRankError`."""
        if self.world > 1:
            self._sizes(0)

    def agree(self, what: str, value: Any) -> None:
        """Raise :class:`RanksError` on every rank where ``value``, which JSON can hold, is not the same on all of them.

        Of dictionaries the entries that differ are shown.

        Examples
        --------
        >>> ALONE.agree("the number of classes", 10)
        """
        if self.world == 1:
            return
        values = self.collect(value)
        texts = [json.dumps(one, sort_keys=True) for one in values]
        if len(set(texts)) == 1:
            return
        if all(isinstance(one, dict) for one in values):
            texts = [json.dumps(one, sort_keys=True) for one in _differing(values)]
        ranks_with: dict[str, list[int]] = {}
        for rank, text in enumerate(texts):
            ranks_with.setdefault(text, []).append(rank)
        # A process that ends at once would take its last message with it.
        self.wait()
        time.sleep(_FAREWELL)
        said = [f"{_named(ranks)}: {_shortened(text)}" for text, ranks in ranks_with.items()]
        raise RanksError(
            f"{what} differs between the {self.world} processes ({'; '.join(said)}); every rank must get the same "
            "model, images in the same order, and settings"
        )

    def missing(self) -> list[int]:
        """Return the ranks on this machine whose processes are gone."""
        here = socket.gethostname()
        return [rank for rank, (host, process) in enumerate(self.peers) if host == here and not _lives(process)]

    def names_of(self, some: list[int]) -> str:
        """Return ranks in words, with their processes."""
        processes = ", ".join(str(self.peers[rank][1]) for rank in some)
        return f"{_named(some)} of {self.world} (process {processes})"

    def _sizes(self, own: int) -> list[int]:
        """Return a number of every rank."""
        sizes = np.zeros(self.world, dtype=np.int64)
        sizes[self.rank] = own
        from torch.distributed import all_reduce

        self._wait_for(self._start(all_reduce, _tensor(sizes)))
        return [int(size) for size in sizes]

    def _concatenated(self, own: npt.NDArray[np.uint8], sizes: Iterable[int]) -> npt.NDArray[np.uint8]:
        """Return the bytes of all ranks, whose numbers are ``sizes``, one after the other."""
        ends = np.cumsum(list(sizes), dtype=np.int64)
        joined = np.empty(int(ends[-1]), dtype=np.uint8)
        parts = np.split(joined, ends[:-1])
        parts[self.rank][:] = own
        for rank, part in enumerate(parts):
            self._broadcast(part, rank)
        return joined

    def _broadcast(self, array: npt.NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array with that of the rank ``source``."""
        if not array.size:
            return
        from torch.distributed import broadcast, get_global_rank

        origin = get_global_rank(self.group, source)
        for block in _tensor(array).split(_BLOCK * 8):
            self._wait_for(self._start(broadcast, block, src=origin))

    def _start(self, operation: Callable[..., Any], block: Any, **options: Any) -> Any:
        """Begin an operation on a block and return it as work under way."""
        try:
            return operation(block, group=self.group, async_op=True, **options)
        except RuntimeError as error:
            raise self.lost(error) from error

    def _wait_for(self, work: Any) -> None:
        """Wait for work under way, in steps: while torch waits, Python hears no signal."""
        pause = _SHORTEST_LOOK
        try:
            while not work.is_completed():
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_LOOK)
            work.wait()
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: Exception) -> LostRankError:
        """Return what to say where an operation of ``torch.distributed`` failed with ``error``."""
        # Without the place in the source of gloo, which stands first.
        text = re.sub(r"^(\[[^]]*:\d+\] )+", "", str(error).strip())
        why = _shortened(text.partition("\n")[0]) or type(error).__name__
        # A process that was killed is gone a moment after its connections.
        time.sleep(_LONGEST_LOOK)
        gone = self.missing()
        if gone:
            what = f"{self.names_of(gone)} ended early"
        elif "timed out" in str(error).lower() or "timeout" in str(error).lower():
            what = f"one of {self.world} processes did not answer in time"
        else:
            what = f"the connection to one of {self.world} processes was lost"
        return LostRankError(f"{what}: {why}; {GO_ON}")


#: A process without others.
ALONE = Ranks(0, 1, None)
# The group through which arrays in main memory travel, by the group that a caller named.
_known: weakref.WeakKeyDictionary[Any, Ranks] = weakref.WeakKeyDictionary()


def ranks_of(group: Any, name: str = "group") -> Ranks:
    """Return who this process is in ``group``: None for a process alone, a process group, or "default" for torch's.

    Called for the first time with a group, it opens a second one with the same members, by gloo and with a time-out of
    30 days: whatever the group of the caller is made for, arrays in main memory travel through that, and a rank may
    wait while another works. All ranks of the group must take part.

    Examples
    --------
    >>> ranks_of(None) is ALONE
    True
    """
    if group is None:
        return ALONE
    from torch import distributed

    usable = distributed.is_available() and distributed.is_initialized()
    expected = (
        "expected None, 'default', or a torch.distributed process group that this process is a member of, after "
        "torch.distributed.init_process_group"
    )
    if not usable:
        raise InterpNetError(f"{name} is {group!r}, and torch.distributed is not initialized; {expected}")
    if isinstance(group, str) and group == "default":
        group = distributed.group.WORLD
    if not isinstance(group, distributed.ProcessGroup):
        raise InterpNetError(f"{name}: a {type(group).__name__} came; {expected}")
    known = _known.get(group)
    if known is not None:
        return known
    rank = distributed.get_rank(group)
    if rank < 0:
        raise InterpNetError(f"{name}: this process is not a member of it; {expected}")
    world = distributed.get_world_size(group)
    if world == 1:
        return ALONE
    plain = Ranks(rank, world, None)
    try:
        members = distributed.get_process_group_ranks(group)
        own = distributed.new_group(members, timeout=_PATIENCE, backend="gloo", use_local_synchronization=True)
    except RuntimeError as error:
        raise plain.lost(error) from error
    strangers = Ranks(rank, world, own)
    peers = zip(strangers.collect(socket.gethostname()), strangers.collect(os.getpid()), strict=True)
    _known[group] = Ranks(rank, world, own, tuple(peers))
    # The second group is one of several itself, for functions that are handed it on.
    _known[own] = _known[group]
    return _known[group]


def _tensor(array: npt.NDArray[Any]) -> Any:
    """Return an array as a tensor on the same memory."""
    import torch

    return torch.from_numpy(array)


def _differing(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tables with those entries only that are not the same in all.

    Examples
    --------
    >>> _differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    [{'b': 2}, {'b': 3}]
    """
    names = dict.fromkeys(name for table in tables for name in table)
    kept = [name for name in names if any(table.get(name) != tables[0].get(name) for table in tables)]
    return [{name: table.get(name) for name in kept} for table in tables]


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    return text[: _SHOWN - 3] + "..."


def _named(ranks: list[int]) -> str:
    """Return ranks in words.

    Examples
    --------
    >>> _named([1]), _named([0, 2])
    ('rank 1', 'ranks 0 and 2')
    """
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    *others, last = map(str, ranks)
    return f"ranks {', '.join(others)} and {last}"


def _lives(process: int) -> bool:
    """Whether a process of this machine exists and has not ended; True where that cannot be told."""
    try:
        os.kill(process, 0)
        # One that has ended waits there for its parent; the state stands behind the name, in parentheses.
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not state.strip().startswith(("Z", "X"))
