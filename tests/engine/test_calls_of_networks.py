"""Networks that need more than images, or return more than logits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import OneColumn, find_sites, logits_of, part_of
from interpnet.engine._logits import output_key
from interpnet.errors import ModelError

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PAGE = (Path(__file__).parents[2] / "docs" / "loaders.md").read_text(encoding="utf-8")


@dataclass
class Returned:
    """As transformers return it."""

    logits: Tensor
    hidden: Tensor


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 2)

    def logits(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.conv(x)).mean((2, 3)))


class Flag(Base):
    def forward(self, x: Tensor, flag: bool) -> Tensor:
        return self.logits(x)


class ByName(Base):
    def forward(self, *, pixel_values: Tensor, return_dict: bool = False) -> Any:
        return {"logits": self.logits(pixel_values)}


class NoImages(Base):
    def forward(self) -> Tensor:
        return self.logits(X)


class FirstArgument(Base):
    def forward(self, pixel_values: Tensor | None = None, labels: Tensor | None = None) -> Returned:
        assert pixel_values is not None
        return Returned(self.logits(pixel_values), pixel_values)


@pytest.mark.parametrize("net", [Flag(), ByName(), NoImages()])
def test_a_network_that_needs_more_arguments_is_told_how(net: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"TypeError: .*forward\(\) .*wrap one that needs more.*five lines"):
        find_sites(net, X)


def test_the_five_lines_of_the_page_work() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"torch": torch}
    exec(code, names)  # noqa: S102 - the page's own lines
    wrapped = names["Wrapped"](ByName())
    trace = find_sites(wrapped, X, output="logits")
    assert trace.n_outputs == 2
    assert trace.index().layers == ("model:relu",)


def test_what_transformers_return_needs_no_wrapping() -> None:
    for output in ("logits", lambda y: y.logits, lambda y: 2 * y.logits):
        assert find_sites(FirstArgument(), X, output=output).n_outputs == 2
    with pytest.raises(ModelError, match=r"returns a Returned; expected logits .*output='NAME' of an attribute"):
        find_sites(FirstArgument(), X)


class Pair(NamedTuple):
    logits: Tensor
    maps: Tensor


def test_parts_by_key_attribute_index_and_function() -> None:
    z = torch.zeros(2, 3)
    for result, output in (
        ({"logits": z, 0: z}, "logits"),
        ({0: z}, 0),
        (Pair(z, z), "logits"),
        (Pair(z, z), 0),
        ([None, z], -1),
        (Returned(z, z), "logits"),
        (z, lambda y: y),
        (Returned(z, z), OneColumn("logits")),
    ):
        assert part_of(result, output) is z
        assert logits_of(result, 2, output) is z
    assert repr(OneColumn("logits")) == "OneColumn('logits')"
    assert repr(OneColumn()) == "OneColumn()"
    assert logits_of(torch.zeros(2), 2, OneColumn()).shape == (2, 1)
    # A square of logits, of which output=0 would take the first image's for every image.
    with pytest.raises(ModelError, match="output=0 does not exist: the model returns a tensor"):
        logits_of(torch.eye(2), 2, 0)


def test_outputs_are_told_apart_by_what_they_take() -> None:
    def made(i: int) -> Any:
        return lambda y: y[i]

    keys = [None, 0, "0", OneColumn(), OneColumn(0), torch.logit, torch.sigmoid, made(0), made(1), lambda y: y[1]]
    assert len({output_key(output) for output in keys}) == len(keys)
    # The same function made twice is one.
    assert output_key(made(0)) == output_key(made(0))
