"""A network whose contributions are exact: channels that are the image's own values, weighed into logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Weighing(nn.Module):
    """Channels that are the image's own values, weighed into logits: contributions are exact."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.weigh = nn.Linear(len(weights[0]), len(weights), bias=False)
        self.weigh.weight.data = torch.tensor(weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(self.relu(x).flatten(1))


def ones(n: int, m: int, classes: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [(torch.ones(n, m, 1, 1), torch.arange(n) % classes)]
