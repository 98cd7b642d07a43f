"""LRP: conservation, every spelling of a network, zennit's own hooks and canonisers, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers.lrp import METHODS, Residual
from helpers.networks import SPELLINGS, Branches, Spelled, images, torchvision_network
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.backward._lrp import layers
from interpnet.engine import OneColumn
from interpnet.errors import InterpNetError, ModelError


def gradient_x_input(net: nn.Module, x: Tensor, target: int) -> Tensor:
    x = x.clone().requires_grad_()
    return (torch.autograd.grad(net(x.clone())[:, target].sum(), x)[0] * x).detach()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_lrp_0_is_gradient_x_input_however_the_rectifier_is_spelled(spelling: str) -> None:
    net = Spelled(spelling).double().eval()
    x = images(3, 3, 8, 8)
    torch.testing.assert_close(attribute_full(net, x, 1, "lrp_0").raw, gradient_x_input(net, x, 1))


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11_bn", "densenet121", "googlenet", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_lrp_0_is_gradient_x_input_on_networks_of_rectifiers(name: str) -> None:
    net = torchvision_network(name).double()
    x = images(1, 3, 64, 64)
    expected = gradient_x_input(net, x, 2)
    found = attribute_full(net, x, 2, "lrp_0")
    torch.testing.assert_close(found.raw, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("resnet18", "lrp_gamma"),
        ("densenet121", "lrp_epsilon_plus_flat"),
        ("googlenet", "lrp_epsilon"),
        ("mobilenet_v3_small", "lrp_gamma"),
        ("efficientnet_b0", "lrp_epsilon_plus_flat"),
        ("efficientnet_b0", "lrp_epsilon"),
        ("shufflenet_v2_x0_5", "lrp_gamma"),
    ],
)
def test_what_the_image_does_not_get_is_what_the_layers_kept(name: str, method: str) -> None:
    net = torchvision_network(name).double()
    x = images(2, 3, 64, 64)
    found = attribute_full(net, x, [0, 4], method)
    score = net(x).gather(1, torch.tensor([[0], [4]]))[:, 0].detach()
    torch.testing.assert_close(found.raw.sum((1, 2, 3)) + found.info["absorbed"], score, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ["lrp_alpha1beta0", "lrp_epsilon_plus_flat", "deep_taylor"])
def test_without_the_biases_share_relevance_is_conserved(method: str) -> None:
    net = Spelled("functional").double().eval()
    x = images(3, 3, 8, 8)
    for p in (net.conv1, net.conv2, net.conv3, net.fc1):
        p.weight.data.abs_()  # a negative sum of contributions alone would have nothing to hand on to
    found = attribute_full(net, x, 0, method, zero_bias=True)
    assert float(found.residual.max()) < 1e-3
    assert not bool(found.flagged.any())


def test_deep_taylor_has_one_sign() -> None:
    net = torchvision_network("densenet121")
    x = images(2, 3, 64, 64).float()
    scores = net(x).detach()
    for target in (int(scores[0].argmax()), int(scores[0].argmin())):
        raw = attribute_full(net, x[:1], target, "deep_taylor").raw
        assert float((raw * scores[0, target].sign()).min()) >= 0
        assert float(raw.abs().max()) > 0


# zennit itself: its hooks on modules, its canonisers, where these see everything.


def by_zennit(net: nn.Module, x: Tensor, target: int, composite: str, canoniser: object, **options: object) -> Tensor:
    composites = pytest.importorskip("zennit.composites").COMPOSITES

    x = x.clone().requires_grad_()
    with composites[composite](canonizers=[canoniser], **options).context(net) as changed:
        y = changed(x)
        seed = torch.zeros_like(y)
        seed[:, target] = y[:, target].detach()
        return torch.autograd.grad(y, x, seed)[0]


ZENNIT = {
    "lrp_alpha1beta0": ("epsilon_plus", {}),
    "lrp_alpha2beta1": ("epsilon_alpha2_beta1", {}),
    "lrp_epsilon_plus_flat": ("epsilon_plus_flat", {}),
    "lrp_zbox": ("epsilon_gamma_box", {"low": -6.0, "high": 6.0}),
}


@pytest.mark.parametrize(
    ("name", "method"),
    [*(("resnet18", m) for m in ZENNIT), ("vgg11_bn", "lrp_alpha1beta0"), ("vgg11_bn", "lrp_epsilon_plus_flat")],
)
def test_agrees_with_zennit_where_its_hooks_and_canonisers_see_everything(name: str, method: str) -> None:
    canonisers = pytest.importorskip("zennit.torchvision")

    net = torchvision_network(name).double()
    x = images(1, 3, 64, 64).clamp(-6, 6)
    net.requires_grad_(False)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 0.0  # zennit would leave one of variance 1 + eps behind each layer that it merged
    canoniser = {"resnet18": canonisers.ResNetCanonizer, "vgg11_bn": canonisers.VGGCanonizer}[name]()
    composite, options = ZENNIT[method]
    expected = by_zennit(net, x, 2, composite, canoniser, **options)
    box = {"low": -6.0, "high": 6.0} if options else {}
    got = attribute_full(net, x, 2, method, **box).raw
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def test_a_batch_norm_that_no_convolution_takes_in_is_a_linear_layer_or_passed() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(2, 1, bias=False)).double().eval()
    net[0].weight.data.fill_(2)
    net[0].bias.data.fill_(1)
    net[0].running_var.fill_(1)
    net[0].eps = 0.0
    net[2].weight.data.fill_(1)
    x = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64)  # the norm gives 3, 5
    assert attribute_full(net, x, 0, "lrp_0", output=OneColumn()).raw.flatten().tolist() == [2, 4]
    assert attribute_full(net, x, 0, "lrp_0", norm="pass", output=OneColumn()).raw.flatten().tolist() == [3, 5]


class Gate(nn.Module):
    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        y = (x * self.gate(x)).flatten(1)
        return F.linear(y, torch.ones(1, y.shape[1], dtype=y.dtype))


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda x: torch.sigmoid(F.conv2d(x, torch.full((2, 2, 1, 1), 0.5, dtype=x.dtype))),
    "expanded": lambda x: torch.sigmoid(x.mean((2, 3))).view(-1, 2, 1, 1).expand_as(x),
    "smaller": lambda x: F.softplus(F.adaptive_avg_pool2d(x, 1)),
    "swish": torch.sigmoid,
    "constant": lambda x: torch.arange(8.0, dtype=x.dtype).view(2, 2, 2),
}


@pytest.mark.parametrize("name", GATES)
def test_the_signal_of_a_gated_product_takes_all(name: str) -> None:
    net = Gate(GATES[name]).eval()
    x = images(2, 2, 2, 2)
    torch.testing.assert_close(attribute_full(net, x, 0, "lrp_0", output=OneColumn()).raw, x * GATES[name](x))


def test_squeeze_and_excite_concatenation_and_poolings_conserve() -> None:
    torch.manual_seed(0)
    net = Branches().double().eval()
    x = images(2, 2, 12, 12)
    found = attribute_full(net, x, 0, "lrp_gamma")
    torch.testing.assert_close(found.raw.sum((1, 2, 3)) + found.info["absorbed"], net(x)[:, 0].detach())


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
@pytest.mark.parametrize("method", METHODS)
def test_alone_and_in_a_batch_are_the_same_and_the_model_is_untouched(method: str) -> None:
    net = Spelled("inplace").eval()
    x = images(3, 3, 8, 8).float()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    together = attribute_full(net, x, [0, 1, 2], method).raw
    torch.testing.assert_close(attribute_full(net, x[1:2], 1, method).raw, together[1:2])
    torch.testing.assert_close(attribute_full(net, x, [0, 1, 2], method, max_batch=2).raw, together)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


class Normalising(nn.Module):
    """A network that normalises its images itself, by buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.full((1, 2, 1, 1), 0.4).double()
        self.std = torch.full((1, 2, 1, 1), 0.3).double()
        self.net = Residual()

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)


def test_normalising_inside_the_network_maps_the_normalised_image() -> None:
    net = Normalising().eval()
    x = images(2, 2, 8, 8)
    inner = (x - net.mean) / net.std
    for method in ("lrp_0", "lrp_epsilon_plus_flat", "lrp_zbox", "deep_taylor"):
        torch.testing.assert_close(attribute_full(net, x, 0, method).raw, attribute_full(net.net, inner, 0, method).raw)
    # The user's bounds are those of the images as they come.
    outer = attribute_full(net, x, 0, "lrp_zbox", low=-9.0, high=9.0).raw
    bounds = {"low": (-9.0 - 0.4) / 0.3, "high": (9.0 - 0.4) / 0.3}
    torch.testing.assert_close(outer, attribute_full(net.net, inner, 0, "lrp_zbox", **bounds).raw)


class Rearranged(nn.Module):
    """A linear map of what some steps make of the image."""

    def __init__(self, steps: Callable[[Tensor], Tensor], inputs: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.last = nn.Linear(inputs, 2, bias=False).double()
        self.last.weight.data = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0, -6.0]]).double()[:, :inputs].repeat(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.steps(x))


def test_bounds_of_pixels_move_with_them() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    low = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]], dtype=torch.float64)
    high = torch.tensor([[[[4.0, 3.0], [4.0, 6.0]]]], dtype=torch.float64)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "turned": lambda x: x.transpose(2, 3).flatten(1),
        "taken apart": lambda x: torch.stack(x.flatten(1).unbind(1)[:1], 1).repeat(1, 4),
        "negative": lambda x: (x * torch.tensor([[[[-2.0]]]]).double()).flatten(1),
        "written over": lambda x: x.sub_(torch.ones(1, 1, 1, 1).double()).flatten(1),
        "written over by a number": lambda x: x.sub_(1).flatten(1),
        "parts of it joined": lambda x: torch.cat([x[:, :, 1:], x[:, :, :1]], 2).flatten(1),
        "padded": lambda x: F.pad(x, (0, 1), value=7.0).flatten(1),
    }
    for name, steps in ways.items():
        seen, lows, highs = (steps(v.clone())[0] for v in (x, low, high))
        lows, highs = torch.minimum(lows, highs), torch.maximum(lows, highs)
        net = Rearranged(steps, len(seen)).eval()
        w = net.last.weight[0].detach()
        # Montavon et al. 2017: x w - low w+ - high w-, divided by its sum, times the logit.
        terms = seen * w - lows * w.clamp(min=0) - highs * w.clamp(max=0)
        expected = torch.zeros_like(x)
        places = steps(torch.arange(4.0).double().view(1, 1, 2, 2))[0]
        if name == "negative":
            places = places / -2
        if name.startswith("written over"):
            places = places + 1
        for place, share in zip(places.long().tolist(), terms / terms.sum() * (seen @ w), strict=True):
            if place < 4:  # no pixel gets what is padded
                expected.view(-1)[place] += share
        found = attribute_full(net, x, 0, "lrp_zbox", low=low, high=high).raw
        torch.testing.assert_close(found, expected, msg=lambda text, name=name: f"{name}: {text}")


def test_values_without_known_bounds_are_refused() -> None:
    def first_row_from_outside(x: Tensor) -> Tensor:
        x[:, :, 0] = 0.0
        return x.flatten(1)

    net = Rearranged(first_row_from_outside).eval()
    with pytest.raises(ModelError, match=r"operator 'linear' \(last\) reads values whose bounds do not follow from"):
        attribute_full(net, images(2, 1, 2, 2), 0, "lrp_zbox")


def test_scaling_and_shifting_by_numbers_pass_relevance_on() -> None:
    class Numbers(nn.Module):
        """As googlenet and inception_v3 normalise their images with transform_input=True."""

        def __init__(self) -> None:
            super().__init__()
            self.net = Residual()

        def forward(self, x: Tensor) -> Tensor:
            first = x[:, :1] * 0.5 + 0.2
            second = (x[:, 1:] - 0.1) / 0.25
            first = first.mul_(3.0)
            return -self.net(torch.cat([first, second], 1)) / torch.tensor(2.0).double()

    net = Numbers().eval()
    x = images(2, 2, 8, 8)
    inner = torch.cat([(x[:, :1] * 0.5 + 0.2) * 3, (x[:, 1:] - 0.1) / 0.25], 1)
    got = attribute_full(net, x, 1, "lrp_gamma")
    expected = attribute_full(net.net, inner, 1, "lrp_gamma")
    torch.testing.assert_close(got.raw, expected.raw / -2)
    torch.testing.assert_close(got.residual, expected.residual)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    **refused.REFUSED,
    "number": (lambda v: v + 2, "'add'.*no rule"),
    "zero": (lambda v: v * 0, "'mul'.*no rule"),
    "product of signals": (lambda v: v * v.flip(1), "'mul'.*neither is a gate"),
    "quotient": (lambda v: v / (v.abs() + 1), "'abs'"),
    "bilinear": (lambda v: F.bilinear(v, v, torch.ones(4, 4, 4).double()), "'bilinear'.*weights that depend"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operators_without_a_rule_are_refused_by_name(name: str) -> None:
    f, match = REFUSED[name]
    torch.manual_seed(0)
    net = refused.after_linear(f)
    # Of one image the dynamic weights make one output.
    with pytest.raises(ModelError, match=match):
        attribute_full(net, images(4, 1, 1, 4), 0, "lrp_epsilon", output=OneColumn())
    assert not net.fc._forward_hooks
    assert net.fc.weight.requires_grad


def test_a_merge_that_changes_the_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layers.merged_layer

    def wrong(*args: object) -> object:
        layer = right(*args)
        layer.bias.data += 0.1
        return layer

    monkeypatch.setattr(layers, "merged_layer", wrong)
    with pytest.raises(ModelError, match="merging 'bn1' into the layer before it changes its output"):
        attribute_full(Residual(), images(1, 2, 8, 8), 0, "lrp_0")


def test_first_layer_rules_need_a_layer_that_reads_the_image() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 2)).double().eval()
    for method in ("lrp_zbox", "lrp_epsilon_plus_flat", "deep_taylor"):
        with pytest.raises(ModelError, match="needs a convolution or linear map that reads the image"):
            attribute_full(net, images(1, 1, 2, 2), 0, method)


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("lrp_0", {"norm": "none"}, "norm is 'none'; expected 'linear' or 'pass'"),
        ("lrp_epsilon", {"epsilon": -1.0}, r"epsilon is -1.0; expected a number above 0"),
        ("lrp_gamma", {"gamma": float("nan")}, "gamma is nan; expected a number above 0"),
        ("lrp_zbox", {"low": 0.5}, "outside of these bounds"),
        ("deep_taylor", {"high": [1.0, 2.0, 3.0]}, r"high: shape \(1, 3, 1, 1\) came; expected a number, 2 numbers"),
    ],
)
def test_bad_options_are_refused(method: str, options: dict[str, object], match: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        attribute_full(Residual(), images(1, 2, 8, 8), 0, method, **options)


def test_bounds_a_colour_or_a_pixel_are_taken() -> None:
    net = Residual()
    x = images(1, 2, 8, 8)
    whole = attribute_full(net, x, 0, "lrp_zbox", low=-9.0, high=9.0).raw
    for low in ([-9.0, -9.0], torch.full((1, 2, 8, 8), -9.0)):
        torch.testing.assert_close(attribute_full(net, x, 0, "lrp_zbox", low=low, high=9.0).raw, whole)
