"""Activations written by hand: sites, scores, ablations and maps as with torch's own operator, or a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.ablation import ablate
from interpnet.attribution import attribute
from interpnet.engine import Channel, Instrument, SiteWarning, find_sites, instrument
from interpnet.errors import ModelError
from interpnet.explanation import channel_signal
from interpnet.scores import collect_scores

Act = Callable[[Tensor], Tensor]
X = torch.randn(3, 2, 9, 8, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 1, 2])


def assigned(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def assigned_in_a_copy(x: Tensor) -> Tensor:
    y = x.clone()
    y[y <= 0] = 0.0
    return y


def picked_into_zeros(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x > 0] = x[x > 0]
    return y


def picked_and_scaled(x: Tensor) -> Tensor:
    x[x < 0] *= 0
    return x


def leaky_assigned(x: Tensor) -> Tensor:
    mask = x < 0
    x[mask] = x[mask] * 0.1
    return x


def multiplied_in_place(x: Tensor) -> Tensor:
    x *= x > 0
    return x


def halved_in_place(x: Tensor) -> Tensor:
    y = x.abs()
    y += x
    y /= 2
    return y


def in_two_statements(x: Tensor) -> Tensor:
    x = x + x.abs()
    x = x / 2
    return x  # noqa: RET504 - the map itself is let go of


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


RELUS: dict[str, Act] = {
    "where zeros_like": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where number": lambda x: torch.where(x < 0, 0, x),
    "where tensor": lambda x: torch.where(x <= 0, torch.tensor(0.0), x),
    "where method": lambda x: x.where(x > 0, torch.zeros(1)),
    "mask": lambda x: x * (x > 0),
    "mask first": lambda x: (x > 0) * x,
    "mask float": lambda x: x * (x > 0).float(),
    "mask type_as": lambda x: (x > 0).type_as(x) * x,
    "mask to": lambda x: (x >= 0).to(x.dtype) * x,
    "mask int": lambda x: (x >= 0).int() * x,
    "mask detached": lambda x: x * (x.detach() > 0),
    "mask inverted": lambda x: x * ~(x < 0),
    "mask from one": lambda x: x * (1 - (x < 0).float()),
    "mask moved": lambda x: x.masked_fill((x < 0).to(x.device), 0),
    "mul gt": lambda x: x.mul(x.gt(0)),
    "mul_ gt": lambda x: x.mul_(x > 0),
    "heaviside": lambda x: x * torch.heaviside(x.detach(), torch.tensor(0.0)),
    "sign": lambda x: x * (torch.sign(x) + 1) / 2,
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.0)),
    "maximum zero first": lambda x: torch.maximum(torch.tensor(0.0), x),
    "maximum zeros first": lambda x: torch.maximum(torch.zeros_like(x), x),
    "max zeros_like": lambda x: torch.max(x, torch.zeros_like(x)),
    "max new_zeros": lambda x: torch.max(x, x.new_zeros(x.shape)),
    "max zeros": lambda x: torch.max(x, torch.zeros(x.shape)),
    "max zeros on the device": lambda x: torch.max(x, torch.zeros(x.shape).to(x.device)),
    "max of nothing": lambda x: torch.max(x, 0 * x),
    "max full": lambda x: torch.max(x, torch.full_like(x, 0)),
    "fmax": lambda x: torch.fmax(x, torch.tensor(0.0)),
    "negative minimum": lambda x: -torch.min(-x, torch.tensor(0.0)),
    "less the negative part": lambda x: x - x.clamp(max=0),
    "absolute, halved": lambda x: (x + x.abs()) / 2,
    "half the absolute": lambda x: 0.5 * (x + abs(x)),
    "two halves": lambda x: 0.5 * x + 0.5 * x.abs(),
    "root of the square": lambda x: (x + (x * x).sqrt()) / 2,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill_": lambda x: x.masked_fill_(x < 0, 0),
    "masked_fill not": lambda x: x.masked_fill(torch.logical_not(x > 0), 0.0),
    "clamp": lambda x: x.clamp(min=0),
    "clip": lambda x: x.clip(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "assigned": assigned,
    "assigned in a copy": assigned_in_a_copy,
    "picked into zeros": picked_into_zeros,
    "picked and scaled": picked_and_scaled,
    "multiplied in place": multiplied_in_place,
    "halved in place": halved_in_place,
    "two statements": in_two_statements,
}
LEAKY: dict[str, Act] = {
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "max": lambda x: torch.max(x, 0.1 * x),
    "maximum": lambda x: torch.maximum(0.1 * x, x),
    "two rectifiers": lambda x: F.relu(x) - 0.1 * F.relu(-x),
    "two masks": lambda x: x * (x > 0) + 0.1 * x * (x <= 0),
    "two clamps": lambda x: x.clamp(min=0) + 0.1 * x.clamp(max=0),
    "rectifier and minimum": lambda x: F.relu(x) + 0.1 * torch.min(x, torch.zeros_like(x)),
    "absolute": lambda x: 0.55 * x + 0.45 * x.abs(),
    "assigned": leaky_assigned,
}
# Each with torch's own operator.
OTHERS: dict[str, tuple[Act, Act]] = {
    "relu6 clamp": (lambda x: x.clamp(0, 6), F.relu6),
    "relu6 min": (lambda x: torch.min(F.relu(x), torch.tensor(6.0)), F.relu6),
    "relu6 where": (lambda x: torch.where(x > 6, torch.full_like(x, 6), x * (x > 0)), F.relu6),
    "swish": (lambda x: x * torch.sigmoid(x), F.silu),
    "swish, exponential": (lambda x: x / (1 + torch.exp(-x)), F.silu),
    "swish, of a number divided": (lambda x: x * (1 / (1 + torch.exp(-x))), F.silu),
    "softplus, of a number's power": (lambda x: torch.log(1 + 2.718281828459045**x), F.softplus),
    "gelu": (lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), F.gelu),
    "gelu tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "hardswish": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "hardswish clamp": (lambda x: x * (x + 3).clamp(0, 6) / 6, F.hardswish),
    "hardswish gate": (lambda x: x.mul(F.relu6(x.add(3.0)).div(6.0)), F.hardswish),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), F.mish),
    "mish, exponential": (lambda x: x * torch.tanh(torch.log1p(torch.exp(x))), F.mish),
    "softplus": (lambda x: torch.log(1 + torch.exp(x)), F.softplus),
    "elu": (lambda x: torch.where(x > 0, x, torch.exp(x) - 1), F.elu),
    "elu in two parts": (lambda x: F.relu(x) + torch.expm1(x.clamp(max=0)), F.elu),
    "swish behind a rectifier": (lambda x: (lambda r: r * torch.sigmoid(r))(F.relu(x)), lambda x: F.silu(F.relu(x))),
}
SPELLINGS: dict[str, tuple[Act, Act]] = {
    **{f"relu {name}": (act, F.relu) for name, act in RELUS.items()},
    **{f"leaky {name}": (act, leaky) for name, act in LEAKY.items()},
    **OTHERS,
}


class Net(nn.Module):
    """Convolution, batch norm, activation, strided convolution, activation, pooling, linear map, activation, logits."""

    def __init__(self, act: Act, width: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.conv1 = nn.Conv2d(2, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 5, 3, stride=2)
        self.fc = nn.Linear(5, 6)
        self.out = nn.Linear(6, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.6
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv1(x)))
        x = self.act(self.conv2(x)).mean((2, 3))
        return self.out(self.act(self.fc(x)))


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


UNKNOWN: dict[str, Act] = {
    "absolute": torch.abs,
    "doubled": lambda x: x + x.abs(),
    "hard threshold": lambda x: torch.where(x > 1, x, torch.zeros_like(x)),
    "clamp at a tenth": lambda x: x.clamp(min=0.1),
    "negative part": lambda x: torch.min(x, torch.zeros_like(x)),
    "clamp to one": lambda x: x.clamp(-1, 1),
    "maxout": lambda x: torch.max(x, x.flip(1)),
    "assigned at one": lambda x: x.masked_fill(x < 1, 0.0),
    "mask of another map": lambda x: x * (x.flip(1) > 0),
    "filled by another map": lambda x: x.masked_fill(x.roll(1, 1) < 0, 0.0),
    "mask of all but zero": lambda x: x.clone() * (x.bool() & (x > 1)),
    "square": torch.square,
    "sine": torch.sin,
    "product": lambda x: x * x,
    "power": lambda x: x**3,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_recognised_is_said(name: str) -> None:
    net = Net(UNKNOWN[name]).eval()
    trace = find_sites(net, X)
    with pytest.warns(SiteWarning, match=r"in the network itself.*: activations written by hand that are not"):
        trace.select("default")


#: Operators without a row in the table, and the largest of several maps.
STRANGE: dict[str, Callable[[Tensor], Tensor]] = {
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "hypot": lambda x: torch.hypot(x, torch.ones_like(x)),
    "amax": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
    "max": lambda x: torch.stack([x, 0.1 * x]).max(0)[0],
    "amin": lambda x: -torch.stack([-x, torch.zeros_like(x)]).amin(0),
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_unknown_operator_is_said_where_nothing_else_is_an_activation(name: str) -> None:
    trace = find_sites(Net(STRANGE[name]).eval(), X)
    with pytest.warns(SiteWarning, match=f"'{name}' in the network itself.*: activations written by hand that are not"):
        trace.select("default")


def test_a_network_without_activations_gets_no_warning() -> None:
    trace = find_sites(Net(lambda x: x).eval(), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SiteWarning)
        assert all(site.kind in {"conv", "linear"} for site in trace.select("default"))


@pytest.mark.parametrize("name", ["absolute", "hard threshold", "maxout"])
def test_what_is_not_recognised_is_said_beside_other_activations(name: str) -> None:
    act = UNKNOWN[name]

    class Mixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.bn(self.conv1(x)))
            return self.out(F.relu(self.fc(act(self.conv2(x)).mean((2, 3)))))

    with pytest.warns(SiteWarning, match="activations written by hand that are not recognised"):
        assert len(find_sites(Mixed(F.relu).eval(), X).select("default")) == 2


@pytest.mark.parametrize(
    ("name", "rectifier"),
    [*[(name, "guided") for name in UNKNOWN], ("doubled", "deconvnet"), ("doubled", "gradient")],
)
def test_a_rectifier_that_keeps_its_gradient_is_said(name: str, rectifier: str) -> None:
    """Scaled or shifted rectifiers alone: an absolute value, say, has no rule."""

    class Mixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = UNKNOWN[name](self.bn(self.conv1(x)))
            return self.out(F.relu(self.fc(F.relu(self.conv2(x)).mean((2, 3)))))

    net = Mixed(F.relu).eval()
    said = name in {"doubled", "hard threshold", "clamp at a tenth", "assigned at one"} and rectifier != "gradient"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        channel_signal(net, X, Channel("relu", 1), rectifier=rectifier)
    texts = [str(w.message) for w in caught if issubclass(w.category, SiteWarning)]
    assert len(texts) == said
    assert all(f"scaled or shifted, keep their gradient under the rule {rectifier!r}" in text for text in texts)


def standardised(x: Tensor) -> Tensor:
    return F.relu((x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt())


def pooled_power(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.relu(x).clamp(min=1e-6).pow(3), 1).pow(1 / 3)


def attention(x: Tensor) -> Tensor:
    scores = x.flatten(2).mT @ x.flatten(2)
    weights = scores.masked_fill(torch.eye(scores.shape[1], dtype=torch.bool), -1e9).softmax(2)
    return F.relu(x + (x.flatten(2) @ weights).view(x.shape))


# What networks do beside their activations.
QUIET: dict[str, Act] = {
    "standardised": standardised,
    "clamped far out": lambda x: F.relu(x.clamp(-1e4, 1e4)),
    "clamped after": lambda x: F.relu(x).clamp(max=1e4),
    "scaled": lambda x: F.relu(x) * 1.7,
    "scaled by one": lambda x: F.relu(x) * 1.0,
    "normalised": lambda x: F.relu(x) / F.relu(x).norm(dim=1, keepdim=True).clamp(min=1e-6),
    "squared": lambda x: F.relu(x) ** 2,
    "root": lambda x: torch.sqrt(F.relu(x) + 1e-3),
    "gate": lambda x: F.relu(x) * torch.sigmoid(x.flatten(2).mean(2)).view(*x.shape[:2], 1, 1),
    "noise off": lambda x: F.dropout(F.relu(x), training=False),
}


@pytest.mark.parametrize("name", [*QUIET, "attention", "pooled power"])
def test_ordinary_networks_get_no_warning_and_no_other_sites(name: str) -> None:
    act = {**QUIET, "attention": attention, "pooled power": pooled_power}[name]

    class Quiet(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = act(self.bn(self.conv1(x)))
            return self.out(F.relu(self.fc(F.relu(self.conv2(x)).mean((2, 3)))))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sites = find_sites(Quiet(F.relu).eval(), X).select("default")
    assert [s.op for s in sites if s.op != "relu"] == []


def test_a_map_that_was_overwritten_since_is_an_error_under_a_rule_and_right_without() -> None:
    def act(x: Tensor) -> Tensor:
        mask = x > 0
        y = x * 0.5
        x += 100
        return (y + y) * mask

    net = Net(act).eval()
    table = collect_scores(net, [(X, Y)], progress=False)
    np.testing.assert_allclose(table.X, collect_scores(Net(F.relu).eval(), [(X, Y)], progress=False).X, rtol=1e-5)
    with pytest.raises(ModelError, match=r"by hand that ends at 'mul' .* was overwritten since. Use torch's own"):
        channel_signal(net, X, Channel(table.channels.layers[0], 0))


def test_a_mask_of_the_map_before_it_was_changed_is_no_rectifier() -> None:
    def act(x: Tensor) -> Tensor:
        mask = x > 0
        x += 1
        return x * mask

    with pytest.warns(SiteWarning, match="'mul' in the network itself"):
        assert [s.kind for s in find_sites(Net(act).eval(), X).select("default")] == ["conv", "conv", "linear"]


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
