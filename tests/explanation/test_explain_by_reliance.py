"""Explanations by reliance: an image's channels are those that contribute most to its own log-odds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import DataError, ModelError
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import collect_contributions

CHANNELS = ChannelIndex((("1", 4),))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double().eval()


def images() -> torch.Tensor:
    return torch.randn(5, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def found(named: np.ndarray, **info: object) -> Interpretation:
    return Interpretation(
        CHANNELS, named, ("a", "b", "c"), by="reliance", price=1.0, stderr=np.zeros((3, 4)), info=info
    )


def expected(net: nn.Sequential, x: torch.Tensor, cls: int, reference: np.ndarray | None = None) -> np.ndarray:
    """Return the contributions (5, 4) by autograd on the network's own layers."""
    maps = net[1](net[0](x)).detach().requires_grad_()
    logits = net[3](maps.flatten(1))
    others = [c for c in range(3) if c != cls]
    z = logits[:, cls] - torch.logsumexp(logits[:, others], 1)
    (gradient,) = torch.autograd.grad(z.sum(), maps)
    level = torch.zeros(4, dtype=torch.float64) if reference is None else torch.from_numpy(reference)
    return ((maps - level[:, None, None]) * gradient).sum((2, 3)).detach().numpy()


@pytest.mark.parametrize("reference", [None, np.array([0.5, -1.0, 0.2, 3.0])])
def test_channels_are_ranked_by_the_contribution_to_each_image(reference):
    net = network()
    x = images()
    named = np.array([[0.1, 0, 5.0, 0.2], [1.0, 1.0, 1.0, 1.0], [0, 0, 0, 0]])
    info = {} if reference is None else {"reference": reference.tolist()}
    values = expected(net, x, 0, reference)
    result = explain(net, x, found(named, **info), classes=0, variant="paper")
    for row, channels, responses in zip(values, result.channels, result.responses, strict=True):
        order = [c for c in np.argsort(-row) if c != 1 and row[c] > 0][:3]
        assert channels == [Channel("1", int(c)) for c in order]
        np.testing.assert_allclose(responses, row[order], rtol=1e-12)


def test_the_maps_are_those_of_the_channels():
    net = network()
    x = images()
    named = np.array([[0.1, 0, 5.0, 0.2], [1.0, 1.0, 1.0, 1.0], [0, 0, 0, 0]])
    result = explain(net, x, found(named), variant="paper")
    assert result.classes.tolist() == net(x).argmax(1).tolist()
    one = result.channels[0]
    plain = Interpretation(CHANNELS, named, ("a", "b", "c"))
    other = explain(net, x[:1], plain, classes=int(result.classes[0]), k=4, variant="paper")
    for i, channel in enumerate(one):
        at = other.channels[0].index(channel)
        torch.testing.assert_close(result.heatmaps[0, i], other.heatmaps[0, at])


def test_a_class_without_channels_has_none():
    result = explain(network(), images(), found(np.zeros((3, 4))), classes=2, variant="paper")
    assert result.channels == [[]] * 5
    assert result.heatmaps.abs().sum() == 0


def test_the_reference_comes_with_the_contributions():
    net = network()
    x = images()
    loader = [(x, torch.tensor([0, 1, 2, 0, 1]))]
    contributions = collect_contributions(net, loader, fill="mean", progress=False)
    reliance = interpret(contributions)
    np.testing.assert_array_equal(reliance.info["reference"], contributions.reference)
    assert reliance.info["outputs"] == "exclusive"


def test_a_network_without_gradients_is_refused():
    class Cut(nn.Sequential):
        def forward(self, x):
            return super().forward(x).detach()

    net = Cut(*network())
    with pytest.raises(ModelError, match="no gradient"):
        explain(net, images(), found(np.ones((3, 4))), variant="paper")


def test_a_gradient_that_is_not_finite_names_the_image():
    class Root(nn.Sequential):
        def forward(self, x):
            maps = self[1](self[0](x))
            return self[3](maps.flatten(1)) + maps.square().sum((1, 2, 3)).sqrt()[:, None] * torch.arange(3)

    net = Root(*network())
    nn.init.constant_(net[0].bias, -1e-3)
    x = images()
    x[3] = 0
    with pytest.raises(DataError, match="the gradient of image 3 of the batch is NaN or infinite at layer '1'"):
        explain(net, x, found(np.ones((3, 4))), variant="paper")


class Deep(nn.Module):
    """Two layers of channels, a dropout before the logits, which come second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.one = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        return x, self.last(nn.functional.dropout(self.two(self.one(x)).mean((2, 3)), 0.5, self.training))


@pytest.mark.parametrize("layer", ["one.1", "two.1"])
@pytest.mark.parametrize("outputs", ["exclusive", "independent"])
def test_only_the_layers_that_a_class_relies_on_are_read(layer, outputs):
    net = Deep().double()
    x = images()
    channels = ChannelIndex((("one.1", 2), ("two.1", 3)))
    named = np.zeros((3, 5))
    named[:, channels.slice(layer)] = 1.0
    reference = np.array([0.25, -0.5, 0.125, 0.75, -1.0])
    interpretation = Interpretation(
        channels, named, ("a", "b", "c"), by="reliance", price=1.0, stderr=np.zeros((3, 5)),
        info={"outputs": outputs, "reference": reference.tolist()},
    )  # fmt: skip
    first = net.one(x).detach().requires_grad_()
    second = net.two(first)
    logits = net.last(second.mean((2, 3)))
    maps = second
    if layer == "one.1":
        maps = first
    z = logits[:, 1]
    if outputs == "exclusive":
        z = z - torch.logsumexp(logits[:, [0, 2]], 1)
    (gradient,) = torch.autograd.grad(z.sum(), maps)
    level = torch.from_numpy(reference[channels.slice(layer)])[:, None, None]
    values = ((maps - level) * gradient).sum((2, 3)).detach().numpy()
    result = explain(net, x, interpretation, classes="b", output=lambda y: y[1], variant="paper")
    for row, chosen, responses in zip(values, result.channels, result.responses, strict=True):
        order = [c for c in np.argsort(-row) if row[c] > 0][:3]
        assert chosen == [Channel(layer, int(c)) for c in order]
        np.testing.assert_allclose(responses, row[order], rtol=1e-10)
    probabilities = {"exclusive": logits.softmax(1), "independent": logits.sigmoid()}[outputs]
    torch.testing.assert_close(result.confidences, probabilities[:, 1].detach())
    assert result.predictions.tolist() == logits.argmax(1).tolist()
    assert net.training


def test_without_channels_the_class_is_that_of_the_network_in_evaluation():
    net = Deep().double()
    x = images()
    channels = ChannelIndex((("one.1", 2), ("two.1", 3)))
    none = Interpretation(
        channels, np.zeros((3, 5)), ("a", "b", "c"), by="reliance", price=1.0, stderr=np.zeros((3, 5))
    )
    result = explain(net, x, none, output=lambda y: y[1], variant="paper")
    assert result.classes.tolist() == net.eval()(x)[1].argmax(1).tolist()
    assert result.channels == [[]] * 5
    with pytest.raises(DataError, match="NaN or infinite"):
        explain(net, x, none, output=lambda y: y[1] * float("nan"), variant="paper")
