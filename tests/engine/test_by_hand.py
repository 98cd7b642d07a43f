"""Activations written by hand that are recognised: sites, scores, ablations and maps as with torch's own operator."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import RELUS, SPELLINGS, Act, Net, X, Y
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.ablation import ablate
from interpnet.attribution import attribute
from interpnet.engine import Channel, Instrument, SiteWarning, find_sites, instrument
from interpnet.explanation import channel_signal
from interpnet.scores import collect_scores


@pytest.mark.parametrize("name", SPELLINGS)
def test_it_is_as_with_torchs_own_operator(name: str) -> None:
    """Scores, channels, signals under every rule, ablations, and methods with rules of their own."""
    by_hand, own = SPELLINGS[name]
    nets = (Net(by_hand).eval(), Net(own).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("error", SiteWarning)
        tables = [collect_scores(net, [(X, Y)], progress=False) for net in nets]
    assert [n for _, n in tables[0].channels.sizes] == [n for _, n in tables[1].channels.sizes]
    np.testing.assert_allclose(tables[0].X, tables[1].X, rtol=1e-5, atol=1e-6)
    layers = [table.channels.layers for table in tables]
    for rule in ("guided", "deconvnet", "gradient"):
        picks = [[[Channel(row[i], 1), Channel(row[-1], 2)] for i in range(3)] for row in layers]
        got, expected = (channel_signal(n, X, p, rectifier=rule) for n, p in zip(nets, picks, strict=True))
        assert got.report.seen == got.report.overridden > 0
        torch.testing.assert_close(got.signals, expected.signals, rtol=1e-4, atol=1e-5)
    changed = []
    for net, row in zip(nets, layers, strict=True):
        lists = [[Channel(row[i], 1), Channel(row[0], 2)] for i in range(3)]
        with torch.no_grad(), ablate(net, lists):
            changed.append(net(X))
    torch.testing.assert_close(changed[0], changed[1], rtol=1e-4, atol=1e-5)
    for method in ("lrp_epsilon", "deeplift_revealcancel"):
        got, expected = (attribute(net, X[:2], 1, method=method) for net in nets)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def assigned_in_a_view(x: Tensor) -> Tensor:
    y = x.clone()[:]
    y[y < 0] = 0
    return y


def multiplied_through_a_view(x: Tensor) -> Tensor:
    y = x[:]
    y *= y > 0
    return x


def halved_through_an_alias(x: Tensor) -> Tensor:
    y = torch.ops.aten.alias(x.abs())
    y += x
    y /= 2
    return y


@pytest.mark.parametrize("act", [assigned_in_a_view, multiplied_through_a_view, halved_through_an_alias])
@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
def test_what_is_written_through_a_view_of_a_map(act: Act, rule: str) -> None:
    nets = (Net(act).eval(), Net(F.relu).eval())
    sites = [find_sites(net, X).select("default") for net in nets]
    for by_hand, own in zip(*sites, strict=True):
        got = channel_signal(nets[0], X, Channel(by_hand.name, 1), rectifier=rule)
        assert got.report.seen == got.report.overridden
        expected = channel_signal(nets[1], X, Channel(own.name, 1), rectifier=rule)
        torch.testing.assert_close(got.signals, expected.signals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["where zeros_like", "mask", "absolute, halved", "assigned", "picked into zeros"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_names_are_the_same_with_and_without_gradients_for_any_batch(name: str, n: int) -> None:
    net = Net(RELUS[name], width=1).eval()
    names = [s.name for s in find_sites(net, X).select("default")]
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        seen: list[str] = []
        reads = {name: partial(note, seen, name) for name in names}
        with mode(), instrument(net, Instrument(reads=reads)):
            net(X[:n].clone())
        assert seen == names
    assert [s.channels for s in find_sites(net, X[:n]).select("default")] == [1, 5, 6]


@pytest.mark.parametrize("name", RELUS)
@pytest.mark.parametrize("n", [1, 2])
def test_a_map_of_one_number_is_a_map(name: str, n: int) -> None:
    """A layer of one unit, and a batch of one image."""
    net = nn.Sequential(nn.Linear(3, 1), Step(RELUS[name]), nn.Linear(1, 2)).eval()
    seen: list[str] = []
    with torch.no_grad(), instrument(net, Instrument(observe=lambda call, _: seen.append(str(call.kind)))):
        net(torch.tensor([[1.0, 2.0, 3.0]] * n))
    assert seen.count("rectifier") == 1


def note(seen: list[str], name: str, _out: Tensor) -> None:
    seen.append(name)


class PerChannel(nn.Module):
    """A PReLU by hand with a slope for each channel; the zeros may be a buffer, a plain attribute or a parameter."""

    def __init__(self, slopes: list[float], how: str) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes).view(1, -1, 1, 1))
        self.register_buffer("zeros", torch.zeros(1, len(slopes), 1, 1))
        self.plain = torch.zeros(1, len(slopes), 1, 1)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "where":
            return torch.where(x > 0, x, self.slopes * x)
        if self.how == "rectifiers":
            return F.relu(x) - self.slopes * F.relu(-x)
        if self.how == "buffer":
            return torch.max(self.zeros, x)
        return torch.max(self.plain, x)


@pytest.mark.parametrize("slopes", [[0.1, 0.2], [0.0, 0.3], [-0.2, 0.5]])
@pytest.mark.parametrize("how", ["where", "rectifiers", "buffer", "attribute"])
def test_a_constant_may_differ_by_channel(how: str, slopes: list[float]) -> None:
    act = PerChannel(slopes, how)
    nets = [nn.Sequential(nn.Conv2d(2, 2, 3), a, nn.Flatten(), nn.Linear(84, 3)).eval() for a in (act, nn.PReLU(2))]
    nets[1][1].weight.data = torch.tensor(slopes if how in {"where", "rectifiers"} else [0.0, 0.0])
    nets[1].load_state_dict(nets[0].state_dict() | {"1.weight": nets[1][1].weight}, strict=False)
    names = [find_sites(net, X).select("default")[0].name for net in nets]
    for rule in ("guided", "deconvnet", "gradient"):
        got, expected = (
            channel_signal(net, X, Channel(name, 1), rectifier=rule).signals
            for net, name in zip(nets, names, strict=True)
        )
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_site_keeps_the_name_of_the_operator_that_ends_it() -> None:
    site = find_sites(Net(RELUS["where zeros_like"]).eval(), X).select("default")[1]
    assert (site.name, site.op, site.kind, site.family, site.channels) == ("where:1", "relu", "rectifier", "conv", 5)


@pytest.mark.parametrize("name", ["mask", "absolute, halved", "assigned", "max zeros"])
def test_parameters_and_tensors_are_left_without_traces(name: str) -> None:
    net = Net(RELUS[name]).eval()
    before = {key: dict(vars(p)) for key, p in net.named_parameters()}
    images = X.clone()
    channel_signal(net, images, Channel(find_sites(net, images).select("default")[0].name, 0))
    assert torch.equal(images, X)
    assert {key: dict(vars(p)) for key, p in net.named_parameters()} == before
