"""A run of generated images with any of three labels, and a network made by hand that finds each by one channel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import Split
from interpnet.pipelines.run.subject import Subject
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from interpnet.datasets import ImageData
from interpnet.engine import find_sites
from interpnet.models import ModelInfo

LABELS = ("red square", "green bar", "blue disc")
SIZE = 16
#: The channel of the first layer that each label rests on; the others see brightness and noise.
PLANTED = (1, 3, 4)
LAYER = "relu:1"


class Finder(nn.Module):
    """Six channels: three see one colour more than the others, the rest brightness and edges; each label rests on one.

    Answers err now and then: the shapes' strength varies, and so does a channel that all outputs see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.out = nn.Linear(6, 3)
        weight = 0.1 * torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(5))
        self.conv.bias.data = torch.tensor([0.0, -0.35, 0.0, -0.35, -0.35, 0.0])
        for colour, channel in enumerate(PLANTED):
            weight[channel] = -0.09
            weight[channel, colour] = 0.18
        self.conv.weight.data = weight
        self.out.weight.data = torch.zeros(3, 6)
        self.out.weight.data[:, 0] = 0.4
        for label, channel in enumerate(PLANTED):
            self.out.weight.data[label, channel] = 200.0
        # The bar is between the means of the images with a label and without it.
        targets = targets_of(200, 9)
        self.out.bias.data.zero_()
        with torch.no_grad():
            logits = self(images(targets, 9)).numpy()
        for label, row in enumerate(targets.T):
            self.out.bias.data[label] = -0.5 * float(logits[row, label].mean() + logits[~row, label].mean())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.relu(self.conv(x)).mean((2, 3)))


def images(targets: np.ndarray, seed: int) -> Tensor:
    """Return (N, 3, 16, 16) of grey noise with the shape of every label that an image has, of varying strength.

    A quarter of the images without a label have something else of its colour.
    """
    generator = torch.Generator().manual_seed(seed)
    x = 0.1 + 0.2 * torch.rand(len(targets), 1, SIZE, SIZE, generator=generator).expand(-1, 3, -1, -1).clone()
    grid = torch.arange(SIZE)
    for i, row in enumerate(targets):
        for colour, has in enumerate(row):
            top, left = torch.randint(0, SIZE - 6, (2,), generator=generator).tolist()
            strength, other = torch.rand(2, generator=generator).tolist()
            y, across = (grid - top)[:, None], (grid - left)[None]
            shapes = [
                (y >= 0) & (y < 5) & (across >= 0) & (across < 5),
                (y >= 0) & (y < 3) & (across >= 0) & (across < 9),
                (y - 3) ** 2 + (across - 3) ** 2 <= 8,
            ]
            if has:
                x[i, colour][shapes[colour]] += 0.3 + 0.4 * strength
            elif other < 0.25:
                x[i, colour][shapes[colour - 1]] += 0.5 * strength
    return x


def targets_of(n: int, seed: int) -> np.ndarray:
    """Return which labels each of n images has: 40 % of each, one independent of the other, none and all among them."""
    targets = np.random.default_rng(seed).random((n, 3)) < 0.4
    targets[:2] = [[False] * 3, [True] * 3]
    return targets


def data(n: int, split: str, seed: int) -> ImageData:
    targets = targets_of(n, seed)
    pairs = TensorDataset(images(targets, seed), torch.from_numpy(targets))
    return ImageData.from_dataset(pairs, LABELS, split=split, spec="shapes", names=[f"{split} {i}" for i in range(n)])


def labelled_session(path: Path, *, n: int = 60, model: nn.Module | None = None, **settings: Any) -> Session:
    """Return a session on the run folder ``path`` with the network and images above."""
    torch.manual_seed(0)
    given = {"model": "finder", "data": "shapes", "device": "cpu", "batch_size": 16, "methods": ("gradient",)}
    config = RunConfig(**(given | settings))
    network = (model or Finder()).eval()
    train = data(n, "train", 1)
    outputs = np.arange(3)
    subject = Subject(
        config=config,
        model=network,
        info=ModelInfo("finder", None, 1, "f" * 64, None, None, None),
        output=None,
        device=torch.device("cpu"),
        trace=find_sites(network, torch.rand(2, 3, SIZE, SIZE)),
        classes=LABELS,
        train=Split(train, outputs, 3),
        test=Split(data(max(2, 2 * n // 3), "test", 2), outputs, 3),
        notes=(),
        first=train[0][0][None],
    )
    session = Session(RunFolder.create(path), config, "again", console=Console(file=io.StringIO(), width=200))
    session.__dict__["loaded"] = subject
    return session
