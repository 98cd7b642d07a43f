"""LRP's methods, and a network with each kind of layer that their rules tell apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

METHODS = (
    "lrp_0",
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_alpha1beta0",
    "lrp_alpha2beta1",
    "lrp_zbox",
    "lrp_epsilon_plus_flat",
    "deep_taylor",
)


class Residual(nn.Module):
    """Strided convolution with batch norm, a residual sum, average pooling and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(12, 4)
        generator = torch.Generator().manual_seed(3)
        self.double().eval()
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.5
        self.bn1.running_mean.uniform_(-0.5, 0.5, generator=generator)
        self.bn1.running_var.uniform_(0.5, 1.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        y = self.conv2(h)
        y += h
        return self.fc(F.avg_pool2d(F.relu(y), 2).flatten(1))
