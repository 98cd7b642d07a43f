"""Where a signal starts: seeds, sets of channels and output units, and how much of the network runs for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches, Spelled
from torch import Tensor, nn

from interpnet.engine import Channel, find_sites
from interpnet.errors import InterpNetError, LayerError
from interpnet.explanation import Unit, backpropagate, channel_heatmap, channel_signal
from interpnet.explanation._starts import deepest_first, places, seed_map

X = torch.randn(3, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
PLAIN = {"rectifier": "gradient", "resample": False}


def gradient(model: nn.Module, of: object) -> Tensor:
    leaf = X.clone().requires_grad_()
    return torch.autograd.grad(of(model, leaf), leaf)[0]


def b_map(model: Branches, x: Tensor) -> Tensor:
    return F.relu(model.b(x))[:, 2]


def test_seeds_by_hand() -> None:
    a = torch.tensor([[1.0, 3.0], [3.0, -2.0]])
    assert seed_map(a, "activation").tolist() == [[1, 3], [3, -2]]
    assert seed_map(a, "ones").tolist() == [[1, 1], [1, 1]]
    assert seed_map(a, "maximum").tolist() == [[0, 3], [0, 0]]
    assert seed_map(torch.zeros(2, 2), "maximum").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("seed", "of"),
    [
        ("activation", lambda m, x: 0.5 * b_map(m, x).square().sum()),
        ("ones", lambda m, x: b_map(m, x).sum()),
        ("maximum", lambda m, x: 0.5 * b_map(m, x).amax((1, 2)).square().sum()),
    ],
)
def test_each_seed_is_a_gradient(seed: str, of: object) -> None:
    model = Branches().double().eval()
    got = channel_signal(model, X, Channel("relu:1", 2), seed=seed, **PLAIN)
    torch.testing.assert_close(got.signals[:, 0], gradient(model, of))
    assert got.logits is None  # nothing after the second rectifier had to run


@pytest.mark.parametrize("seed", ["activation", "ones"])
def test_output_units(seed: str) -> None:
    model = Branches().double().eval()
    got = channel_signal(model, X, Unit(1), seed=seed, **PLAIN)
    expected = gradient(
        model, lambda m, x: 0.5 * m(x)[:, 1].square().sum() if seed == "activation" else m(x)[:, 1].sum()
    )
    torch.testing.assert_close(got.signals[:, 0], expected)
    torch.testing.assert_close(got.logits, model(X).detach())
    per_image = channel_signal(model, X, [Unit(1), Unit(0), Channel("relu:1", 2)], seed=seed, **PLAIN).signals
    torch.testing.assert_close(per_image[0], got.signals[0])
    torch.testing.assert_close(
        per_image[2], channel_signal(model, X[2:], Channel("relu:1", 2), seed=seed, **PLAIN).signals[0]
    )


def test_a_set_of_channels_starts_together() -> None:
    """Under the gradient a set is the sum of its members; under guided it is not, but one joint signal."""
    model = Branches().double().eval()
    both = {Channel("relu", 1), Channel("relu:1", 2)}
    joint = channel_signal(model, X, both, **PLAIN).signals
    apart = sum(channel_signal(model, X, c, **PLAIN).signals for c in both)
    torch.testing.assert_close(joint, apart)
    listed = channel_signal(model, X, [frozenset(both), Channel("relu", 1), {Unit(0), Unit(2)}], **PLAIN).signals
    torch.testing.assert_close(listed[0], joint[0])
    expected = sum(channel_signal(model, X, Unit(c), **PLAIN).signals for c in (0, 2))
    torch.testing.assert_close(listed[2], expected[2])
    assert channel_heatmap(model, X, both, seed="maximum", resample_pool=True).shape == (3, 16, 16)


def test_guided_from_a_set_as_matrices() -> None:
    """Two channels of a linear-ReLU-linear-ReLU network: R starts with both activations."""
    A = torch.randn(5, 4).double()
    B = torch.randn(3, 5).double()
    model = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)
    )
    model = model.double()
    model[0].weight.data = A
    model[2].weight.data = B
    x = torch.randn(6, 4, dtype=torch.float64)
    z1 = x @ A.T
    z2 = z1.clamp(min=0) @ B.T
    R = z2.clamp(min=0) * torch.tensor([1.0, 0.0, 1.0])
    r = R @ B
    expected = (r * (r > 0) * (z1 > 0)) @ A
    got = channel_signal(model, x, {Channel("3", 0), Channel("3", 2)}).signals[:, 0]
    torch.testing.assert_close(got, expected)


def test_starts_of_like_depth_share_a_pass() -> None:
    order = {"a": 0, "b": 1, "c": 2}
    picks = [[Channel("a", 0), Channel("c", 1)], [Unit(0), Channel("b", 0), {Channel("a", 1), Channel("c", 1)}], []]
    assert deepest_first(picks, order) == [[1, 0], [0, 2, 1], []]
    assert places({Unit(1), Channel("a", 3)}) == [("a", 3), ("", 1)]


def test_order_of_the_picks_is_kept_whatever_their_depth() -> None:
    model = Spelled("inplace").double()
    x = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    picks = [[Channel("r1", 0), Channel("r3", 3)], [Channel("r3", 5), Channel("r1", 2)]]
    signals = channel_signal(model, x, picks).signals
    for i, row in enumerate(picks):
        for j, channel in enumerate(row):
            torch.testing.assert_close(signals[i, j], channel_signal(model, x[i : i + 1], channel).signals[0, 0])


def test_the_network_stops_after_the_last_site() -> None:
    model = Spelled("module")
    x = torch.randn(2, 3, 8, 8)
    trace = find_sites(model, x)
    ran = []
    handles = [m.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, m in model.named_modules() if n]
    channel_signal(model, x, [Channel("r1", 0), Channel("r2", 1)], trace=trace)
    for handle in handles:
        handle.remove()
    assert ran == ["conv1", "bn1", "r1", "conv2"]  # r2 itself was left by the stop
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Viewing(nn.Module):
    """Old code that views maps as if they were contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.fc = nn.Linear(3 * 14 * 14, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.view(x.shape[0], -1))


def test_networks_that_view_their_maps() -> None:
    model = Viewing().double()
    got = channel_signal(model, X, Unit(1), seed="ones", **PLAIN)
    torch.testing.assert_close(got.signals[:, 0], gradient(model, lambda m, x: m(x)[:, 1].sum()))
    assert got.report.seen == 1


def test_errors() -> None:
    model = Branches()
    x = torch.randn(2, 2, 16, 16)
    cases = [
        (
            lambda: channel_signal(model, x, Channel("relu", 0), seed="zeros"),
            "seed is 'zeros'; expected 'activation' or 'ones'",
        ),
        (lambda: channel_signal(model, x, Unit(3)), "output unit 3 does not exist; expected 0 to 2"),
        (lambda: channel_signal(model, x, Unit(-1)), "output unit -1 does not exist"),
        (lambda: channel_signal(model, x, set()), "an empty set of channels came"),
        (lambda: channel_signal(model, x, {Channel("relu", 9)}), "channel 9 of layer 'relu' does not exist"),
        (lambda: backpropagate(model, x, [], [[Channel("relu", 0)]] * 2), r"layers \['relu'\] were not traced"),
    ]
    for call, message in cases:
        with pytest.raises((InterpNetError, LayerError), match=message):
            call()
        assert not any(m._forward_hooks for m in model.modules())
