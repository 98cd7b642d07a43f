"""The stages of an audit in their order, each with what it found shown on the terminal."""

from __future__ import annotations

from pathlib import Path

from interpnet.concepts import Dissection

from ..report.load import RunData
from ..run.chosen import chosen
from ..run.config import MU_LASSO, RELIANCE
from ..run.selection import read_frequencies, read_selection
from ..run.session import Session
from ..run.shortcuts import load_shortcuts, load_shown
from ..stages.ablate import load_ablation, run_ablate
from ..stages.collect import run_collect
from ..stages.concepts import NUMBERS, run_concepts
from ..stages.contributions import run_contributions
from ..stages.explain import check_explain, run_explain
from ..stages.reliance import load_reliance, run_reliance
from ..stages.report import run_report
from ..stages.shortcuts import run_shortcuts
from ..stages.solve import load_interpretation, run_solve
from . import terminal_tables as tables


def run_audit(session: Session) -> Path:
    """Run every stage of a session that is not done; return the path of the report."""
    check_explain(session)
    collect(session)
    solve(session)
    ablate(session)
    run_explain(session)
    shortcuts(session)
    concepts(session)
    return run_report(session)


def collect(session: Session) -> None:
    """Collect scores, and contributions where reliance is wanted."""
    run_collect(session)
    if session.tables:
        tables.show_collect(session.console, session.run.stage("collect"))
    # Those of a shard wait beside its scores for the others.
    if RELIANCE in session.config.ways and session.shard is None:
        run_contributions(session)


def solve(session: Session) -> None:
    """Name the channels of each class, by the ways that are wanted."""
    if MU_LASSO in session.config.ways:
        run_solve(session)
        _show_solved(session)
    if RELIANCE in session.config.ways:
        run_reliance(session)
        if session.tables:
            tables.show_reliance(session.console, load_reliance(session), chosen(session))


def _show_solved(session: Session) -> None:
    if not session.tables:
        return
    found = load_interpretation(session)
    folder = session.run.folder("solve")
    often = read_frequencies(folder, found.coef.shape)
    tables.show_relevant(session.console, found, read_selection(folder), often, chosen(session))


def ablate(session: Session) -> None:
    """Remove the channels that each way names."""
    run_ablate(session)
    for way in sorted(session.config.ways):
        result = load_ablation(session, way)
        if result is not None and session.tables:
            tables.show_ablation(session.console, result, way)


def shortcuts(session: Session) -> None:
    """Search for what the network goes by beside the subject."""
    run_shortcuts(session)
    found = load_shortcuts(session.run.path)
    if found is not None and session.tables:
        tables.show_shortcuts(session.console, found)
        classes = tuple(session.run.known("model", "classes"))
        shown = load_shown(session.run.path)
        tables.show_field(session.console, RunData(session.run.path, {}, classes, shortcuts=found, beside=shown))


def concepts(session: Session) -> None:
    """Name the channels by concepts, where there are some."""
    if run_concepts(session) and session.tables and (session.run.folder("concepts") / NUMBERS).is_file():
        found = Dissection.load(session.run.folder("concepts") / NUMBERS)
        tables.show_dissection(session.console, found, "by concepts")
