"""The command ``check``: the limits that were given, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from interpnet.errors import InterpNetError

from ..auditing import terminal_tables as tables
from ..auditing.check import Limits, checks, checks_json, passed
from ..run.session import make_console
from ..run.settings import Given
from .options import Request

EXIT_FINDING = 1


def check(_given: Given, request: Request) -> None:
    """Compare a run with limits; exit with 1 where it is beyond one."""
    _within(request.max_suspicion, "--max-suspicion", -1.0)
    _within(request.min_accuracy, "--min-accuracy", 0.0)
    shortcuts = True
    if request.fail_on_shortcut is not None:
        shortcuts = request.fail_on_shortcut
    folder = Path(request.run)
    found = checks(folder, Limits(request.max_suspicion, request.min_accuracy, shortcuts, request.fail_on_field))
    if request.json:
        typer.echo(json.dumps(checks_json(folder, found), indent=2, allow_nan=False))
    else:
        tables.show_checks(make_console(), found)
    if not passed(found):
        raise typer.Exit(EXIT_FINDING)


def _within(value: float | None, option: str, least: float) -> None:
    if value is not None and not least <= value <= 1:
        raise InterpNetError(f"{option} is {value}; expected a number from {least:g} to 1")
