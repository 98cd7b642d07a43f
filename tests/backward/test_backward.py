"""Backward rules against explicit float64 references on small layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches
from torch import Tensor, nn

from interpnet.backward import backward_rules, check_overridden
from interpnet.backward._polyphase import nearest, prepare
from interpnet.backward._rules import RECTIFIER_RULES
from interpnet.engine import Call, Convolution, Instrument, evaluating, instrument
from interpnet.errors import InterpNetError, ModelError


def pull(model: nn.Module, x: Tensor, seed: Tensor, **rules: object) -> Tensor:
    x = x.detach().clone().requires_grad_()
    with backward_rules(model.eval(), **rules) as report:
        y = model(x.clone())
    check_overridden(report, y)
    return torch.autograd.grad(y, x, seed)[0]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: torch.relu_(x.clone()),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "relu6": F.relu6,
    "hardtanh06": lambda x: F.hardtanh(x, 0, 6),
    "clamp06": lambda x: x.clamp(0, 6),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
}


class Activation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.name](x)


def derivative(name: str, z: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """Central differences: independent of any autograd formula."""
    f = ACTIVATIONS[name]
    up = f(torch.from_numpy(z + h))
    down = f(torch.from_numpy(z - h))
    return ((up - down) / (2 * h)).numpy()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("rule", RECTIFIER_RULES)
def test_rectifier_rules_by_their_formula(name: str, rule: str) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 40)) * 4
    R = rng.normal(size=(2, 40))
    slope = derivative(name, z)
    expected = {
        "gradient": R * slope,
        "deconvnet": R * (R > 0),
        "guided": R * slope * (z > 0) * (R > 0),
    }[rule]
    got = pull(Activation(name), torch.from_numpy(z), torch.from_numpy(R), rectifier=rule)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-7, atol=1e-7)


def test_rectifiers_by_hand() -> None:
    z = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    R = torch.tensor([[1.0, 2.0, -3.0, -4.0]])
    assert pull(nn.ReLU(), z, R, rectifier="gradient").tolist() == [[0, 2, 0, -4]]
    assert pull(nn.ReLU(), z, R, rectifier="deconvnet").tolist() == [[1, 2, 0, 0]]
    assert pull(nn.ReLU(), z, R, rectifier="guided").tolist() == [[0, 2, 0, 0]]


def reference_transpose(
    signal: np.ndarray,
    weight: np.ndarray,
    size: tuple[int, int],
    pad: tuple[tuple[int, int], ...],
    dilation: tuple[int, int],
    groups: int,
) -> np.ndarray:
    """docs/method.md, section 5, written out: resample by nearest neighbour, scatter every value through the kernel."""
    B, _, d0, d1 = signal.shape
    out_c, in_g, k0, k1 = weight.shape
    hat = [D + a + b - dl * (k - 1) for D, (a, b), dl, k in zip(size, pad, dilation, (k0, k1), strict=True)]
    full = np.zeros((B, in_g * groups, size[0] + sum(pad[0]), size[1] + sum(pad[1])))
    for i, j in itertools.product(range(hat[0]), range(hat[1])):
        value = signal[:, :, i * d0 // hat[0], j * d1 // hat[1]]
        for u, v in itertools.product(range(k0), range(k1)):
            for o in range(out_c):
                g = o // (out_c // groups)
                full[:, g * in_g : (g + 1) * in_g, i + u * dilation[0], j + v * dilation[1]] += (
                    value[:, o, None] * weight[o, :, u, v]
                )
    return full[:, :, pad[0][0] : pad[0][0] + size[0], pad[1][0] : pad[1][0] + size[1]]


CASES = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (5, 3), "stride": (3, 2), "padding": (0, 1)},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 4, "stride": 3, "padding": 2, "groups": 2},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "stride": (1, 2), "padding": "valid"},
    {"kernel_size": 3, "stride": 2, "padding": 1, "padding_mode": "circular"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resampled_convolution_against_the_written_out_rule(case: dict[str, object]) -> None:
    conv = nn.Conv2d(4, 6, **case).double()
    x = torch.randn(2, 4, 13, 10, dtype=torch.float64)
    R = torch.randn_like(conv(x))
    padding = conv.padding if conv.padding != "valid" else (0, 0)
    pad = tuple((p, p) for p in padding)
    size = (13, 10)
    if conv.padding_mode == "circular":  # the padding is an operator of its own there
        pad = ((0, 0), (0, 0))
        size = (15, 12)
    expected = reference_transpose(R.numpy(), conv.weight.detach().numpy(), size, pad, conv.dilation, conv.groups)
    if conv.padding_mode == "circular":
        wrapped = np.zeros((2, 4, 13, 10))
        for i, j in itertools.product(range(15), range(12)):
            wrapped[:, :, (i - 1) % 13, (j - 1) % 10] += expected[:, :, i, j]
        expected = wrapped
    np.testing.assert_allclose(pull(conv, x, R, resample=True).numpy(), expected, rtol=1e-10, atol=1e-10)


def test_paper_example_sizes() -> None:
    signal = torch.randn(1, 2, 54, 54).double()
    weight = torch.randn(2, 3, 11, 11).double()
    how = Convolution((4, 4), ((0, 0), (0, 0)), (1, 1), 1)
    out = prepare(weight, (54, 54), (224, 224), how)(signal)
    assert out.shape == (1, 3, 224, 224)
    direct = F.conv_transpose2d(nearest(signal, (214, 214)), weight)
    torch.testing.assert_close(out, direct)


def test_nearest_is_torchs_nearest() -> None:
    x = torch.randn(2, 3, 7, 5)
    torch.testing.assert_close(nearest(x, (19, 11)), F.interpolate(x, (19, 11), mode="nearest"), rtol=0, atol=0)


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims](2, 3, 3, stride=2, padding=1).double()
    x = torch.randn(2, 2, *[9] * dims, dtype=torch.float64)
    R = torch.randn_like(conv(x))
    transpose = {1: F.conv_transpose1d, 3: F.conv_transpose3d}[dims]
    expected = transpose(F.interpolate(R, [9] * dims, mode="nearest"), conv.weight, padding=1)
    torch.testing.assert_close(pull(conv, x, R, resample=True), expected)


def test_stride_one_convolution_keeps_its_gradient() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    R = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(pull(conv, x, R, resample=True), F.conv_transpose2d(R, conv.weight, padding=1))


class Slices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, 1::3]


def test_strided_slices_are_resampled() -> None:
    x = torch.randn(1, 2, 7, 9)
    R = torch.randn(1, 2, 4, 3)
    got = pull(Slices(), x, R, resample=True)
    expected = torch.zeros(1, 2, 7, 9)
    expected[:, :, :, 1:] = F.interpolate(R, (7, 8), mode="nearest")
    torch.testing.assert_close(got, expected)
    assert (pull(Slices(), x, R, resample=False)[:, :, 1::2] == 0).all()


@pytest.mark.parametrize(
    "cut", [lambda x: x[:, :, 1:], lambda x: x[:, :, :, ::1], lambda x: x[::2, :, ::2], lambda x: x[:, ::2, ::2]]
)
def test_slices_without_steps_or_over_images_and_channels_keep_their_gradient(
    cut: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Cut(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return cut(x)

    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    net = Cut()
    with backward_rules(net, resample=True) as report:
        assert torch.autograd.gradcheck(lambda v: net(v.clone()), x)
    assert report.resampled == 0


def test_a_network_may_go_on_with_the_tensor_that_it_rectified_in_place() -> None:
    class Dropped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = 1.0 * x
            F.relu_(x)
            return x

    x = torch.tensor([[-1.0, 2.0, 3.0]], requires_grad=True)
    signal = torch.tensor([[5.0, -7.0, 4.0]])
    net = Dropped()
    with backward_rules(net, rectifier="guided"):
        (got,) = torch.autograd.grad(net(x), x, signal)
    assert got.tolist() == [[0.0, 0.0, 4.0]]


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
def test_other_layers_keep_their_gradient(layer: nn.Module) -> None:
    """Pooling (with its switches) and norms: the rule is the gradient, which gradcheck confirms."""
    layer = layer.double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    with backward_rules(layer, rectifier="guided", resample=True):
        assert torch.autograd.gradcheck(lambda v: layer(v.clone()), x)


def test_branches_gate_and_sums_under_the_gradient_rule_are_the_gradient() -> None:
    model = Branches().double().eval()
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    R = torch.randn(2, 3, dtype=torch.float64)
    x2 = x.clone().requires_grad_()
    expected = torch.autograd.grad(model(x2), x2, R)[0]
    torch.testing.assert_close(pull(model, x, R, rectifier="gradient", resample=False), expected)
    for rule in ("guided", "deconvnet"):
        assert not torch.allclose(pull(model, x, R, rectifier=rule, resample=False), expected)


def test_two_layer_network_as_matrices() -> None:
    """Guided and DeconvNet through linear-ReLU-linear-ReLU, as explicit matrix products."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(5, 4))
    B = rng.normal(size=(3, 5))
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.ReLU()).double()
    model[0].weight.data = torch.from_numpy(A)
    model[2].weight.data = torch.from_numpy(B)
    x = rng.normal(size=(6, 4))
    R = rng.normal(size=(6, 3))
    z1 = x @ A.T
    z2 = np.maximum(z1, 0) @ B.T
    for rule in ("guided", "deconvnet"):
        m2, m1 = ((z2 > 0), (z1 > 0)) if rule == "guided" else (1, 1)
        r = (R * (R > 0) * m2) @ B
        expected = (r * (r > 0) * m1) @ A
        got = pull(model, torch.from_numpy(x), torch.from_numpy(R), rectifier=rule)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


class CustomReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * (x > 0)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0]


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return CustomReLU.apply(x)


@pytest.mark.parametrize("module", [Custom()])
def test_a_rectifier_that_escapes_is_an_error(module: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), module)
    with pytest.raises(ModelError, match="would be plain gradients"):
        pull(model, torch.randn(2, 3), torch.ones(2, 3), rectifier="guided")
    assert pull(model, torch.randn(2, 3), torch.ones(2, 3), rectifier="gradient").shape == (2, 3)


class Unrecorded(nn.Module):
    """Its ReLU leaves no node in the autograd graph: the gradient passes as if it were not there."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        with torch.no_grad():
            y.relu_()
        return y


def test_a_rectifier_that_leaves_no_trace_in_the_graph_is_counted_and_named() -> None:
    model = Unrecorded()
    x = torch.randn(2, 3, requires_grad=True)
    with backward_rules(model, rectifier="guided") as report:
        y = model(x)
    assert (report.seen, report.overridden) == (1, 0)
    with pytest.raises(
        ModelError, match=r"1 rectifiers were seen and 0 put under the rule 'guided': \['relu'\] escaped"
    ):
        check_overridden(report, y)
    assert report.left == []


def test_a_rectifier_under_another_rule_is_counted_and_named() -> None:
    """The innermost rule has the last word; one that spells a ReLU by products leaves nothing to find in the graph."""

    def by_products(call: Call) -> Tensor | None:
        x = call.args[0]
        return x * (x > 0) if call.name == "1" else None

    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU())
    x = torch.randn(2, 3, requires_grad=True)
    with evaluating(model, frozen=True), backward_rules(model, rectifier="deconvnet") as report:
        with instrument(model, Instrument(rule=by_products)):
            y = model(x)
        with pytest.raises(ModelError, match=r"2 rectifiers were seen and 0 .* \['1', '2', 'Relu'\] escaped it"):
            check_overridden(report, y)


def test_a_prelu_out_of_reach_is_found_in_the_graph() -> None:
    class Disabled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                return F.prelu(x, torch.full((1,), 0.25))

    with pytest.raises(ModelError, match=r"0 rectifiers were seen and 0 .* \['PreluKernel'\] escaped it"):
        pull(Disabled(), torch.randn(2, 3), torch.ones(2, 3), rectifier="guided")


@pytest.mark.parametrize("rule", RECTIFIER_RULES)
def test_an_input_given_by_name_is_the_same_input(rule: str) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(input=F.gelu(input=2 * x), inplace=True)

    class Usual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.gelu(2 * x))

    x = torch.randn(2, 3)
    R = torch.randn(2, 3)
    torch.testing.assert_close(pull(Named(), x, R, rectifier=rule), pull(Usual(), x, R, rectifier=rule))


def test_unknown_rule_is_named() -> None:
    with (
        pytest.raises(InterpNetError, match="rectifier is 'relu'; expected 'gradient' or 'deconvnet' or 'guided'"),
        backward_rules(nn.ReLU(), rectifier="relu"),
    ):
        pass
