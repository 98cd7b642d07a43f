"""The little of TOML that a run needs: tables of strings, numbers, booleans and lists of these."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from interpnet.errors import RunFolderError

Value = str | int | float | bool | Sequence["Value"]
Table = Mapping[str, Value]


def to_toml(tables: Mapping[str, Table], comment: str = "") -> str:
    """Return ``tables`` as TOML text that :mod:`tomllib` reads back to equal values.

    Examples
    --------
    >>> print(to_toml({"solve": {"mu": 10.0, "positive": False}}, "A run."), end="")
    # A run.
    <BLANKLINE>
    [solve]
    mu = 10.0
    positive = false
    """
    parts = ["".join(f"# {line}\n" for line in comment.splitlines())] if comment else []
    for name, table in tables.items():
        lines = [f"{key} = {_literal(value)}\n" for key, value in table.items()]
        parts.append(f"[{name}]\n" + "".join(lines))
    return "\n".join(parts)


def read_toml(path: Path) -> dict[str, dict[str, Value]]:
    """Read a file of tables.

    Raises
    ------
    RunFolderError
        Missing, unreadable or no TOML; a value outside of a table.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"configuration {str(path)!r} does not exist") from error
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunFolderError(f"configuration {str(path)!r} cannot be read: {error}") from error
    for name, table in content.items():
        if not isinstance(table, dict):
            raise RunFolderError(
                f"configuration {str(path)!r}: {name} stands outside of a section; expected [model], [data], ..."
            )
    return content


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's too; only DEL is allowed bare there and not here.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[" + ", ".join(_literal(item) for item in value) + "]"
