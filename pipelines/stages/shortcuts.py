"""Stage 5: what the network goes by beside the subject; training images exchange parts.

On training images: a shortcut that the network has learnt there need not be in the test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.datasets import ImageData
from interpnet.errors import DataError, ModelError
from interpnet.plotting import enlarge, save_png
from interpnet.shortcuts import ClassFinding, Findings, find, findings_json
from interpnet.support.io import remove_tree, write_json
from interpnet.support.types import Int64

from ..run.chosen import Chosen, chosen, covers, key_part, noted, of_chosen, studied_by
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from ..run.shortcuts import SHORTCUTS_FILE, picture_names
from ..run.split import balanced

_VERSION = 1  # a change of what the stage writes makes earlier results stale
#: The mask of the subject, where the data has one (an8Flower's).
SUBJECT = "plant"
#: Under which name a session keeps what was found, with the images that a file has not.
FOUND = "findings"
_SIZE = 192  # pixels of a picture
_PIXELS = 16 * 224 * 224  # that go through the network at once; 64 images of 224 pixels took 10 GB
_MOST_PICTURED = 40  # suspicious classes whose images are kept
_OUTLINE = (255, 140, 0)

Picture = npt.NDArray[np.uint8]


def shortcuts_key(session: Session) -> str:
    """Return the key of the stage for the current scores and settings."""
    return _key(session, chosen(session))


def searched_key(session: Session) -> str:
    """Return the key of what a report can show: also of a search for more classes than are wanted."""
    entry = session.run.stage("shortcuts")
    done = studied_by(entry)
    if entry.get("state") == "complete" and covers(done, chosen(session)):
        return _key(session, done)
    return shortcuts_key(session)


def _key(session: Session, only: Chosen) -> str:
    config = session.config
    parts = [session.run.key("collect"), config.shortcut_images, config.seed]
    return digest(["shortcuts", _VERSION, *parts, *key_part(only)])


def run_shortcuts(session: Session) -> bool:
    """Search for shortcuts and write ``shortcuts/``; what cannot be searched is a note."""
    session.open_subject()
    return session.perform("shortcuts", shortcuts_key(session), lambda notes: _search(session, notes))


def _search(session: Session, notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("shortcuts")
    remove_tree(folder)
    only = chosen(session)
    found, refused = search(session, only, notes)
    if found is None:
        notes.add(f"Shortcuts were not searched: {refused}")
        return {"refused": refused, **noted(only)}
    session.memo[FOUND] = found
    for note in found.notes:
        notes.add(note)
    data = session.subject.train.data
    for one in found.suspicious[:_MOST_PICTURED]:
        _draw(session, data, one)
    write_json(session.run.path / SHORTCUTS_FILE, findings_json(found))
    suspicious = [one.index for one in found.suspicious]
    facts = {"n_images": found.n, "passes": round(found.passes, 2), "suspicious": suspicious, **noted(only)}
    return facts | {"written": ("shortcuts/*",)}


def search(session: Session, only: Chosen, notes: Notes, *, masks: bool = True) -> tuple[Findings | None, str]:
    """Return what a search found, or why there was none; without ``masks`` as if nobody knew where the subjects are."""
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
    inside = None
    if masks:
        inside = _subject_masks(subject.train.data, taken)
    try:
        found = find(
            subject.model,
            subject.batches(subject.train, taken),
            classes=only,
            names=list(subject.classes),
            masks=inside,
            images=None,
            layers=config.layers,
            seed=config.seed,
            max_batch=_most_at_once(config.batch_size, subject.train.data.shape[1:]),
            device=subject.device,
            output=subject.output,
        )
    except (DataError, ModelError) as error:
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


def outlined(picture: Picture, region: npt.NDArray[np.bool_]) -> Picture:
    """Return a picture (h, w, 3) with the edge of a region (H, W) of its image drawn on it, within the region.

    Examples
    --------
    >>> region = np.zeros((3, 3), dtype=bool)
    >>> region[1:, 1:] = True
    >>> (outlined(np.zeros((12, 12, 3), np.uint8), region)[6, :, 0] > 0).nonzero()[0].tolist()
    [4, 5, 10, 11]
    """
    height, width = picture.shape[:2]
    rows, columns = (np.arange(n) * of // n for n, of in zip((height, width), region.shape, strict=True))
    enlarged = region[np.ix_(rows, columns)]
    line = max(2, max(height, width) // 64)
    drawn = picture.copy()
    # A dark line beside it shows on a bright image.
    drawn[enlarged & ~_eroded(enlarged, line + 1)] = 0
    drawn[enlarged & ~_eroded(enlarged, line)] = _OUTLINE
    return drawn


def _eroded(region: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Return what is left of a region without what lies within ``by`` pixels of its edge, or of the picture's."""
    from scipy.ndimage import binary_erosion

    left: npt.NDArray[np.bool_] = binary_erosion(region, np.ones((3, 3), dtype=bool), iterations=by)
    return left
