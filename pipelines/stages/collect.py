"""Stage 1: one pass over the training images, every channel's score for every image."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.gram import GramAccumulator, check_size
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.io import read_json

from ..run.folder import digest
from ..run.session import Notes, Session
from ..run.subject import Batches

_VERSION = 1  # a change of what the stage writes makes earlier results stale
GRAM_FILE = "gram.npz"  # the sums G, B, L of docs/method.md, section 2
# Past this the sums' matrix would take 2 GB; the solver then makes it from the scores, once.
_MOST_CHANNELS_SUMMED = 16_000


def run_collect(session: Session) -> bool:
    """Fill ``scores/`` from the training images, going on where an interrupted collection stopped."""
    key = digest(["collect", _VERSION, session.subject.identity()])
    files = ("scores/state.json", "scores/X.f32")
    return session.perform("collect", key, lambda notes: _collect(session, key, notes), files=files)


def _collect(session: Session, key: str, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    folder = session.run.folder("collect")
    indices = subject.train_indices()
    already = _consumed(folder, key, len(indices))  # images that an interrupted pass has scored
    if already:
        session.say(f"  going on at image {already} of {len(indices)}")
    passes: list[Batches] = []

    def batches(start: int) -> Batches:
        passes.append(subject.batches(subject.train, indices[start:]))
        return passes[-1]

    speed = None
    if already is None:
        table = ScoreTable.load(folder)
    else:
        clock = time.monotonic()
        table = _pass(session, batches, key, len(indices))
        speed = round((len(indices) - already) / max(time.monotonic() - clock, 1e-9), 2)
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
        "images_per_second": speed,
        "accuracy": table.accuracy,
        "n_channels": len(table.channels),
    }


def _pass(session: Session, batches: Callable[[int], Batches], key: str, total: int) -> ScoreTable:
    subject = session.subject
    folder = session.run.folder("collect")
    channels = subject.trace.index(session.config.layers)
    check_size(len(channels))  # before the pass rather than after it
    gram = None
    if len(channels) <= _MOST_CHANNELS_SUMMED:
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
        total=total,
    )
    if gram is not None:
        gram.gram().save(folder / GRAM_FILE)
    return table


def _consumed(folder: Path, key: str, total: int) -> int | None:
    """Return how many images an interrupted collection has dealt with, or None where it is complete.

    One that is of no use is deleted.
    """
    if not folder.exists():
        return 0
    state: dict[str, Any] = {}
    with contextlib.suppress(RunFolderError):
        state = read_json(folder / "state.json")
    consumed = int(state.get("consumed", 0))
    ours = state.get("key") == key
    if ours and state.get("complete"):
        return None
    # Read to the end but never finished: there is no image left to start with, so begin again.
    if not ours or consumed >= total:
        shutil.rmtree(folder)
        return 0
    return consumed


def load_table(session: Session) -> ScoreTable:
    """Open the scores of a complete collection."""
    session.run.key("collect")
    return ScoreTable.load(session.run.folder("collect"))
