"""A run of hand-made images and a network of a few numbers: every stage takes a fraction of a second."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.subject import Split, Subject
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from interpnet.datasets import ImageData
from interpnet.datasets._wrapped import DatasetSource
from interpnet.engine import find_sites
from interpnet.models import ModelInfo

CLASSES = ("first", "second", "third")
# The model's output for each class of the data.
OUTPUTS = np.array([2, 0, 1])
SIZE = 16


class Tiny(nn.Module):
    """Two layers of five and four channels; it is right about most of the images of :func:`images`."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.second = nn.Conv2d(5, 4, 3, padding=1)
        self.out = nn.Linear(4, 3)
        for p in self.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator)
        for c in range(3):
            self.first.weight.data[c, c] += 0.3
            self.second.weight.data[c, c] += 0.3
            self.out.weight.data[int(OUTPUTS[c]), c] += 2.0
        # Without a favourite among the classes.
        with torch.no_grad():
            self.out.bias -= self(images(np.repeat(np.arange(3), 20), 9)).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.out(x.mean((2, 3)))


def images(labels: np.ndarray, seed: int) -> Tensor:
    """Return (N, 3, 16, 16) of noise with a bright disc in the colour of the class, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.rand(len(labels), 3, SIZE, SIZE, generator=generator)
    for i, label in enumerate(labels):
        row, column = torch.randint(3, 9, (2,), generator=generator).tolist()
        x[i, label, row : row + 5, column : column + 5] += 0.45
    return x


def data(counts: tuple[int, ...], split: str, seed: int, masks: bool) -> ImageData:
    """Return so many images of each class, mixed."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(3), counts))
    pairs = TensorDataset(images(labels, seed), torch.from_numpy(labels))
    names = [f"{split} {i}" for i in range(len(labels))]
    made = ImageData.from_dataset(pairs, ["a", "b", "c"], labels=labels, names=names, split=split, spec="tiny")
    if masks:
        made._source.__class__ = Masked
        made._source.known = {"discriminative": made_masks(pairs.tensors[0])}
    return made


class Masked(DatasetSource):
    """A source that knows where its discs are."""

    known: dict[str, np.ndarray]

    @property
    def masks(self) -> dict[str, np.ndarray]:
        return self.known


def made_masks(x: Tensor) -> np.ndarray:
    """Return (N, 16, 16): where one colour outshines the others."""
    return (x.amax(1) - x.median(1).values > 0.4).numpy()


def tiny_session(path: Path, *, masks: bool = False, counts: tuple[int, ...] = (9, 7, 5), **settings: Any) -> Session:
    """Return a session on the run folder ``path`` whose network and images are those above."""
    torch.manual_seed(0)
    given = {"model": "tiny", "data": "tiny", "device": "cpu", "batch_size": 4} | settings
    config = RunConfig(**given)
    model = Tiny().eval()
    train = data(counts, "train", 1, masks)
    test = data((4, 3, 2), "test", 2, masks)
    subject = Subject(
        config=config,
        model=model,
        info=ModelInfo("tiny", None, 1, "f" * 64, None, None, None),
        output=None,
        device=torch.device("cpu"),
        trace=find_sites(model, torch.rand(2, 3, SIZE, SIZE)),
        classes=CLASSES,
        train=Split(train, OUTPUTS),
        test=Split(test, OUTPUTS),
        notes=(),
        first=train[0][0][None],
    )
    session = Session(RunFolder.create(path), config, "again", console=Console(file=io.StringIO()))
    session.__dict__["loaded"] = subject
    return session
