"""Several processes that torchrun started for one command: their group, and which of them says how it ended.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK and where the processes meet. Without them, or with one process, nothing here
has an effect.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpnet.errors import InterpNetError, LostRankError, RanksError

if TYPE_CHECKING:
    from interpnet.support.ranks import Ranks

# Seconds within which all processes must have started.
_MEETING = timedelta(minutes=30)
# Seconds for which another rank waits for rank 0 to end in the same way, and says it for all.
_SAME = 6.0
_LOOK = 0.05
_STOPPED = "interrupted"  # what there is to say where no stage had begun
# What the store holds: how each rank ended, and the first one that failed.
_ENDED = "ended"
_FAILED = "failed"
# The commands that several processes do together; others are rank 0's alone.
_TOGETHER = frozenset({"audit", "collect", "solve", "ablate", "explain", "shortcuts"})
_TORCHRUN = "torchrun --nproc-per-node N -m interpnet ..."


@dataclass(frozen=True)
class Several:
    """What the processes of one command have in common."""

    ranks: Ranks
    store: Any  # what torchrun keeps for them, also when one of them is gone

    def first_failure(self) -> dict[str, Any] | None:
        """Return which rank was the first to end with an error, and its message."""
        # A store on a machine that is gone says nothing.
        with suppress(RuntimeError, ValueError):
            if self.store.check([_FAILED]):
                found: dict[str, Any] = json.loads(self.store.get(_FAILED))
                return found
        return None

    def publish(self, message: str, code: int, *, failed: bool = True) -> None:
        """Let the other ranks know how this one ended; whether it ``failed``, or was stopped."""
        with suppress(RuntimeError):
            noted = json.dumps({"rank": self.ranks.rank, "message": message, "code": code})
            self.store.set(f"{_ENDED}/{self.ranks.rank}", noted)
            if failed:
                self.store.compare_set(_FAILED, "", noted)

    def lost(self) -> list[int]:
        """Return the ranks on this machine that ended without a word."""
        gone = self.ranks.missing()
        with suppress(RuntimeError, ValueError):
            gone = [rank for rank in gone if not self.store.check([f"{_ENDED}/{rank}"])]
        return gone

    def rank_0_says(self, message: str) -> bool:
        """Whether rank 0 ends with the same message, which is waited for."""
        until = time.monotonic() + _SAME
        key = f"{_ENDED}/0"
        with suppress(RuntimeError, ValueError):
            while time.monotonic() < until:
                if self.store.check([key]):
                    return bool(json.loads(self.store.get(key))["message"] == message)
                time.sleep(_LOOK)
        return False


_several: ContextVar[Several | None] = ContextVar("several", default=None)


def world_size() -> int:
    """Return how many processes torchrun started for this command."""
    size = os.environ.get("WORLD_SIZE", "1")
    if "RANK" not in os.environ or not size.isdigit():
        return 1
    return max(int(size), 1)


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return world_size() == 1 or os.environ["RANK"] == "0"


def here(command: str) -> Ranks:
    """Return which process this is of those that do a command; some commands rank 0 does alone."""
    from interpnet.support.ranks import ALONE

    several = _several.get()
    if several is None or command not in _TOGETHER:
        return ALONE
    return several.ranks


def takes_part(command: str) -> bool:
    """Whether this process has something to do in a command."""
    return is_first() or command in _TOGETHER


@contextmanager
def together() -> Iterator[None]:
    """Let the processes that torchrun started meet, and work on one command; all but rank 0 are silent."""
    if world_size() == 1:
        yield
        return
    several = _meet()
    before = _several.set(several)
    try:
        if several.ranks.first:
            yield
        else:
            with _silent():
                yield
        from torch import distributed

        distributed.destroy_process_group()
    finally:
        _several.reset(before)


def _meet() -> Several:
    # Where a process is gone, torch would print where in its own source that was noticed.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from interpnet.support.ranks import ranks_of

    if not distributed.is_available():
        raise InterpNetError("this build of torch has no torch.distributed; start one process, without torchrun")
    try:
        store, rank, world = next(rendezvous("env://", timeout=_MEETING))
        # Arrays in main memory are what travels, so gloo it is on GPUs too.
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=_MEETING)
    except (RuntimeError, ValueError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise RanksError(
            f"{world_size()} processes (WORLD_SIZE) did not find each other: {first_line}; start them with {_TORCHRUN}"
        ) from error
    if torch.cuda.is_available():
        # More processes than devices share them.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # torchrun may start all processes again (--max-restarts); how they ended before does not count.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Several(ranks_of("default"), PrefixStore(f"interpnet/{attempt}", store))


@contextmanager
def _silent() -> Iterator[None]:
    """Print nothing on stdout, and show no bars."""
    from interpnet.support.progress import no_bars

    before = sys.stdout
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, no_bars():
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = before


def to_be_said(message: str, code: int, error: BaseException | None = None) -> tuple[str | None, int]:
    """Return what this process is to say of its end, None where another one says it, and its exit code."""
    several = _several.get()
    if several is None:
        if is_first():
            return message, code
        # They never met; rank 0 says why.
        return None, code
    ranks = several.ranks
    if isinstance(error, KeyboardInterrupt | LostRankError):
        return _of_another(several, message, code, error)
    several.publish(message, code)
    if ranks.first:
        return message, code
    if several.rank_0_says(message):
        return None, code
    return f"error: rank {ranks.rank} of {ranks.world}: {message.removeprefix('error: ')}", code


def _of_another(several: Several, message: str, code: int, error: BaseException) -> tuple[str | None, int]:
    """Return what to say where a rank was stopped, or lost another one: what happened to that one, said once."""
    from interpnet.support.ranks import GO_ON

    ranks = several.ranks
    failed = several.first_failure()
    several.publish(message, code, failed=False)
    gone = several.lost()
    if failed is not None:
        # It has said so itself; rank 0's output may be the only one that is looked at.
        said = None
        if ranks.first:
            why = failed["message"].removeprefix("error: ")
            said = f"error: rank {failed['rank']} of {ranks.world} ended with {why!r}; {GO_ON}"
        return said, int(failed["code"])
    speaker = min(set(range(ranks.world)) - set(gone), default=ranks.rank)
    if ranks.rank != speaker:
        return None, code
    if gone:
        # A rank that ended for want of another has said so, and is not among these.
        parts = [f"error: {ranks.names_of(gone)} ended early", message, GO_ON]
        if message == _STOPPED or isinstance(error, LostRankError):
            del parts[1]
        return "; ".join(parts), 2
    return message, code


def leave(code: int) -> None:
    """End a process of several that failed, at once: what it still has under way would wait for the others."""
    if world_size() == 1 or code == 0:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
