"""What a network does with its cue: the truth that an audit is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.cues.plan import RELIES, Split, Subject, drawn, normalised, split_of, with_cue
from interpnet.support.types import Bools, Float64

_AT_ONCE = 500  # images


def behaviour(model: nn.Module, subject: Subject, work: Path, *, n: int | None = None) -> dict[str, Any]:
    """Return accuracies on test images, the reliance on the cue, and what the cue draws to each class.

    ``"natural"``, ``"agree"``, ``"disagree"`` and ``"absent"`` are shares of right answers by how the cue is drawn
    (see :func:`experiments.cues.plan.cues`), ``"reliance"`` is agree less disagree. ``"draws"`` has for each class the
    share of the other classes' images that are predicted as it with its cue, less the share without any; 0 where the
    class has no cue. ``"relies"`` and ``"classes"`` say whether the network and which classes rely on it, from 0.10.
    """
    images, inside, labels, n_classes = drawn(subject, "test", work, n=n)
    found: dict[str, Any] = {}
    for draw in ("natural", "absent", *(("agree", "disagree") if subject.kind else ())):
        part = split_of(subject, "test", work, draw=draw, n=n)
        found[draw] = float((predictions(model, part.images) == part.labels).double().mean())
    found["reliance"] = found.get("agree", 0.0) - found.get("disagree", 0.0)
    draws = np.zeros(n_classes)
    if subject.kind is not None:
        none = np.full(len(labels), -1)
        before = predictions(model, normalised(with_cue(subject, images, inside, none))).numpy()
        for c in range(n_classes) if subject.everyone else [subject.one(n_classes)]:
            others = labels != c
            # All images, so that what is drawn for an image is the same with and without the cue.
            shown = with_cue(subject, images, inside, np.where(others, c, -1))
            after = predictions(model, normalised(shown[others])).numpy()
            draws[c] = (after == c).mean() - (before[others] == c).mean()
    found["draws"] = [round(float(value), 4) for value in draws]
    found["relies"] = bool(found["reliance"] >= RELIES)
    found["classes"] = [int(c) for c in np.flatnonzero(draws >= RELIES)]
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """Return the class (N,) of each image, on the CPU."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(part.to(device)).argmax(1).cpu() for part in torch.split(images, _AT_ONCE)])


def independent(subject: Subject, work: Path, *, n: int | None = None) -> Split:
    """Return test images whose cue is drawn independently of the class; see :func:`channel_truth`."""
    return split_of(subject, "test", work, draw="independent", n=n)


class ChannelTruth(NamedTuple):
    """For each class (C) and channel (m): what the class and what its cue do to the channel's score."""

    by_class: Float64
    by_cue: Float64

    def share(self, signs: Float64) -> Float64:
        """Return (C, m): the cue's part of the two effects in the direction of ``signs`` (C, m); NaN where unknown."""
        one, other = (np.maximum(np.sign(signs) * effect, 0.0) for effect in self)
        known: Bools = (np.sign(signs) != 0) & (one + other > 0)
        return np.where(known, other / np.where(known, one + other, 1.0), np.nan)


def channel_truth(scores: Float64, split: Split, n_classes: int) -> ChannelTruth:
    """Return the effects of class and cue on scores (N, m) of the images of :func:`independent`, by least squares.

    For class c the design is ``1, label == c, cue == c``; the cue is drawn independently of the class, so that the
    effect of one can be distinguished from the other's. Without a cue its effect is 0.
    """
    labels = split.labels.numpy()
    effects = np.zeros((2, n_classes, scores.shape[1]))
    for c in range(n_classes):
        columns = [np.ones(len(labels)), labels == c, split.cue == c]
        effects[:, c] = np.linalg.lstsq(np.stack(columns, 1).astype(np.float64), scores, rcond=None)[0][1:]
    return ChannelTruth(*effects)
