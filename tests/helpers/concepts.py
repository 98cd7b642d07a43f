"""Networks, image sets and a float64 reference for what is read along concepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)
    ).eval()


class Attention(nn.Module):
    """Tokens of four pixels, one layer of attention by the fused operator, the mean token's logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.tokens = nn.Linear(8, 6)
        self.mixed = nn.Linear(6, 18)
        self.unit = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = functional.gelu(self.tokens(patches))
        q, k, v = self.mixed(tokens).chunk(3, -1)
        tokens = tokens + functional.scaled_dot_product_attention(q, k, v)
        return self.head(functional.gelu(self.unit(tokens)).mean(1))


def sets(n: int, size: int, *, seed: int = 0, side: int = 6) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return list(torch.rand(n, size, 2, side, side, generator=draws))


def reference(
    maps: Any, head: Any, concept: Tensor, random: list[Tensor], images: Tensor, target: int, cav: str = "difference"
) -> dict[str, Any]:
    """Return scores (R,), effects (R,) and unit vectors (R, D), in float64, of a network cut into two functions."""
    with torch.no_grad():
        ours = maps(concept.double()).flatten(1)
        theirs = [maps(part.double()).flatten(1) for part in random]
        at = maps(images.double())
    at.requires_grad_()
    logits = head(at)
    others = [k for k in range(logits.shape[1]) if k != target]
    odds = logits[:, target] - logits[:, others].logsumexp(1)
    gradient = torch.autograd.grad(odds.sum(), at)[0].flatten(1)
    found: dict[str, Any] = {"scores": [], "effects": [], "cavs": []}
    for j, part in enumerate(theirs):
        v = ours.mean(0) - part.mean(0)
        if cav == "linear":
            v = torch.from_numpy(_logistic(ours.numpy(), part.numpy()))
        v = v / v.norm()
        along = gradient @ v
        rest = torch.cat([other for i, other in enumerate(theirs) if i != j]) @ v
        found["scores"].append(float((along > 0).double().mean()))
        found["effects"].append(float(along.mean() * rest.std(correction=0)))
        found["cavs"].append(v)
    return found


def _logistic(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Minimise the penalised loss over all D numbers by Newton's method."""
    points = np.concatenate([ours, theirs])
    points = points - points.mean(0)
    points /= np.sqrt((points**2).sum(1).mean())
    sign = np.r_[np.ones(len(ours)), -np.ones(len(theirs))]
    n = len(points)
    share = np.r_[np.full(len(ours), n / 2 / len(ours)), np.full(len(theirs), n / 2 / len(theirs))]
    design = np.c_[points, np.ones(n)]
    penalty = np.diag(np.r_[np.ones(points.shape[1]), 0.0])
    w = np.zeros(design.shape[1])
    for _ in range(50):
        wrong = 1 / (1 + np.exp(sign * (design @ w)))
        slope = penalty @ w - design.T @ (share * sign * wrong)
        curvature = penalty + (design * (share * wrong * (1 - wrong))[:, None]).T @ design
        w = w - np.linalg.solve(curvature, slope)
    return w[:-1]
