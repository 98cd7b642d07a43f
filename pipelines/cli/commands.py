"""What the commands on runs do, once their arguments are parsed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from interpnet import plot
from interpnet.errors import InterpNetError
from interpnet.support.io import read_object
from interpnet.support.ranks import Ranks
from interpnet.support.text import printable

from ..auditing import steps
from ..auditing import terminal_tables as tables
from ..auditing.merge import merge_runs
from ..auditing.result import Report, load_run
from ..report.pdf import find_browser, print_pdf
from ..run.config import RELIANCE, RunConfig
from ..run.console import make_console
from ..run.cue import planted
from ..run.field import field_key
from ..run.folder import CONFIG
from ..run.manifest import MANIFEST, read_manifest, unverifiable
from ..run.opening import default_name, existing, opened
from ..run.own_code import check_named
from ..run.session import Session
from ..run.settings import Given
from ..run.several import here
from ..run.shortcut_settings import NO_FIELD
from ..stages.explain import run_explain
from ..stages.reliance import run_reliance
from ..stages.report import run_report
from .options import Request


def configured(given: Given, request: Request, base: RunConfig | None = None) -> RunConfig:
    """Return settings with those of the command line in them: its options, and the cue planted in the data.

    ``InterpNetError`` for a value that cannot be, an unknown method, or a cue in data that takes none.
    """
    check_named(given.values)
    values = dict(given.values)
    if "only" in values:
        if not values["only"]:
            raise InterpNetError("--only is empty; expected classes by name or number, or all")
        if values["only"] == ("all",):
            values["only"] = ()
    base = base or RunConfig()
    for name in ("field", "concepts"):
        if values.get(name) is not None:
            values[name] = _folder(values[name], base)
    config = base.override(values)
    # What was typed beside the option contradicts it; what a file says is overridden.
    from_file = "data" not in given.values
    return replace(config, data=planted(config.data, request.shortcut, request.strength, override=from_file))


def _folder(folder: str, base: RunConfig) -> str:
    """Return a folder of images as the settings hold it: of a run from elsewhere whole, and empty for none."""
    if folder == NO_FIELD:
        return ""
    if base.directory is None or Path(folder).is_absolute() or not Path(folder).exists():
        return folder
    if Path.cwd() == Path(base.directory):
        return folder
    return str(Path(folder).absolute())


@contextmanager
def new_session(given: Given, request: Request, command: str) -> Iterator[Session]:
    """Open or make the run folder of ``audit`` and ``collect``, locked, with the settings of file and command line.

    Model and images are loaded before a folder is made, so that a mistyped name leaves nothing behind.
    """
    named = "model" in given.values
    ranks = here(command)
    shard = shard_of(request.shard, ranks)
    out = None
    if request.out is not None:
        out = Path(request.out)
    with ExitStack() as held:
        run = None
        # What another command is about to change must not be read before it has finished.
        if out is not None and (out / MANIFEST).is_file():
            run = held.enter_context(existing(out, fresh=request.fresh, ranks=ranks))
        base = RunConfig()
        folders: tuple[Path, ...] = ()
        if request.config is not None:
            base = RunConfig.load(Path(request.config))
            folders = (Path(request.config).parent,)
        elif run is not None and not named and (run.path / CONFIG).is_file():
            base = run.config()
            ranks.wait()  # before rank 0 writes other settings
        if named or base.directory is None:
            base = replace(base, directory=str(Path.cwd()))
        config = configured(given, request, base)
        missing = [name for name, value in (("MODEL", config.model), ("DATA", config.data)) if not value]
        if missing:
            raise InterpNetError(
                f"{' and '.join(missing)} missing: interpnet {command} MODEL DATA --out runs/NAME, for example "
                f"interpnet {command} torchvision:resnet18 imagefolder:photos (see interpnet {command} --help)"
            )
        name = default_name(config)
        if shard is not None:
            name += f"-{shard[0]}-of-{shard[1]}"
        path = out or Path("runs") / name
        resume = f"interpnet {command} --out {shlex.quote(str(path))}"
        more = {"named": frozenset(given.values), "own_folders": folders, "fresh": request.fresh, **_shown_by(ranks)}
        more["wanted_shard"] = shard
        yield opened(held, path, config, resume, run=run, ranks=ranks, **more)


def shard_of(text: str | None, ranks: Ranks) -> tuple[int, int] | None:
    """Return which shard of how many ``--shard I/N`` names."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InterpNetError(f"--shard is {text!r}; expected I/N, the I-th of N shards, I from 1 to N: --shard 2/3")
    if not ranks.alone:
        raise InterpNetError(
            f"--shard {text} came to {ranks.world} processes of torchrun, which share the images by themselves; leave "
            "one of the two out"
        )
    return int(found[1]), int(found[2])


def _shown_by(ranks: Ranks) -> dict[str, Any]:
    """Return what a session prints: all of it, and of several processes rank 0 alone."""
    return {"console": make_console(quiet=not ranks.first), "tables": ranks.first}


@contextmanager
def existing_session(given: Given, request: Request, command: str) -> Iterator[Session]:
    """Open the run folder of a stage command, locked, its settings overridden by the command line's."""
    path = Path(request.run)
    ranks = here(command)
    read_manifest(path)  # where there is no run there is nothing to lock
    with existing(path, ranks=ranks) as run:
        config = configured(given, request, run.config())
        ranks.wait()  # before rank 0 writes other settings
        resume = f"interpnet {command} {shlex.quote(str(path))}"
        more = {"named": frozenset(given.values), "fresh": request.fresh, **_shown_by(ranks)}
        if command == "collect":
            more["wanted_shard"] = shard_of(request.shard, ranks)
        else:
            run.check_whole()
        session = Session(run, config, resume, **more)
        session.say_notes(unverifiable(run.manifest))
        yield session


def audit(given: Given, request: Request) -> None:
    """Run all stages."""
    with new_session(given, request, "audit") as session:
        page = steps.run_audit(session)
        show_report(session, page, open_report=request.open_report)
        if request.json and session.ranks.first:
            found = {"run": str(session.run.path), "page": str(page)} | read_object(page.with_name("report.json"))
            typer.echo(json.dumps(found, indent=2, allow_nan=False))


def show_report(session: Session, path: Path, *, open_report: bool) -> None:
    """Say where a report is, and open it in a browser if asked."""
    session.console.print(
        f"\nreport: {printable(path)}", style="bold green", highlight=False, soft_wrap=True, markup=False
    )
    if open_report and session.ranks.first:
        Report(path).open()


def collect(given: Given, request: Request) -> None:
    """Start a run with its first stage, or go on with it."""
    first = given.values.get("model", "")
    opened = new_session(given, request, "collect")
    if (Path(first) / MANIFEST).is_file():
        rest = {name: value for name, value in given.values.items() if name != "model"}
        opened = existing_session(Given(rest), replace(request, run=first), "collect")
    with opened as session:
        steps.collect(session)
    following = f"interpnet solve {session.run.path}"
    if session.shard is not None:
        following = f"interpnet merge RUN... --out ALL, with the run folders of all {session.shard[1]} shards"
    session.say(f"next: {following}")


def merge(_given: Given, request: Request) -> None:
    """Join the runs of all shards."""
    if request.out is None:
        raise InterpNetError("--out is missing: interpnet merge RUN... --out ALL, the folder of the run that they make")
    run = merge_runs(request.runs, request.out)
    make_console().print(f"next: interpnet audit --out {printable(run)}", highlight=False, soft_wrap=True, markup=False)


def solve(given: Given, request: Request) -> None:
    """Solve again from existing scores."""
    _stage(given, request, "solve", steps.solve, "ablate")


def ablate(given: Given, request: Request) -> None:
    """Run the ablation study again."""

    def work(session: Session) -> None:
        # Reliance is measured against what removed channels are filled with.
        if "fill" in given.values and RELIANCE in session.config.ways:
            run_reliance(session)
        steps.ablate(session)

    _stage(given, request, "ablate", work, "explain")


def explain(given: Given, request: Request) -> None:
    """Picture channels and examples again, or explain a user's images."""
    if request.image:
        _explain_user(given, request)
    elif request.cls is not None:
        raise InterpNetError("--class came without --image; name the images that are to be explained for that class")
    else:
        _stage(given, request, "explain", run_explain, "shortcuts")


def shortcuts(given: Given, request: Request) -> None:
    """Search for shortcuts again."""
    _stage(given, request, "shortcuts", steps.shortcuts, "report", check=field_key)


def _explain_user(given: Given, request: Request) -> None:
    from ..stages.user_images import FOLDER, explain_user_images

    with existing_session(given, request, "explain") as session:
        # Before the session writes its own.
        stored = session.run.config()
        session.open_subject()
        if not session.ranks.first:
            return
        records = explain_user_images(session, request.image, request.cls)
        # How somebody looked at a picture of their own is no setting of the run.
        session.run.store(stored)
        session.run.save()
    folder = session.run.folder("explain") / FOLDER
    tables.show_explained(session.console, session.subject.classes, records, str(folder))
    session.say(f"one picture of each is in {printable(folder)}; interpnet report {session.run.path} shows them, too")


def report(given: Given, request: Request) -> None:
    """Build the report again."""
    browser = find_browser() if request.pdf else ""  # before the work whose result it prints
    with existing_session(given, request, "report") as session:
        page = run_report(session, again=True)
        show_report(session, page, open_report=request.open_report)
        if request.pdf and session.ranks.first:
            session.say(f"printed: {printable(print_pdf(page, browser))}")
    if request.figures is not None and session.ranks.first:
        drawn = load_run(session.run.path).figures()
        for name, figure in drawn.items():
            plot.save(figure, Path(request.figures) / name)
        session.say(f"figures: {len(drawn)} in {printable(request.figures)}")


def _stage(
    given: Given,
    request: Request,
    name: str,
    work: Callable[[Session], Any],
    following: str,
    check: Callable[[Session], Any] = lambda _session: None,
) -> None:
    """Do the work of a stage; what ``check`` refuses does not become a setting of the run."""
    with existing_session(given, request, name) as session:
        check(session)
        session.run.store(session.config)
        work(session)
        session.run.save()
    session.say(f"next: interpnet {following} {session.run.path}")
