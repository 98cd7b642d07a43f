"""How an image's channels are chosen, signals that start with contributions, and smoothed maps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import SPELLINGS, Branches, Spelled, images
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from interpnet.backward import RULES
from interpnet.engine import Channel, ChannelIndex, Trace, channel_index, find_sites, log_odds
from interpnet.errors import InterpNetError
from interpnet.explanation import Unit, channel_heatmap, channel_signal, explain, normalise
from interpnet.explanation._contributed import contributed
from interpnet.explanation._signals import Options, SignalRun
from interpnet.interpretation import Interpretation
from interpnet.reliance import image_contributions


def branches() -> nn.Module:
    torch.manual_seed(0)
    net = Branches().double().eval()
    net.c.bias.data.fill_(0.5)
    return net


def every_channel(trace: Trace, layers: str, classes: int, **more: Any) -> Interpretation:
    """Return an interpretation in which all channels of some layers are named for every class."""
    index = channel_index(trace.select(layers))
    return Interpretation(index, np.ones((classes, len(index))), tuple(map(str, range(classes))), **more)


@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
@pytest.mark.parametrize("layers", ["default", "all"])
def test_contributions_of_the_signals_own_pass_are_those_of_a_pass_for_them(layers: str, rule: str) -> None:
    """Branches that start apart, sites that a batch norm or an in-place operator follows, rules of every kind."""
    spelled = Spelled("inplace").double().eval()
    for net, x in ((branches(), images(2, 2, 16, 16)), (spelled, images(2, 3, 12, 10))):
        sites = [site for site in find_sites(net, x).select(layers) if not site.output]
        expected = image_contributions(net, x, sites, lambda _: [1, 2])
        run = SignalRun(net, x, {site.name: site for site in sites}, Options(rule=rule, resample_pool=True))
        found = contributed(run, lambda _: [1, 2])
        np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-12)
        assert np.abs(expected).sum(1).min() > 0


class Curved(nn.Module):
    """Rectifiers whose slope is not 0 or 1, a strided slice and poolings: where rules and gradient differ."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 3, 3)
        self.b = nn.Conv2d(3, 4, 3, stride=2)
        self.c = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.leaky_relu(self.a(x), 0.3)
        x = nn.functional.max_pool2d(x[:, :, ::2, ::2], 2, stride=1)
        x = nn.functional.silu(self.b(x))
        return self.c(nn.functional.avg_pool2d(x, 2).mean((2, 3)))


@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
def test_the_ordinary_gradient_passes_where_a_rule_is_another_one(rule: str) -> None:
    torch.manual_seed(2)
    net = Curved().double().eval()
    x = images(2, 1, 15, 15)
    sites = find_sites(net, x).select("default")
    expected = image_contributions(net, x, sites, lambda _: [0, 2])
    run = SignalRun(net, x, {site.name: site for site in sites}, Options(rule=rule, resample_pool=True))
    found = contributed(run, lambda _: [0, 2])
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    # The signals after it are those of the rule.
    start = [[Channel(sites[-1].name, 1)], [Channel(sites[-1].name, 2)]]
    signals = run.send_back(found.forward, start).signals
    again = channel_signal(net, x, start, rule=rule, resample_pool=True).signals
    torch.testing.assert_close(signals, again, rtol=1e-12, atol=0)


def best(values: np.ndarray, columns: list[int], k: int) -> list[int]:
    order = [c for c in np.argsort(-values) if c in columns and values[c] > 0]
    return order[:k]


@pytest.mark.parametrize("rule", ["guided", "lrp_epsilon_plus_flat"])
@pytest.mark.parametrize("by", ["mu-lasso", "reliance"])
def test_channels_are_chosen_as_asked_for_both_kinds_of_interpretation(by: str, rule: str) -> None:
    net = branches()
    x = images(3, 2, 16, 16)
    trace = find_sites(net, x)
    sites = trace.select("default")
    index = channel_index(sites)
    named = [1, 4, 6, 7, len(index) - 1, len(index) - 2]
    coef = np.zeros((3, len(index)))
    coef[:, named] = [3.0, 1.0, 2.0, 0.5, 0.25, 1.5]
    more: dict[str, Any] = {}
    if by == "reliance":
        more = {"by": by, "price": 1.0, "stderr": np.zeros_like(coef)}
    found = Interpretation(index, coef, ("a", "b", "c"), **more)
    contributions = image_contributions(net, x, sites, lambda _: [1, 1, 1])
    every = list(range(len(index)))
    for choose, columns in (("contribution", named), ("all", every)):
        result = explain(net, x, found, k=4, classes=1, choose=choose, rule=rule, trace=trace, variant="paper")
        for row, channels, responses in zip(contributions, result.channels, result.responses, strict=True):
            expected = best(row, columns, 4)
            assert [index.position(channel) for channel in channels] == expected
            np.testing.assert_allclose(responses, row[expected], rtol=1e-9)
        signals = channel_signal(net, x, result.channels, rule=rule, trace=trace).signals
        torch.testing.assert_close(result.signals[:, : signals.shape[1]], signals, rtol=1e-9, atol=1e-12)
    by_weight = explain(
        net, x, Interpretation(index, coef, ("a", "b", "c")), k=4, classes=1, rule=rule, variant="paper"
    )
    result = explain(net, x, found, k=4, classes=1, choose="weight", rule=rule, variant="paper")
    assert result.channels == by_weight.channels
    assert result.responses == by_weight.responses
    default = explain(net, x, found, k=4, classes=1, rule=rule, variant="paper")
    expected_choice = {"mu-lasso": "weight", "reliance": "contribution"}[by]
    assert default.channels == explain(net, x, found, k=4, classes=1, choose=expected_choice, variant="paper").channels


def test_a_seed_of_contributions_is_what_speaks_for_the_class_of_map_times_gradient() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).double().eval()
    net[0].weight.data = torch.tensor([2.0, 1.0, -1.0]).double().view(3, 1, 1, 1)
    x = images(2, 1, 2, 2)
    maps = net[1](net[0](x)).detach().requires_grad_()
    logits = net[3](maps.flatten(1))
    (gradient,) = torch.autograd.grad(log_odds(logits, torch.tensor([3, 1])).sum(), maps)
    # The signal of channel 0 is twice its start where the image is above 0.
    expected = 2 * (maps * gradient)[:, :1].detach().clamp(min=0)
    assert float(((maps * gradient)[:, 0] < 0).sum()) > 0
    got = channel_signal(net, x, Channel("1", 0), seed="contribution", classes=[3, 1], rule="gradient")
    torch.testing.assert_close(got.signals[:, 0], expected)
    predicted = logits.argmax(1)
    default = channel_signal(net, x, Channel("1", 0), seed="contribution", rule="gradient").signals
    for asked in (predicted, predicted.tolist()):
        same = channel_signal(net, x, Channel("1", 0), seed="contribution", classes=asked, rule="gradient").signals
        torch.testing.assert_close(same, default, rtol=0, atol=0)
    # Of the class's own logit the log-odds rise by 1 for each unit, of another one they fall.
    unit = channel_signal(net, x, Unit(3), seed="contribution", classes=3, rule="gradient").signals
    ones = channel_signal(net, x, Unit(3), seed="ones", rule="gradient").signals
    torch.testing.assert_close(unit[:, 0], ones[:, 0] * logits.detach()[:, 3, None, None, None].clamp(min=0))
    other = channel_signal(net, x, Unit(0), seed="contribution", classes=3, rule="gradient").signals
    rest = logits.detach()[:, :3]
    slope = (-rest.softmax(1)[:, 0] * rest[:, 0]).clamp(min=0)
    ones = channel_signal(net, x, Unit(0), seed="ones", rule="gradient").signals
    torch.testing.assert_close(other[:, 0], ones[:, 0] * slope[:, None, None, None])


@pytest.mark.parametrize("rule", RULES)
def test_relevance_that_starts_with_contributions_sums_to_what_speaks_for_the_class(rule: str) -> None:
    net = branches()
    x = images(2, 2, 16, 16)
    trace = find_sites(net, x)
    found = every_channel(trace, "default", 3)
    result = explain(
        net, x, found, choose="all", seed="contribution", rule=rule, classes=[2, 0], trace=trace, variant="paper"
    )
    signals = channel_signal(net, x, result.channels, seed="contribution", rule=rule, classes=[2, 0], trace=trace)
    torch.testing.assert_close(result.signals, signals.signals, rtol=1e-9, atol=1e-12)
    run = SignalRun(net, x, {s.name: s for s in trace.select("default")}, Options(seed="contribution"))
    measured = contributed(run, lambda _: [2, 0])
    maps = measured.forward.maps
    for i, row in enumerate(result.channels):
        for j, channel in enumerate(row):
            product = (maps[channel.layer] * measured.gradients[channel.layer])[i, channel.index].detach()
            torch.testing.assert_close(float(product.sum()), result.responses[i][j])
            if signals.absorbed is not None:
                kept = signals.signals[i, j].sum() + signals.absorbed[i, j]
                torch.testing.assert_close(kept, product.clamp(min=0).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spelling_of_a_network_does_not_matter_to_contributions(spelling: str) -> None:
    x = images(3, 3, 12, 10).float()
    results = []
    for net in (Spelled("module"), Spelled(spelling)):
        found = every_channel(find_sites(net, x), "default", 4)
        results.append(explain(net, x, found, choose="contribution", seed="contribution", variant="paper"))
    assert results[0].combined.abs().sum() > 0
    torch.testing.assert_close(results[0].combined, results[1].combined, rtol=1e-4, atol=1e-4)


class Overwriting(nn.Module):
    """Its only map is overwritten before the logits, which it must not change in the contributions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        y.mul_(3.0).add_(1.0)
        return self.out(y.flatten(1))


def test_maps_that_are_overwritten_and_layers_without_a_gradient() -> None:
    torch.manual_seed(0)
    x = images(2, 1, 2, 2)

    class Unused(Overwriting):
        """A layer that the logits do not depend on."""

        def forward(self, x: Tensor) -> Tensor:
            torch.relu(self.conv(x) - 5.0)
            return super().forward(x)

    for net in (Overwriting().double().eval(), Unused().double().eval()):
        net.conv.bias.data.fill_(1.0)
        sites = find_sites(net, x).select("default")
        expected = image_contributions(net, x, sites, lambda _: [0, 1])
        assert np.abs(expected).max() > 0
        run = SignalRun(net, x, {site.name: site for site in sites}, Options(seed="contribution"))
        np.testing.assert_allclose(contributed(run, lambda _: [0, 1]).values, expected, rtol=1e-12)
        # The start is A * 3 dz/dy where that is positive; below it lies the convolution's one weight.
        maps = torch.relu(net.conv(x)).detach()
        y = (3 * maps + 1).requires_grad_()
        (gradient,) = torch.autograd.grad(log_odds(net.out(y.flatten(1)), torch.tensor([0, 1])).sum(), y)
        starts = (maps * 3 * gradient).clamp(min=0)
        assert float(starts.sum()) > 0
        for index in (0, 1):
            start = Channel(sites[-1].name, index)
            got = channel_signal(net, x, start, seed="contribution", rule="gradient", classes=[0, 1]).signals
            torch.testing.assert_close(got[:, 0, 0], starts[:, index] * net.conv.weight[index, 0, 0, 0].detach())


def test_the_network_and_the_caller_are_left_alone() -> None:
    net = branches()
    before = copy.deepcopy(net.state_dict())
    x = images(2, 2, 16, 16)
    kept = x.clone()
    found = every_channel(find_sites(net, x), "default", 3)
    with torch.inference_mode():
        inside = explain(net, x, found, choose="all", seed="contribution", variant="paper")
    torch.testing.assert_close(
        inside.combined, explain(net, x, found, choose="all", seed="contribution", variant="paper").combined
    )
    assert torch.equal(x, kept)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_an_image_without_a_channel_and_classes_that_nothing_asks_for() -> None:
    net = branches()
    x = images(2, 2, 16, 16)
    trace = find_sites(net, x)
    index = channel_index(trace.select("default"))
    none = Interpretation(index, np.zeros((3, len(index))), ("a", "b", "c"))
    for choose in ("weight", "contribution"):
        result = explain(net, x, none, choose=choose, seed="contribution", trace=trace, variant="paper")
        assert result.channels == [[], []]
        assert not result.combined.any()
    with pytest.raises(InterpNetError, match=r"classes came with seed='activation'; only seed='contribution'"):
        channel_signal(net, x, Channel("relu", 0), classes=1)
    with pytest.raises(InterpNetError, match=r"an entry of classes is 3; expected .* 0 to 2"):
        channel_heatmap(net, x, Channel("relu", 0), classes=[0, 3], seed="contribution")
    with pytest.raises(InterpNetError, match=r"classes has 1 entries for 2 images"):
        channel_heatmap(net, x, Channel("relu", 0), classes=[0], seed="contribution")
    with pytest.raises(InterpNetError, match=r"choose is 'best'; expected 'weight' or .* 'all'"):
        explain(net, x, none, choose="best", variant="paper")


def test_without_an_interpretation_all_channels_are_chosen_from() -> None:
    net = branches()
    x = images(2, 2, 16, 16)
    trace = find_sites(net, x)
    index = channel_index(trace.select("default"))
    none = Interpretation(index, np.zeros((3, len(index))), ("a", "b", "c"))
    for variant in ("relevance", "paper"):
        expected = explain(net, x, none, k=4, choose="all", variant=variant)
        result = explain(net, x, k=4, variant=variant)
        assert result.channels == expected.channels
        assert all(result.channels)
        torch.testing.assert_close(result.combined, expected.combined)
    assert explain(net, x, classes="1", choose="all").classes.tolist() == [1, 1]
    with pytest.raises(InterpNetError, match=r"choose is 'weight' without an interpretation, .* or choose='all'"):
        explain(net, x, choose="weight")
    with pytest.raises(InterpNetError, match=r"k is 10000; expected a whole number of at most"):
        explain(net, x, k=10_000)


# --- smoothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9,), (8, 11), (4, 5, 6)])
@pytest.mark.parametrize("smooth", [0.4, 1.5, 7.0])
def test_smoothing_is_scipys_gaussian_with_mirrored_edges(shape: tuple[int, ...], smooth: float) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 1]
    torch.manual_seed(0)
    net = nn.Sequential(kind(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * int(np.prod(shape)), 2))
    net = net.double().eval()
    x = images(2, 2, *shape)
    sharp = channel_heatmap(net, x, Channel("1", 1))
    expected = np.stack([gaussian_filter(one.numpy(), smooth, mode="reflect", truncate=4.0) for one in sharp])
    soft = channel_heatmap(net, x, Channel("1", 1), smooth=smooth)
    np.testing.assert_allclose(soft.numpy(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(soft.flatten(1).sum(1), sharp.flatten(1).sum(1))
    found = Interpretation(ChannelIndex((("1", 3),)), np.array([[0.0, 1.0, 0.0]] * 2), ("a", "b"))
    result = explain(net, x, found, k=1, smooth=smooth, variant="paper")
    torch.testing.assert_close(result.heatmaps[:, 0], normalise(soft, axes=len(shape)))


def test_a_gaussian_wider_than_the_map_leaves_its_mean_and_none_leaves_it_alone() -> None:
    net = branches()
    x = images(1, 2, 16, 16)
    sharp = channel_heatmap(net, x, Channel("relu", 0))
    wide = channel_heatmap(net, x, Channel("relu", 0), smooth=1e9)
    torch.testing.assert_close(wide, sharp.mean().expand_as(wide))
    assert torch.equal(channel_heatmap(net, x, Channel("relu", 0), smooth=0), sharp)
    for value in (-0.5, float("nan"), float("inf"), True, "2"):
        with pytest.raises(InterpNetError, match=r"smooth is .*; expected"):
            channel_heatmap(net, x, Channel("relu", 0), smooth=value)


@pytest.mark.parametrize("seed", ["contribution", "relevance"])
def test_everything_at_once_on_any_device(device: str, seed: str) -> None:
    net = branches().float()
    x = images(2, 2, 16, 16).float()
    found = every_channel(find_sites(net, x), "default", 3)
    how: dict[str, Any] = {"choose": "all", "seed": seed, "smooth": 1.0, "rule": "lrp_epsilon_plus_flat"}
    how["combination"] = "sum"
    here = explain(net, x, found, **how, variant="paper")
    there = explain(net.to(device), x.to(device), found, **how, variant="paper")
    assert there.combined.device.type == device
    torch.testing.assert_close(there.combined.cpu(), here.combined, rtol=1e-3, atol=1e-3)
