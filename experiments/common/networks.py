"""The CIFAR-10 ResNets of He et al. 2016, section 4.2, as ``file.py:factory`` models.

Written from the paper's description: three stages of n blocks, widths 16, 32, 64, parameter-free (option A) shortcuts
that take every second pixel and pad the channels with zeros. Module names follow the published checkpoints of
akamaster/pytorch_resnet_cifar10, so that their weights load.

    interpnet audit experiments/common/networks.py:resnet20 imagefolder:cifar10 --weights resnet20.safetensors ...
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut."""

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide_out)
        self.stride = stride
        self.extra = (wide_out - wide_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """A ResNet of depth 6n + 2 for 32x32 images; ``width`` and the first ``stride`` are 16 and 1 in the paper."""

    def __init__(self, n: int, n_classes: int = 10, *, width: int = 16, stride: int = 1) -> None:
        super().__init__()
        wide = (width, 2 * width, 4 * width)
        self.conv1 = nn.Conv2d(3, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*[Block(width, width, 1) for _ in range(n)])
        self.layer2 = nn.Sequential(Block(width, wide[1], 2), *[Block(wide[1], wide[1], 1) for _ in range(n - 1)])
        self.layer3 = nn.Sequential(Block(wide[1], wide[2], 2), *[Block(wide[2], wide[2], 1) for _ in range(n - 1)])
        self.linear = nn.Linear(wide[2], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def cifar_resnet(depth: int) -> CifarResNet:
    """Return the network of the given depth (20, 32, 44, 56, 110)."""
    return CifarResNet((depth - 2) // 6)


def resnet20() -> CifarResNet:
    """Return ResNet-20."""
    return cifar_resnet(20)


def resnet56() -> CifarResNet:
    """Return ResNet-56."""
    return cifar_resnet(56)
