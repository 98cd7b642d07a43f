"""What a command line calls its options, in the words of a Python call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from interpnet.errors import InterpNetError

from ..run.config import RunConfig
from ..run.settings import kind, option

# An option, and its value where one follows that is a number, a word in capitals or a list of them.
_OPTION = re.compile(r"--([a-z][a-z-]*)(?: ([0-9][\w.,x]*|[A-Z]+(?![a-z])\b|(?:imagenet|random|both)\b))?")


def in_python(text: str) -> str:
    """Return a message with options as arguments.

    Examples
    --------
    >>> in_python("expected --mean 0.5,0.4 (or --anyway); use a smaller --batch-size")
    'expected mean=(0.5,0.4) (or anyway=True); use a smaller batch_size='
    """
    return _OPTION.sub(_argument, text)


def _argument(found: re.Match[str]) -> str:
    known = {option(entry.name).removeprefix("--"): entry for entry in fields(RunConfig)}
    name = found[1]
    value = found[2]
    if name == "fresh":
        return "fresh=True"
    if name == "out":
        return f"out={value or ''}"
    if name not in known:
        return found[0]
    entry = known[name]
    if kind(entry).word is bool:
        return f"{entry.name}=True"
    if value is None:
        return f"{entry.name}="
    if "," in value:
        value = f"({value})"
    elif value.isalpha() and value.islower():
        value = repr(value)
    return f"{entry.name}={value}"


@contextmanager
def python_words() -> Iterator[None]:
    """Let errors and their causes name arguments instead of options."""
    try:
        yield
    except InterpNetError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (in_python(error.args[0]), *error.args[1:])
        raise
