"""LRP: every method by explicit float64 matrices, against zennit's own hooks and canonisers, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers.networks import SPELLINGS, Branches, Spelled, torchvision_network
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.attribution._lrp import engine
from interpnet.errors import InterpNetError, ModelError

pytest.importorskip("zennit")

METHODS = (
    "lrp_0",
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_alpha1beta0",
    "lrp_alpha2beta1",
    "lrp_zbox",
    "lrp_epsilon_plus_flat",
    "deep_taylor",
)
Array = np.ndarray


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Residual(nn.Module):
    """Strided convolution with batch norm, a residual sum, average pooling and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(12, 4)
        generator = torch.Generator().manual_seed(3)
        self.double().eval()
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.5
        self.bn1.running_mean.uniform_(-0.5, 0.5, generator=generator)
        self.bn1.running_var.uniform_(0.5, 1.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        y = self.conv2(h)
        y += h
        return self.fc(F.avg_pool2d(F.relu(y), 2).flatten(1))


# The reference: each layer an explicit matrix, each rule its formula, one image at a time.


@dataclass
class Dense:
    """z = W x + b, with the pattern of weights that exist."""

    W: Array
    b: Array
    exists: Array


def dense(
    f: Callable[[Tensor], Tensor], shape: tuple[int, ...], ones: Callable[[Tensor], Tensor] | None = None
) -> Dense:
    n = int(np.prod(shape))
    zero = f(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = f(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1) - zero
    pattern = columns if ones is None else ones(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1)
    return Dense(columns.T.detach().numpy(), zero.detach().numpy(), (pattern.T != 0).detach().numpy().astype(float))


def stable(z: Array, eps: float = 1e-6) -> Array:
    return z + eps * np.where(z >= 0, 1, -1)


def up(v: Array) -> Array:
    return np.maximum(v, 0)


def down(v: Array) -> Array:
    return np.minimum(v, 0)


def rule_epsilon(d: Dense, x: Array, R: Array, eps: float) -> Array:
    return x * (d.W.T @ (R / stable(d.W @ x + d.b, eps)))


def rule_zero(d: Dense, x: Array, R: Array) -> Array:
    return x * (d.W.T @ (R / (d.W @ x + d.b)))


def rule_relative(d: Dense, x: Array, R: Array) -> Array:
    z = d.W @ x + d.b
    return rule_epsilon(d, x, R, 0.05 * float(np.sqrt((z**2).mean())))


def rule_alpha_beta(d: Dense, x: Array, R: Array, alpha: float, beta: float) -> Array:
    contributions = d.W * x
    plus = up(contributions)
    minus = down(contributions)
    zp = plus.sum(1) + up(d.b)
    zn = minus.sum(1) + down(d.b)
    return alpha * plus.T @ (R / stable(zp)) - beta * minus.T @ (R / stable(zn))


def rule_gamma(d: Dense, x: Array, R: Array, gamma: float = 0.25) -> Array:
    contributions = d.W * x
    out = np.zeros_like(x)
    for j, z in enumerate(d.W @ x + d.b):
        favoured = up if z > 0 else down
        c = contributions[j] + gamma * favoured(contributions[j])
        out += c * R[j] / stable(c.sum() + d.b[j] + gamma * favoured(d.b[j]))
    return out


def rule_box(d: Dense, x: Array, R: Array, low: Array, high: Array) -> Array:
    c = d.W * x - up(d.W) * low - down(d.W) * high
    return c.T @ (R / stable(c.sum(1)))


def rule_flat(d: Dense, _x: Array, R: Array) -> Array:
    return d.exists.T @ (R / stable(d.exists.sum(1)))


def reference(net: Residual, image: Tensor, target: int, method: str) -> Array:
    shape = tuple(image.shape)
    half = (3, shape[1] // 2, shape[2] // 2)
    ones = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False).double()
    ones.weight.data.fill_(1)
    first = dense(lambda v: net.bn1(net.conv1(v)), shape, ones)
    second = dense(net.conv2, half)
    pool = dense(lambda v: F.avg_pool2d(v, 2), half)
    last = dense(net.fc, (12,))
    x = image.flatten().numpy()
    h = up(first.W @ x + first.b)
    z = second.W @ h + second.b
    y = up(z + h)
    p = pool.W @ y
    pixels = image.flatten(1)
    low, high = (np.repeat(v.numpy(), shape[1] * shape[2]) for v in (pixels.amin(1), pixels.amax(1)))

    def plus(d: Dense, x: Array, R: Array) -> Array:
        return rule_alpha_beta(d, x, R, 1, 0)

    def box(d: Dense, x: Array, R: Array) -> Array:
        return rule_box(d, x, R, low, high)

    def eps(d: Dense, x: Array, R: Array) -> Array:
        return rule_epsilon(d, x, R, 1e-6)

    def two_one(d: Dense, x: Array, R: Array) -> Array:
        return rule_alpha_beta(d, x, R, 2, 1)

    rules = {
        "lrp_0": (rule_zero, rule_zero, rule_zero),
        "lrp_epsilon": (rule_relative, rule_relative, rule_relative),
        "lrp_gamma": (rule_gamma, rule_gamma, eps),
        "lrp_alpha1beta0": (plus, plus, eps),
        "lrp_alpha2beta1": (two_one, two_one, eps),
        "lrp_zbox": (box, rule_gamma, eps),
        "lrp_epsilon_plus_flat": (rule_flat, plus, eps),
        "deep_taylor": (box, plus, plus),
    }[method]
    R = np.zeros(4)
    R[target] = (last.W @ p + last.b)[target]
    R = rules[2](last, p, R)
    R = rule_epsilon(pool, y, R, 0 if method == "lrp_0" else 1e-6) if method != "lrp_0" else _zero_safe(pool, y, R)
    share = R / stable(z + h, 0 if method == "lrp_0" else 1e-6)
    R = h * share + rules[1](second, h, z * share)
    return rules[0](first, x, R).reshape(shape)


def _zero_safe(d: Dense, x: Array, R: Array) -> Array:
    z = d.W @ x
    return x * (d.W.T @ np.divide(R, z, out=np.zeros_like(R), where=z != 0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_explicit_matrices(method: str) -> None:
    net = Residual()
    x = images(2, 2, 8, 8)
    found = attribute_full(net, x, [3, 1], method)
    for i, target in enumerate((3, 1)):
        np.testing.assert_allclose(found.raw[i].numpy(), reference(net, x[i], target, method), rtol=1e-9, atol=1e-12)
    score = net(x).gather(1, torch.tensor([[3], [1]]))[:, 0].detach()
    total = found.raw.sum((1, 2, 3))
    torch.testing.assert_close(found.residual, (total - score).abs() / score.abs())
    torch.testing.assert_close(total + found.info["absorbed"], score)


def test_rules_by_hand() -> None:
    # z = 2 * 1 - 1 * 1 + 1 = 2: LRP-0 gives (2, -1), the bias keeps 1.
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).double().eval()
    net[1].weight.data = torch.tensor([[2.0, -1.0]]).double()
    net[1].bias.data = torch.tensor([1.0]).double()
    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    found = attribute_full(net, x, 0, "lrp_0")
    assert found.raw.flatten().tolist() == [2, -1]
    assert found.info["absorbed"].tolist() == [1]
    assert found.residual.tolist() == [0.5]
    assert found.flagged.tolist() == [False]
    assert attribute_full(net, x, 0, "lrp_0", bound=0.4).flagged.tolist() == [True]
    # Without the bias's share: 2 * (2, -1) / (2 - 1).
    assert attribute_full(net, x, 0, "lrp_0", zero_bias=True).raw.flatten().tolist() == [4, -2]
    # epsilon of half the root mean square: z + 1 = 3.
    assert attribute_full(net, x, 0, "lrp_epsilon", epsilon=0.5).raw.flatten().tolist() == pytest.approx(
        [4 / 3, -2 / 3]
    )
    # z-box with bounds 0 and 3: 2 * (1 - 0) = 2 and -1 * (1 - 3) = 2.
    got = attribute_full(net, x, 0, "deep_taylor", low=0.0, high=3.0).raw.flatten().tolist()
    assert got == pytest.approx([1, 1], rel=1e-6)


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
    from zennit.composites import COMPOSITES

    x = x.clone().requires_grad_()
    with COMPOSITES[composite](canonizers=[canoniser], **options).context(net) as changed:
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
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    net = torchvision_network(name).double()
    x = images(1, 3, 64, 64).clamp(-6, 6)
    net.requires_grad_(False)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 0.0  # zennit would leave one of variance 1 + eps behind each layer that it merged
    composite, options = ZENNIT[method]
    expected = by_zennit(net, x, 2, composite, ResNetCanonizer() if name == "resnet18" else VGGCanonizer(), **options)
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
    assert attribute_full(net, x, 0, "lrp_0").raw.flatten().tolist() == [2, 4]
    assert attribute_full(net, x, 0, "lrp_0", norm="pass").raw.flatten().tolist() == [3, 5]


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
    torch.testing.assert_close(attribute_full(net, x, 0, "lrp_0").raw, x * GATES[name](x))


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
    for method in ("lrp_0", "lrp_epsilon_plus_flat"):
        torch.testing.assert_close(attribute_full(net, x, 0, method).raw, attribute_full(net.net, inner, 0, method).raw)
    with pytest.raises(ModelError, match="the box of pixels does not hold"):
        attribute_full(net, x, 0, "lrp_zbox")


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
    "parameter product": (lambda v: v @ nn.Parameter(torch.ones(4, 4).double(), False), "'matmul'.*functional.linear"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operators_without_a_rule_are_refused_by_name(name: str) -> None:
    f, match = REFUSED[name]
    torch.manual_seed(0)
    net = refused.after_linear(f)
    with pytest.raises(ModelError, match=match):
        attribute_full(net, images(4, 1, 1, 4), 0, "lrp_epsilon")
    assert not net.fc._forward_hooks
    assert net.fc.weight.requires_grad


def test_a_merge_that_changes_the_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.merged_layer

    def wrong(*args: object) -> object:
        layer = right(*args)
        layer.bias.data += 0.1
        return layer

    monkeypatch.setattr(engine, "merged_layer", wrong)
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
