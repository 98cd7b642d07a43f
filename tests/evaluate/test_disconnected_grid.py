"""The disconnected grid: a network that sees one cell alone, by hand and against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.attribution import attribute
from interpnet.engine import Instrument, find_sites, instrument
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError
from interpnet.evaluate import disconnected_pointing_game, grid_pointing_game
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation


class Small(nn.Module):
    """Two convolutions, the second with a neighbourhood, a global average and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(5, 6, 3, padding=1, stride=2)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.last = nn.Linear(4, 5)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5 + 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.maps(x).mean((2, 3)))

    def maps(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))


pytestmark = pytest.mark.filterwarnings("ignore:.*zero everywhere")


def small() -> tuple[nn.Module, Tensor, Tensor]:
    """The network, images and the classes it gives them, of which there are at least four."""
    model = Small().double().eval().requires_grad_(False)
    images = torch.randn(40, 5, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        logits = model(images)
        model.last.bias -= logits.mean(0)
        labels = model(images).argmax(1)
    assert len(labels.unique()) >= 4
    return model, images, labels


def played(method: str, **options: Any) -> Any:
    model, images, labels = small()
    given = {"grids": 3, "confidence": 0.0, "constant": "zero", **options}
    return disconnected_pointing_game(model, images, labels, lambda m, x, t: attribute(m, x, t, method), **given)


@pytest.mark.parametrize("side", [2])
def test_the_network_sees_one_cell_alone(side: int) -> None:
    model, images, labels = small()
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def explain(m: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        asked.append((m(x), x, t))
        return x.abs().sum(1)

    found = disconnected_pointing_game(model, images, labels, explain, side=side, grids=3, confidence=0.0)
    assert len(asked) == side * side
    for cell, (logits, grids, target) in enumerate(asked):
        assert logits.shape == (3, side * side * 5)
        assert torch.equal(target, cell * 5 + found.classes[:, cell])
        for g in range(3):
            for other in range(side * side):
                own = model(images[found.which[g, other]][None])[0]
                torch.testing.assert_close(logits[g, 5 * other : 5 * other + 5], own)
                top, left = 4 * (other // side), 6 * (other % side)
                assert torch.equal(grids[g, :, top : top + 4, left : left + 6], images[found.which[g, other]])


WITHIN = ["gradient", "guided", "gradient_x_input", "lrp_gamma", "lrp_zbox", "deep_taylor", "integrated_gradients"]


@pytest.mark.parametrize("method", WITHIN)
def test_methods_of_the_gradient_stay_in_the_cell(method: str) -> None:
    values = played(method).score.curve
    assert ((values == 1) | (values == 0)).all()  # 0: a map without a positive value
    assert (values == 1).double().mean() > 0.7


@pytest.mark.parametrize("method", ["edge", "center", "random"])
def test_a_map_that_is_the_same_for_all_has_one_over_the_cells(method: str) -> None:
    assert played(method).score.values.tolist() == pytest.approx([0.25] * 3, abs=1e-12)


@pytest.mark.parametrize(("method", "layer"), [("gradcam", None), ("gradcam", "relu:1"), ("layercam", None)])
def test_maps_of_a_layer_are_weighed_over_the_whole_grid(method: str, layer: str | None) -> None:
    model, images, _labels = small()
    found = played(method, layer=layer)
    for g in range(3):
        for cell in range(4):
            k = int(found.classes[g, cell])
            maps = torch.cat([model.maps(images[i][None]) for i in found.which[g]])  # (cells, 4, 2, 3)
            # The class of a cell depends on this cell's average alone.
            gradient = torch.zeros_like(maps)
            gradient[cell] = model.last.weight[k, :, None, None] / 6
            low = (gradient.clamp(min=0) * maps).sum(1)
            if method == "gradcam":
                low = (gradient.mean((0, 2, 3))[:, None, None] * maps).sum(1)
            grid = low.clamp(min=0).view(2, 2, 2, 3).permute(0, 2, 1, 3).reshape(1, 1, 4, 6)
            large = F.interpolate(grid, (8, 12), mode="bilinear", align_corners=False)[0, 0].clamp(min=0)
            inside = large.view(2, 4, 2, 6).permute(0, 2, 1, 3).reshape(4, 24)[cell].sum()
            expected = float(inside / large.sum()) if large.sum() > 0 else 0.0
            assert found.score.curve[g, cell].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_maps_of_every_layer_lie_side_by_side() -> None:
    model, images, labels = small()
    grids = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen: list[Tensor] = []

    def explain(m: nn.Module, x: Tensor, _t: Tensor) -> Tensor:
        for name in ("network:relu", "network:relu:1"):
            site = find_sites(m, x)[name]
            assert (site.why, len(site.grid)) == ("", 2)
            read = Instrument(reads={name: site.reading(lambda out, site=site: seen.append(site.maps(out).clone()))})
            with instrument(m, read):
                m(grids)
        return x.abs().sum(1)

    disconnected_pointing_game(model, images, labels, explain, grids=2, confidence=0.0)
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells = grids[:, :, 4 * top : 4 * top + 4, 6 * left : 6 * left + 6]
        first = F.relu(model.first(cells))
        for found, own in zip(seen, (first, model.maps(cells)), strict=False):
            torch.testing.assert_close(found[:, :, 2 * top : 2 * top + 2, 3 * left : 3 * left + 3], own)


def test_channels_can_be_explained() -> None:
    def explained(m: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        channels = find_sites(m, x).index("default")
        nameless = Interpretation(channels, np.zeros((20, len(channels))), tuple(map(str, range(20))))
        return explain(m, x, nameless, choose="all", classes=t).combined

    model, images, labels = small()
    found = disconnected_pointing_game(model, images, labels, explained, grids=2, confidence=0.0, constant="zero")
    # Most of a channel's heatmap; channels answer to the other cells too.
    assert 0.25 < found.score.mean < 1


class Averaged(nn.Module):
    """A classifier that is a convolution and averaged last, as SqueezeNet's is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Small()
        self.last = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.last(self.body.maps(x))).mean((2, 3))


def test_cam_says_that_weights_differ_between_cells() -> None:
    model = Averaged().double().eval()
    images = small()[1]
    model.last.bias.data += 5  # rectified where all are positive
    with torch.no_grad():
        model.last.bias -= model(images).mean(0) - 5
        labels = model(images).argmax(1)
    with pytest.raises(
        ModelError, match=r"'cam' needs a global average .* have different weights; use method='gradcam"
    ):
        disconnected_pointing_game(
            model, images, labels, lambda m, x, t: attribute(m, x, t, "cam"), grids=1, confidence=0.0
        )


def test_the_grids_are_those_of_the_grid_pointing_game() -> None:
    model, images, labels = small()
    ours = played("edge", seed=3)
    other = grid_pointing_game(
        model, images, labels, lambda m, x, t: attribute(m, x, t, "edge"), grids=3, confidence=0.0, seed=3
    )
    assert torch.equal(ours.which, other.which)
    assert ours.score.name == "disconnected_pointing_game"


def test_a_network_of_one_size_and_in_training_mode_is_left_as_it_was() -> None:
    _, images, labels = small()
    model = nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(120, 5)).double()
    model[0].weight.data = torch.eye(5).double().view(5, 5, 1, 1)
    model[4].weight.data = torch.eye(5).double().repeat_interleave(24, 1)
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    labels = images.clamp(min=0).mean((2, 3)).argmax(1)
    model[0].bias.data.zero_()
    weights["0.bias"].zero_()
    model[4].bias.data.zero_()
    weights["4.bias"].zero_()
    found = disconnected_pointing_game(
        model, images, labels, lambda m, x, t: attribute(m.eval(), x, t, "gradient"), grids=2, confidence=0.0
    )
    assert found.score.values.tolist() == [1.0, 1.0]
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"side": 3}, DataError, "classes have images that are classified right .* a grid needs 9"),
        ({"labels": [5] * 40}, InterpNetError, r"labels hold a class outside 0\.\.4"),
        ({"explain": lambda m, x, t: x[:, 0, 1:]}, DataError, r"explain: maps of \(7, 12\) pixels came for grids of"),
        ({"explain": lambda m, x, t: None}, DataError, "explain: it returned a NoneType for cell 0"),
        ({"layer": "nothing"}, LayerError, "'nothing'"),
        ({"layer": "all"}, LayerError, r"layer='all' names \d sites"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images, labels = small()
    given = {"model": model, "images": images, "labels": labels, "explain": lambda m, x, t: x.abs().sum(1)}
    with pytest.raises(error, match=message):
        disconnected_pointing_game(**{**given, "confidence": 0.0, **change})


def test_on_every_device(device: str) -> None:
    model, images, labels = small()
    expected = played("gradcam")
    found = disconnected_pointing_game(
        model.to(device),
        images,
        labels,
        lambda m, x, t: attribute(m, x, t, "gradcam"),
        grids=3,
        confidence=0.0,
        constant="zero",
    )
    assert found.score.values.device.type == device
    torch.testing.assert_close(found.score.values.cpu(), expected.score.values)
