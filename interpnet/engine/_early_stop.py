"""End a forward pass once everything that was asked for has been computed."""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn


class Stop(Exception):  # noqa: N818 - not an error: the rest of the pass is not needed
    """Unwinds the network's own code up to the :func:`stoppable` block."""


def stop_forward() -> NoReturn:
    """End the forward pass that runs in a :func:`stoppable` block: for a read, an edit or a rule to call."""
    raise Stop


def stoppable() -> suppress:
    """Return the context in which :func:`stop_forward` ends the block instead of being an error.

    Examples
    --------
    >>> with stoppable():
    ...     stop_forward()
    ...     print("not reached")
    """
    return suppress(Stop)
