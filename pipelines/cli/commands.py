"""What the commands on runs do, once their arguments are parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interpnet.attribution import find_method
from interpnet.errors import InterpNetError

from ..run.config import RunConfig, numbers, radius
from ..run.cue import with_cue
from ..run.folder import RunFolder
from ..run.selection import read_frequencies, read_selection
from ..run.session import Session
from ..stages.ablate import load_ablation, run_ablate
from ..stages.collect import run_collect
from ..stages.explain import run_explain
from ..stages.report import run_report
from ..stages.solve import load_interpretation, run_solve
from . import terminal_tables as tables

Given = Mapping[str, Any]
_NOT_SETTINGS = {"run", "out", "config", "fresh", "open_report", "image", "cls", "shortcut", "strength"}


def settings_of(given: Given) -> dict[str, Any]:
    """Turn the command line's words into values of :class:`RunConfig`."""
    values = {name: value for name, value in given.items() if name not in _NOT_SETTINGS and value is not None}
    if "mu" in values:
        values["mu"] = radius(values["mu"])
    for name in ("image_size", "crop"):
        if name in values:
            values[name] = numbers(values[name], f"--{name.replace('_', '-')}", whole=True, separator="x")
    for name in ("mean", "std"):
        if name in values:
            values[name] = numbers(values[name], f"--{name}")
    for name in ("layers", "methods"):
        if values.get(name):
            values[name] = tuple(part.strip() for text in values[name] for part in text.split(",") if part.strip())
        elif name in values:
            del values[name]
    for method in values.get("methods", ()):
        find_method(method)
    return values


def new_session(given: Given, command: str) -> Session:
    """Open or make the run folder of ``audit`` and ``collect``, with the settings of file and command line."""
    config_file, out = given.get("config"), given.get("out")
    base = RunConfig()
    existing = Path(out) if out is not None and (Path(out) / "run.toml").is_file() else None
    values = settings_of(given)
    if config_file is not None:
        base = RunConfig.load(Path(config_file))
    elif existing is not None and "model" not in values:
        base = RunConfig.load(existing / "run.toml")
    if "model" in values or base.directory is None:
        values["directory"] = str(Path.cwd())
    config = with_cue(base.override(values), given)
    if not config.model or not config.data:
        missing = "MODEL and DATA" if not config.model else "DATA"
        raise InterpNetError(
            f"{missing} missing: interpnet {command} MODEL DATA --out runs/NAME, for example "
            f"interpnet {command} torchvision:resnet18 imagefolder:photos (see interpnet {command} --help)"
        )
    path = Path(out) if out is not None else Path("runs") / default_name(config)
    return Session(RunFolder.create(path), config, f"interpnet {command} --out {path}", fresh=bool(given.get("fresh")))


def default_name(config: RunConfig) -> str:
    """Return a run's name made from its model and data.

    Examples
    --------
    >>> default_name(RunConfig(model="torchvision:resnet18", data="imagefolder:/tmp/my photos"))
    'resnet18-my-photos'
    """
    parts = (config.model.rpartition(":")[2], Path(config.data.rpartition(":")[2]).name)
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.") or "run" for part in parts)


def existing_session(given: Given, command: str) -> Session:
    """Open the run folder of a stage command, its settings overridden by the command line's."""
    path = Path(given["run"])
    run = RunFolder.open(path)
    config = run.config().override(settings_of(given))
    return Session(run, config, f"interpnet {command} {path}", fresh=bool(given.get("fresh")))


def audit(given: Given) -> None:
    """Run all stages."""
    session = new_session(given, "audit")
    load(session)
    with session.run.locked():
        run_audit(session, open_report=bool(given.get("open_report")))


def load(session: Session) -> None:
    """Load model and images before the run folder is made, so that a mistyped name leaves nothing behind."""
    _ = session.loaded


def run_audit(session: Session, *, open_report: bool = False) -> None:
    """Run every stage of a session and say where the report is."""
    _collect(session)
    _solve(session)
    _ablate(session)
    run_explain(session)
    _report(session, open_report=open_report)


def _collect(session: Session) -> None:
    run_collect(session)
    tables.show_collect(session.console, session.run.stage("collect"))


def _solve(session: Session) -> None:
    run_solve(session)
    found, folder = load_interpretation(session), session.run.folder("solve")
    tables.show_relevant(session.console, found, read_selection(folder), read_frequencies(folder, found.coef.shape))


def _ablate(session: Session) -> None:
    run_ablate(session)
    result = load_ablation(session)
    if result is not None:
        tables.show_ablation(session.console, result)


def _report(session: Session, *, open_report: bool, again: bool = False) -> None:
    path = run_report(session, again=again)
    session.say("")
    session.console.print(f"report: {path}", style="bold green", highlight=False, soft_wrap=True, markup=False)
    if open_report:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def collect(given: Given) -> None:
    """Start a run with its first stage, or go on with it."""
    first = given.get("model")
    if first is not None and (Path(first) / "manifest.json").is_file():
        given = {**given, "run": first, "model": None}
        session = existing_session(given, "collect")
    else:
        session = new_session(given, "collect")
    load(session)
    with session.run.locked():
        _collect(session)
    session.say(f"next: interpnet solve {session.run.path}")


def solve(given: Given) -> None:
    """Solve again from existing scores."""
    _stage(given, "solve", _solve, "ablate")


def ablate(given: Given) -> None:
    """Run the ablation study again."""
    _stage(given, "ablate", _ablate, "explain")


def explain(given: Given) -> None:
    """Picture channels and examples again, or explain a user's images."""
    if given.get("image"):
        _explain_user(given)
    elif given.get("cls") is not None:
        raise InterpNetError("--class came without --image; name the images that are to be explained for that class")
    else:
        _stage(given, "explain", run_explain, "report")


def _explain_user(given: Given) -> None:
    from ..stages.user_images import FOLDER, explain_user_images

    session = existing_session(given, "explain")
    with session.run.locked():
        stored = session.run.config()
        records = explain_user_images(session, given["image"], given.get("cls"))
        # How somebody looked at a picture of their own is no setting of the run.
        stored.save(session.run.path / "run.toml")
    folder = session.run.folder("explain") / FOLDER
    tables.show_explained(session.console, session.subject.classes, records, str(folder))


def report(given: Given) -> None:
    """Build the report again."""
    session = existing_session(given, "report")
    with session.run.locked():
        _report(session, open_report=bool(given.get("open_report")), again=True)


def _stage(given: Given, name: str, work: Callable[[Session], object], following: str) -> None:
    session = existing_session(given, name)
    with session.run.locked():
        session.config.save(session.run.path / "run.toml")
        work(session)
    session.say(f"next: interpnet {following} {session.run.path}")
