"""Backward rules of convolutions, BatchNorm and pooling as explicit matrices, and what a pass keeps in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches, Spelled
from torch import Tensor, nn

from interpnet.backward import backward_rules, check_overridden
from interpnet.engine import evaluating


def pull(model: nn.Module, x: Tensor, seed: Tensor, **rules: object) -> Tensor:
    """Send ``seed`` down a frozen model."""
    x = x.detach().clone().requires_grad_()
    with evaluating(model, frozen=True):
        with backward_rules(model, **rules) as report:
            y = model(x.clone())
        check_overridden(report, y)
        return torch.autograd.grad(y, x, seed)[0]


def matrix(f: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrix of a linear map, column by column from unit vectors: no autograd."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    columns = []
    for i in range(zero.numel()):
        unit = zero.clone()
        unit.view(-1)[i] = 1.0
        columns.append(f(unit).reshape(-1).numpy())
    return np.stack(columns, 1)


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "same", "dilation": 2, "groups": 2},
    {"kernel_size": (3, 1), "stride": (1, 2), "padding": (2, 1), "groups": 4},
    {"kernel_size": 1, "stride": 2, "padding": 1},
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch says that it pads unevenly
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("norm", [False, True])
def test_convolution_and_norm_are_their_transposed_matrix(case: dict[str, object], norm: bool) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, **case), nn.BatchNorm2d(4) if norm else nn.Identity()).double().eval()
    if norm:
        bn = model[1]
        bn.running_var.uniform_(0.5, 2.0)
        bn.running_mean.normal_()
        bn.weight.data.normal_()
    x = torch.randn(1, 4, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        y = model(x)
        zero = model(torch.zeros_like(x))
        A = matrix(lambda v: model(v) - zero, (4, 6, 5))
    R = torch.randn_like(y)
    got = pull(model, x, R, resample=False)
    np.testing.assert_allclose(got.numpy().reshape(-1), A.T @ R.numpy().reshape(-1), rtol=1e-10, atol=1e-12)


def test_norm_without_a_convolution_and_signals_that_start_at_the_convolution() -> None:
    """The step that joins a convolution with its BatchNorm leaves the convolution's own output alone."""
    conv = nn.Conv2d(2, 3, 3, bias=False).double()
    bn = nn.BatchNorm2d(3).double().eval()
    bn.running_var.uniform_(0.5, 2.0)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv
            self.bn = bn

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = self.bn(y)
            return torch.cat([y, z, self.bn(z)], 1)  # the second call has no convolution before it

    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    y = Both().eval()(leaf)
    R = torch.randn_like(y)
    expected = torch.autograd.grad(y, leaf, R)[0]
    torch.testing.assert_close(pull(Both(), x, R, rectifier="gradient", resample=False), expected)


class Between(nn.Module):
    """Something overwrites the convolution's output before the norm sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        torch.relu_(y)
        return self.bn(y)


class Views(nn.Module):
    """Rectifiers that overwrite views: of a chunk, of a channel, and of a whole tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        F.relu(y[:, :2], inplace=True)
        torch.relu_(y[:, 3])
        z = y.view(y.shape)
        F.relu(z, inplace=True)
        return y


@pytest.mark.parametrize("build", [Between, Views])
@pytest.mark.parametrize("rule", ["gradient", "guided", "deconvnet"])
def test_overwriting_rectifiers_keep_their_meaning(build: type[nn.Module], rule: str) -> None:
    torch.manual_seed(3)
    model = build().double().eval()
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        a = model.conv(x)
        expected_value = model(x.clone())
    R = torch.randn_like(expected_value)
    leaf = x.clone().requires_grad_()
    with evaluating(model, frozen=True), backward_rules(model, rectifier=rule) as report:
        y = model(leaf.clone())
    torch.testing.assert_close(y, expected_value)
    (got,) = torch.autograd.grad(y, leaf, R)
    scale = model.bn.weight / (model.bn.running_var + model.bn.eps).sqrt() if build is Between else torch.ones(1)
    r = R * scale.detach().double().view(1, -1, 1, 1)
    mask = {"gradient": a > 0, "deconvnet": r > 0, "guided": (a > 0) & (r > 0)}[rule]
    torch.testing.assert_close(got, F.conv_transpose2d(r * mask, model.conv.weight.detach()))
    assert report.seen == report.overridden == (1 if build is Between else 3)


def test_a_trained_weight_keeps_its_gradient() -> None:
    conv = nn.Conv2d(2, 3, 3)
    with backward_rules(conv, resample=True):
        conv(torch.randn(1, 2, 5, 5, requires_grad=True)).sum().backward()
    assert conv.weight.grad is not None


def saved_bytes(model: nn.Module, x: Tensor, rule: str | None) -> int:
    """Count what autograd keeps of one forward pass, each tensor once, without the weights."""
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def pack(t: Tensor) -> Tensor:
        if t.data_ptr() not in weights:
            kept[t.data_ptr()] = t.numel() * t.element_size()
        return t

    with evaluating(model, frozen=True), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        leaf = x.clone().requires_grad_()
        if rule is None:
            y = model(leaf.clone())
        else:
            with backward_rules(model, rectifier=rule):
                y = model(leaf.clone())
    assert y.requires_grad
    return sum(kept.values())


def test_a_pass_under_rules_keeps_masks_not_activations() -> None:
    layers = [m for _ in range(4) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(2, 8, 32, 32)
    masks = 4 * x.numel()  # a byte a position of each rectifier
    assert saved_bytes(model, x, "guided") < masks + 5_000
    assert saved_bytes(model, x, "deconvnet") < 5_000
    assert saved_bytes(model, x, None) > 6 * masks


# Pooling


def windows(D: int, k: int, s: int, p: int, d: int, ceil: bool) -> list[list[int]]:
    """Return the input positions of each window along an axis, padding left out."""
    over = D + 2 * p - d * (k - 1) - 1
    count = (-(-over // s) if ceil else over // s) + 1
    if ceil and (count - 1) * s >= D + p:
        count -= 1
    return [[i * s - p + v * d for v in range(k) if 0 <= i * s - p + v * d < D] for i in range(count)]


def pooled_signal(z: np.ndarray, R: np.ndarray, rows: list, columns: list, weight: Callable | None) -> np.ndarray:
    """Send R, one value a stride-1 window, to the window's maximum or, with ``weight``, evenly to its positions."""
    out = np.zeros_like(z)
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
        if weight is not None:
            out[np.ix_(r, c)] += R[i, j] / weight(r, c)
        else:
            at = np.unravel_index(np.argmax(z[np.ix_(r, c)]), (len(r), len(c)))
            out[r[at[0]], c[at[1]]] += R[i, j]
    return out


POOLS = [
    (nn.MaxPool2d(2), (2, 2, 0, 1)),
    (nn.MaxPool2d(3, 2, 1), (3, 2, 1, 1)),
    (nn.MaxPool2d(3, 2, ceil_mode=True), (3, 2, 0, 1)),
    (nn.MaxPool2d(2, 3, dilation=2), (2, 3, 0, 2)),
    (nn.AvgPool2d(2), (2, 2, 0, 1)),
    (nn.AvgPool2d(3, 2, 1), (3, 2, 1, 1)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (3, 2, 1, 1)),
    (nn.AvgPool2d(3, 2, 1, divisor_override=5), (3, 2, 1, 1)),
    (nn.AdaptiveAvgPool2d((4, 5)), (2, 2, 0, 1)),
    (nn.AdaptiveMaxPool2d((4, 5)), (2, 2, 0, 1)),
]


@pytest.mark.parametrize(("layer", "geometry"), POOLS, ids=str)
def test_resampled_pooling_against_the_written_out_rule(layer: nn.Module, geometry: tuple[int, ...]) -> None:
    k, s, p, d = geometry
    x = torch.randn(1, 2, 8, 10, dtype=torch.float64)
    y = layer(x)
    ceil = bool(getattr(layer, "ceil_mode", False))
    assert y.shape[2:] == (len(windows(8, k, s, p, d, ceil)), len(windows(10, k, s, p, d, ceil)))
    R = torch.randn_like(y)
    rows = windows(8, k, 1, p, d, False)
    columns = windows(10, k, 1, p, d, False)
    up = F.interpolate(R, (len(rows), len(columns)), mode="nearest").numpy()
    weight = None
    if "Avg" in type(layer).__name__:
        override = getattr(layer, "divisor_override", None)
        inside = getattr(layer, "count_include_pad", True) is False
        weight = (lambda r, c: len(r) * len(c)) if inside else (lambda _r, _c: override or k * k)
    expected = [pooled_signal(x[0, c].numpy(), up[0, c], rows, columns, weight) for c in range(2)]
    got = pull(layer, x, R, resample_pool=True)
    np.testing.assert_allclose(got[0].numpy(), np.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.LPPool2d(2, 2),
        nn.MaxPool2d(9, 2, 4, ceil_mode=True),
    ],
    ids=str,
)
def test_pooling_without_a_grid_keeps_its_gradient(layer: nn.Module) -> None:
    """Stride 1, global and unequal windows, and L_p norms; the option changes nothing there."""
    x = torch.rand(1, 2, 8, 10, dtype=torch.float64) + 0.1
    R = torch.randn_like(layer(x))
    # torch writes L_p pooling with a rectifier inside, which is no site: the rules refuse it.
    got = pull(layer, x, R, resample_pool=True, rectifier="gradient")
    expected = pull(layer, x, R, resample_pool=False, rectifier="gradient")
    if isinstance(layer, nn.MaxPool2d) and layer.kernel_size == 9:
        assert not torch.equal(got, expected)  # d_hat = 8 + 8 - 8 windows are resampled like any other
    else:
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dims", [1, 3])
def test_pooling_in_other_dimensions(dims: int) -> None:
    layer = {1: nn.AvgPool1d, 3: nn.AvgPool3d}[dims](2)
    x = torch.randn(1, 2, *[6] * dims, dtype=torch.float64)
    R = torch.randn_like(layer(x))
    weight = torch.full((2, 1, *[2] * dims), 0.5**dims, dtype=torch.float64)
    transpose = {1: F.conv_transpose1d, 3: F.conv_transpose3d}[dims]
    expected = transpose(F.interpolate(R, [5] * dims, mode="nearest"), weight, groups=2)
    torch.testing.assert_close(pull(layer, x, R, resample_pool=True), expected)


def test_average_pooling_is_a_convolution() -> None:
    """Resampled average pooling is the resampled convolution with equal weights."""
    conv = nn.Conv2d(2, 2, 3, 2, 1, groups=2, bias=False).double()
    conv.weight.data.fill_(1 / 9)
    x = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    R = torch.randn_like(conv(x))
    pooled = pull(nn.AvgPool2d(3, 2, 1), x, R, resample_pool=True, resample=False)
    torch.testing.assert_close(pooled, pull(conv, x, R, resample=True))


def test_the_report_counts_resampled_pooling() -> None:
    model = Branches().eval()
    x = torch.randn(1, 2, 16, 16)
    for option, count in ((False, 1), (True, 3)):  # one strided convolution, a maximum and an average pooling
        with backward_rules(model, resample_pool=option) as report:
            model(x.clone().requires_grad_())
        assert report.resampled == count


@pytest.mark.parametrize("spelling", ["module", "inplace", "functional", "reused"])
def test_the_gradient_rule_is_the_gradient(spelling: str) -> None:
    model = Spelled(spelling).double().eval()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    with evaluating(model, frozen=True), backward_rules(model, rectifier="gradient", resample=False):
        assert torch.autograd.gradcheck(lambda v: model(v.clone()), x)


def test_torchs_own_batch_norm_has_another_order_of_arguments() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)
            for p in (self.bn.weight, self.bn.bias, self.bn.running_mean, self.bn.running_var):
                p.data.uniform_(0.5, 2.0)

        def forward(self, x: Tensor) -> Tensor:
            bn = self.bn
            return torch.batch_norm(x, bn.weight, bn.bias, bn.running_mean, bn.running_var, False, 0.1, bn.eps, False)

    model = Own().double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    R = torch.randn_like(x)
    torch.testing.assert_close(pull(model, x, R), pull(model.bn.eval(), x, R))


@pytest.mark.parametrize("norm", [1.0, 2.0])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("rectifier", ["deconvnet", "guided"])
def test_lp_pooling_keeps_its_gradient_under_a_rule(rectifier: str, n: int, norm: float) -> None:
    """It sends back ``R * x^(p-1) / y^(p-1)`` in each window; torch's own rectifier inside is none of the network's."""
    pool = (nn.LPPool1d, nn.LPPool2d)[n - 1](norm, 2)
    model = nn.Sequential(pool, nn.ReLU()).double()
    x = torch.rand(2, 3, *[6] * n, dtype=torch.float64) + 0.5
    leaf = x.clone().requires_grad_()
    with backward_rules(model, rectifier=rectifier) as report:
        y = model(leaf)
    check_overridden(report, y)
    signal = torch.rand_like(y)
    (got,) = torch.autograd.grad(y, leaf, signal)
    up = lambda t: t.repeat_interleave(2, 2) if n == 1 else t.repeat_interleave(2, 2).repeat_interleave(2, 3)  # noqa: E731
    torch.testing.assert_close(got, up(signal) * (x / up(y.detach())) ** (norm - 1))
