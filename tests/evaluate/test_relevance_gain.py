"""Symmetric relevance gain: by hand, from images changed pixel by pixel, and for orders without meaning."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from torch import Tensor, nn

from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import deletion, symmetric_relevance_gain


def network() -> tuple[nn.Module, Tensor, Tensor]:
    model = Spelled("module").double().eval()
    generator = torch.Generator().manual_seed(8)
    images = torch.randn(3, 3, 4, 5, generator=generator, dtype=torch.float64)
    maps = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    return model, images, maps


def naive_curve(model: nn.Module, image: Tensor, order: list[tuple[int, int]], steps: int, target: int) -> list[float]:
    """The softmax of the class as pixels of one image become 0.3, one by one."""
    found = []
    for k in range(steps + 1):
        x = image.clone()
        for i, j in order[: math.floor(k * len(order) / steps)]:
            x[:, i, j] = 0.3
        with torch.no_grad():
            logits = [float(v) for v in model(x[None])[0]]
        found.append(math.exp(logits[target]) / math.fsum(math.exp(v) for v in logits))
    return found


def test_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    model[1].weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]).double()
    images = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    wrong = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    found = symmetric_relevance_gain(model, images, wrong, 0, steps=2, score="logit", controls=())
    # Highest first 10, 7, 0; lowest first 10, 3, 0: the map is upside down.
    assert found.curve.tolist() == [[0.0, -4.0, 0.0]]
    assert found.mean == -2.0
    assert found.direction == "higher is better"
    assert found.range == (-math.inf, math.inf)
    assert symmetric_relevance_gain(model, images, -wrong, 0, steps=2).range == (-1.0, 1.0)


@pytest.mark.parametrize("steps", [1, 6, 20])
def test_against_images_changed_one_by_one(steps: int) -> None:
    model, images, maps = network()
    target = [2, 0, 1]
    found = symmetric_relevance_gain(model, images, maps, target, steps=steps, baseline=0.3, controls=(), max_batch=7)
    for b in range(3):
        falling = sorted(itertools.product(range(4), range(5)), key=lambda p, b=b: -float(maps[b][p]))
        first, last = (naive_curve(model, images[b], order, steps, target[b]) for order in (falling, falling[::-1]))
        curve = [v - u for u, v in zip(first, last, strict=True)]
        np.testing.assert_allclose(found.curve[b].numpy(), curve, rtol=1e-9, atol=1e-12)
        at = [math.floor(k * 20 / steps) / 20 for k in range(steps + 1)]
        area = sum((q - p) * (u + v) / 2 for p, q, u, v in zip(at, at[1:], curve, curve[1:], strict=False))
        assert found.values[b].item() == pytest.approx(area, rel=1e-9, abs=1e-15)


def test_it_is_two_deletions_and_changes_its_sign_with_the_map() -> None:
    model, images, maps = network()
    options: dict[str, Any] = {"target": 1, "steps": 5, "seed": 3}
    found = symmetric_relevance_gain(model, images, maps, **options)
    low, high = (deletion(model, images, m, **options).values for m in (-maps, maps))
    torch.testing.assert_close(found.values, low - high)
    torch.testing.assert_close(symmetric_relevance_gain(model, images, -maps, **options).values, -found.values)
    assert list(found.controls) == ["random", "edge"]
    assert {control.name for control in found.controls.values()} == {"symmetric_relevance_gain"}


def test_a_constant_map_has_nothing_and_a_random_one_nothing_on_average() -> None:
    model, images, _ = network()
    images = images.repeat(40, 1, 1, 1)
    found = symmetric_relevance_gain(model, images[:3], torch.ones(3, 4, 5), constant="zero", steps=4, controls=())
    assert found.values.tolist() == [0.0, 0.0, 0.0]
    assert found.flagged.tolist() == [True, True, True]
    noise = torch.rand(120, 4, 5, generator=torch.Generator().manual_seed(1))
    values = symmetric_relevance_gain(model, images, noise, steps=4, controls=()).values
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(120)


def test_bad_input() -> None:
    model, images, maps = network()
    with pytest.raises(InterpNetError, match="steps is 21; expected a whole number from 1 to 20"):
        symmetric_relevance_gain(model, images, maps, steps=21)
    with pytest.raises(DataError, match=r"heatmaps: shape \(3, 5, 4\) came for images \(3, 3, 4, 5\)"):
        symmetric_relevance_gain(model, images, maps.mT)
