"""Which thread is at work on which network: its hooks, flags and weights are changed by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from interpnet.errors import ModelError

_LOCK = threading.Lock()
# By the identity of a module in use: the thread that uses it, and how often it has entered.
_USED: dict[int, tuple[threading.Thread, int]] = {}


@contextmanager
def claimed(model: nn.Module) -> Iterator[None]:
    """Keep other threads off ``model`` and its parts in the block: there they get a :class:`ModelError`.

    The same thread may enter again. A plain call of the model in another thread is not concerned.

    Examples
    --------
    >>> net = nn.ReLU()
    >>> with claimed(net), claimed(net):
    ...     pass
    """
    me = threading.current_thread()
    with _LOCK:
        # Who has a network has its parts too, so that entering again costs nothing.
        parts = [id(model)]
        if not _entered(parts[0], me):
            parts = [id(module) for module in model.modules()]
        for part in parts:
            user = _USED.get(part, (me, 0))[0]
            # A thread that ended without leaving its block holds nothing.
            if user is not me and user.is_alive():
                raise ModelError(
                    f"the model is at work in another thread ({user.name!r}), which has changed its hooks, flags or "
                    "weights for the time being. Give each thread its own copy, made before they start: "
                    "copy.deepcopy(model)"
                )
        for part in parts:
            _USED[part] = (me, _entered(part, me) + 1)
    try:
        yield
    finally:
        with _LOCK:
            for part in parts:
                left = _entered(part, me) - 1
                if left > 0:
                    _USED[part] = (me, left)
                elif left == 0:
                    del _USED[part]


def _entered(part: int, thread: threading.Thread) -> int:
    """Return how often ``thread`` has entered a part."""
    user, count = _USED.get(part, (thread, 0))
    if user is thread:
        return count
    return 0
