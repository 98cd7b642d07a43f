"""The grid pointing game: by hand, cell by cell, what is drawn, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet import attribute
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate import grid_pointing_game


def colours() -> tuple[nn.Module, Tensor, Tensor]:
    """A network whose class is the brightest of five channels, and three images of 4 by 6 pixels a class."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5, bias=False)).double().eval()
    model[2].weight.data = 20 * torch.eye(5).double()
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(15) % 5
    images = 0.1 * torch.rand(15, 5, 4, 6, generator=generator, dtype=torch.float64)
    images[torch.arange(15), labels] += 1.0
    return model, images, labels


def own(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    return x[torch.arange(len(x)), target]


def test_by_hand() -> None:
    model, images, labels = colours()
    images = images.round()
    perfect = grid_pointing_game(model, images, labels, own, grids=3)
    assert perfect.score.curve.tolist() == [[1.0] * 4] * 3
    assert (perfect.score.direction, perfect.score.range) == ("higher is better", (0.0, 1.0))
    # A map of three in the upper left cell and one in the lower right, whatever the class: 3/4, 0, 0, 1/4.
    same = torch.zeros(3, 8, 12)
    same[:, 1, 2] = 3.0
    same[:, 7, 11] = 1.0
    same[:, 5, 1] = -9.0
    found = grid_pointing_game(model, images, labels, lambda m, x, t: same, grids=3)
    assert found.score.curve.tolist() == [[0.75, 0.0, 0.0, 0.25]] * 3
    assert found.score.values.tolist() == [0.25] * 3
    with pytest.raises(DataError, match="is constant"):
        grid_pointing_game(model, images, labels, lambda m, x, t: 0 * same + 1, grids=3)
    flat = grid_pointing_game(model, images, labels, lambda m, x, t: 0 * same + 1, grids=3, constant="zero")
    assert flat.score.values.tolist() == [0.25] * 3
    assert flat.score.flagged.all()


@pytest.mark.parametrize("side", [2, 3])
def test_cell_by_cell(side: int) -> None:
    model, images, labels = colours()
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10, bias=False)).double().eval()
    model[2].weight.data = 20 * torch.eye(10).double()
    images = torch.cat([images, images.roll(5, 0)], 1)
    images[:, 5:] *= 0.3
    images[7:] = images[7:].roll(5, 1)
    labels = model(images).argmax(1)
    assert len(labels.unique()) == 10
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(10, 4 * side, 6 * side, generator=generator, dtype=torch.float64)

    def explain(m: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return own(m, x, t) * weights[t]

    found = grid_pointing_game(model, images, labels, explain, side=side, grids=4, seed=3)
    assert found.which.shape == (4, side * side)
    assert torch.equal(found.classes, labels[found.which])
    for g in range(4):
        assert len(set(found.classes[g].tolist())) == side * side
        for cell in range(side * side):
            target = int(found.classes[g, cell])
            within: list[float] = []
            total: list[float] = []
            for other in range(side * side):
                top, left = 4 * (other // side), 6 * (other % side)
                for i in range(4):
                    for j in range(6):
                        pixel = float(images[found.which[g, other], target, i, j])
                        value = max(0.0, pixel * float(weights[target, top + i, left + j]))
                        total.append(value)
                        if other == cell:
                            within.append(value)
            expected = math.fsum(within) / math.fsum(total)
            assert found.score.curve[g, cell].item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found.score.values.numpy(), found.score.curve.numpy().mean(1))


def test_only_sure_and_right_images_are_drawn() -> None:
    model, images, labels = colours()
    labels[3] = 0  # classified as 3
    images[4] *= 0.05  # not sure
    found = grid_pointing_game(model, images, labels, own, grids=60, confidence=0.9)
    assert found.confident == 13
    assert set(found.which.flatten().tolist()) == set(range(15)) - {3, 4}
    again = grid_pointing_game(model, images, labels.tolist(), own, grids=60, confidence=0.9)
    assert torch.equal(again.which, found.which)
    assert not torch.equal(grid_pointing_game(model, images, labels, own, grids=60, seed=1).which, found.which)
    said = {"side": 2, "grids": 50, "confidence": 0.9, "resize": False, "max_batch": 32, "seed": 0}
    default = grid_pointing_game(model, images, labels, own)
    assert torch.equal(default.score.curve, grid_pointing_game(model, images, labels, own, **said).score.curve)


def test_a_method_and_its_controls() -> None:
    model, images, labels = colours()

    def maps(method: str) -> Any:
        return lambda m, x, t: attribute(m, x, t, method)

    values = {
        method: grid_pointing_game(model, images, labels, maps(method), grids=8).score.mean
        for method in ("gradient_x_input", "edge", "random")
    }
    assert values["gradient_x_input"] > 0.8
    # The same map for every class: the shares of a grid's cells add up to 1.
    assert values["edge"] == pytest.approx(0.25, abs=1e-12)
    assert values["random"] == pytest.approx(0.25, abs=0.02)


def test_networks_of_one_size() -> None:
    _, images, labels = colours()
    model = nn.Sequential(nn.AvgPool2d((4, 6)), nn.Flatten(), nn.Linear(5, 5, bias=False)).double().eval()
    model[2].weight.data = 20 * torch.eye(5).double()
    with pytest.raises(ModelError, match=r"the model does not take grids of \(8, 12\) pixels .*; pass resize=True"):
        grid_pointing_game(model, images, labels, own)
    found = grid_pointing_game(model, images.round(), labels, own, resize=True, grids=2)
    assert found.score.mean > 0.8
    assert found.score.curve.shape == (2, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"side": 3}, DataError, "5 classes have images that are classified right .* a grid needs 9"),
        ({"confidence": 1.0, "labels": [0] * 15}, DataError, "classes have images that are classified right"),
        ({"labels": [5] * 15}, InterpNetError, r"labels hold a class outside 0\.\.4"),
        ({"labels": [0] * 14}, InterpNetError, r"labels has shape \(14,\); expected one class number for each of 15"),
        ({"explain": lambda m, x, t: x[:, 0, 1:]}, DataError, r"explain: maps of \(7, 12\) pixels came for grids of"),
        ({"explain": lambda m, x, t: None}, DataError, "explain: it returned a NoneType for cell 0"),
        ({"explain": lambda m, x, t: -x[:, 0]}, DataError, "has no positive value"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images, labels = colours()
    given = {"model": model, "images": images, "labels": labels, "explain": own, **change}
    with pytest.raises(error, match=message):
        grid_pointing_game(**given)


def test_on_every_device(device: str) -> None:
    model, images, labels = colours()
    expected = grid_pointing_game(model, images, labels, own, grids=3)
    found = grid_pointing_game(model.to(device), images, labels, own, grids=3)
    assert found.score.values.device.type == device
    torch.testing.assert_close(found.score.values.cpu(), expected.score.values)
