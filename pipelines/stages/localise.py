"""Where the maps lie, on data with masks: overlap with the discriminative pixels, share in each region."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import stack_images
from interpnet.engine import Channel
from interpnet.evaluate import iou_auc
from interpnet.explanation import OF_A_CLASS, channel_signal, reduce_colours
from interpnet.interpretation import Interpretation
from interpnet.support.progress import progress_bar, step_of

from ..run.chosen import chosen as chosen_classes_of
from ..run.chosen import of_chosen
from ..run.config import MU_LASSO, RELIANCE
from ..run.notes import Notes
from ..run.session import Session
from ..run.split import balanced
from .drawing import drawing
from .examples import compared_maps, explain_with

#: The mask that tells the class; what :func:`interpnet.evaluate.iou_auc` compares with.
TELLS = "discriminative"
#: The mask of a planted cue, where there is one.
CUE = "shortcut"
# The combined maps of the channels that each way names.
OURS = {MU_LASSO: "interpnet", RELIANCE: "interpnet-reliance"}
_EACH = 10  # images per class for a channel's shares
_BATCH = 16  # images at a time

Masks = Mapping[str, np.ndarray]
#: The channels pictured for each class, with their weights.
Shown = Mapping[int, list[tuple[Channel, float]]]


def localise(
    session: Session, named: Mapping[str, Interpretation], shown: Shown, notes: Notes
) -> dict[str, Any] | None:
    """Return ``localisation.json``, or ``None`` where the data has no masks.

    ``methods``: IoU-AUC of the maps for the true class, over some test images, balanced by class; and the share
    of their positive part that lies in a planted cue, ``null`` where every map is of zeros. ``classes``:
    for each pictured channel, the share of its heatmap in every region, the mean over ten images of the class.
    """
    data = session.subject.test.data
    masks = data.masks
    if masks is None:
        return None
    if session.independent:
        notes.add("Nothing is compared with the masks: they are of one label per image, and an image can have several.")
        return None
    sides = next(iter(masks.values())).shape[1:]
    if sides != tuple(data.shape[1:]):
        size = "x".join(map(str, sides))
        notes.add(
            f"The masks are of {size} pixels and the images were resized or cropped: nothing is compared with them."
        )
        return None
    used = session.subject.test_indices()  # the images the study is measured on
    used = used[of_chosen(session.subject.test.labels[used], chosen_classes_of(session))]
    chosen = used[balanced(session.subject.test.labels[used], session.config.max_masked_images, session.config.seed)]
    if len(chosen) < len(used):
        notes.add(
            f"Maps are compared with masks on {len(chosen)} of {len(used)} test images, balanced by class "
            "(--max-masked-images)."
        )
    methods = _overlaps(session, named, chosen, masks)
    with progress_bar("Comparing channels with masks", len(shown), unit="classes"):
        classes = _shares(session, shown, chosen, masks)
    return {"n_images": len(chosen), "masks": list(masks), "methods": methods, "classes": classes}


@dataclass
class _Maps:
    """What was measured of one method's maps, batch by batch."""

    scores: list[Tensor] = field(default_factory=list)
    in_cue: list[Tensor] = field(default_factory=list)
    blank: int = 0

    def add(self, maps: Tensor, masks: Masks, where: np.ndarray) -> None:
        """Measure the maps (B, H, W) of the images at ``where``; only what speaks for the class counts."""
        positive = maps.clamp(min=0).cpu()
        if CUE in masks:
            self.in_cue.append(_share(positive.double(), torch.from_numpy(masks[CUE][where])))
        scores = iou_auc(positive, torch.from_numpy(masks[TELLS][where]), constant="zero")
        self.scores.append(scores.values)
        if scores.flagged is not None:
            self.blank += int(scores.flagged.sum())

    def row(self, name: str) -> dict[str, Any]:
        """Return the method's entry of ``localisation.json``."""
        every = torch.cat(self.scores)
        spread = float(every.std()) if len(every) > 1 else 0.0
        row = {"name": name, "mean": float(every.mean()), "sd": spread, "blank": self.blank, "n": len(every)}
        if self.in_cue:
            row["cue"] = _finite_mean(torch.cat(self.in_cue))
        return row


def _overlaps(
    session: Session, named: Mapping[str, Interpretation], chosen: np.ndarray, masks: Masks
) -> list[dict[str, Any]]:
    """Return the entries of our maps, the other methods' and the controls'."""
    measured: defaultdict[str, _Maps] = defaultdict(_Maps)
    with progress_bar("Comparing maps with masks", len(chosen)) as advance:
        for start in range(0, len(chosen), _BATCH):
            where = chosen[start : start + _BATCH]
            images = _stacked(session, where)
            labels = torch.from_numpy(session.subject.test.labels[where])
            for way, found in named.items():
                measured[OURS[way]].add(explain_with(session, found, images, labels).combined, masks, where)
            # The examples say why a method is missing.
            others, _ = compared_maps(session, images, labels)
            for name, maps in others.items():
                measured[name].add(maps, masks, where)
            advance(len(where))
    return [maps.row(name) for name, maps in measured.items()]


def _share(maps: Tensor, region: Tensor) -> Tensor:
    """Return the share (B,) of each map that lies in its region, NaN for a map of zeros."""
    return (maps * region).sum((1, 2)) / maps.sum((1, 2))


def _shares(session: Session, shown: Shown, chosen: np.ndarray, masks: Masks) -> list[dict[str, Any]]:
    """Return, for each class, the share of its channels' heatmaps in every region."""
    subject = session.subject
    config = session.config
    how = drawing(session).complete(1)
    labels = subject.test.labels[chosen]
    classes = []
    advance = step_of("Comparing channels with masks")
    for c, weighted in shown.items():
        advance(1)
        mine = chosen[labels == c][:_EACH]
        if not weighted or not len(mine):
            continue
        channels = [channel for channel, _ in weighted]
        explained = None
        if how["seed"] in OF_A_CLASS:
            explained = c
        signal = channel_signal(  # docs/method.md, section 5
            subject.model,
            _stacked(session, mine),
            [channels] * len(mine),
            rule=how.get("rule"),
            rectifier=how.get("rectifier"),
            resample=config.resample,
            seed=how["seed"],
            classes=explained,
            output=subject.output,
            trace=subject.trace,
        )
        maps = reduce_colours(signal.signals, how["reduction"]).abs().double().cpu()
        total = maps.sum((2, 3))
        parts = {
            name: (maps * torch.from_numpy(mask[mine])[:, None]).sum((2, 3)) / total for name, mask in masks.items()
        }
        # An image on which the channel is silent has no share anywhere.
        shares = [{name: _finite_mean(part[:, j]) for name, part in parts.items()} for j in range(len(channels))]
        entries = [
            {"layer": channel.layer, "index": channel.index, "shares": share}
            for channel, share in zip(channels, shares, strict=True)
        ]
        classes.append({"index": c, "n_images": len(mine), "channels": entries})
    return classes


def _stacked(session: Session, where: np.ndarray) -> Tensor:
    """Return test images as a batch on the network's device."""
    return stack_images(session.subject.test.data, [int(i) for i in where]).to(session.subject.device)


def _finite_mean(values: Tensor) -> float | None:
    kept = values[torch.isfinite(values)]
    return float(kept.mean()) if len(kept) else None
