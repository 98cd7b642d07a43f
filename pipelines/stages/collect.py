"""Stage 1: one pass over the training images, every channel's score for every image."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.gram import GramAccumulator, gram_fits
from interpnet.scores import ScoreTable, add_rows, collect_scores

from ..run.config import RELIANCE
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from ..run.split import Batches
from .first_look import first_look
from .sums import KeptSums, Sums, classes_with_images, fitted_on, outputs_of, pass_key

_VERSION = 1  # a change of what the stage writes makes earlier results stale
GRAM_FILE = "gram.npz"  # the sums G, B, L of docs/method.md, section 2
# The sums' matrix may take one part of so many of the memory, which the network and its images need; a larger one the
# solver makes from the scores, or does without.
_PARTS = 8
_SUMMED_ROWS = 2048
_ROWS = "rows of the scores"
_MUCH_WAITING = 0.5
_WORTH_A_NOTE = 60.0  # seconds
_FILES = tuple(
    f"scores/{name}" for name in ("state.json", "X.f32", "labels.bin", "predictions.i64", "indices.i64", GRAM_FILE)
)


def run_collect(session: Session) -> bool:
    """Fill ``scores/`` from the training images, going on where an interrupted collection stopped."""
    session.open_subject()
    key = digest(["collect", _VERSION, session.run.manifest["identity"]])
    files = ("scores/state.json", "scores/X.f32")
    return session.perform(
        "collect",
        key,
        lambda notes: _collect(session, key, notes),
        files=files,
        check=lambda: _damaged_rows(session),
    )


def _damaged_rows(session: Session) -> dict[str, str]:
    """Compare the rows with the checksums that state.json has; a damaged file is named by state.json's reader."""
    try:
        ScoreTable.progress(session.run.folder("collect"))
    except RunFolderError as error:
        return {"scores/state.json": f"does not fit the rows beside it ({error})"}
    session.run.verified.add(_ROWS)
    return {}


def _collect(session: Session, key: str, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    folder = session.run.folder("collect")
    indices = subject.train_indices()
    already = _consumed(session, key, len(indices))  # images that an interrupted pass has scored
    if already:
        session.say(f"  going on at image {already} of {len(indices)}")
    passes: list[Batches] = []

    def batches(start: int) -> Batches:
        made = subject.batches(subject.train, indices[start:])
        passes.append(made)
        return made

    seen = None
    if already == 0:
        seen = first_look(session, notes)
    speed = None
    waited = None
    if already is None:
        table = ScoreTable.load(folder, verify=False)  # done just now
        _sum_again(table, folder / GRAM_FILE)
    else:
        clock = time.monotonic()
        table = _pass(session, batches, key, len(indices), new=not already)
        seconds = max(time.monotonic() - clock, 1e-9)
        speed = round((len(indices) - already) / seconds, 2)
        waited = round(min(sum(one.loader.waited for one in passes) / seconds, 1.0), 3)
        if waited > _MUCH_WAITING and seconds > _WORTH_A_NOTE:
            notes.add(
                f"The network waited for images {waited:.0%} of the time; --workers N reads them ahead in N processes "
                f"(here {session.config.workers})."
            )
    session.run.verified.add(_ROWS)
    skipped = {int(index): [int(index), str(name), str(why)] for index, name, why in table.info.get("skipped", [])}
    # Images skipped after the last whole batch are known to the loader only.
    for one in passes:
        skipped |= {image.index: [image.index, image.name, image.reason] for image in one.loader.skipped}
    session.run.manifest["data"]["train"]["skipped"] = [skipped[i] for i in sorted(skipped)]
    if skipped:
        notes.add(f"{len(skipped)} training images could not be read and were left out.")
    dead = table.dead_layers()
    if dead:
        notes.add(f"Dead layers, zero on every image: {', '.join(dead)}")
    return {
        "n_images": len(table),
        "n_classes_with_images": classes_with_images(subject.train.truth[indices]),
        "images_per_second": speed,
        "waited": waited,  # the share of the time in which the network had no images
        "accuracy": None if session.independent else table.accuracy,
        "first_look": seen,
        "n_channels": len(table.channels),
        # The rows' own checksums are in state.json.
        "written": ("scores/state.json", f"scores/{GRAM_FILE}"),
    }


def _pass(session: Session, batches: Callable[[int], Batches], key: str, total: int, *, new: bool) -> ScoreTable:
    subject = session.subject
    folder = session.run.folder("collect")
    channels = subject.trace.index(session.config.layers)
    gram = None
    # Processes on machines of different sizes do the same.
    if session.ranks.share(gram_fits(len(channels), _PARTS, subject.device)):
        gram = GramAccumulator(len(channels), subject.trace.n_outputs)
    table = collect_scores(  # docs/method.md, section 1
        subject.model,
        batches,
        layers=session.config.layers,
        norm=session.config.norm,
        device=subject.device,
        out=folder,
        key=key,
        output=subject.output,
        gram=gram,
        contributions=_beside(session, key, total, new=new),
        total=total,
    )
    if gram is not None:
        gram.gram().save(folder / GRAM_FILE)
    return table


def _beside(session: Session, key: str, total: int, *, new: bool) -> KeptSums | None:
    """Return what sums contributions in the same pass; None where they are not wanted, or the first ones are lost."""
    config = session.config
    if RELIANCE not in config.ways:
        return None
    subject = session.subject
    targets = "labels"
    if not session.independent:
        n_classes = classes_with_images(subject.train.labels[subject.train_indices()])
        targets = fitted_on(total, n_classes, config.fit_on)
    rows = 0
    if not new:
        rows = ScoreTable.progress(session.run.folder("collect")).rows
    files = Sums(session.run.folder("contributions"), pass_key(session, key, targets), "rows", rows)
    start = None
    if rows:
        start = files.read(rows)
        if start is None:
            return None
    return KeptSums(
        files,
        fill=config.fill,
        images=config.contribution_images,
        targets=targets,
        classes=list(subject.classes),
        start=start,
        outputs=outputs_of(session),
    )


def _sum_again(table: ScoreTable, path: Path) -> None:
    """Write the sums of a complete table where their file was lost."""
    if path.is_file() or not gram_fits(len(table.channels), _PARTS):
        return
    gram = GramAccumulator(len(table.channels), table.n_classes)
    for start in range(0, len(table), _SUMMED_ROWS):
        part = slice(start, start + _SUMMED_ROWS)
        add_rows(gram, table.X[part], table.labels[part], table.n_classes)
    gram.gram().save(path)


def _consumed(session: Session, key: str, total: int) -> int | None:
    """Return how many images an interrupted collection has dealt with, or None where it is complete.

    One that is of no use, because it is another's or damaged, is deleted.
    """
    folder = session.run.folder("collect")
    if not (folder / "state.json").exists():
        # Rows alone say nothing, and sums are those of the rows.
        session.run.discard(_FILES)
        return 0
    try:
        known = ScoreTable.progress(folder)
    except RunFolderError as error:
        session.say_notes([f"{error}: collected again"], margin="  ")
        session.run.discard(_FILES)
        return 0
    ours = known.key == key
    if ours and known.complete:
        return None
    # Read to the end but never finished: there is no image left to start with, so begin again.
    if not ours or known.consumed >= total:
        session.run.discard(_FILES)
        return 0
    return known.consumed


def load_table(session: Session) -> ScoreTable:
    """Open the scores of a complete collection; damaged ones are a ``RunFolderError``."""
    run = session.run
    run.key("collect")
    run.verify("collect")
    try:
        table = ScoreTable.load(run.folder("collect"), verify=_ROWS not in run.verified)
    except RunFolderError as error:
        raise RunFolderError(f"{error} with `interpnet collect {run.path}`") from error
    run.verified.add(_ROWS)
    return table
