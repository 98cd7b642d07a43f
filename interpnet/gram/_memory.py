"""Do the Gram matrices fit into this machine's memory? Asked before they are made."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from interpnet.errors import DataError

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUP_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**62


def check_size(m: int, n_classes: int = 0) -> None:
    """Raise a DataError unless the Gram matrix of ``m`` columns, and the solver's copy of it, fit into memory."""
    if not gram_fits(m):
        raise DataError(
            f"the Gram matrix of {m:,} channels takes {parts_gib(m, 1):.1f} GiB, twice that while it is solved, and "
            f"this machine has {usable_memory() / 2**30:.1f} GiB; RowGram.from_scores(X, y) solves without it, or "
            "score fewer layers, such as the last modules by name (layers=, --layers), which `interpnet layers MODEL` "
            "prints"
        )
    check_class_count(n_classes, m)


def gram_fits(m: int, copies: int = 2, device: Any = None) -> bool:
    """Whether ``copies`` matrices of ``m`` columns fit into the memory, and into what a CUDA ``device`` has free.

    Two are the matrix and the solver's copy; where other things need most of the memory, as a network does, ask for
    more.
    """
    size = copies * 8 * m * m
    if getattr(device, "type", None) == "cuda":
        from torch.cuda import mem_get_info

        if size > mem_get_info(device)[0]:
            return False
    return size <= usable_memory()


def check_class_count(n_classes: int, width: int) -> None:
    """Raise a DataError where ``width`` numbers per class are more than the memory holds: labels that run wild."""
    if 8 * width * n_classes > usable_memory():
        raise DataError(
            f"{n_classes:,} classes are more than this machine's memory holds; class labels count from 0 to C - 1: "
            "number them with np.unique(labels, return_inverse=True)"
        )


def parts_fit(m: int, n_parts: int) -> bool:
    """Whether the Grams of ``n_parts`` parts fit into half of the memory; the other half is the solver's."""
    return n_parts * 8 * m * m <= usable_memory() / 2


def parts_gib(m: int, n_parts: int) -> float:
    """Return the size of ``n_parts`` Gram matrices (m, m) of float64, in GiB."""
    return n_parts * 8 * m * m / 2**30


def usable_memory() -> float:
    """Return the bytes that this process may use: the machine's memory, or what its control group allows."""
    return min(physical_memory(), _group_limit())


def _group_limit() -> float:
    """Return the least limit of the control groups that this process is in; infinity where there is none."""
    least = math.inf
    for folder in _groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                text = (folder / name).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                continue
            # "max", or a number that no machine has, where there is no limit.
            if text.isdecimal() and int(text) < _NO_LIMIT:
                least = min(least, int(text))
    return least


def _groups() -> list[Path]:
    """Return the folders of this process's control groups and of all above them, versions 1 and 2."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _GROUP_ROOT
        if controllers:
            root = root / "memory"
        if not controllers or "memory" in controllers.split(","):
            here = root / path.strip("/")
            found += [here, *(above for above in here.parents if above.is_relative_to(root))]
            # In a container the path may be that of the host: then the root is the container's own.
            found.append(root)
    return found


def physical_memory() -> float:
    """Return the machine's memory in bytes; infinity where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return math.inf
