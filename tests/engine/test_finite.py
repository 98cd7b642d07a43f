"""NaN and infinite logits: refused with the image and the batch, wherever a class or a probability is read off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.ablation import ablation_study
from interpnet.attribution import attribute
from interpnet.engine import ChannelIndex, check_predicted, find_sites, predicted
from interpnet.errors import DataError, ModelError
from interpnet.evaluate import deletion
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation
from interpnet.models import accuracy
from interpnet.pictures import embed
from interpnet.scores import collect_scores


class Odd(nn.Module):
    """A network whose logits are not finite where the first pixel is 9; its maps are."""

    def __init__(self, value: float, where: str = "one class") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 3, 1)
        self.head = nn.Linear(3, 3)
        self.value = value
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        out = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        odd = (x[:, 0, 0, 0] == 9)[:, None]
        if self.where == "one class":
            odd = odd & (torch.arange(3) == 1)
        return torch.where(odd, self.value, out)


def _images(odd: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    x[odd, 0, 0, 0] = 9
    return x, torch.arange(6) % 3


def _batches(odd: int) -> list[tuple[Tensor, Tensor]]:
    x, y = _images(odd)
    return [(x[:2], y[:2]), (x[2:], y[2:])]


FOUND = Interpretation(ChannelIndex((("relu", 3),)), np.eye(3), ("a", "b", "c"))
USES: dict[str, tuple[Callable[[nn.Module, int], Any], str]] = {
    "collect": (lambda m, i: collect_scores(m, _batches(i), progress=False), r"image 5 \(in batch 1 of the pass"),
    "ablation": (
        lambda m, i: ablation_study(m, _batches(i), FOUND, repeats=1, progress=False),
        r"image 5 \(in batch 1 of the pass",
    ),
    "explain": (lambda m, i: explain(m, _images(i)[0], FOUND, variant="paper"), "image 5 of the batch"),
    "explain a class": (
        lambda m, i: explain(m, _images(i)[0], FOUND, classes=0, variant="paper"),
        "image 5 of the batch",
    ),
    "attribute": (lambda m, i: attribute(m.eval(), _images(i)[0], 0, "gradient"), "image 5 of the batch"),
    "gradcam": (lambda m, i: attribute(m.eval(), _images(i)[0], None, "gradcam"), "image 5 of the batch"),
    "deletion": (lambda m, i: deletion(m, _images(i)[0], torch.rand(6, 4, 4), 0, steps=2), "image 5 of the batch"),
    "embed": (lambda m, i: embed(m, _batches(i), progress=False), "image 5"),
    "accuracy": (lambda m, i: accuracy(m, _batches(i)), "image 5"),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("use", USES)
def test_logits_that_are_not_finite_are_refused_with_the_image(use: str, value: float) -> None:
    run, name = USES[use]
    for where in ("one class", "all classes"):
        with pytest.raises(DataError, match=f"{name}.*NaN or infinite logits"):
            run(Odd(value, where).eval(), 5)


def test_logits_that_only_a_removal_makes_infinite_say_so() -> None:
    class Divides(Odd):
        def forward(self, x: Tensor) -> Tensor:
            maps = torch.relu(self.conv(x) + 3).mean((2, 3))
            return self.head(maps / maps.sum(1, keepdim=True))

    found = Interpretation(ChannelIndex((("relu", 3),)), np.ones((3, 3)), ("a", "b", "c"))
    with pytest.raises(DataError, match=r"image 0 \(in batch 0.*NaN or infinite logits with channels removed"):
        ablation_study(Divides(0.0).eval(), _batches(0), found, repeats=1, progress=False)


@pytest.mark.parametrize("name", ["conv.weight", "head.bias"])
def test_weights_that_are_not_finite_are_named(name: str) -> None:
    model = Odd(0.0).eval()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match=f"'{name}' holds NaN or infinite values"):
        find_sites(model, _images(5)[0])


def test_predictions_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [float("inf"), 0.0, 0.0], [3.0, 0.0, 0.0]])
    assert predicted(logits).tolist() == [1, -1, 0]
    assert predicted(logits.half()).tolist() == [1, -1, 0]
    with pytest.raises(DataError, match="image 1 of the batch has NaN or infinite logits, as 1 of 3 images"):
        check_predicted(predicted(logits))
    check_predicted(predicted(logits[[0, 2]]))
