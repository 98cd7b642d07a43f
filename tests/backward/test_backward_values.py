"""Backward rules at the edges: zeros, groups, uneven padding, merged norms, changed maps, poolings' divisors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.backward import backward_rules, check_overridden
from interpnet.backward._polyphase import nearest
from interpnet.errors import ModelError

RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: torch.relu_(x.clone()),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
}


def pull(model: nn.Module, x: Tensor, seed: Tensor, **rules: object) -> Tensor:
    """Return what a signal becomes on its way to the image."""
    model = model.eval().requires_grad_(False)
    x = x.detach().clone().requires_grad_()
    with backward_rules(model, **rules) as report:
        y = model(x.clone())
    check_overridden(report, y)
    return torch.autograd.grad(y, x, seed)[0]


def gradient(model: nn.Module, x: Tensor, seed: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model.eval()(x.clone()), x, seed)[0]


@pytest.mark.parametrize("name", RECTIFIERS)
def test_at_zero_nothing_passes_under_guided_and_all_of_it_under_deconvnet(name: str) -> None:
    """Guided asks for z > 0, and a zero is not; deconvnet asks the signal alone. A signal of zero stays zero."""
    z = torch.tensor([[0.0, -0.0, 1.0, -1.0, 0.0, 2.0]], dtype=torch.float64)
    R = torch.tensor([[3.0, 2.0, 4.0, 5.0, -1.0, 0.0]], dtype=torch.float64)
    guided = pull(Step(RECTIFIERS[name]), z, R, rectifier="guided")
    slope = gradient(Step(RECTIFIERS[name]), z, torch.ones_like(z))
    torch.testing.assert_close(guided, torch.tensor([[0.0, 0.0, 4.0, 0.0, 0.0, 0.0]]).double() * slope)
    deconvnet = pull(Step(RECTIFIERS[name]), z, R, rectifier="deconvnet")
    assert deconvnet.tolist() == [[3.0, 2.0, 4.0, 5.0, 0.0, 0.0]]
    torch.testing.assert_close(pull(Step(RECTIFIERS[name]), z, R, rectifier="gradient"), R * slope)


CONVOLUTIONS = {
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "strided, groups": {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 4},
    "groups alone": {"kernel_size": 3, "padding": 1, "groups": 2},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 1},
    "dilated, strided": {"kernel_size": 3, "dilation": 2, "padding": 3, "stride": 3},
    "unequal": {"kernel_size": (3, 2), "stride": (1, 3), "padding": (2, 0)},
    "same": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "no padding, rest left over": {"kernel_size": 2, "stride": 3},
    "stride beyond the kernel": {"kernel_size": 1, "stride": 3},
}


@pytest.mark.parametrize("channels", [4, 8])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_without_resampling_a_convolution_has_its_gradient(name: str, channels: int) -> None:
    """Both ways back: for few channels of the input, and for many."""
    conv = nn.Conv2d(channels, 8, **CONVOLUTIONS[name]).double()
    x = torch.randn(2, channels, 11, 13, dtype=torch.float64)
    R = torch.randn_like(conv(x))
    torch.testing.assert_close(pull(conv, x, R, resample=False), gradient(conv, x, R))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [(2, 3), (4, 4), (3, 2)])
@pytest.mark.parametrize("dilation", [1, (1, 3)])
def test_uneven_padding_is_cropped_where_it_was_added(kernel: tuple[int, int], dilation: object) -> None:
    conv = nn.Conv2d(6, 5, kernel, padding="same", dilation=dilation).double()
    x = torch.randn(1, 6, 9, 8, dtype=torch.float64)
    R = torch.randn_like(conv(x))
    for resample in (False, True):
        torch.testing.assert_close(pull(conv, x, R, resample=resample), gradient(conv, x, R))


def normed(conv: nn.Module, channels: int, dims: int = 2) -> nn.Sequential:
    """Return a convolution and a batch norm that changes everything."""
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](channels)
    norm.weight.data = torch.randn(channels)
    norm.bias.data = torch.randn(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.01, 2.0)
    norm.eps = 0.1  # so large that leaving it out shows
    return nn.Sequential(conv, norm).double()


@pytest.mark.parametrize("name", ["strided, groups", "groups alone", "unequal", "dilated"])
def test_a_batch_norm_scales_the_signal(name: str) -> None:
    torch.manual_seed(1)
    net = normed(nn.Conv2d(4, 8, **CONVOLUTIONS[name]), 8)
    x = torch.randn(2, 4, 11, 13, dtype=torch.float64)
    R = torch.randn_like(net(x))
    torch.testing.assert_close(pull(net, x, R, resample=False), gradient(net, x, R))
    # Under resampling: the same as the convolution with each output channel's weight times its factor.
    scale = net[1].weight / (net[1].running_var + 0.1).sqrt()
    folded = nn.Conv2d(4, 8, bias=False, **CONVOLUTIONS[name]).double()
    folded.weight.data = net[0].weight.data * scale.view(-1, 1, 1, 1)
    torch.testing.assert_close(pull(net, x, R, resample=True), pull(folded, x, R, resample=True))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_batch_norm_alone_and_behind_other_things_scales_the_signal(dims: int) -> None:
    torch.manual_seed(1)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](3, 3, 1)
    x = torch.randn(2, 3, *[4] * dims, dtype=torch.float64)
    R = torch.randn(2, 3, *[4] * dims, dtype=torch.float64)
    pair = normed(conv, 3, dims)
    for net in (pair[1], pair, nn.Sequential(pair[0], nn.ReLU(), pair[1])):
        torch.testing.assert_close(pull(net, x, R, rectifier="gradient"), gradient(net, x, R))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "product in place": lambda y: y.mul_(2.0),
    "product": lambda y: y * 2.0,
    "rectified in place": torch.relu_,
    "channels zeroed": lambda y: y.index_fill_(1, torch.tensor([1]), 0.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_map_changed_between_convolution_and_norm_is_not_merged(name: str) -> None:
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = normed(nn.Conv2d(2, 3, 3), 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.pair[1](CHANGES[name](self.pair[0](x)))

    torch.manual_seed(1)
    net = Changed().double().eval()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    R = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(pull(net, x, R, rectifier="gradient"), gradient(net, x, R))


POOLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    # A strided pooling, and the same one with stride 1.
    "average": (lambda x: F.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2, 1)),
    "average with padding": (lambda x: F.avg_pool2d(x, 3, 2, 1), lambda x: F.avg_pool2d(x, 3, 1, 1)),
    "average without it": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "average by its module": (
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    ),
    "average with a divisor": (
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        lambda x: F.avg_pool2d(x, 2, 1, divisor_override=3),
    ),
    "maximum": (lambda x: F.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2, 1)),
    "maximum, unequal": (
        lambda x: F.max_pool2d(x, (2, 3), (1, 2), (0, 1), (2, 1)),
        lambda x: F.max_pool2d(x, (2, 3), 1, (0, 1), (2, 1)),
    ),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), lambda x: F.avg_pool2d(x, (2, 4), 1)),
    "adaptive maximum": (lambda x: F.adaptive_max_pool2d(x, (3, 2)), lambda x: F.max_pool2d(x, (2, 4), 1)),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_a_resampled_pooling_has_the_gradient_of_the_same_one_with_stride_one(name: str) -> None:
    pool, dense = POOLINGS[name]
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    R = torch.randn_like(pool(x))
    leaf = x.clone().requires_grad_()
    y = dense(leaf)
    expected = torch.autograd.grad(y, leaf, nearest(R, tuple(y.shape[2:])))[0]
    torch.testing.assert_close(pull(Step(pool), x, R, resample_pool=True), expected)
    torch.testing.assert_close(pull(Step(pool), x, R), gradient(Step(pool), x, R))


@pytest.mark.parametrize(
    "pool", [nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((4, 5)), nn.LPPool2d(2, 2)]
)
def test_poolings_without_a_dense_form_keep_their_gradient(pool: nn.Module) -> None:
    x = torch.rand(2, 3, 6, 8, dtype=torch.float64) + 0.1
    R = torch.randn_like(pool(x))
    # An L_p pooling has a rectifier inside, which guided would ask for.
    torch.testing.assert_close(pull(pool, x, R, rectifier="gradient", resample_pool=True), gradient(pool, x, R))


KEYS = {
    "both axes": (slice(None), slice(None), slice(1, None, 2), slice(None, -1, 3)),
    "one axis": (slice(None), slice(None), slice(None), slice(2, 7, 2)),
    "ellipsis": (..., slice(1, None, 3)),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_strided_slice_is_resampled_over_what_it_spans(key: str) -> None:
    at = KEYS[key]
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    net = Step(lambda x: x[at] * 1.0)
    R = torch.randn_like(x[at])
    dense = tuple(slice(k.start, k.stop) if isinstance(k, slice) else k for k in at)
    expected = torch.zeros_like(x)
    expected[dense] = nearest(R, tuple(x[dense].shape[2:]))
    torch.testing.assert_close(pull(net, x, R, resample=True), expected)
    torch.testing.assert_close(pull(net, x, R, resample=False), gradient(net, x, R))


@pytest.mark.parametrize("key", [(slice(None, None, 2),), (slice(None), slice(None, None, 2)), (slice(None), 0)])
def test_slices_of_images_or_channels_keep_their_gradient(key: tuple[object, ...]) -> None:
    x = torch.randn(4, 4, 5, 5, dtype=torch.float64)
    net = Step(lambda x: x[key] * 1.0)
    R = torch.randn_like(x[key])
    torch.testing.assert_close(pull(net, x, R, resample=True), gradient(net, x, R))


def test_a_rectifier_that_another_rule_took_over_is_missed() -> None:
    """The report counts twice, by code that does not know of each other."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
    x = torch.randn(1, 2, requires_grad=True)
    with backward_rules(net) as report:
        y = net(x)
    assert (report.seen, report.overridden, report.left) == (2, 2, [])
    check_overridden(report, y)
    report.overridden_calls.pop()
    with pytest.raises(ModelError, match=r"2 rectifiers were seen and 1 put under the rule 'guided': \['3'\] escaped"):
        check_overridden(report, y)


@pytest.mark.parametrize(
    ("factor", "size", "expected"),
    [
        (2, 4, [1, 1, 2, 2]),
        (2, 3, [1, 1, 2]),
        (3, 5, [1, 1, 2, 2, 3]),
        (3, 2, [1, 2]),
        (4, 6, [1, 1, 2, 3, 3, 4]),
    ],
)
def test_nearest_neighbours_by_hand(factor: int, size: int, expected: list[int]) -> None:
    signal = torch.arange(1.0, factor + 1).view(1, 1, factor)
    assert nearest(signal, (size,))[0, 0].tolist() == expected


INDICES: dict[str, Any] = {
    "tensor": (slice(None), slice(None), torch.tensor([0, 2, 2])),
    "list": (slice(None), [1, 0]),
    "mask": (slice(None), torch.tensor([True, False, True])),
    "number and steps": (slice(None), slice(None), 1, slice(None, None, 2)),
    "new axis and steps": (slice(None), None, slice(None), slice(None, None, 2)),
}


@pytest.mark.parametrize("key", INDICES)
def test_other_indices_keep_their_gradient(key: str) -> None:
    at = INDICES[key]
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    net = Step(lambda x: x[at] * 1.0)
    R = torch.randn_like(x[at])
    torch.testing.assert_close(pull(net, x, R, resample=True), gradient(net, x, R))


@pytest.mark.parametrize("trained", ["all", "norm", "convolution"])
def test_weights_that_are_trained_get_their_gradient(trained: str) -> None:
    """The rules that keep no activation have none to give: they leave such a layer alone."""
    torch.manual_seed(1)
    net = normed(nn.Conv2d(2, 3, 3), 3).eval()
    for layer, name in ((net[0], "convolution"), (net[1], "norm")):
        layer.requires_grad_(trained in {"all", name})
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    R = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    found = []
    for ruled in (True, False):
        net.zero_grad()
        rules = backward_rules(net, rectifier="gradient", resample=False) if ruled else nullcontext()
        with rules:
            net(x.clone().requires_grad_()).backward(R)
        found.append([p.grad.clone() for p in net.parameters() if p.requires_grad])
    assert found[0]
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_batch_norm_on_its_batch_keeps_its_gradient() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).double()
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    R = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(pull(net, x, R, rectifier="gradient"), gradient(net, x, R))
