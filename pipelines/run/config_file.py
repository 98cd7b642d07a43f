"""The file of a run's settings, ``run.toml``: its sections and the names in them, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import tomli_w

from interpnet.errors import InterpNetError, RunFolderError, did_you_mean

from .settings import SECTIONS, Settings, about

_COMMENT = "# Replay this run with: interpnet audit --config THIS_FILE --out runs/ANOTHER_NAME\n\n"


def written(tables: Mapping[str, Any]) -> str:
    """Return the sections of settings as TOML; ``InterpNetError`` for text that TOML cannot hold."""
    text = _COMMENT + tomli_w.dumps(tables)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # A byte of a path that is no UTF-8; TOML has no way to write it.
        raise InterpNetError(
            f"{error.object[max(error.start - 30, 0) : error.end + 30]!r} holds bytes that are no UTF-8, which "
            "run.toml cannot keep; rename the file or folder, or give it a link with another name"
        ) from error
    return text


#: Settings of earlier versions that another one stands for now, each with that and the default that it had.
_REPLACED: Mapping[str, tuple[str, Any]] = {"max_swapped_images": ("shortcut_images", 240)}


def read_tables(settings: type[Settings], path: Path) -> dict[str, Any]:
    """Return the values in a file, by the names of ``settings``' fields; those of earlier versions by today's names.

    ``RunFolderError`` where it is missing, unreadable or no TOML, and for a section or setting that does not exist
    (close matches are named).
    """
    from interpnet.support.io import small_text  # brings numpy along, for which --help must not wait

    what = f"configuration {str(path)!r}"
    try:
        content = tomllib.loads(small_text(path))
    except FileNotFoundError as error:
        raise RunFolderError(f"{what} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunFolderError(f"{what} cannot be read: {error}") from error
    given: dict[str, Any] = {}
    for section, table in content.items():
        if not isinstance(table, dict):
            raise RunFolderError(f"{what}: {section} stands outside of a section; expected [model], [data], ...")
        if section not in SECTIONS:
            raise RunFolderError(f"{what}: unknown section [{section}]{did_you_mean(section, SECTIONS)}")
        known = [entry.name for entry in fields(settings) if about(entry).section == section]
        for name in table:
            if name not in known and name not in _REPLACED:
                raise RunFolderError(
                    f"{what}: section [{section}] has no setting {name!r}"
                    f"{did_you_mean(name, known)}; it has {', '.join(known)}"
                )
        given |= table
    for name, (now, default) in _REPLACED.items():
        value = given.pop(name, default)
        # What nobody chose then is today's default now.
        if value != default:
            given.setdefault(now, value)
    return given
