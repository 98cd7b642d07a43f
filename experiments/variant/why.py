"""Why absolute values help: whether the gains are where petals are darker than what is behind them."""

from __future__ import annotations

import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from experiments.common.tables import Line
from experiments.variant.grid import PAPER, Setting
from experiments.variant.select import Tested
from interpnet.evaluate import iou_auc

_RING = 7


def darker_by(images: Tensor, masks: Tensor) -> Tensor:
    """Return how much darker (B,) the masked pixels are than a ring of 7 pixels around them, the mean over colours.

    Examples
    --------
    >>> import torch
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


def asked(setting: Setting, tested: Tested) -> Line:
    """Return the chosen variant's gain in IoU-AUC on images with darker and brighter petals, for one network."""
    overlaps = [iou_auc(tested.maps(one), tested.masks, constant="zero").values for one in (setting, PAPER)]
    gain = overlaps[0] - overlaps[1]
    dark = darker_by(tested.images, tested.masks).double()
    return {
        "darker": {"images": int((dark > 0).sum()), "gain": float(gain[dark > 0].mean())},
        "brighter": {"images": int((dark <= 0).sum()), "gain": float(gain[dark <= 0].mean())},
        "spearman": float(stats.spearmanr(dark.numpy(), gain.numpy()).statistic),
    }
