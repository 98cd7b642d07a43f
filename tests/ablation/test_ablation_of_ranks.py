"""A study in several processes: the result of one, each image run by one of them, going on with another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.processes import in_processes
from torch import Tensor, nn

from interpnet.ablation import ablation_study
from interpnet.engine import ChannelIndex
from interpnet.interpretation import Interpretation

Batches = list[tuple[Tensor, Tensor]]


class Counting(nn.Module):
    """A network of a few numbers that knows how many images it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)
        self.seen = 0
        self.enough = 10**9

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        if self.seen > self.enough:
            raise KeyboardInterrupt
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def batches(outputs: str) -> Batches:
    """Return 25 images in batches of four."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(25, 3, 8, 8, generator=generator)
    labels = torch.arange(25) % 3
    if outputs == "independent":
        labels = (torch.rand(25, 3, generator=generator) < 0.5).float()
    return list(zip(images.split(4), labels.split(4), strict=True))


def found() -> Interpretation:
    weights = np.random.default_rng(1).normal(size=(3, 6)) * (np.arange(6) % 3 != np.arange(3)[:, None])
    return Interpretation(ChannelIndex((("relu", 6),)), weights, ("a", "b", "c"))


def study(outputs: str = "exclusive", fill: str = "zero", **options: Any) -> tuple[dict[str, Any], int]:
    """Return the study of this process, or of its group, and how many images the network was given."""
    model = Counting()
    options = {"repeats": 2, "progress": False, "fill": fill, "outputs": outputs} | options
    result = ablation_study(model, batches(outputs), found(), **options)
    return result.to_json(), model.seen


def study_of_group(*arguments: str) -> tuple[dict[str, Any], int]:
    return study(*arguments, group="default")


@pytest.mark.parametrize(("outputs", "fill", "world"), [("exclusive", "mean", 2), ("independent", "zero", 3)])
def test_several_processes_measure_what_one_measures(outputs: str, fill: str, world: int) -> None:
    alone, images = study(outputs, fill)
    done = in_processes(world, study_of_group, outputs, fill)
    assert [outcome.error for outcome in done] == [""] * world
    for outcome in done:
        assert outcome.result[0] == alone
        # Seven batches; each process also traces the network and checks its first passes.
        assert outcome.result[1] < images * (-(-7 // world) / 7 + 0.1)


def stopped(checkpoint: str) -> None:
    """Be interrupted in the study, after about half of this process's images."""
    model = Counting()
    model.enough = 120
    try:
        options: dict[str, Any] = {"repeats": 2, "progress": False, "group": "default"}
        ablation_study(model, batches("exclusive"), found(), checkpoint=checkpoint, key="k", **options)
    except KeyboardInterrupt:
        return
    raise AssertionError("the study ended")


def gone_on(checkpoint: str) -> tuple[dict[str, Any], int]:
    return study(checkpoint=checkpoint, key="k", group="default")


def test_a_study_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    alone, images = study()
    checkpoint = tmp_path / "measured[1].json"
    assert [outcome.error for outcome in in_processes(3, stopped, str(checkpoint))] == ["", "", ""]
    names = ["measured[1]-rank1.json", "measured[1]-rank2.json", "measured[1].json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    first, second = in_processes(2, gone_on, str(checkpoint))
    assert first.result[0] == second.result[0] == alone
    left = first.result[1] + second.result[1]
    assert left < 0.8 * images
    # And once more, by one process: all is known.
    result, again = study(checkpoint=checkpoint, key="k")
    assert result == alone
    assert again < images / 10
    assert [path.name for path in tmp_path.iterdir()] == ["measured[1].json"]


def other_channels() -> None:
    from torch.distributed import get_rank

    weights = np.eye(3, 6)
    weights[0, 5] = get_rank()
    other = Interpretation(ChannelIndex((("relu", 6),)), weights, ("a", "b", "c"))
    ablation_study(Counting(), batches("exclusive"), other, repeats=1, progress=False, group="default")


def other_images() -> None:
    from torch.distributed import get_rank

    data = batches("exclusive")
    data[3][0][0] += get_rank()
    ablation_study(Counting(), data, found(), repeats=1, progress=False, group="default")


@pytest.mark.parametrize(("function", "what"), [(other_channels, "removes"), (other_images, "reads")])
def test_processes_that_differ_are_refused(function: Any, what: str) -> None:
    for outcome in in_processes(2, function):
        assert outcome.error.startswith(f"RanksError: what the ablation {what} differs between the 2 processes")
