"""CONTRIBUTING's recipe for a new attribution method works as it stands there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch
from helpers.networks import Spelled

from interpnet.attribution import METHODS, attribute, methods

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def recipe():
    """The code of the recipe, run; its method leaves the registry afterwards."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.split("## Adding an attribution method")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:1]
    known = set(METHODS)
    exec(compile(textwrap.dedent(code), "CONTRIBUTING.md", "exec"), {})  # noqa: S102 - the page's own code
    (name,) = set(METHODS) - known
    yield name
    del METHODS[name]


def test_the_recipe_makes_a_method_that_runs(recipe):
    model = Spelled("module").eval()
    images = torch.randn(2, 3, 8, 8)
    assert recipe in {method.name for method in methods()}
    found = attribute(model, images, 1, recipe)
    variable = images.clone().requires_grad_()
    model(variable)[:, 1].sum().backward()
    torch.testing.assert_close(found, variable.grad.square().sum(1))


def test_the_files_it_names_are_there():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:interpnet|tests|docs|experiments)/[\w/-]+\.(?:py|md)", page))
    assert len(named) >= 4
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert missing == []
