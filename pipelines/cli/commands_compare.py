"""The command ``compare``: two runs side by side in the terminal, on a page and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from interpnet.support.text import printable

from ..auditing import terminal_tables as tables
from ..comparing.comparison import compare as compared
from ..comparing.pair import run_words
from ..comparing.words import MOST_ROWS, tables_of
from ..run.console import make_console, writing
from ..run.settings import Given
from .options import Request


def compare(_given: Given, request: Request) -> None:
    """Compare two runs."""
    found = compared(request.run, request.other)
    console = make_console(logged=request.json)
    for letter, run in zip("AB", found.pair.runs, strict=True):
        tables.say_whole(console, f"{letter}: {run.folder} ({run_words(run)})")
    for table in tables_of(found):
        if table.aside:
            continue
        rows = list(table.rows[:MOST_ROWS])
        if len(rows) < len(table.rows):
            rows.append((f"... of {len(table.rows)}", *[""] * (len(table.heads) - 1)))
        tables.show_table(console, table.title, table.columns, rows, table.note)
    for sentence in found.headline:
        tables.say_whole(console, sentence)
    for note in found.notes:
        tables.say_whole(console, f"note: {note}")
    if request.html is not None:
        with writing("--html", request.html):
            found.save_page(Path(request.html))
        tables.say_whole(console, f"\npage: {printable(request.html)}")
    if request.json:
        typer.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
