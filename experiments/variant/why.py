"""Why absolute values help: whether the gains are where petals are darker than what is behind them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from experiments.common.flower_networks import trained
from experiments.common.pages import commit
from experiments.variant.grid import PAPER, Setting, channels_of, maps_of
from experiments.variant.select import images_of, mask_of
from interpnet.datasets import make_loader, stack_images
from interpnet.evaluate import iou_auc
from interpnet.scores import collect_scores

_RING = 7


def darker_by(images: Tensor, masks: Tensor) -> Tensor:
    """Return how much darker (B,) the masked pixels are than a ring of 7 pixels around them, the mean over colours.

    Examples
    --------
    >>> image = torch.full((1, 3, 20, 20), 0.75)
    >>> mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    >>> mask[:, 8:12, 8:12] = True
    >>> image[:, :, 8:12, 8:12] = 0.5
    >>> darker_by(image, mask)
    tensor([0.2500])
    """
    inside = masks[:, None].to(images)
    grown = F.max_pool2d(inside, 2 * _RING + 1, stride=1, padding=_RING)
    around = grown - inside
    grey = images.mean(1, keepdim=True)

    def mean(where: Tensor) -> Tensor:
        return (grey * where).sum((1, 2, 3)) / where.sum((1, 2, 3))

    return mean(around) - mean(inside)


def asked(
    setting: Setting, seed: int, work: Path, *, n_images: int, options: str = "", epochs: int | None = None
) -> dict[str, Any]:
    """Return one network's line: the chosen variant's gain in IoU-AUC on images with darker and brighter petals."""
    began = time.perf_counter()
    train_on, test_on, which = images_of("single-6c", work, n_images, options)
    file = work / f"single-6c-smallcnn-{seed}.safetensors"
    model, _ = trained("smallcnn", train_on, test_on, seed, file, epochs)
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    images, labels = stack_images(test_on, which), torch.as_tensor(test_on.labels[which])
    inside = mask_of(test_on, which)

    def overlaps(one: Setting) -> Tensor:
        found = channels_of(table, one.layers, one.mu, train_on.classes)
        parts = [slice(i, i + 20) for i in range(0, len(which), 20)]
        maps = torch.cat([maps_of(one, model, images[part], labels[part], found) for part in parts])
        return iou_auc(maps, inside, constant="zero").values

    gain, dark = overlaps(setting) - overlaps(PAPER), darker_by(images, inside).double()
    return {
        "seed": seed,
        "darker": {"images": int((dark > 0).sum()), "gain": float(gain[dark > 0].mean())},
        "brighter": {"images": int((dark <= 0).sum()), "gain": float(gain[dark <= 0].mean())},
        "spearman": float(stats.spearmanr(dark.numpy(), gain.numpy()).statistic),
        "commit": commit(),
        "seconds": round(time.perf_counter() - began, 1),
    }
