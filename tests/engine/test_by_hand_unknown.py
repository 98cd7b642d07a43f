"""Activations written by hand that are not recognised get a warning or an error; ordinary networks get none."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import Act, Net, X, Y
from torch import Tensor

from interpnet.engine import Channel, SiteWarning, find_sites
from interpnet.errors import ModelError
from interpnet.explanation import channel_signal
from interpnet.scores import collect_scores

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
