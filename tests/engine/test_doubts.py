"""Which operators may be activations that are not recognised: of which maps, beside which other activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import find_sites

X = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(0)) - 0.5


class Net(nn.Module):
    """Two convolutions with a step behind the first and another behind the second, then three logits."""

    def __init__(self, first: Any, second: Any, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)
        self.steps = [before, first, second, after]

    def forward(self, x: Tensor) -> Tensor:
        before, first, second, after = (step or (lambda x: x) for step in self.steps)
        x = second(self.b(first(self.a(before(x)))))
        return after(self.head(x.mean((2, 3))))


def doubts(**steps: Callable[[Tensor], Tensor]) -> list[str]:
    """Return the operators in doubt."""
    found = find_sites(Net(**{"first": None, "second": None, **steps}).eval(), X).doubts
    assert all(text.endswith(" in the network itself") for text in found)
    return [text.split("'")[1] for text in found]


DOUBTS: dict[str, tuple[dict[str, Callable[[Tensor], Tensor]], list[str]]] = {
    # A kink is one anywhere; a smooth function only where there is no activation.
    "kink beside an activation": ({"first": torch.abs, "second": F.relu}, ["abs"]),
    "smooth beside an activation": ({"first": torch.square, "second": F.relu}, []),
    "smooth alone": ({"first": torch.square}, ["square"]),
    "both smooth": ({"first": torch.square, "second": torch.sin}, ["square", "sin"]),
    "shifted rectifier beside an activation": ({"first": lambda x: x.clamp(min=0.5), "second": F.relu}, ["clamp"]),
    "larger of two maps": ({"first": lambda x: torch.max(x, x.flip(1)), "second": F.relu}, ["max"]),
    "mask of another map": ({"first": lambda x: x * (x.flip(1) > 0), "second": F.relu}, ["mul"]),
    "unknown beside an activation": ({"first": lambda x: torch.hypot(x, x), "second": F.relu}, []),
    "unknown alone": ({"first": lambda x: torch.hypot(x, x)}, ["hypot"]),
    "pooled": ({"first": lambda x: x.amax((2, 3), keepdim=True)}, []),
    "largest of stacked maps": ({"first": lambda x: torch.stack([x, -x]).amax(0)}, ["amax"]),
    # What is no map of a convolution, or has had its activation.
    "of the images": ({"before": torch.abs, "first": F.relu}, []),
    "of the images, without an activation": ({"before": torch.square}, []),
    "behind an activation": ({"first": lambda x: F.relu(x).abs(), "second": F.relu}, []),
    "behind a bounded activation": ({"first": lambda x: torch.tanh(x).abs()}, []),
    "behind a softmax": ({"first": lambda x: x.softmax(1).abs(), "second": F.relu}, []),
    "behind a pooling": ({"first": lambda x: F.avg_pool2d(x, 2).abs(), "second": F.relu}, []),
    "behind a sum": ({"first": lambda x: (x + x.flip(1)).abs(), "second": F.relu}, ["abs"]),
    "behind a shift": ({"first": lambda x: (x * 2 - 1).abs(), "second": F.relu}, ["abs"]),
    "behind a view": ({"first": lambda x: x.flatten(2).abs().view(x.shape), "second": F.relu}, ["abs"]),
    "of the logits": ({"first": F.relu, "after": torch.abs}, []),
    "of the logits, without an activation": ({"first": torch.square, "after": F.relu}, ["square"]),
    # What leads nowhere, and what only scales.
    "dropped": ({"first": lambda x: [x.abs(), F.relu(x)][1]}, []),
    "gate alone": ({"first": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), "second": torch.sin}, ["sin"]),
    "part of an activation by hand": ({"first": lambda x: (x + x.abs()) / 2}, []),
    "part of one and more": ({"first": lambda x: (lambda a: (x + a) / 2 + a.flip(1))(x.abs())}, ["abs"]),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_what_may_be_an_activation(name: str) -> None:
    steps, expected = DOUBTS[name]
    assert doubts(**steps) == expected


def test_the_place_of_a_doubt_is_the_module() -> None:
    class Absolute(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    net = nn.Sequential(nn.Conv2d(2, 3, 1), Absolute(), nn.Flatten(), nn.Linear(108, 2)).eval()
    assert find_sites(net, X).doubts == ("'abs' in 1",)
