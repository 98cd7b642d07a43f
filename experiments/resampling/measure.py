"""One network's factorial: where the signal starts, whether it is resampled, which rule; all else is equal.

E3 compares methods as they are published, colours reduced by each one's own rule. Here every cell has the same
reduction, so that a difference is due to the factor alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from experiments.common.maps import RULES, K
from experiments.sanity.subjects import Subject
from interpnet.evaluate import checkerboard, class_sensitivity, iou_auc
from interpnet.explanation import Unit, channel_signal, explain, normalise, reduce_colours
from interpnet.interpretation import Interpretation

STARTS = ("channels", "logit")  # of the signal (docs/method.md, section 5)
HOW = ("plain", "resampled")  # without and with stride-1 resampling
REDUCTIONS = ("positive", "abs")  # over colours
BLURS = (0, 1, 2, 3, 4)  # pixels; 0 leaves the map as it is
_BATCH = 15  # images at a time
_CLASS_IMAGES = 24  # how many images class sensitivity is measured on: it needs a map for each of three classes


def signals(
    model: nn.Module, images: Tensor, target: Tensor, found: Interpretation, start: str, rule: str, how: str
) -> Tensor:
    """Return the raw signals (B, k, C, H, W): of the class's k channels, or k = 1 of its logit."""
    resample = how == "resampled"
    if start == "channels":
        return explain(
            model, images, found, k=K, classes=target, rectifier=rule, resample=resample, variant="paper"
        ).signals
    units = [Unit(int(t)) for t in target]
    return channel_signal(model, images, units, rectifier=rule, resample=resample, seed="ones").signals


def combined(raw: Tensor, reduction: str, blur: int = 0) -> Tensor:
    """Return maps (B, H, W): colours reduced, blurred, min-max normalised, the largest of the k."""
    maps = reduce_colours(raw, reduction)
    if blur:
        maps = gaussian_blur(maps, [6 * blur + 1, 6 * blur + 1], [float(blur), float(blur)])  # three sigmas either side
    return normalise(maps).amax(1)  # docs/method.md, section 4


def cells(subject: Subject, rules: Iterable[str] = RULES) -> dict[str, float]:
    """Return every cell's scores by name, ``iou/guided/channels/resampled/positive/0`` (the last is the blur).

    ``iou``: IoU-AUC, of subjects with masks. ``rank`` and ``structure``: class sensitivity. ``grid``: the median
    share of the energy of the strongest signal's map at the frequencies of stride 2.
    """
    scores: dict[str, float] = {}
    parts = list(zip(torch.split(subject.images, _BATCH), torch.split(subject.labels, _BATCH), strict=True))
    few = subject.images[:_CLASS_IMAGES]
    for rule, start, how in itertools.product(rules, STARTS, HOW):
        cell = f"{rule}/{start}/{how}"
        raw = torch.cat([signals(subject.model, *part, subject.found, start, rule, how) for part in parts])
        scores[f"grid/{cell}"] = float(checkerboard(reduce_colours(raw[:, 0], "positive"), 2).median())
        by_class = [
            signals(subject.model, few, torch.full((len(few),), c), subject.found, start, rule, how)
            for c in subject.classes
        ]
        for reduction in REDUCTIONS:
            if subject.masks is not None:
                for blur in BLURS:
                    overlap = iou_auc(combined(raw, reduction, blur), subject.masks, constant="zero").mean
                    scores[f"iou/{cell}/{reduction}/{blur}"] = overlap
            maps = torch.stack([combined(one, reduction) for one in by_class], 1)
            found = class_sensitivity(maps, constant="zero")
            scores[f"rank/{cell}/{reduction}"] = found.spearman.mean
            scores[f"structure/{cell}/{reduction}"] = found.ssim.mean
    return {name: round(float(np.round(value, 5)), 5) for name, value in scores.items()}
