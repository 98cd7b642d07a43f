"""Sites: channel axes, receptive fields, gates, the classifier's output, selection and its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches, Spelled
from torch import Tensor, nn

from interpnet.engine import OneColumn, Site, find_sites
from interpnet.engine._sites import SiteWarning
from interpnet.errors import DataError, LayerError, ModelError
from interpnet.explanation._patches import window


def default(model: nn.Module, x: Tensor) -> dict[str, Site]:
    return {s.name: s for s in find_sites(model, x).select("default")}


def test_branches_network() -> None:
    trace = find_sites(Branches(), torch.randn(1, 2, 16, 16))
    assert [s.name for s in trace.select()] == ["relu", "relu:1", "relu:3"]
    assert {s.name for s in trace.sites if s.gate} >= {"squeeze", "relu:2", "excite", "sigmoid"}
    assert [s.name for s in trace.sites if s.output] == ["out"]
    assert trace["cat"].channels == 8
    assert trace.n_outputs == 3


class Tokens(nn.Module):
    """Convolution, then linear maps on tokens: channels move from axis 1 to the last and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 20)
        self.down = nn.Linear(20, 8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv(x)).permute(0, 2, 3, 1)
        y = y + self.down(F.gelu(self.up(self.norm(y))))
        y = F.relu(y.permute(0, 3, 1, 2))
        tokens = F.relu(y.flatten(2).transpose(1, 2))
        return self.out(tokens.mean(1))


def test_channel_axis_follows_the_operator_that_made_the_tensor() -> None:
    sites = default(Tokens(), torch.randn(2, 3, 16, 24))
    assert {n: (s.axis, s.channels, s.map_shape) for n, s in sites.items()} == {
        "gelu": (1, 8, (4, 6)),
        "gelu:1": (3, 20, (4, 6)),
        "relu": (1, 8, (4, 6)),
        "relu:1": (3, 8, (4, 6)),
    }


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        y = y.view(y.shape[0], 2, 2, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        return self.out(F.relu(y).mean((2, 3)))


def test_a_lost_channel_axis_is_said_and_not_guessed() -> None:
    trace = find_sites(Shuffled(), torch.randn(1, 1, 8, 8))
    with pytest.warns(SiteWarning, match="left out of the default layers: relu:1"):
        assert [s.name for s in trace.select()] == ["relu"]
    with pytest.raises(LayerError, match="'relu:1' cannot be used: its channel axis is not known: 'reshape' merged"):
        trace.select("relu:1")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling_keeps_the_channels_and_loses_the_positions(n: int) -> None:
    class Unpooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](1, 3, 1)
            self.pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[n - 1](2, return_indices=True)
            self.unpool = (nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)[n - 1](2)
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.unpool(*self.pool(self.conv(x))))
            return self.out(y.flatten(2).mean(2))

    site = default(Unpooled(), torch.randn(2, 1, *[8] * n))["relu"]
    assert (site.axis, site.channels, site.map_shape) == (1, 3, (8,) * n)
    # Which position a value came from depends on the image.
    assert site.fields == (None,) * n


class Dense(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_models_without_activations_fall_back_to_their_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3), Dense(), nn.Linear(32, 2))
    assert list(default(model, torch.randn(1, 1, 8, 8))) == ["0", "1"]
    tanh = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 2))
    assert list(default(tanh, torch.randn(1, 1, 8, 8))) == ["1"]


def test_hand_written_swish_is_a_post_activation_site() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.out((y * torch.sigmoid(y)).mean((2, 3)))

    assert list(default(Net(), torch.randn(1, 1, 8, 8))) == ["mul"]


def test_selection() -> None:
    model = Spelled("module")
    trace = find_sites(model, torch.randn(1, 3, 8, 8))
    names = lambda layers: [s.name for s in trace.select(layers)]  # noqa: E731
    assert names("default") == ["r1", "r2", "r3", "r4"]
    assert names("conv") == ["r1", "r2", "r3"]
    assert names("all") == ["conv1", "bn1", "r1", "conv2", "r2", "conv3", "r3", "mean", "fc1", "r4"]
    assert names(["r[13]", "conv2"]) == ["r1", "conv2", "r3"]
    assert names(model.conv1) == ["conv1"]
    nested = find_sites(nn.Sequential(model), torch.randn(1, 3, 8, 8))
    assert [s.name for s in nested.select("0")] == ["0.r1", "0.r2", "0.r3", "0.r4"]


def test_unknown_layers_name_close_matches() -> None:
    trace = find_sites(Spelled("module"), torch.randn(1, 3, 8, 8))
    with pytest.raises(LayerError, match=r"no layer matches 'cnov1'; did you mean '.*conv1'"):
        trace.select("cnov1")
    with pytest.raises(LayerError, match=r"unknown layer 'cnov2'; did you mean"):
        trace["cnov2"]
    with pytest.raises(LayerError, match="this Linear is not a part of the traced model"):
        trace.select(nn.Linear(1, 1))


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> object:
        y = F.relu(self.conv(x))
        logits = y.mean((2, 3))
        return {
            "tuple": (logits, y),
            "dict": {"logits": logits, "map": y},
            "dense": y,
            "none": None,
            "flat": logits[:, 0],
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tuple", r"returns a tuple of 2 items; .*output=0 "),
        ("dict", r"returns a dict with keys logits, map; .*output='logits' "),
        ("dense", r"shape \(2, 4, 6, 6\); expected logits \(B=2, classes\)"),
        ("none", "returns a NoneType; expected logits"),
    ],
)
def test_outputs_that_are_no_logits_say_how_to_pass_output(kind: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_sites(Odd(kind), torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("kind", "output", "n_outputs"),
    [
        ("dict", lambda y: y["logits"], 4),
        ("dict", "logits", 4),
        ("tuple", 0, 4),
        ("tuple", -2, 4),
        ("flat", None, 2),
        ("flat", OneColumn(), 1),
        ("dict", OneColumn("logits"), 4),
    ],
)
def test_output_takes_the_logits_out(kind: str, output: Any, n_outputs: int) -> None:
    assert find_sites(Odd(kind), torch.randn(2, 1, 8, 8), output=output).n_outputs == n_outputs


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([1, 2], r"a list came; find_sites\(\) takes a Tensor"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "dtype torch.uint8 came; expected floating point"),
        (torch.zeros(0, 1, 8, 8), "with at least one image"),
    ],
)
def test_images_are_checked(images: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_sites(Odd("tuple"), images)


class Pyramid(nn.Module):
    """Strides, dilation, asymmetric padding, pooling, branches of different depth, slices, transposed axes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 2, (5, 3), stride=(2, 1), padding=(2, 0), bias=False)
        self.b = nn.Conv2d(2, 2, 3, padding=2, dilation=2, bias=False)
        self.c = nn.Conv2d(4, 3, 3, stride=2, padding=1, bias=False)
        self.d = nn.Conv2d(3, 3, 1, bias=False)
        self.out = nn.Linear(3, 2)
        for p in self.parameters():
            p.data.abs_()

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 0, 3, 2))
        a = F.relu(self.a(x))
        b = F.relu(self.b(a))
        c = F.relu(self.c(F.avg_pool2d(torch.cat([a, b], 1), 3, 2, 1)))
        c = F.relu(self.d(c[:, :, 1:, ::2]).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out(c.mean((2, 3)))


def test_receptive_fields_are_the_support_of_the_gradient() -> None:
    """With positive weights and images nothing cancels, so the gradient's support is the field exactly."""
    from interpnet.engine import Instrument, instrument

    model = Pyramid().double()
    x = torch.rand(1, 1, 41, 37, dtype=torch.float64) + 0.1
    trace = find_sites(model, x)
    checked = 0
    for site in trace.select("default"):
        kept: list[Tensor] = []
        v = x.clone().requires_grad_()
        with instrument(model, Instrument(edits={site.name: lambda out, k=kept: k.append(out) or out})):
            model(v)
        for position in [(0, 0), (3, 2), tuple(s - 1 for s in site.map_shape), tuple(s // 2 for s in site.map_shape)]:
            if any(p >= s for p, s in zip(position, site.map_shape, strict=True)):
                continue
            at = [slice(None), *position] if site.axis == 3 else [slice(None), slice(None), *position]
            at = [0, *at[1:]] if site.axis == 1 else [0, *position]
            value = kept[0][tuple(at)].sum()
            (gradient,) = torch.autograd.grad(value, v, retain_graph=True)
            rows, columns = gradient[0, 0].nonzero(as_tuple=True)
            place = window(site, position, (41, 37))
            if place is None:
                continue
            clipped = [(max(lo, 0), min(hi, n)) for (lo, hi), n in zip(place, (41, 37), strict=True)]
            if not len(rows):  # this position sees nothing but padding
                assert any(hi <= lo for lo, hi in clipped)
                continue
            assert clipped == [(int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1)], (
                site.name,
                position,
            )
            checked += 1
    assert checked >= 10


def test_resnet_receptive_fields_known_from_the_literature() -> None:
    import torchvision

    trace = find_sites(torchvision.models.resnet18(weights=None), torch.randn(1, 3, 224, 224))
    fields = {}
    for site in trace.select("default"):
        _, f = site.fields[0] or (0, None)
        fields[site.name] = (int(f.hi - f.lo) + 1, int(f.jump))
    assert fields["relu"] == (7, 2)
    assert fields["layer1.1.relu:1"] == (43, 4)
    assert fields["layer4.1.relu:1"] == (435, 32)


def test_weights_given_by_name_are_weights() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.linear(x, weight=self.first.weight, bias=self.first.bias)
            return self.last(x.clamp(min=0))

    (site,) = find_sites(Named(), torch.randn(2, 3)).select()
    assert (site.axis, site.channels, site.family) == (1, 4, "linear")
