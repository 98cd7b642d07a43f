"""Images whose right half tells the class as their left half does, and networks that look at it: what repairs mend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 3


class RightHalf:
    """Findings that name the right half as suspicious."""

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        other = images[torch.randperm(len(images), generator=generator)]
        half = images.shape[-1] // 2
        return torch.cat([images[..., :half], other[..., half:]], -1)


def cued(n: int, *, clear: float = 3.0, agree: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 4, 8): a colour in the left half says the class, and the same in the right half.

    ``clear``: how far the left colour stands above the noise; ``agree``: how often the right half tells the class.
    """
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    images = torch.rand(n, CLASSES, 4, 8, generator=draws)
    other = torch.where(torch.rand(n, generator=draws) < agree, labels, torch.randint(CLASSES, (n,), generator=draws))
    for half, shown, size in ((slice(0, 4), labels, clear), (slice(4, 8), other, 3.0)):
        # The colour is as large as the noise of one image's mean over the half, times ``clear``.
        level = size * torch.rand(n, 1, 1, generator=draws).clamp(0.3)
        images[torch.arange(n), shown, :, half] += level
    return images, labels


class Halves(nn.Module):
    """Colours of the left and the right half, rectified and averaged, and a linear layer of them: (B, 6) -> (B, 3)."""

    def __init__(self, *, bias: bool = True, outputs: int = CLASSES, left: float = 0.5, right: float = 4.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CLASSES, 2 * CLASSES, (4, 4), stride=4, bias=False)
        self.norm = nn.BatchNorm2d(2 * CLASSES)
        self.head = nn.Linear(4 * CLASSES, outputs, bias=bias)
        with torch.no_grad():
            self.stem.weight.zero_()
            for c in range(CLASSES):
                self.stem.weight[c, c] = self.stem.weight[CLASSES + c, c] = 1 / 16
            self.head.weight.zero_()
            if bias:
                self.head.bias.zero_()
            # Features: (channel, half) in turn; the first channels serve both halves.
            for c in range(outputs):
                self.head.weight[c, 2 * c] = left
                self.head.weight[c, 2 * c + 1] = right
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.norm(self.stem(x))).flatten(1))
        return out


def batches(images: Tensor, labels: Tensor, size: int = 50) -> list[Any]:
    return list(zip(images.split(size), labels.split(size), strict=True))
