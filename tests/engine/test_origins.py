"""What a network returns beside its logits is no classifier's output: the layers before it are read as ever."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import find_sites


class Beside(nn.Module):
    """Returns its features beside the logits, in one of the usual ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.first = nn.Conv2d(1, 3, 3)
        self.second = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        maps = torch.relu(self.second(torch.relu(self.first(x))))
        features = maps.mean((2, 3))
        logits = self.fc(features)
        forms: dict[str, Any] = {
            "alone": logits,
            "dict": {"features": features, "logits": logits, "maps": maps},
            "tuple": (features, logits),
            "list of heads": ([maps], [logits, features]),
        }
        return forms[self.form]


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("dict", "logits"),
        ("dict", lambda result: result["logits"]),
        ("dict", lambda result: result["logits"].clone() / 2 + 1),
        ("tuple", 1),
        ("list of heads", lambda result: result[1][0]),
    ],
)
def test_features_that_are_returned_leave_the_layers_as_they_are(form: str, output: Any) -> None:
    images = torch.rand(2, 1, 8, 8)
    alone = find_sites(Beside("alone"), images)
    trace = find_sites(Beside(form), images, output=output)
    marks = [(site.name, site.default, site.output) for site in trace.sites]
    assert marks == [(site.name, site.default, site.output) for site in alone.sites]
    assert [site.name for site in trace.sites if site.default] == ["relu", "relu:1"]
    assert [site.name for site in trace.sites if site.output] == ["fc"]
