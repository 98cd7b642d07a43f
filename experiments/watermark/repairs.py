"""Repairs of the last layer from what field images have in common, on features collected once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.tables import Line
from experiments.watermark.photographs import PLAIN, Answers, Roles, features_of
from interpnet.shortcuts import CommonOverlay, repair
from interpnet.support.types import Float64, Int64

#: Ways, and what each may lose of clean accuracy: what was asked for, and more, for it is chosen on 160 photographs.
WAYS = (("projection", 0.003), ("projection", 0.015), ("ridge", 0.003))
COMMON, SHUFFLED, DIRECTION = "in common", "in common, its pixels shuffled", "direction"


class Known:
    """An exchange of features that are known: each for that of the same image with the overlay."""

    def __init__(self, before: Tensor, after: Tensor) -> None:
        self._after = {row.numpy().tobytes(): other for row, other in zip(before, after, strict=True)}

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Return features (B, F, 1, 1) with the overlay."""
        found = [self._after[row.contiguous().numpy().tobytes()] for row in images.flatten(1)]
        return torch.stack(found).view_as(images)


def repairs(
    model: Any, pixels: Tensor, labels: Int64, answers: dict[str, Answers], own: Roles, common: CommonOverlay
) -> Iterator[tuple[str, Line]]:
    """Yield what the last layer, as it is and repaired, recognises of the photographs held out.

    ``pixels`` (N, 3, H, W) are all photographs as they are. What the last layer gets of one is an image of one pixel.
    """
    old = nn.Sequential(nn.Flatten(), copy.deepcopy(model.get_classifier())).eval()
    yield "before", {"right": right(old, labels, answers, own)}
    features = torch.from_numpy(answers[PLAIN].features[own.training]).float()
    targets = torch.from_numpy(labels[own.training])
    for name, overlay in ((COMMON, common), (SHUFFLED, shuffled(common))):
        changed = overlay.exchange(pixels[own.training], targets, torch.Generator())
        exchange = Known(features, features_of(model, changed))
        batches = [(features[:, :, None, None], targets)]
        for how, bound in WAYS:
            done = repair(old, batches, exchange, how=how, max_clean_loss=bound, progress=False)
            line = {
                "accepted": done.accepted,
                "why": done.why,
                "strength": done.strength if done.accepted else None,
                "right": right(done.model, labels, answers, own),
            }
            yield f"{name}, {how}, {bound:.1%}", line


def shuffled(overlay: CommonOverlay) -> CommonOverlay:
    """Return an overlay of the same pixels in another order: as much on the images, and nothing to see in it."""
    flat = overlay.pattern.flatten(1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))
    return CommonOverlay(flat[:, order].view_as(overlay.pattern), (), 0.0, 1.0)


def without_direction(model: Any, drawn: Float64, known: Float64) -> nn.Module:
    """Return the last layer without the direction in which the images drawn differ from the training images.

    ``W - W v v'`` and ``b + W v v' c``, with the mean c of the training images' features ``known`` (N, F), and v of
    length 1 from c to the mean of the features ``drawn`` (n, F) of the images drawn.
    """
    centre = known.mean(0)
    v = drawn.mean(0) - centre
    v = torch.from_numpy(v / np.linalg.norm(v))
    layer = copy.deepcopy(model.get_classifier()).double()
    with torch.no_grad():
        along = layer.weight @ v
        layer.bias += along * float(v @ torch.from_numpy(centre))
        layer.weight -= along[:, None] * v
    return nn.Sequential(nn.Flatten(), layer.float()).eval()


def right(head: nn.Module, labels: Int64, answers: dict[str, Answers], own: Roles) -> dict[str, str]:
    """Return which photographs held out are recognised in every version, as a text of 0 and 1."""
    found = {}
    with torch.no_grad():
        for version, one in answers.items():
            said = head(torch.from_numpy(one.features[own.held]).float()).argmax(1).numpy()
            found[version] = "".join(str(int(yes)) for yes in said == labels[own.held])
    return found
