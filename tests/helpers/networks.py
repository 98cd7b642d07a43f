"""Small networks for tests: one architecture written five ways, and real shapes of trouble."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

SPELLINGS = ("module", "inplace", "functional", "method", "reused")


class Step(nn.Module):
    """A network of one function."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


class Spelled(nn.Module):
    """conv, relu, strided conv, relu, a residual sum, relu, pool, linear: the ReLU written in one of five ways."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc1 = nn.Linear(8, 10)
        self.fc2 = nn.Linear(10, 4)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.4
        self.bn1.running_mean.uniform_(-0.5, 0.5, generator=generator)
        self.bn1.running_var.uniform_(0.5, 1.5, generator=generator)
        self.spelling = spelling
        inplace = spelling == "inplace"
        if spelling in {"module", "inplace"}:
            self.r1, self.r2, self.r3, self.r4 = (nn.ReLU(inplace=inplace) for _ in range(4))
        elif spelling == "reused":
            self.relu = nn.ReLU(inplace=True)

    def act(self, x: Tensor, k: int) -> Tensor:
        if self.spelling in {"module", "inplace"}:
            return getattr(self, f"r{k}")(x)
        if self.spelling == "functional":
            return F.relu(x)
        if self.spelling == "method":
            torch.relu_(x)  # the return value is dropped, as people do
            return x
        return self.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)), 1)
        x = self.act(self.conv2(x), 2)
        y = self.conv3(x)
        y += x
        y = self.act(y, 3)
        y = y.mean((2, 3))
        return self.fc2(self.act(self.fc1(y), 4))


class Branches(nn.Module):
    """A concatenation, average and max pooling, a gate, and an in-place sum after a rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(2, 4, 5, padding=2, bias=False)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.c = nn.Conv2d(8, 6, 3, stride=2)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(x))
        x = F.max_pool2d(torch.cat([a, b], 1), 2)
        scale = F.adaptive_avg_pool2d(x, 1)
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(scale))))
        x = F.avg_pool2d(x * scale, 2)
        x = F.relu(self.c(x))
        return self.out(x.mean((2, 3)))


def small() -> nn.Module:
    """Return a network of three classes for :func:`small_images`."""
    return Branches().eval()


def small_images(n: int = 2) -> Tensor:
    """Return (n, 2, 16, 16) of noise, the same each time."""
    return torch.randn(n, 2, 16, 16, generator=torch.Generator().manual_seed(2))


def images(*shape: int, seed: int = 0) -> Tensor:
    """Return float64 noise of the shape, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchvision_network(name: str) -> nn.Module:
    """Return a network of torchvision with five classes, the caller's own."""
    return copy.deepcopy(_made(name))


@cache
def _made(name: str) -> nn.Module:
    """Random weights, with batch norms that have seen noise."""
    torch.manual_seed(0)
    extra = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net: nn.Module = getattr(torchvision.models, name)(num_classes=5, **extra)
    if name == "vgg11_bn":
        net.classifier = nn.Linear(512 * 49, 5)  # the large linear maps of the original only cost time
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()
