"""A run of hand-made images and a network of a few numbers: every stage takes a fraction of a second."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interpnet.pipelines.run.config import MU_LASSO, RELIANCE, RunConfig
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import Split
from interpnet.pipelines.run.subject import Subject
from interpnet.pipelines.stages import ablate, collect, contributions, explain, reliance, shortcuts, solve
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from interpnet.datasets import ImageData
from interpnet.datasets._wrapped import DatasetSource
from interpnet.engine import find_sites
from interpnet.models import ModelInfo

Calls = list[dict[str, Any]]

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
    """Return a session on the run folder ``path`` whose network and images are those above.

    Channels are named by the mu-lasso alone, unless ``identify`` says otherwise.
    """
    torch.manual_seed(0)
    given = {"model": "tiny", "data": "tiny", "device": "cpu", "batch_size": 4, "identify": "mu-lasso"} | settings
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


def recorded(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Calls:
    """Note the arguments of every call of a library function from a stage; the function runs as ever."""
    calls: Calls = []
    function = getattr(module, name)

    def listening(*args: Any, **options: Any) -> Any:
        calls.append({"args": args, **options})
        return function(*args, **options)

    monkeypatch.setattr(module, name, listening)
    return calls


def read(session: Session, file: str) -> Any:
    return json.loads((session.run.path / file).read_text())


def said(session: Session) -> str:
    """Return what a session printed."""
    stream = session.console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def through(session: Session, last: str = "explain") -> Session:
    """Run the stages up to ``last``."""
    ways = session.config.ways
    for name, run, wanted in (
        ("collect", collect.run_collect, True),
        ("contributions", contributions.run_contributions, RELIANCE in ways),
        ("solve", solve.run_solve, MU_LASSO in ways),
        ("reliance", reliance.run_reliance, RELIANCE in ways),
        ("ablate", ablate.run_ablate, True),
        ("explain", explain.run_explain, True),
        ("shortcuts", shortcuts.run_shortcuts, True),
    ):
        if wanted:
            run(session)
        if name == last:
            break
    return session


def again(session: Session, **settings: Any) -> Session:
    """Return a session on the same folder with other settings."""
    return tiny_session(session.run.path, masks=bool(session.loaded.test.data.masks), **settings)


def tensors(session: Session, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images of a split, and the outputs that they should raise."""
    chosen = getattr(session.loaded, split)
    x = torch.stack([chosen.data[i][0] for i in range(len(chosen.data))])
    return x, torch.from_numpy(OUTPUTS[chosen.data.labels])


def unreadable(monkeypatch: pytest.MonkeyPatch, session: Session, split: str, rows: set[int]) -> None:
    """Make some images of a split damaged, and have them left out."""
    data = getattr(session.loaded, split).data
    data.on_bad_image = "skip"
    data.fingerprint()  # of the files as they are for the run
    honest = data._source.read

    def reading(i: int, channels: int) -> Any:
        if i in rows:
            raise OSError("damaged")
        return honest(i, channels)

    monkeypatch.setattr(data._source, "read", reading)
