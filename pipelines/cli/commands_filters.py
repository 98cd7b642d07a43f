"""The command ``interpnet filters``: what a network's filters, channels, classes and embedding look like."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import interpnet
from interpnet.errors import DataError, InterpNetError
from interpnet.support.io import remove_tree

from ..filters.parts import Parts
from ..filters.photographs import Photographs
from ..filters.settings import FilterSettings
from ..filters.work import Work
from ..report.filters import PAGE, build_filters_report
from ..run.concept_sources import concepts_of
from ..run.folder import digest
from ..run.identity import differences
from ..run.notes import Notes
from ..run.opening import default_name
from ..run.session import Session
from ..run.settings import Given
from ..run.subject import Subject
from .commands import configured, new_session, show_report
from .options import Request

#: Below the run folder; the report itself lies in ``report/`` with that of an audit.
FOLDER = "filters"
STAGE = "filters"  # its name in the manifest; an audit has no such stage
# Of a subject's notes, what only an audit's reader must know.
_AUDIT_NOTE = "There is no test split"


def filters(given: Given, request: Request, own: Given) -> None:
    """Make the filter visualization report of a model, or go on with it."""
    named = "model" in given.values
    if request.out is None and named and "data" in given.values:
        request = replace(request, out=f"runs/{default_name(configured(given, request))}-filters")
    with new_session(given, request, "filters") as session:
        # The folder's own settings hold as long as nobody names a model: then it is another visualization.
        stored: dict[str, Any] = {}
        if not named:
            noted = session.run.stage(STAGE).get("settings", {})
            stored = {entry.name: noted.get(entry.name) for entry in fields(FilterSettings)}
        settings = FilterSettings().override(stored).override(own.values)
        if request.between and not request.image:
            raise InterpNetError("--between came without --image; name the photographs the classes are compared in")
        subject = session.loaded
        if subject.independent:
            raise DataError(
                f"an image of {session.config.data!r} can have several labels, and this report groups images by their "
                "one class; give images of one class each, such as an imagefolder:PATH"
            )
        base = _claim(session, subject, settings)
        parts = Parts(session.run.path / FOLDER, base)
        work = Work(subject, settings, parts, concepts_of(session) or {})
        # First, so that a file that is no image is said before the long work.
        photographs = Photographs.named(work, request.image, request.between) if request.image else None
        path = _make(session, work, photographs)
    show_report(session, path, open_report=request.open_report)


def _claim(session: Session, subject: Subject, settings: FilterSettings) -> str:
    """Make the folder ours, or refuse it as another's; return the digest of what all parts depend on."""
    run = session.run
    ours = set(run.manifest["stages"]) <= {STAGE}  # and not an audit's, which keeps its identity and settings
    if (session.fresh and ours) or not run.has_results():
        run.forget()
    described = subject.describe(run.manifest.get("model", {}))
    found = subject.identity(described)
    identity = {name: value for name, value in found.items() if not name.startswith("configuration")}
    run.claim({**run.manifest["identity"], **identity}, differences(run.manifest, described))
    if session.fresh:
        remove_tree(run.path / FOLDER)
    if ours:
        run.manifest.update(described, device=str(subject.device), seed=session.config.seed)
        run.store(session.config)
    run.save()
    config = session.config
    made_from = [identity, settings.split, settings.max_images, config.seed, config.on_bad_image]
    return digest([interpnet.__version__, made_from])


def _make(session: Session, work: Work, photographs: Photographs | None) -> Path:
    """Make what is missing and write the page; the manifest keeps the settings, for going on without them."""

    def make(notes: Notes) -> dict[str, Any]:
        for note in work.subject.notes:
            if not note.startswith(_AUDIT_NOTE):
                notes.add(note)
        build_filters_report(session.run.path, work, notes, photographs)
        return {}

    settings = asdict(work.settings)
    key = digest([work.parts.base, {"settings": settings, "concepts": work.subject.config.concepts}])
    interrupted = f"interrupted; the parts that are done are kept in {str(session.run.path)!r}"
    entry = session.record(STAGE, key, make, interrupted, settings=settings)
    session.say_notes(entry["notes"])
    if work.parts.reused:
        session.say(f"parts that were there already: {len(work.parts.reused)}")
    session.say(f"done in {entry['seconds']:.1f} s")
    return session.run.path / "report" / PAGE
