r"""Text from data on a terminal and in tables: names may hold escape codes, line ends and bytes that are no UTF-8."""

from __future__ import annotations

import re
from typing import Any

# Control characters, line and paragraph separators, what turns the direction of text, and half surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Python reads a byte that is no UTF-8 as one of these.
_BYTES = range(0xDC80, 0xDD00)


def printable(text: Any) -> str:
    r"""Return text in which nothing moves a cursor, breaks a line or reverses what follows: such characters are named.

    Examples
    --------
    >>> print(printable("red\x1b[31m"), printable("two\nlines"), printable("caf\udce9"), printable("Größe"))
    red\x1b[31m two\nlines caf\xe9 Größe
    """
    return _UNSAFE.sub(_named, str(text))


def one_line(text: Any) -> str:
    r"""Return text on one line, its line ends and tabs as spaces and the rest as :func:`printable` has it.

    Examples
    --------
    >>> one_line("first\n  second\x07")
    'first second\\x07'
    """
    return printable(" ".join(str(text).split()))


def _named(found: re.Match[str]) -> str:
    code = ord(found.group())
    short = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r"}
    if code in short:
        return short[code]
    if code in _BYTES:
        return rf"\x{code - 0xDC00:02x}"
    if code < 0x100:
        return rf"\x{code:02x}"
    return rf"\u{code:04x}"
