"""The command ``interpnet dissect``: which concepts the channels of a network detect."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ..auditing import terminal_tables as tables
from ..dissection.settings import DissectSettings
from ..dissection.work import PAGE, SUMMARY, TABLE, Asked, known_numbers, noted, summary, write_files
from ..report.dissection import build_dissection_page
from ..run.console import make_console
from ..run.notes import Notes
from ..run.opening import default_name
from ..run.session import Interrupted
from ..run.settings import Given
from .commands import configured
from .options import Request


def dissect(given: Given, request: Request, own: Given) -> None:
    """Dissect a network, or show what a folder holds of the same dissection."""
    config = configured(given, request)
    settings = DissectSettings().override(own.values)
    notes = Notes()
    # With --json stdout is for the JSON alone.
    console = make_console(stderr=request.json)
    with notes.listening():
        asked = Asked.of(config, settings)
    folder = Path(request.out or f"runs/{default_name(config, settings.concepts)}-concepts")
    found = known_numbers(folder, asked.key, fresh=request.fresh)
    try:
        if found is None:
            with notes.listening():
                found = asked.dissect()
        else:
            tables.say_whole(console, f"{folder} has these numbers; only the pictures are made again")
            notes.texts += noted(folder)
        summarised = summary(asked, found, notes.texts)
        write_files(folder, found, summarised)
        build_dissection_page(folder / PAGE, asked, found, asked.pictured(found), notes.texts)
    except KeyboardInterrupt as error:
        kept = f"what is done is kept in {str(folder)!r}"
        raise Interrupted(f"interrupted; {kept}. Go on with the same command") from error
    if request.json:
        typer.echo(json.dumps(summarised, indent=2, allow_nan=False))
    else:
        for note in notes.texts:
            tables.say_whole(console, f"note: {note}")
        tables.show_dissection(console, found, config.model)
        tables.say_whole(console, f"\nreport: {folder / PAGE}; {SUMMARY} and {TABLE} beside it")
    if request.open_report:
        from ..auditing.result import Report

        Report(folder / PAGE).open()
