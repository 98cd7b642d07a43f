"""Signals and explanations against values worked out by hand, on networks small enough to do so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, Site, find_sites
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.explanation import (
    Unit,
    average_visualization,
    average_visualizations,
    backpropagate,
    channel_heatmap,
    channel_signal,
    combine,
    explain,
    normalise,
)
from interpnet.explanation._patches import window
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores

PIXELS = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


class Overwriting(nn.Module):
    """Doubles the image, rectifies it, and overwrites the rectified map."""

    def __init__(self, overwrite: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.conv.weight.data.fill_(2.0)
        self.overwrite = overwrite

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        self.overwrite(y)
        return torch.cat([y.mean((2, 3)), -y.mean((2, 3))], 1)


def zero_a_row(y: Tensor) -> None:
    y[:, :, 0] = 0.0


OVERWRITES = {
    "product": lambda y: y.mul_(3.0),
    "sum": lambda y: y.add_(1.0),
    "clamp": lambda y: y.clamp_(max=2.5),
    "item": zero_a_row,
    "copy": lambda y: y.copy_(torch.ones_like(y)),
    "another rectifier": lambda y: F.hardtanh_(y, 0.0, 1.0),
}


@pytest.mark.parametrize("how", OVERWRITES)
@pytest.mark.parametrize(("seed", "expected"), [("activation", 4 * PIXELS), ("maximum", 4 * PIXELS * (PIXELS == 4))])
def test_a_signal_starts_with_the_map_as_it_was_made(how: str, seed: str, expected: Tensor) -> None:
    """A = 2 p, so the signal is A * dA/dp = 4 p, whatever becomes of the map afterwards."""
    model = Overwriting(OVERWRITES[how]).eval()
    for rectifier in ("gradient", "guided"):
        got = channel_signal(model, PIXELS, Channel("relu", 0), rectifier=rectifier, resample=False, seed=seed)
        torch.testing.assert_close(got.signals[:, 0], expected)
    found = Interpretation(ChannelIndex((("relu", 1),)), np.ones((2, 1)), ("a", "b"))
    torch.testing.assert_close(explain(model, PIXELS, found, k=1, seed=seed, variant="paper").signals[:, 0], expected)


class TwoLayers(nn.Module):
    """Maps p and 3 p in the first layer, p and p in the second; the logits are 2 and 1 for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.first.weight.data = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
        self.second = nn.Conv2d(2, 2, 1, bias=False)
        self.second.weight.data = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(2, 2, 1, 1)
        self.out = nn.Linear(2, 2)
        self.out.weight.data.zero_()
        self.out.bias.data = torch.tensor([2.0, 1.0])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.out(x.mean((2, 3)))


LAYERS = ChannelIndex((("relu", 2), ("relu:1", 2)))
SUM = math.sqrt(30.0)  # the norm of PIXELS
# The scores of the four channels by hand, under each norm and normalisation.
SCORES = {
    ("l2", "none"): [SUM, 3 * SUM, SUM, SUM],
    ("l2", "layer"): [0.25, 0.75, 0.5, 0.5],
    ("l2", "size"): [SUM / 2, 3 * SUM / 2, SUM / 2, SUM / 2],
    ("l2sq", "none"): [30.0, 270.0, 30.0, 30.0],
    ("l2sq", "layer"): [0.1, 0.9, 0.5, 0.5],
    ("l2sq", "size"): [7.5, 67.5, 7.5, 7.5],
}


@pytest.mark.parametrize(("norm", "normalisation"), SCORES)
def test_responses_are_weights_times_the_scores_that_the_interpretation_was_made_of(
    norm: str, normalisation: str
) -> None:
    info = {"norm": norm, "normalisation": normalisation}
    weights = np.array([[1.0, 0.4, 0.9, -1.0], [0.0, 0.0, 0.0, 1.0]])
    found = Interpretation(LAYERS, weights, ("a", "b"), info=info)
    result = explain(TwoLayers().eval(), PIXELS, found, k=3, variant="paper")
    expected = {LAYERS[i]: weights[0, i] * SCORES[norm, normalisation][i] for i in range(3)}
    best = sorted(expected, key=lambda channel: -expected[channel])
    assert result.channels == [best]
    np.testing.assert_allclose(result.responses[0], [expected[channel] for channel in best], rtol=1e-6)


@pytest.mark.parametrize("explained", [0, 1])
def test_the_confidence_is_that_of_the_class_explained(explained: int) -> None:
    found = Interpretation(LAYERS, np.ones((2, 4)), ("a", "b"))
    result = explain(TwoLayers().eval(), PIXELS.expand(3, 1, 2, 2), found, classes=explained, variant="paper")
    assert result.predictions.tolist() == [0, 0, 0]
    assert result.classes.tolist() == [explained] * 3
    expected = math.exp(2.0 - explained) / (math.exp(2.0) + math.exp(1.0))
    np.testing.assert_allclose(result.confidences, [expected] * 3, rtol=1e-6)


def test_each_image_is_explained_for_its_own_class() -> None:
    found = Interpretation(LAYERS, np.diag([1.0, 1.0, 1.0, 1.0])[[1, 2]], ("a", "b"))
    result = explain(
        TwoLayers().eval(), PIXELS.expand(3, 1, 2, 2), found, k=1, classes=torch.tensor([1, 0, 1]), variant="paper"
    )
    assert [row[0] for row in result.channels] == [LAYERS[2], LAYERS[1], LAYERS[2]]
    first = math.exp(2.0) / (math.exp(2.0) + math.exp(1.0))
    np.testing.assert_allclose(result.confidences, [1 - first, first, 1 - first], rtol=1e-6)


OPTIONS: list[dict[str, Any]] = [
    {"rectifier": "gradient"},
    {"rectifier": "deconvnet"},
    {"resample": False},
    {"resample_pool": True},
    {"seed": "ones"},
    {"seed": "maximum"},
]
BRANCHES = ChannelIndex((("relu", 4), ("relu:3", 6)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_reaches_the_signal(options: dict[str, Any]) -> None:
    """What ``explain`` and ``channel_heatmap`` show is the signal under the same options, not under the default."""
    torch.manual_seed(1)
    model = Branches().eval()
    model.c.bias.data.fill_(0.5)  # so that no map is of zeros
    x = torch.randn(2, 2, 32, 32)
    weights = np.zeros((3, 10))
    weights[:, 6] = 1.0
    found = Interpretation(BRANCHES, weights, ("a", "b", "c"))
    channel = Channel("relu:3", 2)
    expected = channel_signal(model, x, channel, **options).signals
    assert float(expected.abs().sum()) > 0
    assert not torch.equal(expected, channel_signal(model, x, channel).signals)
    result = explain(model, x, found, k=1, **options, variant="paper")
    assert result.channels == [[channel], [channel]]
    torch.testing.assert_close(result.signals, expected)
    heatmap = channel_heatmap(model, x, channel, **options)
    torch.testing.assert_close(heatmap, expected[:, 0].abs().sum(1))


@pytest.mark.parametrize(("reduction", "expected"), [("abs", 3.0), ("positive", 1.0), ("max", 2.0)])
def test_the_reduction_reaches_the_heatmap(reduction: str, expected: float) -> None:
    """Two colours with weights 1 and -2 on an activation of 1: the signal is (1, -2) at that pixel."""
    model = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    model[0].weight.data = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0, 1, 0] = 1.0
    heatmap = channel_heatmap(model, x, Channel("1", 0), reduction=reduction)
    assert heatmap.tolist() == [[[0.0, 0.0], [expected, 0.0]]]
    y = x.clone()
    y[0, 0, 0, 1] = 0.5
    found = Interpretation(ChannelIndex((("1", 1),)), np.ones((2, 1)), ("a", "b"))
    # The pixel of activation 0.5 has half the signal, whatever the reduction.
    assert explain(model, y, found, k=1, reduction=reduction, variant="paper").heatmaps.tolist() == [
        [[[0.0, 0.5], [1.0, 0.0]]]
    ]


@pytest.mark.parametrize("unit", [0, 1])
@pytest.mark.parametrize(("seed", "scale"), [("ones", [1.0, 1.0]), ("activation", [5.0, -5.0])])
def test_the_signal_of_an_output_unit_is_its_gradient_times_its_logit(unit: int, seed: str, scale: list[float]) -> None:
    """The logits are the mean of 2 p and its negative: 5 and -5, each with gradient 1/2 a pixel in absolute value."""
    model = Overwriting(lambda y: None).eval()
    got = channel_signal(model, PIXELS, Unit(unit), rectifier="gradient", seed=seed)
    sign = 1.0 - 2.0 * unit
    torch.testing.assert_close(got.signals[:, 0], torch.full((1, 1, 2, 2), 0.5 * sign * scale[unit]))
    assert got.logits is not None
    assert got.logits.tolist() == [[5.0, -5.0]]


def test_a_model_that_returns_a_dictionary() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TwoLayers()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x, "logits": self.net(x)}

    found = Interpretation(ChannelIndex((("net:relu", 2),)), np.ones((2, 2)), ("a", "b"))
    model = Named().eval()
    take = lambda y: y["logits"]  # noqa: E731
    result = explain(model, PIXELS, found, output=take, variant="paper")
    assert result.predictions.tolist() == [0]
    heatmap = channel_heatmap(model, PIXELS, Channel("net:relu", 1), output=take)
    torch.testing.assert_close(heatmap, 9 * PIXELS[:, 0])
    unit = channel_heatmap(model, PIXELS, Unit(0), output=take)
    assert unit.tolist() == [[[0.0, 0.0], [0.0, 0.0]]], "nothing of the image reaches these logits"


def test_combinations_by_hand() -> None:
    """Three images: two channels that answer, one alone, none; the mean is over the channels there are."""
    maps = torch.tensor([[[[1.0, 0.0]], [[0.2, 0.6]]], [[[0.4, 1.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    responses = torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    expected = {
        "max": [[[1.0, 0.6]], [[0.4, 1.0]], [[0.0, 0.0]]],
        "mean": [[[0.6, 0.3]], [[0.4, 1.0]], [[0.0, 0.0]]],
        "response": [[[0.8, 0.15]], [[0.4, 1.0]], [[0.0, 0.0]]],
    }
    for how, values in expected.items():
        torch.testing.assert_close(combine(maps, responses, how), torch.tensor(values))
    # A response below zero, which no chosen channel has, counts for nothing.
    torch.testing.assert_close(combine(maps[:1], torch.tensor([[1.0, -4.0]]), "response")[0], maps[0, 0])
    torch.testing.assert_close(combine(maps[:1], torch.tensor([[1.0, -4.0]]), "mean")[0], maps[0, 0])


@pytest.mark.parametrize("combination", ["max", "mean", "response"])
def test_the_combination_reaches_the_explanation(combination: str) -> None:
    found = Interpretation(LAYERS, np.array([[1.0, 0.5, 2.0, 0.0], [0.0] * 4]), ("a", "b"))
    model = TwoLayers().eval()
    model.first.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    x = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])
    result = explain(model, x, found, k=3, combination=combination, variant="paper")
    responses = torch.tensor(result.responses)
    torch.testing.assert_close(result.combined, combine(result.heatmaps, responses, combination))
    assert len({tuple(combine(result.heatmaps, responses, how).flatten().tolist()) for how in ("max", "mean")}) == 2


def test_signals_have_the_same_defaults_everywhere() -> None:
    torch.manual_seed(1)
    model = Branches().eval()
    model.c.bias.data.fill_(0.5)
    x = torch.randn(2, 2, 32, 32)
    start = Channel("relu:3", 2)
    sites = find_sites(model, x).sites
    default = channel_signal(model, x, start)
    torch.testing.assert_close(backpropagate(model, x, sites, [[start]] * 2).signals, default.signals)
    explicit = {
        "rectifier": "guided",
        "resample": True,
        "resample_pool": False,
        "seed": "activation",
        "output": None,
    }
    torch.testing.assert_close(channel_signal(model, x, start, **explicit).signals, default.signals)
    torch.testing.assert_close(channel_heatmap(model, x, start), default.signals[:, 0].abs().sum(1))
    found = Interpretation(BRANCHES, np.eye(10)[[6, 6, 6]], ("a", "b", "c"))
    result = explain(model, x, found, variant="paper")
    assert result.signals.shape[:2] == (2, 3)
    torch.testing.assert_close(result.signals[:, :1], default.signals)
    torch.testing.assert_close(result.combined, result.heatmaps.amax(1))


def test_a_signal_of_fewer_starts_has_room_for_as_many_as_the_others() -> None:
    model = TwoLayers().eval()
    x = PIXELS.expand(2, 1, 2, 2)
    signals = channel_signal(model, x, [[Channel("relu", 1)], []]).signals
    assert signals.shape == (2, 1, 1, 2, 2)
    assert (signals[1] == 0).all()
    signals = channel_signal(model, x, [[Channel("relu", 1)], [Channel("relu", 0), Channel("relu", 1)]]).signals
    assert signals.shape == (2, 2, 1, 2, 2)
    torch.testing.assert_close(signals[0, 0], signals[1, 1])
    assert (signals[0, 1] == 0).all()


# --- average visualizations -------------------------------------------------------------------------------


def site_with(size: tuple[int, ...], step: Callable[[Tensor], Tensor]) -> Site:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(step(self.conv(x))).flatten(1)

    return next(s for s in find_sites(Net(), torch.rand(2, 1, *size)).sites if s.name == "relu")


def test_windows_as_large_as_the_image_and_axes_that_are_gone() -> None:
    ones = torch.ones(1, 1, 3, 3)
    conv = site_with((3, 7), lambda x: F.conv2d(x, ones, padding=1))
    # As high as the image: whole rows; as wide as three of seven columns.
    assert window(conv, (0, 0), (3, 7)) == [(0, 3), (-1, 2)]
    assert window(conv, (2, 6), (3, 7)) == [(0, 3), (5, 8)]
    assert window(conv, (1, 1), (3, 3)) is None
    rows = site_with((6, 7), lambda x: F.conv2d(x, ones).mean(2, keepdim=True))
    # Averaged over the rows, a position still has its columns.
    assert window(rows, (0, 2), (6, 7)) == [(0, 6), (2, 5)]
    columns = site_with((6, 7), lambda x: F.conv2d(x, ones).mean(3))
    assert window(columns, (1,), (6, 7)) == [(1, 4), (0, 7)]
    # An even field lies between two pixels and takes both.
    pooled = site_with((6, 8), lambda x: F.avg_pool2d(x, (1, 2)))
    assert window(pooled, (3, 1), (6, 8)) == [(3, 4), (2, 4)]


class Coloured:
    """Images of three colours: colour 0 carries a bright column whose place and height grow with the index."""

    def __init__(self) -> None:
        self.images = torch.zeros(4, 3, 5, 7)
        for i in range(4):
            self.images[i, 0, 2, i + 1] = 1.0 + i
            self.images[i, 1] = 0.1 * i

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], 0


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_averages_by_hand(batch_size: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, (1, 3), padding=(0, 1), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(70, 2))
    net[0].weight.data.zero_()
    net[0].weight.data[0, 0, 0] = torch.tensor([0.5, 1.0, 0.5])
    net[0].weight.data[1] = -1.0  # never answers
    data = Coloured()
    table = collect_scores(net, [(data.images, torch.zeros(4, dtype=torch.long))], normalisation="none", progress=False)
    found = average_visualizations(
        net, data, table, list(table.channels), top=3, keep=2, batch_size=batch_size, progress=False
    )
    best = found[Channel("1", 0)]
    assert best.indices.tolist() == [3, 2, 1]
    assert (best.count, best.field, best.whole_image) == (3, (1, 3), False)
    assert best.crops.shape == (2, 3, 1, 3)
    np.testing.assert_allclose(best.crops[:, 0, 0], [[0, 4, 0], [0, 3, 0]])
    np.testing.assert_allclose(best.mean[0, 0], [0, 3, 0])
    np.testing.assert_allclose(best.mean[1, 0], [0.2] * 3, rtol=1e-6)
    silent = found[Channel("1", 1)]
    assert (silent.count, silent.mean.shape, silent.crops.shape) == (0, (3, 1, 1), (0, 3, 1, 1))
    assert (silent.mean == 0.5).all()
    only = average_visualization(net, data, table, Channel("1", 1), progress=False)
    assert (only.count, only.mean.shape, only.whole_image) == (0, (3, 1, 1), False)


def test_pixels_outside_of_the_images_do_not_count_in_an_average() -> None:
    """Of three crops only the second and third have a right neighbour: its mean is over those two."""
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    net[0].weight.data = torch.tensor([0.0, 1.0, 0.1]).view(1, 1, 1, 3)
    images = torch.zeros(3, 1, 1, 4)
    images[0, 0, 0, 3] = 1.0
    images[1, 0, 0, 1:3] = torch.tensor([0.7, 0.2])
    images[2, 0, 0, 1:3] = torch.tensor([0.6, 0.1])
    data = [(image, 0) for image in images]
    table = collect_scores(net, [(images, torch.zeros(3, dtype=torch.long))], normalisation="none", progress=False)
    found = average_visualization(net, data, table, Channel("1", 0), crop="field", progress=False)
    assert found.indices.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.mean[0, 0], [0.0, 2.3 / 3, 0.15], rtol=1e-6)
    np.testing.assert_allclose(found.crops[0, 0, 0], [0.0, 1.0, 0.5], rtol=1e-6)


class Last(nn.Module):
    """A convolution over pairs of columns, then two channels on the last axis: colour 1, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, (1, 2), bias=False)
        self.conv.weight.data.zero_()
        self.conv.weight.data[0, 0] = 1.0
        self.conv.weight.data[1, 1] = 1.0
        self.lin = nn.Linear(2, 3, bias=False)
        self.lin.weight.data = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.lin(self.conv(x).permute(0, 2, 3, 1)))
        return self.out(x.mean((1, 2)))


def test_averages_of_channels_on_the_last_axis() -> None:
    model = Last().eval()
    images = torch.zeros(2, 3, 4, 6)
    images[0, 0, 3, 1] = 2.0
    images[0, 1, 1, 4] = 1.0
    images[1, 0, 0, 2] = 1.0
    table = collect_scores(model, [(images, torch.zeros(2, dtype=torch.long))], normalisation="none", progress=False)
    data = [(image, 0) for image in images]
    found = average_visualizations(model, data, table, [Channel("relu", i) for i in range(3)], progress=False)
    assert [visual.indices.tolist() for visual in found.values()] == [[0], [0, 1], [0, 1]]
    places = {0: (1, [0.0, 1.0]), 2: (0, [0.0, 2.0])}
    for index, (colour, row) in places.items():
        assert found[Channel("relu", index)].crops[0, colour].tolist() == [row]
    assert found[Channel("relu", 1)].crops[:, 0].tolist() == [[[0.0, 2.0]], [[0.0, 1.0]]]


class Hidden(torch.autograd.Function):
    """A rectifier that the engine cannot see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Tensor:
        (on,) = ctx.saved_tensors
        return signals[0] * on


@pytest.mark.parametrize("rectifier", ["guided", "deconvnet"])
def test_a_rectifier_that_escapes_the_rule_is_refused_by_everything_that_shows_signals(rectifier: str) -> None:
    class Net(TwoLayers):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.second(Hidden.apply(self.first(x))))
            return self.out(x.mean((2, 3)))

    model = Net().eval()
    start = Channel("relu", 0)
    found = Interpretation(ChannelIndex((("relu", 2),)), np.ones((2, 2)), ("a", "b"))
    for show in (
        lambda: channel_signal(model, PIXELS, start, rectifier=rectifier),
        lambda: channel_heatmap(model, PIXELS, start, rectifier=rectifier),
        lambda: explain(model, PIXELS, found, rectifier=rectifier, variant="paper"),
    ):
        with pytest.raises(ModelError, match=r"\['Hidden'\] escaped it, and their maps would be plain gradients"):
            show()
    torch.testing.assert_close(channel_heatmap(model, PIXELS, start, rectifier="gradient"), PIXELS[:, 0])
    assert explain(model, PIXELS, found, rectifier="gradient", variant="paper").signals.abs().sum() > 0


def test_wrong_words_are_refused_before_the_network_runs() -> None:
    model = TwoLayers().eval()
    ran: list[int] = []
    model.register_forward_hook(lambda *_: ran.append(1))
    found = Interpretation(LAYERS, np.ones((2, 4)), ("a", "b"))
    for options, message in (
        ({"combination": "all"}, "combination is 'all'; expected 'sum' or 'max' or 'mean' or 'response'"),
        ({"k": 0}, "k is 0; expected a whole number of at least 1"),
    ):
        with pytest.raises(InterpNetError, match=message):
            explain(model, PIXELS, found, **options, variant="paper")
    assert ran == []


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (2, 3, 0), (2, 2, 0, 0)])
def test_maps_without_positions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(..., 2 axes of positions\), none empty"):
        normalise(torch.zeros(shape))
    assert normalise(torch.zeros(0, 2, 3)).shape == (0, 2, 3)


def test_defaults_of_average_visualizations() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    net[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    images = torch.rand(110, 1, 2, 2) + 0.1
    data = [(image, 0) for image in images]
    table = collect_scores(net, [(images, torch.zeros(110, dtype=torch.long))], normalisation="none", progress=False)
    found = average_visualization(net, data, table, Channel("1", 0), progress=False)
    assert (found.count, len(found.crops)) == (100, 9)
    for keep, count in ((0, 0), (120, 100)):
        some = average_visualization(net, data, table, Channel("1", 0), keep=keep, progress=False)
        assert len(some.crops) == count
    with pytest.raises(InterpNetError, match="keep is -1; expected a whole number of at least 0"):
        average_visualization(net, data, table, Channel("1", 0), keep=-1)
    # A table that does not know the images' shape has grey of one colour for a silent channel.
    plain = replace(table, info={})
    assert average_visualization(net, data, plain, Channel("1", 1), progress=False).mean.shape == (1, 1, 1)


def test_a_data_set_shorter_than_its_table_is_named_before_the_network_runs() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    net[0].weight.data.fill_(1.0)
    images = torch.rand(6, 1, 2, 2) + 0.1
    table = collect_scores(net, [(images, torch.zeros(6, dtype=torch.long))], normalisation="none", progress=False)
    ran: list[int] = []
    net.register_forward_hook(lambda *_: ran.append(1))
    short = [(image, 0) for image in images[:5]]
    with pytest.raises(DataError, match=r"data is a list without an \(image, label\) item 5"):
        average_visualization(net, short, table, Channel("1", 0), batch_size=2, progress=False)
    assert ran == []
