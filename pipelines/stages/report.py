"""Stage 5: the report, from what the other stages wrote; needs neither model nor images."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError

from ..report.own import FOLDER as OWN_IMAGES
from ..run.chosen import chosen, covers, key_part, studied_by
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .ablate import STAGES, ablate_key
from .concepts import current_key
from .explain import shown_key
from .identified import load_way
from .shortcuts import searched_key
from .solve import require_current

_FILES = ("report/index.html",)


def run_report(session: Session, *, again: bool = False) -> Path:
    """Build ``report/index.html`` from complete stages that fit each other; return its path.

    ``RunFolderError`` where a stage is missing, or was run with inputs that have changed since.
    """
    for way in session.config.ways:
        load_way(session, way)
        _require_classes(session, STAGES[way])
        require_current(session, STAGES[way], ablate_key(session, way))
    _require_classes(session, "explain")
    require_current(session, "explain", shown_key(session))
    only = chosen(session)
    parts = [shown_key(session), session.run.manifest["notes"], _sources(), *key_part(only)]
    # A run of an older version has none, and is shown without.
    if session.run.stage("shortcuts").get("state") == "complete":
        _require_classes(session, "shortcuts")
        require_current(session, "shortcuts", searched_key(session))
        parts.append(searched_key(session))
    if session.config.concepts:
        require_current(session, "concepts", current_key(session))
        parts.append(session.run.key("concepts"))
    repaired = session.run.stage("repair")
    if repaired.get("state") == "complete":
        parts.append(repaired["key"])
    # Images that a user had explained: another report, and the same where there is none.
    own = sorted((session.run.path / OWN_IMAGES).glob("*.json"))
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in own]
    key = digest(["report", *parts])
    if again:
        session.run.manifest["stages"].pop("report", None)

    def build(_notes: Notes) -> dict[str, Any]:
        from ..report.build import REPORT_FILES, build_report  # it draws; an up-to-date report does not wait for that

        written = [f"report/{name}" for name in REPORT_FILES]
        return {"bytes": build_report(session.run.path, only=only).stat().st_size, "written": written}

    session.perform("report", key, build, files=_FILES)
    return session.run.path / _FILES[0]


def _require_classes(session: Session, stage: str) -> None:
    """Refuse a stage that was done for fewer classes than are wanted."""
    entry = session.run.stage(stage)
    only = chosen(session)
    if entry.get("state") != "complete" or covers(studied_by(entry), only):
        return
    wanted = "all"
    if only is not None:
        classes = session.run.known("model", "classes")
        wanted = shlex.quote(",".join(classes[c] for c in only))
    raise RunFolderError(
        f"run folder {str(session.run.path)!r}: the stage {stage!r} was done for other classes (--only); run "
        f"`interpnet audit --out {session.run.path} --only {wanted}`, which does the rest"
    )


def _sources() -> str:
    """Return a digest of the report's code and templates: another version makes its report again."""
    folder = Path(__file__).parent.parent / "report"
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in {".pyc", ".pyo"}:
            total.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()
