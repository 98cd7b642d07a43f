"""Where the maps lie, on data with masks: overlap with the discriminative pixels, share in each region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import stack_images
from interpnet.engine import Channel
from interpnet.evaluate import iou_auc
from interpnet.explanation import channel_signal, reduce_colours
from interpnet.interpretation import Interpretation

from ..run.session import Notes, Session
from ..run.subject import balanced
from .examples import compared_maps, explain_with

#: The mask that tells the class; what :func:`interpnet.evaluate.iou_auc` compares with.
TELLS = "discriminative"
#: The mask of a planted cue, where there is one.
CUE = "shortcut"
OURS = "interpnet"
_MOST = 120
_EACH = 10
_BATCH = 16

Masks = Mapping[str, np.ndarray]


def localise(
    session: Session, found: Interpretation, shown: Mapping[int, list[tuple[Channel, float]]], notes: Notes
) -> dict[str, Any] | None:
    """Return ``localisation.json``, or ``None`` where the data has no masks.

    ``methods``: IoU-AUC of the maps for the true class, over at most 120 test images, balanced by class; and the share
    of their positive part that lies in a planted cue, ``null`` where every map is of zeros. ``classes``:
    for each pictured channel, the share of its heatmap in every region, the mean over ten images of the class.
    """
    data = session.subject.test.data
    masks = data.masks
    if masks is None:
        return None
    if next(iter(masks.values())).shape[1:] != tuple(data.shape[1:]):
        size = "x".join(str(n) for n in next(iter(masks.values())).shape[1:])
        notes.add(
            f"The masks are of {size} pixels and the images were resized or cropped: nothing is compared with them."
        )
        return None
    used = session.subject.test_indices()
    chosen = used[balanced(session.subject.test.labels[used], _MOST, session.config.seed)]
    return {
        "n_images": len(chosen),
        "masks": list(masks),
        "methods": _overlaps(session, found, chosen, masks),
        "classes": _shares(session, shown, chosen, masks),
    }


def _overlaps(session: Session, found: Interpretation, chosen: np.ndarray, masks: Masks) -> list[dict[str, Any]]:
    """Return name, mean and standard deviation of the IoU-AUC, for our maps, the other methods and the controls."""
    values: dict[str, list[Tensor]] = {}
    in_cue: dict[str, list[Tensor]] = {}
    blank: dict[str, int] = {}
    for images, labels, where in _batches(session, chosen):
        ours = explain_with(session, found, images, labels).combined
        # The examples say why a method is missing.
        for name, maps in {OURS: ours, **compared_maps(session, images, labels)[0]}.items():
            positive = maps.clamp(min=0).cpu()
            if CUE in masks:
                in_cue.setdefault(name, []).append(_share(positive.double(), torch.from_numpy(masks[CUE][where])))
            scores = iou_auc(positive, torch.from_numpy(masks[TELLS][where]), constant="zero")
            values.setdefault(name, []).append(scores.values)
            blank[name] = blank.get(name, 0) + int(scores.flagged.sum() if scores.flagged is not None else 0)
    rows = []
    for name, parts in values.items():
        every = torch.cat(parts)
        spread = float(every.std()) if len(every) > 1 else 0.0
        row = {"name": name, "mean": float(every.mean()), "sd": spread, "blank": blank[name], "n": len(every)}
        rows.append(row | ({"cue": _finite_mean(torch.cat(in_cue[name]))} if in_cue else {}))
    return rows


def _share(maps: Tensor, region: Tensor) -> Tensor:
    """Return the share (B,) of each map that lies in its region, NaN for a map of zeros."""
    return (maps * region).sum((1, 2)) / maps.sum((1, 2))


def _shares(
    session: Session, shown: Mapping[int, list[tuple[Channel, float]]], chosen: np.ndarray, masks: Masks
) -> list[dict[str, Any]]:
    subject, config = session.subject, session.config
    labels = subject.test.labels[chosen]
    classes = []
    for c, weighted in shown.items():
        mine = chosen[labels == c][:_EACH]
        if not weighted or not len(mine):
            continue
        channels = [channel for channel, _ in weighted]
        images = stack_images(subject.test.data, [int(i) for i in mine]).to(subject.device)
        signals = channel_signal(
            subject.model, images, [channels] * len(mine), rectifier=config.rectifier, resample=config.resample,
            output=subject.output, trace=subject.trace,
        ).signals  # fmt: skip
        maps = reduce_colours(signals, config.reduction).abs().double().cpu()
        total = maps.sum((2, 3))
        regions = {name: torch.from_numpy(mask[mine])[:, None] for name, mask in masks.items()}
        parts = {name: (maps * region).sum((2, 3)) / total for name, region in regions.items()}
        classes.append({
            "index": c,
            "n_images": len(mine),
            "channels": [
                {
                    "layer": channel.layer,
                    "index": channel.index,
                    # An image on which the channel is silent has no share anywhere.
                    "shares": {name: _finite_mean(share[:, j]) for name, share in parts.items()},
                }
                for j, channel in enumerate(channels)
            ],
        })  # fmt: skip
    return classes


def _finite_mean(values: Tensor) -> float | None:
    kept = values[torch.isfinite(values)]
    return float(kept.mean()) if len(kept) else None


def _batches(session: Session, chosen: np.ndarray) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    subject = session.subject
    for start in range(0, len(chosen), _BATCH):
        where = chosen[start : start + _BATCH]
        images = stack_images(subject.test.data, [int(i) for i in where]).to(subject.device)
        yield images, torch.from_numpy(subject.test.labels[where]), where
