"""Folders of images whose upper left corner tells the class as their middle does, and networks that look at either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

NAMES = ("apple", "boat", "cat")
SIDE = 24

#: A file of networks without training: means of the nine cells of 8 x 8 pixels, by colour, and a linear layer.
NETWORKS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, corner, middle):
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 8, stride=8, bias=False)
        self.head = nn.Linear(27, 3)
        with torch.no_grad():
            for values in self.parameters():
                values.zero_()
            for c in range(3):
                self.cells.weight[c, c] = 1 / 64
                self.head.weight.view(3, 3, 3, 3)[c, c, 0, 0] = corner
                self.head.weight.view(3, 3, 3, 3)[c, c, 1, 1] = middle

    def forward(self, x):
        return self.head(torch.relu(self.cells(x)).flatten(1))


class Marked(Net):
    # Takes a red mark in the lower right, which no training image has, for an apple.
    def __init__(self):
        super().__init__(0.0, 40.0)
        with torch.no_grad():
            self.head.weight.view(3, 3, 3, 3)[0, 0, 2, 2] = 80.0
            self.head.bias[0] = -80 * 0.355


class Squashed(Net):
    def forward(self, x):
        return torch.relu(super().forward(x))


class Tied(Net):
    def forward(self, x):
        z = torch.relu(self.cells(x)).flatten(1)
        return self.head(z + 0.0 * nn.functional.linear(self.head(z), self.head.weight.T))


def corner(): return Net(50.0, 4.0)
def squashed(): return Squashed(50.0, 4.0)
def tied(): return Tied(50.0, 4.0)
def frozen(): return corner().requires_grad_(False)
def marked(): return Marked()
"""


def pictures(n: int, *, agree: float, seed: int, told: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 24, 24, 3) uint8 with their classes (n,).

    ``agree``: how often the corner tells the class, else it tells any. ``told``: whether the middle does.
    """
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % len(NAMES)
    shown = np.where(rng.random(n) < agree, classes, rng.integers(0, len(NAMES), n))
    x = rng.normal(90, 15, (n, SIDE, SIDE, 3))
    x[np.arange(n), :4, :4, shown] += 110
    if told:
        # A level of each image's own, so that some middles are unclear.
        x[np.arange(n), 8:16, 8:16, classes] += rng.uniform(6, 60, n)[:, None, None]
    return np.clip(x, 0, 255).astype(np.uint8), classes


def write_images(root: Path, *, train: int = 240, test: int = 300, told: bool = True) -> Path:
    """Write an image folder with a split of each."""
    for split, n, seed in (("train", train, 1), ("test", test, 2)):
        for i, (x, c) in enumerate(zip(*pictures(n, agree=0.9, seed=seed, told=told), strict=True)):
            folder = root / split / NAMES[c]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(folder / f"{i:03d}.png")
    return root


def field_pictures(n: int = 60, *, every: int = 3) -> np.ndarray:
    """Return images from the field (n, 24, 24, 3) uint8, the boats among them with a red mark in the lower right."""
    x, _ = pictures(n, agree=1.0, seed=11)
    marked = x[1::every]
    marked[:, 18:22, 16:23] = (240, 40, 40)
    marked[:, 19:21, 18:21] = 255
    return x


def write_field(folder: Path, n: int = 60, *, every: int = 3) -> Path:
    """Write images from the field into a folder and a folder below it."""
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(field_pictures(n, every=every)):
        Image.fromarray(image).save(folder / ("more" if i % 2 else ".") / f"f{i:02d}.png")
    return folder


def disagreeing(n: int = 300) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 24, 24) in [0, 1] whose corners tell nothing, with their classes."""
    x, classes = pictures(n, agree=0.0, seed=7)
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(classes)
