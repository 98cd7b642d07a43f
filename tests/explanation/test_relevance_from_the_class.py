"""Signals that start with the relevance that a class's log-odds send to a map, against independent float64 code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.lrp import Residual
from helpers.networks import SPELLINGS, Branches, Spelled, images
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.engine import Channel, Site, find_sites, log_odds
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import Unit, channel_signal, check_signals, explain, normalise
from interpnet.explanation._signals import Options, SignalRun
from interpnet.explanation._starts import OUTPUT
from interpnet.interpretation import Interpretation

CLASSES = [2, 0]
METHODS = ("lrp_gamma", "lrp_epsilon", "lrp_0", "lrp_alpha1beta0", "lrp_alpha2beta1", "lrp_epsilon_plus_flat")


def slope(logits: Tensor) -> Tensor:
    """Return the gradient (B, C) of the log-odds, by hand: 1 for the class, minus the others' softmax."""
    rest = logits.clone()
    rest[range(len(CLASSES)), CLASSES] = -torch.inf
    found = -rest.softmax(1)
    found[range(len(CLASSES)), CLASSES] = 1.0
    return found


class Two(nn.Module):
    """A trunk up to a rectifier, and a head from there to the logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(x))
        return logits


def run_of(net: nn.Module, x: Tensor, rule: str) -> tuple[SignalRun, dict[str, Site]]:
    """Return a run over all of a network's sites."""
    sites = {site.name: site for site in find_sites(net, x).select("default")}
    return SignalRun(net, x, sites, Options(rule, seed="relevance")), sites


@pytest.mark.parametrize("method", METHODS)
def test_relevance_at_a_map_is_that_of_the_head_at_its_input(method: str) -> None:
    net = Two().double().eval()
    x = images(2, 2, 8, 8)
    run, sites = run_of(net, x, method)
    done = run.forward()
    logits = done.maps[OUTPUT].detach()
    told = run.relevance(done, sites, logits * slope(logits))
    first = next(iter(sites))
    at = net.trunk(x).detach()
    if method != "lrp_epsilon_plus_flat":  # which would take the head's first layer for one that reads an image
        # LRP is linear in what it starts with: the map of each class's logit, times the slope for that class.
        parts = [
            slope(logits)[:, c, None, None, None] * attribute_full(net.head, at, [c, c], method).raw for c in range(3)
        ]
        torch.testing.assert_close(told[first], sum(parts), rtol=1e-9, atol=1e-12)
    # Signals start with what of it is positive, and layers keep the rest.
    row: list[list[Channel]] = [[Channel(first, 1)], [Channel(first, 3)]]
    found = channel_signal(net, x, row, rule=method, seed="relevance", classes=CLASSES)
    assert found.absorbed is not None
    started = torch.stack([told[first][0, 1], told[first][1, 3]]).clamp(min=0).sum((1, 2))
    assert float(started.min()) > 0
    torch.testing.assert_close(found.signals.flatten(1).sum(1) + found.absorbed[:, 0], started, rtol=1e-9, atol=1e-12)


def test_without_biases_lrp_0_is_gradient_times_map_so_that_both_starts_are_one() -> None:
    net = Two().double().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias = None
    x = images(2, 2, 8, 8)
    for site in find_sites(net, x).select("default"):
        for index in range(site.channels):
            start = Channel(site.name, index)
            both = [
                channel_signal(net, x, start, rule="lrp_0", seed=seed, classes=CLASSES).signals
                for seed in ("relevance", "contribution")
            ]
            torch.testing.assert_close(both[0], both[1], rtol=1e-8, atol=1e-12)


def test_the_slope_by_hand_is_that_of_the_log_odds() -> None:
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(log_odds(logits, torch.tensor(CLASSES)).sum(), logits)
    torch.testing.assert_close(slope(logits.detach()), expected)


def every_channel(net: nn.Module, x: Tensor, classes: int = 3) -> Interpretation:
    """Return an interpretation that names all channels for every class."""
    index = find_sites(net, x).index()
    return Interpretation(index, torch.ones(classes, len(index)).numpy(), tuple("abcd"[:classes]))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spelling_of_a_network_does_not_matter(spelling: str) -> None:
    x = images(3, 3, 12, 10).float()
    results = [
        explain(net, x, every_channel(net, x, 4), rule="lrp_gamma", seed="relevance", combination="sum")
        for net in (Spelled("module"), Spelled(spelling))
    ]
    assert results[0].combined.abs().sum() > 0
    torch.testing.assert_close(results[0].combined, results[1].combined, rtol=1e-3, atol=1e-3)


def test_images_without_a_channel_and_units_of_the_output() -> None:
    net = Residual()
    x = images(2, 2, 8, 8)
    index = find_sites(net, x).index()
    none = Interpretation(index, torch.zeros(4, len(index)).numpy(), tuple("abcd"))
    shown = explain(net, x, none, choose="contribution", rule="lrp_gamma", seed="relevance", combination="sum")
    assert shown.channels == [[], []]
    assert float(shown.combined.abs().sum()) == 0.0
    # A unit starts with its logit times the slope; of the class explained that is the logit.
    c = int(net(x).amax(0).argmax())
    unit = channel_signal(net, x, Unit(c), rule="lrp_gamma", seed="relevance", classes=c).signals
    logit = channel_signal(net, x, Unit(c), rule="lrp_gamma").signals
    positive = (net(x)[:, c] > 0).view(-1, 1, 1, 1, 1)
    assert bool(positive.any())
    torch.testing.assert_close(unit, logit * positive)


class Scaled(Two):
    """The rectifier's map is overwritten before the head reads it, or another takes its place."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        y = self.trunk(x)
        y = y.mul_(3.0) if self.inplace else y * 3.0
        logits: Tensor = self.head(y)
        return logits


def test_a_map_that_is_overwritten_later_starts_as_one_that_is_not() -> None:
    x = images(2, 2, 8, 8)
    signals = []
    for inplace in (True, False):
        net = Scaled(inplace=inplace).double().eval()
        start = Channel(next(iter(find_sites(net, x).select("default"))).name, 1)
        signals.append(channel_signal(net, x, start, rule="lrp_gamma", seed="relevance", classes=CLASSES).signals)
    assert float(signals[0].abs().sum()) > 0
    torch.testing.assert_close(signals[0], signals[1])


class Halves(nn.Module):
    """Its maps are views, and a rectifier overwrites one of them."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(2, 4, 1)
        self.out = nn.Linear(16, 3)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.inplace:
            F.relu_(y[:, :2])
        else:
            y = torch.cat([F.relu(y[:, :2]), y[:, 2:]], 1)
        logits: Tensor = self.out(y.flatten(1))
        return logits


def test_a_map_that_is_a_view_starts_as_one_that_is_not() -> None:
    x = images(2, 2, 2, 2)
    signals = []
    for inplace in (True, False):
        net = Halves(inplace=inplace).double().eval()
        trace = find_sites(net, x)
        starts = [Channel(site.name, 0) for site in trace.sites if "relu" in site.name]
        signals.append(
            [channel_signal(net, x, s, rule="lrp_gamma", seed="relevance", classes=0).signals for s in starts]
        )
    assert float(signals[0][0].abs().sum()) > 0
    torch.testing.assert_close(signals[0], signals[1])


def test_maps_are_added_before_they_are_scaled() -> None:
    net = Residual()
    x = images(2, 2, 8, 8)
    found = every_channel(net, x, 4)
    how = {"rule": "lrp_gamma", "seed": "relevance", "smooth": 0.0, "saturate": 1.0, "reduction": "sum"}
    shown = explain(net, x, found, classes=[1, 2], combination="sum", **how)
    maps = shown.signals.sum(2).clamp(min=0)
    assert float(maps.amax((2, 3)).std()) > 0
    torch.testing.assert_close(shown.combined, normalise(maps.sum(1)))
    torch.testing.assert_close(shown.heatmaps, normalise(maps))


def test_a_gate_that_gets_no_relevance_starts_with_its_contribution() -> None:
    torch.manual_seed(0)
    net = Branches().double().eval()
    x = images(2, 2, 12, 12)

    def both(start: Channel) -> list[Tensor]:
        how = {"rule": "lrp_gamma", "classes": [1, 0]}
        return [channel_signal(net, x, start, seed=seed, **how).signals for seed in ("relevance", "contribution")]

    gate = [both(Channel("relu:2", index)) for index in range(2)]  # in front of the gate's sigmoid
    assert any(float(one.abs().sum()) > 0 for _, one in gate)
    torch.testing.assert_close(*map(torch.stack, zip(*gate, strict=True)))
    assert not torch.equal(*both(Channel("relu:3", 0)))


class Squared(Two):
    """A network that ends with squares, for which relevance has no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


def test_what_lies_behind_the_channels_needs_a_rule_too() -> None:
    net = Squared().eval()
    x = images(2, 2, 8, 8).float()
    start = Channel("trunk.1", 0)
    sites = find_sites(net, x).select("default")
    match = r"'square' .* has no rule; use seed='contribution' where it comes after the channels"
    with pytest.raises(ModelError, match=match):
        channel_signal(net, x, start, rule="lrp_gamma", seed="relevance", classes=0)
    with pytest.raises(ModelError, match=match):
        check_signals(net, x, sites, rule="lrp_gamma", seed="relevance")
    assert channel_signal(net, x, start, rule="lrp_gamma", seed="contribution", classes=0).signals.abs().sum() > 0
    check_signals(net, x, sites, rule="lrp_gamma", seed="contribution")


def test_a_rule_that_sends_no_relevance_is_refused() -> None:
    net = Two().eval()
    x = images(2, 2, 8, 8).float()
    match = r"seed='relevance' came with rule='\w+', which sends no relevance; use seed='contribution'"
    for how in ({}, {"rule": "guided"}, {"rectifier": "gradient"}):
        with pytest.raises(InterpNetError, match=match):
            channel_signal(net, x, Channel("trunk.1", 0), seed="relevance", classes=0, **how)
