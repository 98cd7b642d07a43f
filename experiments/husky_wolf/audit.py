"""What the library's search for shortcuts says of the head, and what its repair makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.husky_wolf.network import Head, as_input
from experiments.husky_wolf.photographs import CLASSES, Photographs, disc
from interpnet.shortcuts import find, repair
from interpnet.support.types import Float64

RADIUS = 0.4  # of the disc whose surroundings are exchanged, in sides: half of a photograph
#: Ways that change the last layer only, so that the features stay.
WAYS = ("ridge", "logistic", "projection")


class Surroundings:
    """What is exchanged: all outside of a disc."""

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each with the surroundings of a random other one."""
        del labels
        others = images[torch.randperm(len(images), generator=generator)]
        return torch.where(disc(RADIUS, images.shape[-1]), images, others)


def _training(given: Photographs) -> list[tuple[Tensor, Tensor]]:
    rows = np.flatnonzero(~given.test)
    return [(as_input(given.images[rows]), torch.from_numpy(given.labels[rows]))]


def searched(model: nn.Module, given: Photographs) -> dict[str, Any]:
    """Return what the search finds on the training photographs: each class's largest part, and every part's shares."""
    found = find(model, _training(given), names=CLASSES, max_batch=16, progress=False)
    return {
        "passes": found.passes,
        "classes": {
            one.name: {
                "part": one.part,
                "share": [one.share, one.low, one.high],
                "usual": one.usual,
                "suspicious": one.suspicious,
            }
            for one in found.classes
        },
        "shares": {
            part: [list(map(_number, ends)) for ends in zip(found.shares[i], found.low[i], found.high[i], strict=True)]
            for i, part in enumerate(found.parts)
        },
    }


def repaired(model: nn.Module, given: Photographs, how: str) -> tuple[Head | None, dict[str, Any]]:
    """Return the repaired head, None where nothing was accepted, and the repair's own figures."""
    done = repair(model, _training(given), Surroundings(), how=how, max_clean_loss=0.02, progress=False)
    facts = done.facts()
    kept = {key: facts[key] for key in ("accepted", "why", "strength", "before", "after", "control")}
    if not done.accepted:
        return None, kept
    last: Any = done.model.classifier
    weight, bias = (one.detach().double().numpy() for one in (last.weight, last.bias))
    return Head(weight[1] - weight[0], float(bias[1] - bias[0]), float("nan")), kept


def _number(value: Float64 | float) -> float | None:
    return float(value) if np.isfinite(value) else None
