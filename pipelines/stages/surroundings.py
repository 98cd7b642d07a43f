"""Subject or surroundings: what predictions and relevant channels do when images swap what is around their middle.

On training images: a shortcut that the network has learnt there need not be in the test images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import ImageData, stack_images
from interpnet.errors import DataError
from interpnet.evaluate import ContextSwap, context_swap
from interpnet.interpretation import Interpretation

from ..run.chosen import chosen as chosen_classes_of
from ..run.chosen import of_chosen, worth_listing
from ..run.notes import Notes
from ..run.session import Session
from ..run.split import balanced
from .localise import Shown

#: The mask of the subject, where the data has one (an8Flower's).
SUBJECT = "plant"
_PARTNERS = 4  # images whose surroundings each image gets
_SMALLEST = 16  # pixels; a disc in less is no subject
_FEWEST = 5  # images of a class, for a share that says something


def swap_surroundings(session: Session, found: Interpretation, shown: Shown, notes: Notes) -> dict[str, Any] | None:
    """Return ``surroundings.json``, or ``None`` where it cannot be measured: tiny images, or classes of one.

    ``ways``: with the middle of the image as the subject, and with the subject's mask where there is one: how many of
    the swapped images are predicted as the surroundings' class, and the surroundings' share of what a class does to its
    response and to each pictured channel. Some training images, balanced by class; classes of which fewer than
    five are among them have no shares.
    """
    subject = session.subject
    data = subject.train.data
    if session.independent:
        notes.add("Surroundings were not swapped: an image can have several labels, and so has no single class.")
        return None
    used = subject.train_indices()
    unreadable = [row[0] for row in session.run.manifest["data"]["train"].get("skipped", [])]
    used = used[~np.isin(used, unreadable)]
    labels_of = subject.train.labels[used]
    # Where some classes are studied, all others together give as many images as one of them.
    strata = np.where(of_chosen(labels_of, chosen_classes_of(session)), labels_of, -1)
    chosen = used[balanced(strata, session.config.max_swapped_images, session.config.seed)]
    if min(data.shape[1:]) < _SMALLEST:
        return None
    if len(chosen) < len(used):
        notes.add(
            f"Surroundings are swapped in {len(chosen)} of {len(used)} training images, balanced by class "
            "(--max-swapped-images)."
        )
    images = stack_images(data, [int(i) for i in chosen])
    labels = torch.as_tensor(subject.train.labels[chosen])
    counts = np.bincount(labels.numpy(), minlength=len(found.classes))
    measured = {c: weighted for c, weighted in shown.items() if counts[c] >= _FEWEST}
    ways: dict[str, Tensor | None] = {"middle": None} | _subject_mask(data, chosen)
    entries = {}
    for name, middle in ways.items():
        try:
            swapped = context_swap(  # docs/method.md, section 6
                subject.model,
                images,
                found,
                classes=labels,
                middle=middle,
                partners=_PARTNERS,
                seed=session.config.seed,
                max_batch=session.config.batch_size,
                output=subject.output,
                trace=subject.trace,
            )
        except DataError as error:
            notes.add(f"Surroundings were not swapped: {error}")
            return None
        entries[name] = _as_json(swapped, measured)
    return {"n_images": len(chosen), "partners": _PARTNERS, "ways": entries}


def _subject_mask(data: ImageData, chosen: np.ndarray) -> dict[str, Tensor]:
    """Return the way by the subject's mask, where there is one that fits and leaves surroundings in every image."""
    mask = (data.masks or {}).get(SUBJECT)
    if mask is None or mask.shape[1:] != tuple(data.shape[1:]):
        return {}
    chosen_masks = torch.from_numpy(mask[chosen])
    covered = chosen_masks.flatten(1).float().mean(1)
    if not bool(((covered > 0) & (covered < 1)).all()):
        return {}
    return {"mask": chosen_masks}


def _as_json(swapped: ContextSwap, shown: Shown) -> dict[str, Any]:
    index = swapped.interpretation.channels
    shares = swapped.share
    something = np.isfinite(swapped.class_share) | (swapped.interpretation.counts > 0)
    classes = []
    for c in sorted(set(worth_listing(something)) & set(shown)):
        weighted = shown[c]
        channels = [
            {
                "layer": channel.layer,
                "index": channel.index,
                "share": _number(shares[c, index.position(channel)]),
            }
            for channel, _ in weighted
        ]
        classes.append({"index": c, "share": _number(swapped.class_share[c]), "channels": channels})
    return {"follows": swapped.follows, "keeps": swapped.keeps, "n_swapped": swapped.n, "classes": classes}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
