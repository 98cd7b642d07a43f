"""Tables as CSV files: the one writer, for names come from data and a spreadsheet runs what looks like a formula."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

from interpnet.support.io import write_text
from interpnet.support.text import printable

# What a spreadsheet would run as a formula when a cell begins with it; the wide ones where the language has them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Row = Sequence[Any]


def safe_cell(value: Any) -> Any:
    r"""Return a cell that no spreadsheet runs as a formula and no terminal obeys; a number stays one, NaN is empty.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell(-0.5), safe_cell(float("nan"))
    ("'=1+1", -0.5, '')
    >>> print(safe_cell("a\x1b[2J"))
    a\x1b[2J
    """
    if isinstance(value, str):
        shown = printable(value)
        if value.lstrip().startswith(_FORMULA) or value.startswith(_FORMULA):
            return f"'{shown}"
        return shown
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value


def write_csv(path: str | os.PathLike[str], header: Row, rows: Iterable[Row]) -> None:
    """Write a table atomically, with every cell, the header's too, made safe by :func:`safe_cell`."""
    write_text(path, csv_text(header, rows))


def csv_text(header: Row, rows: Iterable[Row]) -> str:
    """Return a table as :func:`write_csv` writes it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([safe_cell(value) for value in row] for row in (header, *rows))
    return buffer.getvalue()
