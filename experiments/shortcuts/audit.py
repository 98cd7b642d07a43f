"""What an audit says of one network: statistics of suspicion for the network and for each relevant channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.common.flower_networks import MU, masks_of
from experiments.common.maps import quietly
from experiments.common.suspicion import area_of, bimodality, outside_middle, separations, shares_of, standardised
from experiments.shortcuts.plan import SIZE, Subject, whole
from experiments.shortcuts.swaps import Swaps, swaps_of
from interpnet.datasets import ImageData, an8flower, make_loader
from interpnet.explanation import channel_signal, explain, reduce_colours
from interpnet.interpretation import Interpretation, interpret
from interpnet.models import SmallCNN
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float64

FLAG = {"disc": 0.7, "mask": 0.5}  # a channel is flagged above this share; chosen on the development networks
_EACH = 8  # images per class that show a channel's map


@dataclass(frozen=True)
class Audited:
    """A network with its audit: scores, relevant channels, and what goes with the surroundings."""

    subject: Subject
    model: SmallCNN
    table: ScoreTable
    found: Interpretation
    images: Tensor
    data: ImageData
    swaps: dict[str, Swaps]


def audited(model: SmallCNN, subject: Subject, work: Path, *, n: int | None = None) -> Audited:
    """Audit a network: training images for the channels, validation images, with the same cue, for what they show."""
    train = subject.data("train", work, n=n)
    data = subject.data("validation", work, n=n and n // 2)
    table = collect_scores(model, make_loader(train, batch_size=100), progress=False)
    found = interpret(table, mu=MU, classes=train.classes)
    images, shown = whole(data)
    plant = masks_of(data, name="plant")
    swaps = {how: swaps_of(model, images, shown, found, inside) for how, inside in (("disc", None), ("mask", plant))}
    return Audited(subject, model, table, found, images, data, swaps)


def network_statistics(a: Audited) -> dict[str, float]:
    """Return every statistic by name; a larger value is more suspicious. Those that end in "(masks)" need masks."""
    with torch.no_grad():
        predicted = a.model(a.images).argmax(1)
    maps = (
        explain(a.model, a.images, a.found, classes=predicted, reduction="abs", variant="paper")
        .combined.double()
        .numpy()
    )
    shares = shares_of(maps)
    plant = masks_of(a.data, name="plant").numpy()[maps.sum((1, 2)) > 0]
    disc = a.swaps["disc"]
    masked = a.swaps["mask"]
    return {
        "context share, largest class": float(max(disc.class_share[np.isfinite(disc.class_share)], default=0.0)),
        "context share, mean": disc.mean_share,
        "predictions follow the surroundings": disc.follows,
        "heatmap outside the middle": float(outside_middle(shares).mean()),
        "heatmap area": float(area_of(shares).mean()),
        "responses in two groups": _two_groups(a),
        "SpRAy-like clusters": _clusters(a, predicted),
        "class-activation difference": float(np.abs(_differences(a.table)).max(1).mean()),
        "validation error": float((predicted.numpy() != a.data.labels).mean()),
        "random": float(np.random.default_rng([a.subject.seed, 17]).random()),
        "context share, mean (masks)": masked.mean_share,
        "predictions follow the surroundings (masks)": masked.follows,
        "heatmap outside the plant (masks)": 1.0 - float((shares * plant).sum((1, 2)).mean()),
    }


def channel_rows(a: Audited, truth: Float64) -> list[dict[str, Any]]:
    """Return a line for every relevant channel of every class: weight, suspicions, and whether it follows the cue.

    ``truth`` (C, m) is the part of the cue in the effects of cue and class, see :func:`cue_share`.
    """
    difference = _differences(a.table)
    plant = masks_of(a.data, name="plant")
    rows = []
    for c in range(len(a.found.classes)):
        columns = a.found.columns(c)
        mine = np.flatnonzero(a.data.labels == c)[:_EACH]
        if not len(columns):
            continue
        channels = [a.found.channels[int(j)] for j in columns]
        signals = channel_signal(a.model, a.images[mine], [channels] * len(mine)).signals
        maps = reduce_colours(signals, "abs").double()
        total = maps.sum((2, 3))
        outside = 1.0 - (maps * plant[mine][:, None]).sum((2, 3)) / torch.where(total > 0, total, torch.inf)
        for i, j in enumerate(columns):
            rows.append(
                {
                    "class": c,
                    "column": int(j),
                    "layer": channels[i].layer,
                    "weight": float(a.found.coef[c, j]),
                    "disc": _number(a.swaps["disc"].share[c, j]),
                    "mask": _number(a.swaps["mask"].share[c, j]),
                    "outside": float(outside[:, i].mean()),
                    "difference": float(abs(difference[c, j])),
                    "truth": _number(truth[c, j]),
                }
            )
    return rows


def cue_share(a: Audited, work: Path, *, n: int | None = None) -> Float64:
    """Return (C, m): of what class and cue do to each relevant channel's score, the cue's part; 0 without a cue.

    Ground truth from behaviour: in the split "test" the cue is drawn independently of the class, so that the effect of
    one can be distinguished from the other's.
    """
    s = a.subject
    signs = np.sign(a.found.coef)
    if s.kind is None:
        return np.zeros(signs.shape)
    look: dict[str, Any] = {key: getattr(s, key) for key in ("contrast", "seed", "strength")}
    made = an8flower("single-6c", "test", root=str(work), n=n, size=SIZE, shortcut=s.kind, **look)
    table = collect_scores(a.model, make_loader(s.data("test", work, n=n), batch_size=100), progress=False)
    x = np.asarray(table.X, dtype=np.float64)
    shares = np.full(signs.shape, np.nan)
    for c in range(len(signs)):
        design = np.stack([np.ones(len(x)), made.labels == c, made.cue == c], 1).astype(np.float64)
        _, by_class, by_cue = np.linalg.lstsq(design, x, rcond=None)[0]
        one, other = (np.maximum(signs[c] * effect, 0.0) for effect in (by_class, by_cue))
        known = (signs[c] != 0) & (one + other > 0)  # irrelevant channels, and those that nothing moves, stay unknown
        shares[c, known] = (other / np.where(known, one + other, 1.0))[known]
    return shares


def _differences(table: ScoreTable) -> Float64:
    return standardised(np.asarray(table.X, dtype=np.float64), np.asarray(table.labels))


def _two_groups(a: Audited) -> float:
    """Return the mean over classes of the bimodality of the class's own response."""
    x = np.asarray(a.table.X, dtype=np.float64)
    labels = np.asarray(a.table.labels)
    values = [bimodality(x[labels == c] @ a.found.coef[c]) for c in range(len(a.found.classes))]
    return float(np.mean([v for v in values if v is not None] or [0.0]))


def _clusters(a: Audited, predicted: Tensor) -> float:
    """Return how well the LRP maps of a class fall into two clusters, the largest of the classes."""
    parts = zip(torch.split(a.images, 50), torch.split(predicted, 50), strict=True)
    maps = torch.cat([quietly(a.model, images, target, "lrp_zbox") for images, target in parts])
    return max(0.0, float(separations(maps, predicted.numpy(), len(a.found.classes)).max()))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
