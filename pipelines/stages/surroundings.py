"""Subject or surroundings: what predictions and relevant channels do when images swap what is around their middle.

On training images: a shortcut that the network has learnt there need not be in the test images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import stack_images
from interpnet.engine import Channel
from interpnet.errors import DataError
from interpnet.evaluate import ContextSwap, context_swap
from interpnet.interpretation import Interpretation

from ..run.session import Notes, Session
from ..run.subject import balanced

#: The mask of the subject, where the data has one (an8Flower's).
SUBJECT = "plant"
_MOST = 240
_PARTNERS = 4
_SMALLEST = 16
_FEWEST = 5


def swap_surroundings(
    session: Session, found: Interpretation, shown: Mapping[int, list[tuple[Channel, float]]], notes: Notes
) -> dict[str, Any] | None:
    """Return ``surroundings.json``, or ``None`` where it cannot be measured: tiny images, or classes of one.

    ``ways``: with the middle of the image as the subject, and with the subject's mask where there is one: how many of
    the swapped images are predicted as the surroundings' class, and the surroundings' share of what a class does to its
    response and to each pictured channel. At most 240 training images, balanced by class; classes of which fewer than
    five are among them have no shares.
    """
    subject, config = session.subject, session.config
    data, used = subject.train.data, subject.train_indices()
    unreadable = [row[0] for row in session.run.manifest["data"]["train"].get("skipped", [])]
    used = used[~np.isin(used, unreadable)]
    chosen = used[balanced(subject.train.labels[used], _MOST, config.seed)]
    if min(data.shape[1:]) < _SMALLEST:
        return None
    images = stack_images(data, [int(i) for i in chosen])
    masks = data.masks or {}
    ways: dict[str, Tensor | None] = {"middle": None}
    if SUBJECT in masks and masks[SUBJECT].shape[1:] == tuple(data.shape[1:]):
        mask = torch.from_numpy(masks[SUBJECT][chosen])
        covered = mask.flatten(1).float().mean(1)
        if bool(((covered > 0) & (covered < 1)).all()):
            ways["mask"] = mask
    labels = torch.as_tensor(subject.train.labels[chosen])
    counts = np.bincount(labels.numpy(), minlength=len(found.classes))
    found_ways = {}
    for name, middle in ways.items():
        try:
            swapped = context_swap(
                subject.model, images, found, classes=labels, middle=middle, partners=_PARTNERS, seed=config.seed,
                max_batch=config.batch_size, output=subject.output, trace=subject.trace,
            )  # fmt: skip
        except DataError as error:
            notes.add(f"Surroundings were not swapped: {error}")
            return None
        found_ways[name] = _as_json(swapped, shown, counts)
    return {"n_images": len(chosen), "partners": _PARTNERS, "ways": found_ways}


def _as_json(
    swapped: ContextSwap, shown: Mapping[int, list[tuple[Channel, float]]], counts: np.ndarray
) -> dict[str, Any]:
    share, index = swapped.share, swapped.interpretation.channels
    classes = [
        {
            "index": c,
            "share": _number(swapped.class_share[c]),
            "channels": [
                {"layer": channel.layer, "index": channel.index, "share": _number(share[c, index.position(channel)])}
                for channel, _ in weighted
            ],
        }
        for c, weighted in shown.items()
        if counts[c] >= _FEWEST
    ]
    return {"follows": swapped.follows, "keeps": swapped.keeps, "n_swapped": swapped.n, "classes": classes}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
