"""Gradient checkpointing switched off: parts that a network would compute again in the backward pass run plainly.

Computed again, a part runs outside of the engine, so that its calls would be under no rule. ``torch.autograd.grad``
refuses the reentrant variant altogether. Neither changes a value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint

_LOCK = threading.Lock()
# How many blocks of all threads are open; of this thread, in ``depth``.
_OPEN: list[int] = []
_HERE = threading.local()


@contextmanager
def without_recomputation() -> Iterator[None]:
    """Run what ``torch.utils.checkpoint`` wraps as if it were not wrapped, in this thread, inside a ``with`` block.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(1, requires_grad=True)
    >>> with without_recomputation():
    ...     y = checkpoint.checkpoint(torch.exp, x, use_reentrant=True)
    >>> torch.autograd.grad(y, x)
    (tensor([2.7183]),)
    """
    with _LOCK:
        if not _OPEN:
            _exchange()
        _OPEN.append(threading.get_ident())
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1
        with _LOCK:
            _OPEN.remove(threading.get_ident())
            if not _OPEN:
                _restore()


def _plainly() -> bool:
    """Whether this thread is in a block; other threads checkpoint as ever."""
    return getattr(_HERE, "depth", 0) > 0


def _exchange() -> None:
    """Give torch's two classes methods of their own in the place of the inherited ones."""
    # A network may hold the function checkpoint() itself, so what that uses is exchanged, not the function.
    reentrant: Any = checkpoint.CheckpointFunction
    hook: Any = checkpoint._checkpoint_hook  # noqa: SLF001 - torch has no public switch
    apply = reentrant.apply
    enter = hook.__enter__
    leave = hook.__exit__

    def plain_apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if _plainly():
            return function(*args)
        return apply(function, preserve, *args)

    def plain_enter(self: Any) -> Any:
        # Whether it was entered is remembered: a block may end while it is open.
        self.entered = not _plainly()
        if self.entered:
            return enter(self)
        return self

    def plain_exit(self: Any, *error: object) -> Any:
        if self.entered:
            return leave(self, *error)
        return None

    reentrant.apply = staticmethod(plain_apply)
    hook.__enter__ = plain_enter
    hook.__exit__ = plain_exit


def _restore() -> None:
    """Take the methods away again: the inherited ones are seen once more."""
    del checkpoint.CheckpointFunction.apply
    del checkpoint._checkpoint_hook.__enter__  # noqa: SLF001
    del checkpoint._checkpoint_hook.__exit__  # noqa: SLF001
