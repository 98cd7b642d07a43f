"""Conditional relevance: signals from channels under LRP's rules, by hand and against independent float64 code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers.lrp import METHODS, Residual
from helpers.networks import SPELLINGS, Branches, Spelled, images
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.engine import Channel, find_sites
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import Unit, channel_heatmap, channel_signal


def total(signals: Tensor) -> Tensor:
    """Return the sums (B, k) of signals (B, k, C, ...)."""
    return signals.flatten(2).sum(2)


@pytest.mark.parametrize("method", METHODS)
def test_from_an_output_unit_relevance_is_that_of_the_attribution_method(method: str) -> None:
    net = Residual()
    x = images(2, 2, 8, 8)
    expected = attribute_full(net, x, [3, 1], method).raw
    alone = channel_signal(net, x, [Unit(3), Unit(1)], rule=method)
    torch.testing.assert_close(alone.signals[:, 0], expected, rtol=1e-10, atol=1e-12)
    # Of several signals the later ones use what the first one computed.
    several = channel_signal(net, x, [[Unit(0), Unit(3), Unit(2)], [Unit(0), Unit(1), Unit(2)]], rule=method)
    torch.testing.assert_close(several.signals[:, 1], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resample", [False, True])
def test_what_the_image_does_not_get_is_what_the_layers_kept(method: str, resample: bool) -> None:
    torch.manual_seed(0)
    net = Branches().double().eval()
    x = images(2, 2, 12, 12)
    picks = [[Channel("relu:3", 0), Channel("relu", 1)], [Channel("relu:3", 2)]]
    found = channel_signal(net, x, picks, rule=method, resample=resample)
    maps: dict[str, Tensor] = {}
    h = torch.cat([F.relu(net.a(x)), F.relu(net.b(x))], 1)
    maps["relu"] = h[:, :4]
    h = F.max_pool2d(h, 2)
    gate = torch.sigmoid(net.excite(F.relu(net.squeeze(F.adaptive_avg_pool2d(h, 1)))))
    maps["relu:3"] = F.relu(net.c(F.avg_pool2d(h * gate, 2)))
    started = torch.zeros(2, 2, dtype=torch.float64)
    for i, row in enumerate(picks):
        for j, start in enumerate(row):
            started[i, j] = maps[start.layer][i, start.index].sum().detach()
    assert found.absorbed is not None
    torch.testing.assert_close(total(found.signals) + found.absorbed, started, rtol=1e-9, atol=1e-9)
    assert float(started.abs().min(1).values[0]) > 0
    assert found.report.resampled == int(resample)


def two_layers() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 2, (1, 2), bias=False), nn.ReLU(), nn.Conv2d(2, 1, (1, 2), bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(1, 2),
    )  # fmt: skip
    net = net.double().eval()
    net[0].weight.data = torch.tensor([[1.0, 1.0], [2.0, -1.0]]).double().view(2, 1, 1, 2)
    net[2].weight.data = torch.tensor([[2.0, -1.0], [1.0, 2.0]]).double().view(1, 2, 1, 2)
    return net


def test_flat_and_z_plus_by_hand() -> None:
    """Maps (3, 5) and (0, 1); above them 2*3 - 5 + 0 + 2*1 = 3, of which 6 and 2 parts of 8 speak for it.

    The two pixels of the first map's first position get half of 3 * 6/8 each, those of the other's second of 3 * 2/8.
    """
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]]).double()
    found = channel_signal(two_layers(), x, Channel("3", 0), rule="lrp_epsilon_plus_flat")
    expected = torch.tensor([1.125, 1.5, 0.375]).double()
    torch.testing.assert_close(found.signals.flatten(), expected, rtol=1e-6, atol=0)
    # A channel of the first layer sends its map (3, 5) to its two pixels each, half and half.
    found = channel_signal(two_layers(), x, Channel("1", 0), rule="lrp_epsilon_plus_flat")
    torch.testing.assert_close(found.signals.flatten(), torch.tensor([1.5, 4.0, 2.5]).double(), rtol=1e-6, atol=0)
    # LRP-0 shares by contributions of either sign, 6 - 5 + 0 + 2, and 3 = 1 + 2, 5 = 2 + 3, 1 = 4 - 3 below.
    found = channel_signal(two_layers(), x, Channel("3", 0), rule="lrp_0")
    torch.testing.assert_close(found.signals.flatten(), torch.tensor([2.0, 10.0, -9.0]).double())


def by_zennit(net: nn.Sequential, x: Tensor, index: int, composite: str) -> Tensor:
    """Return what zennit's own hooks send down from one channel of a stack of layers, masked at its end."""
    composites = pytest.importorskip("zennit.composites").COMPOSITES

    x = x.clone().requires_grad_()
    with composites[composite]().context(net) as changed:
        y = changed(x)
        mask = torch.zeros_like(y)
        mask[:, index] = y[:, index].detach()
        return torch.autograd.grad(y, x, mask)[0]


@pytest.mark.parametrize(
    ("rule", "composite"), [("lrp_epsilon_plus_flat", "epsilon_plus_flat"), ("lrp_alpha2beta1", "epsilon_alpha2_beta1")]
)
def test_from_a_hidden_channel_as_zennit_sends_it_from_a_masked_map(rule: str, composite: str) -> None:
    torch.manual_seed(3)
    convolutions = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2))
    stack = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))
    stack = stack.double().eval().requires_grad_(False)
    x = images(2, 3, 9, 9)
    for layer, depth in (("3", 4), ("7", 8)):
        index = int(stack[:depth](x)[..., None].flatten(2).sum((0, 2)).argmax())
        got = channel_signal(stack, x, Channel(layer, index), rule=rule).signals[:, 0]
        assert float(got.abs().max()) > 0
        torch.testing.assert_close(got, by_zennit(stack[:depth], x, index, composite), rtol=1e-9, atol=1e-12)


def test_resampled_relevance_goes_through_the_convolution_of_stride_one() -> None:
    """A strided layer of 5 positions per side of 10: every value becomes four quarters, then z-plus at stride 1."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
    net = nn.Sequential(*net, nn.Flatten(), nn.Linear(100, 2)).double().eval()
    x = images(2, 2, 10, 10)
    h = net[1](net[0](x)).detach()
    R = torch.zeros(2, 4, 5, 5).double()
    R[:, 1] = net[:4](x)[:, 1].detach()
    spread = R.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    w = net[2].weight.detach().clamp(min=0)
    z = F.conv2d(h, w, net[2].bias.detach().clamp(min=0), padding=1) + 1e-6
    below = h * F.conv_transpose2d(spread / z, w, padding=1)
    # Flat at the image: a kernel of one position shares equally between the two colours.
    expected = below.sum(1, keepdim=True).expand_as(x) / 2
    found = channel_signal(net, x, Channel("3", 1), rule="lrp_epsilon_plus_flat", resample=True)
    torch.testing.assert_close(found.signals[:, 0], expected, rtol=1e-5, atol=1e-9)
    plain = channel_signal(net, x, Channel("3", 1), rule="lrp_epsilon_plus_flat")
    assert plain.report.resampled == 0
    assert not torch.allclose(plain.signals, found.signals)


def test_a_strided_slice_is_resampled_as_a_convolution_of_one_position() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))[:, :, ::2, 1::3].flatten(1)

    torch.manual_seed(0)
    net = Sliced().double().eval()
    net.conv.weight.data.abs_()
    net.conv.bias.data.fill_(0.5)
    x = images(1, 1, 4, 7).abs()
    found = channel_signal(net, x, Unit(0), rule="lrp_epsilon_plus_flat", resample=True)
    # The one value of the output goes to the 2 x 3 positions that it stands for: rows 0 and 1, columns 1 to 3.
    value = net(x)[0, 0].detach()
    expected = torch.zeros(4, 7).double()
    expected[:2, 1:4] = value / 6
    torch.testing.assert_close(found.signals[0, 0, 0], expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("rule", ["lrp_epsilon_plus_flat", "lrp_gamma"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spelling_of_a_network_does_not_matter(spelling: str, rule: str, resample: bool) -> None:
    x = images(3, 3, 12, 10).float()
    signals = []
    for net in (Spelled("module"), Spelled(spelling)):
        names = [s.name for s in find_sites(net, x).select("default")]
        picks = [[Channel(names[i], 2), Channel(names[3], i), Channel(names[1], 0)] for i in range(3)]
        result = channel_signal(net, x, picks, rule=rule, resample=resample)
        assert (result.report.seen, result.report.overridden) == (4, 4)
        signals.append(result.signals)
    assert float(signals[0].abs().flatten(2).sum(2).min(0).values.max()) > 0
    torch.testing.assert_close(signals[0], signals[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_number_of_axes(axes: int) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(0)
    net = nn.Sequential(kind(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 3**axes, 2)).double().eval()
    x = images(2, 2, *[7] * axes)
    maps = net[:2](x).detach()
    for rule in ("lrp_epsilon_plus_flat", "lrp_zbox"):
        for resample in (False, True):
            found = channel_signal(net, x, Channel("1", 1), rule=rule, resample=resample)
            assert found.signals.shape == (2, 1, *x.shape[1:])
            started = maps[:, 1].flatten(1).sum(1)
            torch.testing.assert_close(total(found.signals)[:, 0] + found.absorbed[:, 0], started)
    assert channel_heatmap(net, x[:1], Channel("1", 0), rule="lrp_gamma").shape == (1, *[7] * axes)


def test_formats_and_batches_do_not_matter(device: str) -> None:
    net = Spelled("inplace").to(device)
    x = images(3, 3, 12, 10).float().to(device)
    together = channel_signal(net, x, Channel("r3", 2), rule="lrp_epsilon_plus_flat").signals
    alone = channel_signal(net, x[1:2], Channel("r3", 2), rule="lrp_epsilon_plus_flat").signals
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-6)
    last = x.contiguous(memory_format=torch.channels_last)
    again = channel_signal(net, last, Channel("r3", 2), rule="lrp_epsilon_plus_flat").signals
    torch.testing.assert_close(together, again, rtol=1e-4, atol=1e-6)
    assert again.device.type == device


@pytest.mark.parametrize("name", ["lp pool", "custom function"])
def test_an_operator_without_a_rule_is_refused_on_the_way_and_not_behind_it(name: str) -> None:
    f, match = refused.REFUSED[name]
    torch.manual_seed(0)
    net = refused.after_linear(f)
    x = images(2, 1, 1, 4)
    with pytest.raises(ModelError, match=match) as caught:
        channel_signal(net, x, Unit(0), rule="lrp_epsilon")
    assert str(caught.value).startswith("rule='lrp_epsilon' cannot be right on this network")
    behind = channel_signal(net, x, Channel("fc", 1), rule="lrp_epsilon")
    torch.testing.assert_close(total(behind.signals)[:, 0] + behind.absorbed[:, 0], net.fc(x.flatten(1))[:, 1].detach())


def test_bad_choices_of_a_rule_are_one_line() -> None:
    net = Residual()
    x = images(1, 2, 8, 8)
    start = Channel("relu", 0)
    with pytest.raises(InterpNetError, match=r"rule is 'lrp'; expected 'gradient' or .* 'lrp_zbox' or 'deep_taylor'"):
        channel_signal(net, x, start, rule="lrp")
    with pytest.raises(InterpNetError, match="rule='guided' and rectifier='gradient' both came"):
        channel_heatmap(net, x, start, rule="guided", rectifier="gradient")
    with pytest.raises(InterpNetError, match="resample_pool=True came with rule='lrp_0'; LRP has a rule of its own"):
        channel_heatmap(net, x, start, rule="lrp_0", resample_pool=True)
    first = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)).double()
    with pytest.raises(ModelError, match="rule='lrp_zbox' needs a convolution or linear map that reads the image"):
        channel_heatmap(first, x, Channel("2", 0), rule="lrp_zbox")
