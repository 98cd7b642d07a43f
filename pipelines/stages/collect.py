"""Stage 1: one pass over the training images, every channel's score for every image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interpnet.datasets import Batch
from interpnet.errors import RunFolderError
from interpnet.gram import GramAccumulator, gram_fits
from interpnet.scores import PARTS, ScoreTable, add_rows, begun, collect_scores
from interpnet.support.io import remove_tree

from ..run.config import RELIANCE
from ..run.folder import RunFolder, digest
from ..run.notes import Notes
from ..run.session import Session
from ..run.split import Batches
from .first_look import first_look
from .sums import KeptSums, Sums, Wanted, classes_with_images, first_of_each, fitted_on, outputs_of, pass_key

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
    key = collect_key(session.run)
    files = ("scores/state.json", "scores/X.f32")
    return session.perform(
        "collect",
        key,
        lambda notes: _collect(session, key, notes),
        files=files,
        check=lambda: _damaged_rows(session),
        split=True,
    )


def collect_key(run: RunFolder) -> str:
    """Return the key of the scores of a run."""
    return digest(["collect", _VERSION, run.manifest["identity"]])


def _damaged_rows(session: Session) -> dict[str, str]:
    """Compare the rows with the checksums that state.json has; a damaged file is named by state.json's reader."""
    try:
        ScoreTable.progress(session.run.folder("collect"))
    except RunFolderError as error:
        return {"scores/state.json": f"does not fit the rows beside it ({error})"}
    session.run.verified.add(_ROWS)
    return {}


class _Images:
    """The training images that are used, from any of them on, or some of their batches by position."""

    def __init__(self, session: Session) -> None:
        self._subject = session.subject
        self.indices = self._subject.train_indices()
        self.n_images = len(self.indices)
        self.batch_size = session.config.batch_size
        self._passes: list[Batches] = []

    def __call__(self, start: int) -> Batches:
        made = self._subject.batches(self._subject.train, self.indices[start:])
        self._passes.append(made)
        return made

    def numbered(self, batches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Batch]]:
        """Yield some batches with the positions at which they begin."""
        made = self._subject.batches(self._subject.train, self.indices)
        self._passes.append(made)
        return made.numbered(batches)

    def waited(self) -> float:
        """Return for how many seconds the network had no images."""
        return sum(one.loader.waited for one in self._passes)

    def skipped(self) -> dict[int, list[Any]]:
        """Return the images, by number, that could not be read in the passes from one of them on."""
        # Those after the last whole batch are known to the loader only.
        found = (image for one in self._passes for image in one.loader.skipped)
        return {image.index: [image.index, image.name, image.reason] for image in found}


def _collect(session: Session, key: str, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    folder = session.run.folder("collect")
    images = _Images(session)
    total = images.n_images
    # Images that an interrupted pass has scored.
    already = session.ranks.share(_consumed(session, key, total))
    if already:
        session.say(f"  going on at image {already} of {total}")
    seen = None
    if already == 0:
        seen = first_look(session, notes)
    speed = None
    waited = None
    if already is None:
        table = ScoreTable.load(folder, verify=False)  # done just now
    else:
        clock = time.monotonic()
        table = _pass(session, images, key, new=not already)
        seconds = max(time.monotonic() - clock, 1e-9)
        speed = round((total - already) / seconds, 2)
        waited = round(min(images.waited() / seconds, 1.0), 3)
        if waited > _MUCH_WAITING and seconds > _WORTH_A_NOTE:
            notes.add(
                f"The network waited for images {waited:.0%} of the time; --workers N reads them ahead in N processes "
                f"(here {session.config.workers})."
            )
    if session.ranks.first:
        sum_again(table, folder / GRAM_FILE)
    session.run.verified.add(_ROWS)
    facts = described(session, table, notes, images.skipped())
    return facts | {
        "n_classes_with_images": classes_with_images(subject.train.truth[images.indices]),
        "images_per_second": speed,
        "waited": waited,  # the share of the time in which the network had no images
        "first_look": seen,
    }


def described(
    session: Session, table: ScoreTable, notes: Notes, more_skipped: Mapping[int, list[Any]]
) -> dict[str, Any]:
    """Return what the manifest notes of a table; what is left out or dead becomes a note."""
    skipped = {int(index): [int(index), str(name), str(why)] for index, name, why in table.info.get("skipped", [])}
    skipped |= more_skipped
    session.run.manifest["data"]["train"]["skipped"] = [skipped[i] for i in sorted(skipped)]
    if skipped:
        notes.add(f"{len(skipped)} training images could not be read and were left out.")
    accuracy = None
    if len(table):
        dead = table.dead_layers()
        if dead:
            notes.add(f"Dead layers, zero on every image: {', '.join(dead)}")
        if not session.independent:
            accuracy = table.accuracy
    return {
        "n_images": len(table),
        "accuracy": accuracy,
        "n_channels": len(table.channels),
        # The rows' own checksums are in state.json.
        "written": ("scores/state.json", f"scores/{GRAM_FILE}"),
    }


def _pass(session: Session, images: _Images, key: str, *, new: bool) -> ScoreTable:
    subject = session.subject
    folder = session.run.folder("collect")
    channels = subject.trace.index(session.config.layers)
    gram = None
    # Processes on machines of different sizes do the same.
    if session.ranks.share(gram_fits(len(channels), _PARTS, subject.device)):
        gram = GramAccumulator(len(channels), subject.trace.n_outputs)
    contributions = _beside(session, key, images, new=new)
    table = collect_scores(  # docs/method.md, section 1
        subject.model,
        images,
        layers=session.config.layers,
        norm=session.config.norm,
        device=subject.device,
        out=folder,
        key=key,
        output=subject.output,
        gram=gram,
        contributions=contributions,
        total=images.n_images,
        group=session.group,
        shard=session.shard,
    )
    if session.ranks.first:
        if gram is not None and gram.n:
            gram.gram().save(folder / GRAM_FILE)
        if contributions is not None:
            contributions.keep(table, session.run.folder("contributions"))
    return table


def _beside(session: Session, key: str, images: _Images, *, new: bool) -> KeptSums | None:
    """Return what sums contributions in the same pass; None where they are not wanted, or the first ones are lost."""
    config = session.config
    if RELIANCE not in config.ways:
        return None
    subject = session.subject
    folder = session.run.folder("collect")
    targets = "labels"
    if not session.independent:
        n_classes = classes_with_images(subject.train.labels[images.indices])
        targets = fitted_on(images.n_images, n_classes, config.fit_on)
    shared = not session.ranks.alone or (folder / PARTS).is_dir()
    only = None
    if shared or session.shard is not None:
        # What the network says of the others is known to no process alone; what their labels are is.
        if targets != "labels":
            return None
        labels = subject.train.truth[images.indices]
        wanted = first_of_each(labels, config.contribution_images)
        only = Wanted(images.indices, labels, wanted, subject.trace.n_outputs)
    rows = 0
    if not new and not shared:
        rows = ScoreTable.progress(folder).rows
    files = Sums(session.run.folder("contributions"), pass_key(session, key, targets), "rows", rows)
    start = None
    if rows:
        start = files.read(rows)
        if start is None:
            return None
    return KeptSums(
        files,
        only,
        fill=config.fill,
        images=config.contribution_images,
        targets=targets,
        classes=list(subject.classes),
        start=start,
        outputs=outputs_of(session),
    )


def sum_again(table: ScoreTable, path: Path) -> None:
    """Write the sums of a complete table where their file was lost."""
    if path.is_file() or not gram_fits(len(table.channels), _PARTS) or not len(table):
        return
    gram = GramAccumulator(len(table.channels), table.n_classes)
    for start in range(0, len(table), _SUMMED_ROWS):
        part = slice(start, start + _SUMMED_ROWS)
        add_rows(gram, table.X[part], table.labels[part], table.n_classes)
    gram.gram().save(path)


def _consumed(session: Session, key: str, total: int) -> int | None:
    """Return how many images an interrupted collection has dealt with, or None where it is complete.

    One that is of no use, because it is another's or damaged, is deleted. Of several processes rank 0 looks.
    """
    if not session.ranks.first:
        return None
    folder = session.run.folder("collect")
    shared = (folder / PARTS).is_dir()
    if not (folder / "state.json").exists() and not shared:
        # Rows alone say nothing, and sums are those of the rows.
        session.run.discard(_FILES)
        return 0
    try:
        known = begun(folder, key)
    except RunFolderError as error:
        session.say_notes([f"{error}: collected again"], margin="  ")
        _forget(session)
        return 0
    if known.key != key:
        _forget(session)
        return 0
    if known.complete:
        # A kill can leave parts that are joined.
        remove_tree(folder / PARTS)
        return None
    # Read to the end but never finished: there is no image left to start with, so begin again.
    if known.consumed >= total and session.ranks.alone and not shared and session.shard is None:
        _forget(session)
        return 0
    return known.consumed


def _forget(session: Session) -> None:
    session.run.discard(_FILES)
    remove_tree(session.run.folder("collect") / PARTS)


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
