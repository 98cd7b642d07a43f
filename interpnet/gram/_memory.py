"""Do the Gram matrices fit into this machine's memory? Asked before they are made."""

from __future__ import annotations

import math
import os

from interpnet.errors import DataError


def check_size(m: int, n_classes: int = 0) -> None:
    """Raise a DataError unless the Gram matrix of ``m`` columns, and the solver's copy of it, fit into memory."""
    memory = physical_memory()
    # Twice eight bytes: the matrix and the solver's copy.
    if 2 * 8 * m * m > memory:
        raise DataError(
            f"the Gram matrix of {m:,} channels takes {parts_gib(m, 1):.1f} GiB, twice that while it is solved, and "
            f"this machine has {memory / 2**30:.1f} GiB; score fewer layers, such as the last modules by name "
            "(layers=, --layers), which `interpnet layers MODEL` prints"
        )
    check_class_count(n_classes, m)


def check_class_count(n_classes: int, width: int) -> None:
    """Raise a DataError where ``width`` numbers per class are more than the memory holds: labels that run wild."""
    if 8 * width * n_classes > physical_memory():
        raise DataError(
            f"{n_classes:,} classes are more than this machine's memory holds; class labels count from 0 to C - 1: "
            "number them with np.unique(labels, return_inverse=True)"
        )


def check_parts(m: int, n_parts: int, name: str = "part") -> None:
    """Raise a DataError where the Grams of ``n_parts`` parts take more than half of the memory."""
    if parts_fit(m, n_parts):
        return
    memory = physical_memory()
    fit = int(memory / 2 / (8 * m * m))
    remedy = f"use at most {fit}"
    if fit < 2:
        remedy = "score fewer layers (layers=, --layers)"
    raise DataError(
        f"the Gram matrices of {n_parts} {name}s of the images, {m:,} channels each, take "
        f"{parts_gib(m, n_parts):.1f} GiB, more than half of this machine's {memory / 2**30:.1f} GiB; {remedy}"
    )


def parts_fit(m: int, n_parts: int) -> bool:
    """Whether the Grams of ``n_parts`` parts fit into half of the memory; the other half is the solver's."""
    return n_parts * 8 * m * m <= physical_memory() / 2


def parts_gib(m: int, n_parts: int) -> float:
    """Return the size of ``n_parts`` Gram matrices (m, m) of float64, in GiB."""
    return n_parts * 8 * m * m / 2**30


def physical_memory() -> float:
    """Return the machine's memory in bytes; infinity where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return math.inf
