"""Ctrl-C, SIGTERM and SIGHUP end a run alike: once, and not in the middle of writing down how far it came."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Seconds in which more signals are taken for the same wish; later ones mean that the first was lost.
_ONE_WISH = 5.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass
class _Stop:
    """Whether somebody has asked this process to stop."""

    asked: float | None = None  # when, by the monotonic clock

    def __call__(self, _number: int, _frame: object) -> None:
        """Raise ``KeyboardInterrupt`` at the first of several signals."""
        now = time.monotonic()
        if self.asked is not None and now - self.asked < _ONE_WISH:
            return
        self.asked = now
        raise KeyboardInterrupt


_stop = _Stop()


def stop_asked() -> bool:
    """Whether a signal came whose exception may have been lost: in a callback of a library Python drops it."""
    return _stop.asked is not None


@dataclass
class _End:
    """What a signal does to a process whose work is done: it ends at once.

    Python still has libraries to shut down, whose callbacks would print a ``KeyboardInterrupt``, and a ``SIGTERM``
    would look like a death.
    """

    code: int = 130

    def __call__(self, _number: int, _frame: object) -> None:
        os._exit(self.code)


_end = _End()


@contextmanager
def stoppable(*, to_the_end: bool = False) -> Iterator[None]:
    """Let the three signals raise ``KeyboardInterrupt`` in the main thread; one that is ignored stays so (nohup).

    With ``to_the_end`` the process has nothing else to do: afterwards a signal ends it at once, with the code that
    :func:`end_with` was told; else the signals do what they did before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    # None: a handler that Python did not set, and cannot put back.
    before = {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}
    _stop.asked = None
    if to_the_end:
        # Registered first, it runs last: what others do at the end may still be stopped.
        atexit.register(_ignore, before)
    try:
        for number in before:
            signal.signal(number, _stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _end if to_the_end else handler)
        # Last: before, further signals belong to the wish that was heard.
        _stop.asked = None


def _ignore(numbers: Iterable[int]) -> None:
    # The interpreter's own end gives signals their defaults back, unless they are ignored.
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def end_with(code: int) -> int:
    """Return ``code``, and let it be the one with which a later signal ends this process."""
    _end.code = code
    return code
