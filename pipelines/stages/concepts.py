"""The channels named for classes, by concepts: what their maps overlap with, and where they are strongest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.concepts import Dissection, Strongest, dissect, strongest
from interpnet.engine import Channel
from interpnet.errors import DataError, LayerError, ModelError, RunFolderError
from interpnet.plotting import save_png
from interpnet.support.io import read_object, write_json

from ..report.dissection import strip_of
from ..run.chosen import chosen, key_part, noted
from ..run.concept_sources import Sources, concepts_of, sources_key
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .explain import shown_channels
from .identified import load_way, way_key

#: In the run folder: the channels named for classes.
FILE = "concepts/concepts.json"
#: Beside it, all numbers.
NUMBERS = "dissection.npz"
_FORMAT = "interpnet-run-concepts-1"
_VERSION = 2  # a change of what the stage writes makes earlier results stale
_IMAGES = 6  # in which a channel is strongest
_SIZE = 96  # pixels


def concepts_key(session: Session) -> str:
    """Return the key of the stage: what is dissected, and which channels are shown."""
    ways = [way_key(session, way) for way in session.config.ways]
    caps = [session.config.max_channels, session.config.max_pictured]
    return digest(["concepts", _numbers_key(session), *ways, *caps, *key_part(chosen(session))])


def current_key(session: Session) -> str:
    """Return the key of what a report shows: where the images cannot be found any more, that of the run."""
    entry = session.run.stage("concepts")
    try:
        return concepts_key(session)
    except DataError:
        if entry.get("spec") != session.config.concepts:
            raise
        return str(entry["key"])


def _numbers_key(session: Session) -> str:
    sources = concepts_of(session)
    stamp = None if sources is None else sources_key(sources)
    config = session.config
    return digest([_VERSION, session.run.known("identity", "model"), stamp, list(config.layers), config.seed])


def run_concepts(session: Session) -> bool:
    """Name the channels and write ``concepts/``; nothing where the settings name no concepts."""
    if not session.config.concepts:
        return False
    session.open_subject()
    ran = session.perform("concepts", concepts_key(session), lambda notes: _name(session, notes), files=(FILE,))
    entry = session.run.stage("concepts")
    if entry["spec"] != session.config.concepts:
        # The same images lie elsewhere.
        entry["spec"] = session.config.concepts
        session.run.save()
    return ran


def _name(session: Session, notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("concepts")
    facts = {"spec": session.config.concepts, **noted(chosen(session))}
    sources = concepts_of(session)
    try:
        found = _dissected(session, sources or {}, folder)
    except (ModelError, LayerError) as error:
        notes.add(f"Channels have no names by concepts: {error}")
        write_json(folder / Path(FILE).name, {"format": _FORMAT, "refused": str(error)})
        return facts | {"written": (FILE,)}
    named = [load_way(session, way) for way in session.config.ways]
    config = session.config
    shown = shown_channels(named, config.max_channels, config.max_pictured, chosen(session))
    every = [*dict.fromkeys(channel for one in named for channel in _named(one, found))]
    # What has a name is looked at first.
    wanted = [channel for channel in every if found.names(channel)][: config.max_pictured]
    channels = [*dict.fromkeys([*wanted, *(channel for own in shown.values() for channel, _ in own)])]
    files = _draw(session, sources or {}, found, channels, folder)
    content = {
        "format": _FORMAT,
        "numbers": _numbers_key(session),
        "spec": config.concepts,
        "images": found.images,
        "least": found.least,
        "concepts": list(found.concepts),
        "channels": len(found.channels),
        "named": int(found.named.sum()),
        "layers": [asdict(one) for one in found.layers()],
        "of_classes": [_entry(found, channel, files.get(channel)) for channel in every],
    }
    write_json(folder / Path(FILE).name, content)
    facts["n_images"] = sum(found.images.values())
    return facts | {"written": (FILE, f"concepts/{NUMBERS}", "concepts/*.png")}


def _named(one: Any, found: Dissection) -> list[Channel]:
    """Return the channels that a way names for any class."""
    columns = np.flatnonzero((one.coef != 0).any(0))
    known = set(found.channels)
    return [channel for channel in (one.channels[int(column)] for column in columns) if channel in known]


def _dissected(session: Session, sources: Sources, folder: Path) -> Dissection:
    """Return the numbers: those in the folder where they are of the same network, images and layers."""
    subject = session.subject
    with suppress(RunFolderError):
        if read_object(session.run.path / FILE).get("numbers") == _numbers_key(session):
            return Dissection.load(folder / NUMBERS)
    found = dissect(
        subject.model,
        sources,
        layers=session.config.layers,
        seed=session.config.seed,
        max_batch=session.config.batch_size,
        device=subject.device,
        output=subject.output,
    )
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / NUMBERS)
    return found


def _draw(
    session: Session, sources: Sources, found: Dissection, channels: Sequence[Channel], folder: Path
) -> Mapping[Channel, str]:
    """Write a picture of the strongest images of each channel; return their names."""
    subject = session.subject
    undo = next(iter(sources.values())).preprocessing.undo
    for old in folder.glob("*.png"):
        old.unlink()
    files: dict[Channel, str] = {}
    # Some at a time, for their images and maps are held.
    for start in range(0, len(channels), 64):
        seen: dict[Channel, Strongest] = strongest(
            subject.model,
            sources,
            found,
            channels[start : start + 64],
            most=_IMAGES,
            max_batch=session.config.batch_size,
            device=subject.device,
            output=subject.output,
        )
        for channel, one in seen.items():
            files[channel] = f"c{found.channels.position(channel):05d}.png"
            save_png(folder / files[channel], strip_of(one, undo, _SIZE), durable=False)
    return files


def _entry(found: Dissection, channel: Channel, file: str | None) -> dict[str, Any]:
    row = found.channels.position(channel)
    best = int(found.best[row])
    iou = float(found.iou[row, best])
    floors = dict(zip(found.concepts, (float(f) if np.isfinite(f) else None for f in found.floor[row]), strict=True))
    names = [asdict(name) | {"floor": floors[name.concept]} for name in found.names(row)]
    return {
        "layer": channel.layer,
        "index": channel.index,
        "names": names,
        "closest": {"concept": found.concepts[best], "iou": iou if np.isfinite(iou) else 0.0},
        "null": float(found.null[row]),
        "floor": names[0]["floor"] if names else floors[found.concepts[best]],
        "file": file,
    }
