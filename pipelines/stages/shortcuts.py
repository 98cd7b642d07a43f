"""Stage 5: what the network goes by beside the subject; training images exchange parts.

On training images: a shortcut that the network has learnt there need not be in the test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import ImageData
from interpnet.errors import DataError, ModelError
from interpnet.plotting import enlarge, save_png
from interpnet.shortcuts import ClassFinding, Findings, find, findings_json
from interpnet.support.io import remove_tree, write_json
from interpnet.support.types import Int64

from ..run.chosen import Chosen, chosen, covers, key_part, noted, of_chosen, studied_by
from ..run.field import Field, field_key, field_of
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from ..run.shortcuts import SHORTCUTS_FILE, picture_names
from ..run.split import balanced
from .outline import outlined
from .shown import Looked, Shown

_VERSION = 2  # a change of what the stage writes makes earlier results stale
#: The mask of the subject, where the data has one (an8Flower's).
SUBJECT = "plant"
#: Under which name a session keeps what was found, with the images that a file has not.
FOUND = "findings"
_SIZE = 192  # pixels of a picture
_PIXELS = 16 * 224 * 224  # that go through the network at once; 64 images of 224 pixels took 10 GB
_MOST_PICTURED = 40  # suspicious classes whose images are kept
_FEW = 20  # images from the field; of fewer a class must draw nearly all


def shortcuts_key(session: Session) -> str:
    """Return the key of the stage for the current scores and settings."""
    return _key(session, chosen(session), field_key(session))


def searched_key(session: Session) -> str:
    """Return the key of what a report can show: also of a search for more classes than are wanted.

    Images from the field are not read for it.
    """
    entry = session.run.stage("shortcuts")
    only = chosen(session)
    done = studied_by(entry)
    if entry.get("state") == "complete" and covers(done, only):
        only = done
    return _key(session, only, field_key(session, noted=True))


def _key(session: Session, only: Chosen, field: list[Any]) -> str:
    config = session.config
    parts = [session.run.key("collect"), config.shortcut_images, config.seed]
    return digest(["shortcuts", _VERSION, *parts, *key_part(only), *(["field", *field] if field else [])])


def run_shortcuts(session: Session) -> bool:
    """Search for shortcuts and write ``shortcuts/``; what cannot be searched is a note."""
    session.open_subject()
    ran = session.perform("shortcuts", shortcuts_key(session), lambda notes: _search(session, notes))
    field = session.run.stage("shortcuts").get("field")
    if field is not None and field["spec"] != session.config.field:
        # The same images lie elsewhere.
        field["spec"] = session.config.field
        session.run.save()
    return ran


def _search(session: Session, notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("shortcuts")
    remove_tree(folder)
    only = chosen(session)
    field = field_of(session)
    looked = None if field is None else Looked(field, session)
    found, refused = search(session, only, notes, looked=looked)
    if found is None:
        notes.add(f"Shortcuts were not searched: {refused}")
        return {"refused": refused, **_field_facts(session, field, looked), **noted(only)}
    if field is not None and looked is not None:
        _note_field(field, looked, notes)
    session.memo[FOUND] = found
    for note in found.notes:
        notes.add(note)
    data = session.subject.train.data
    for one in found.suspicious[:_MOST_PICTURED]:
        _draw(session, data, one)
    shown = Shown(session, found, looked).write()
    write_json(session.run.path / SHORTCUTS_FILE, findings_json(found) | {"shown": shown})
    suspicious = [one.index for one in found.suspicious]
    facts = {"n_images": found.n, "passes": round(found.passes, 2), "suspicious": suspicious, **noted(only)}
    return facts | _field_facts(session, field, looked) | {"written": ("shortcuts/*",)}


def _field_facts(session: Session, field: Field | None, looked: Looked | None) -> dict[str, Any]:
    """Return what the manifest notes of the images from the field; nothing where there are none."""
    if field is None or looked is None:
        return {}
    facts = {"spec": session.config.field, "n_images": len(looked.rows), "of": len(field.data), "key": field.key}
    return {"field": facts | {"skipped": looked.skipped}}


def _note_field(field: Field, looked: Looked, notes: Notes) -> None:
    for note in field.data.notes:
        notes.add(f"Images from the field: {note}")
    if len(field.used) < len(field.data):
        notes.add(
            f"{len(field.used)} of {len(field.data)} images from the field were looked at, drawn at random "
            "(--shortcut-images)."
        )
    if looked.skipped:
        notes.add(f"{len(looked.skipped)} images from the field could not be read and were left out.")
    if len(looked.rows) < _FEW:
        notes.add(
            f"{len(looked.rows)} images from the field are too few to tell what they lean to from chance; expected "
            f"{_FEW} or more."
        )


def search(
    session: Session,
    only: Chosen,
    notes: Notes,
    *,
    masks: bool = True,
    pasted: bool = True,
    looked: Looked | None = None,
) -> tuple[Findings | None, str]:
    """Return what a search found, or why there was none; without ``masks`` as if nobody knew where the subjects are.

    ``pasted``: what channels answer to is pasted, too. ``looked`` are images from the field; what is wrong with one of
    them is raised.
    """
    config = session.config
    subject = session.subject
    if session.independent:
        return None, "an image can have several labels, and parts are exchanged between images of different classes."
    if not config.shortcut_images:
        return None, "as asked (--shortcut-images 0)."
    used = subject.train_indices()
    unreadable = [row[0] for row in session.run.manifest["data"]["train"].get("skipped", [])]
    used = used[~np.isin(used, unreadable)]
    labels = subject.train.labels[used]
    # Where some classes are studied, all others together give as many images as one of them.
    strata = np.where(of_chosen(labels, only), labels, -1)
    taken = used[balanced(strata, config.shortcut_images, config.seed)]
    if len(taken) < len(used):
        notes.add(
            f"Shortcuts were searched in {len(taken)} of {len(used)} training images, balanced by class "
            "(--shortcut-images)."
        )
    subjects = None
    if masks:
        subjects = _subject_masks(subject.train.data, taken)
    try:
        found = find(
            subject.model,
            subject.batches(subject.train, taken),
            classes=only,
            names=list(subject.classes),
            masks=subjects,
            field=looked,
            inside=pasted,
            images=None,
            layers=config.layers,
            seed=config.seed,
            max_batch=_most_at_once(config.batch_size, subject.train.data.shape[1:]),
            device=subject.device,
            output=subject.output,
        )
    except (DataError, ModelError) as error:
        if looked is not None and looked.failed is error:
            raise
        return None, str(error)
    return found, ""


def _most_at_once(batch_size: int, shape: Sequence[int]) -> int:
    """Return how many images go through the network together: fewer large ones, whose gradients take memory."""
    return max(1, min(batch_size, _PIXELS // math.prod(shape)))


def _subject_masks(data: ImageData, taken: Int64) -> Tensor | None:
    """Return where the subjects are (images, H, W), where the data knows it and every image has surroundings."""
    mask = (data.masks or {}).get(SUBJECT)
    if mask is None or mask.shape[1:] != tuple(data.shape[1:]):
        return None
    covered = mask[taken].reshape(len(taken), -1).mean(1)
    if not bool(((covered > 0) & (covered < 1)).all()):
        return None
    return torch.from_numpy(mask)


def _draw(session: Session, data: ImageData, one: ClassFinding) -> None:
    """Write the pictures of a class's examples, with the part outlined in the donor."""
    folder = session.run.folder("shortcuts")
    for number, example in enumerate(one.examples):
        if example.pictures is None:
            continue
        pictures = [enlarge(picture, _SIZE) for picture in data.displayed(example.pictures)]
        if example.places is not None:
            pictures[1] = outlined(pictures[1], example.places[0].numpy())
        for name, picture in zip(picture_names(one.index, number), pictures, strict=True):
            save_png(folder / name, picture, durable=False)
