"""The command ``check``: the limits that were given, what is written and printed of them, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import typer

from interpnet.errors import InterpNetError

from ..auditing import terminal_tables as tables
from ..auditing.check import Check, checks_json, limits_of, passed
from ..auditing.check_changes import checked
from ..auditing.ci import annotation, github_lines, write_junit
from ..run.console import make_console
from ..run.settings import Given
from .options import Request

EXIT_FINDING = 1


def check(given: Given, request: Request) -> None:
    """Compare a run with limits; exit with 1 where it is beyond one."""
    folder = Path(request.run)
    try:
        found = _checked(given, request)
    except InterpNetError as error:
        if request.junit is not None:
            write_junit(Path(request.junit), folder, (), str(error))
        if _on_github(request):
            typer.echo(annotation("error", "interpnet check", str(error)), err=True)
        raise
    if request.junit is not None:
        write_junit(Path(request.junit), folder, found)
    if _on_github(request):
        for line in github_lines(folder, found):
            # GitHub reads both streams.
            typer.echo(line, err=request.json)
    tables.show_checks(make_console(logged=request.json), found)
    if request.json:
        typer.echo(json.dumps(checks_json(folder, found), indent=2, allow_nan=False))
    if not passed(found):
        raise typer.Exit(EXIT_FINDING)


def _checked(given: Given, request: Request) -> tuple[Check, ...]:
    file = None
    if request.config is not None:
        file = Path(request.config)
    limits = limits_of(Path(request.run), file).override(given.values)
    baseline = None
    if request.against is not None:
        baseline = Path(request.against)
    return checked(Path(request.run), limits, baseline)


def _on_github(request: Request) -> bool:
    if request.github is not None:
        return request.github
    return os.environ.get("GITHUB_ACTIONS") == "true"
