"""The command ``interpnet repair``: weights that rely less on what a run found suspicious."""

from __future__ import annotations

import shlex
from typing import Any

import typer

from ..auditing import terminal_tables as tables
from ..report.repair import build_repair_report
from ..run.repair import AUDIT_FILE, WEIGHTS_FILE
from ..run.repair_settings import RepairSettings
from ..run.session import Session
from ..run.settings import Given, option
from ..stages.repair import run_repair
from .commands import existing_session, show_report
from .commands_check import EXIT_FINDING
from .options import Request


def repair(given: Given, request: Request, own: Given) -> None:
    """Repair the network of a run; exit with 1 where nothing was accepted."""
    settings = RepairSettings().override(own.values)
    with existing_session(given, request, "repair") as session:
        session.resume = " ".join([session.resume, *_words(own)])
        facts = run_repair(session, settings)
        session.run.save()
        _show(session, facts, open_report=request.open_report)
    if facts["suspicious"] and not facts["accepted"]:
        raise typer.Exit(EXIT_FINDING)


def _show(session: Session, facts: dict[str, Any], *, open_report: bool) -> None:
    """Print what came of a repair, with what to do next."""
    run = session.run.path
    if not facts["suspicious"]:
        session.say(f"nothing to repair: {facts['why']}")
        return
    tables.show_repair(session.console, facts)
    show_report(session, build_repair_report(run), open_report=open_report)
    if facts["accepted"]:
        tables.say_whole(session.console, f"weights: {run / WEIGHTS_FILE}, a state dict of the same architecture")
        file = shlex.quote(str(run / AUDIT_FILE))
        tables.say_whole(session.console, f"next: interpnet audit --config {file} --out runs/NAME audits them")


def _words(own: Given) -> list[str]:
    """Return the settings that were given as words of the command line."""
    words = []
    for name, value in own.values.items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        words.append(f"{option(name)} {shlex.quote(text)}")
    return words
