"""Keep freed memory for the next activation instead of giving it back to the kernel.

By default glibc maps every large tensor afresh and unmaps it when it is freed, so that each operator of a
forward pass touches new pages, which the kernel must clear first. Where page faults are slow (virtual
machines), that takes more time than the arithmetic: see ``experiments/benchmarks/allocator.py``.
"""

from __future__ import annotations

import ctypes
import sys

# From malloc.h: mallopt(3) takes these numbers.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory; returns whether it could.

    It acts on the whole process, so programs call it (the ``interpnet`` command does) and the library never
    does by itself. The process keeps its peak memory until it ends. Without glibc nothing happens.

    Examples
    --------
    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
