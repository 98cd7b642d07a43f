"""What the library computes, computed once more by formulas written here, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

import interpnet as ip
from experiments.reliability.odd_calls import Subject, ablated
from experiments.reliability.odd_networks import Plain


def independent(s: Subject) -> dict[str, tuple[Any, Any]]:
    """Return by name what the library makes of the good values, and what formulas written here do, in float64."""
    net = Plain().double()
    x = s.images.double().requires_grad_()
    first = F.relu(net.conv1(x))
    second = F.relu(net.conv2(first))
    logits = net.fc(second.mean((2, 3)))
    norms = [maps.detach().square().sum((2, 3)).sqrt() for maps in (first, second)]
    scores = torch.cat([one / one.sum(1, keepdim=True) for one in norms], 1).numpy()
    removed = second.clone()
    removed[:, 1] = 0
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    start = second.detach().clone()
    start[:, [0, 2, 3, 4]] = 0
    (signal,) = torch.autograd.grad(second, x, start, retain_graph=True)
    L = np.eye(3)[s.labels.numpy()]
    plain: dict[str, Any] = {"rectifier": "gradient", "resample": False}
    rank = [stats.spearmanr(a, a.square()).statistic for a in s.maps.flatten(1)]
    hits = [bool(mask.flatten()[one.argmax()]) for one, mask in zip(s.maps.flatten(1), s.masks, strict=True)]
    table = s.table
    return {
        "scores": (table.X, scores),
        "predictions": (table.predictions, logits.argmax(1)),
        "ablate": (ablated(s.net, [s.channel], s.images), net.fc(removed.mean((2, 3)))),
        "attribute gradient": (ip.attribute(s.net, s.images, 1, "gradient", reduction="sum"), gradient.sum(1)),
        "channel_heatmap": (ip.channel_heatmap(s.net, s.images, s.channel, **plain), signal.abs().sum(1)),
        "gram.G": (s.gram.G, scores.T @ scores),
        "gram.B": (s.gram.B, scores.T @ L),
        "spearman": (ip.evaluate.spearman(s.maps, s.maps.square()), rank),
        "pointing_game": (ip.evaluate.pointing_game(s.maps, s.masks).values, hits),
        "mu-lasso": (np.abs(s.found.coef).sum(1), np.minimum(np.abs(s.found.coef).sum(1), 1.0)),
    }
