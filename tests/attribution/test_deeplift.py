"""DeepLIFT: completeness whatever the layers, every spelling of a network, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers.deeplift import METHODS, Wrap, raw
from helpers.networks import (
    ATTENTIONS,
    SPELLINGS,
    Branches,
    Spelled,
    attention_network,
    images,
    torchvision_network,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.attribution_table.networks import NETWORKS, network
from experiments.attribution_table.networks import images as table_images
from interpnet.attribution import attribute_full
from interpnet.attribution._deeplift.parts import reveal
from interpnet.engine import Call, OneColumn
from interpnet.errors import ModelError

# A class whose score does not change has a map of zeros.
pytestmark = pytest.mark.filterwarnings("ignore:.*zero everywhere")


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "functional": lambda x: F.max_pool2d(x, 3, 2, 1),
    "torch": lambda x: torch.max_pool2d(x, 3, 2, 1),
    "module": nn.MaxPool2d(3, 2, 1),
    "overlapping ceil": lambda x: F.max_pool2d(x, kernel_size=3, stride=1, ceil_mode=True),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    "amax": lambda x: x.amax((2, 3)),
    "amax kept": lambda x: torch.amax(x, dim=(-1, 2), keepdim=True),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "mean": lambda x: x.mean((2, 3)),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("method", METHODS)
def test_poolings_behind_a_rectifier_and_before_one_are_complete(name: str, method: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = POOLS[name](self.conv(x))
            return F.elu(x - 0.1).flatten(1).sum(1, keepdim=True)

    torch.manual_seed(0)
    raw(Net(), images(3, 2, 9, 8), method)


@pytest.mark.parametrize("method", METHODS)
def test_spellings_of_one_network_agree_and_are_complete(method: str) -> None:
    x = images(3, 3, 8, 8)
    found = [raw(Spelled(s), x, method, baseline="blurred") for s in SPELLINGS]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("method", METHODS)
def test_concatenation_gate_and_poolings_are_complete(method: str) -> None:
    torch.manual_seed(0)
    raw(Branches(), images(3, 2, 12, 12), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_complete_on_narrow_networks_of_torchvision_and_timm(name: str, method: str) -> None:
    net = network(name, double=True, narrow=True)
    found = attribute_full(net, table_images(double=True), [1, 4], method)
    assert float(found.residual.max()) < 1e-9
    # Large parts that cancel would say nothing about the image.
    assert float(found.raw.abs().sum()) < 1e6 * float(found.raw.sum((1, 2, 3)).abs().min())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_complete_in_single_precision(name: str) -> None:
    found = attribute_full(torchvision_network(name), images(2, 3, 64, 64).float(), [1, 4], "deeplift")
    assert float(found.residual.max()) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_spellings_of_attention_agree_and_are_complete(method: str) -> None:
    x = images(3, 3, 16, 16)
    # Attention of windows, and of torch's own module, folds images into other axes.
    found = [raw_of(attention_network(s).double(), x, method) for s in ATTENTIONS]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-12)
    single = attribute_full(attention_network(), x.float(), 0, method)
    assert float(single.residual.max()) < 1e-4


def raw_of(net: nn.Module, x: Tensor, method: str) -> Tensor:
    found = attribute_full(net, x, 0, method)
    assert float(found.residual.max()) < 1e-12
    return found.raw


@pytest.mark.parametrize("spelling", ["module", "bmm"])
def test_images_folded_into_other_axes_are_the_same_alone_and_in_a_batch(spelling: str) -> None:
    net = attention_network(spelling).double()
    x = images(4, 3, 16, 16)
    together = attribute_full(net, x, [0, 1, 2, 3], "deeplift").raw
    torch.testing.assert_close(attribute_full(net, x[2:3], 2, "deeplift").raw, together[2:3])
    torch.testing.assert_close(attribute_full(net, x, [0, 1, 2, 3], "deeplift", max_batch=3).raw, together)
    base = torch.zeros_like(x)
    base[0, 0, 0, 0] = 1.0  # now every image has a baseline of its own
    own = attribute_full(net, x, [0, 1, 2, 3], "deeplift", baseline=base).raw
    torch.testing.assert_close(own[1:], together[1:])


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda v: F.relu_(v * 1),
    "relu6": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "elu": F.elu,
    "clamp": lambda v: v.clamp(min=0),
    "leaky": lambda v: F.leaky_relu(v, 0.2),
    "hardtanh": F.hardtanh,
    "swish": lambda v: v * torch.sigmoid(v),
    "square": lambda v: v * v,
    "quotient": lambda v: v / (2 + torch.sigmoid(v)),
}


@given(
    names=st.lists(st.sampled_from(sorted(ELEMENTWISE)), min_size=1, max_size=3),
    method=st.sampled_from(METHODS),
    step=st.sampled_from([1e-9, 1e-3, 1.0, 30.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_any_chain_of_layers_is_complete(names: list[str], method: str, step: float, seed: int) -> None:
    check_chain(names, method, step, seed)


def test_chains_whose_output_does_not_change_are_complete() -> None:
    # All that its parts leave is rounding.
    check_chain(["relu", "silu", "relu"], "deeplift_revealcancel", 1e-3, 32)


@pytest.mark.parametrize(("up", "down"), [(2e-12, -1.0), (1.0, -2e-12), (2e-12, -2e-12), (0.5, -1.0)])
def test_parts_make_up_the_difference_however_small_one_is(up: float, down: float) -> None:
    # One part alone opens the rectifier, or closes it.
    z0 = torch.tensor([-1e-12], dtype=torch.float64)
    plus = torch.tensor([up], dtype=torch.float64, requires_grad=True)
    z = (z0 + up + down).requires_grad_()
    y = reveal(Call(torch.relu, (z,), {}, "relu", "rectifier", "relu", ""), z, z0, plus)
    for_down, more = torch.autograd.grad(y, (z, plus))
    gained = float((for_down + more) * up + for_down * (z.detach() - z0 - up))
    assert gained == pytest.approx(float(y.detach() - z0.clamp(min=0)), rel=1e-9, abs=1e-15)


def check_chain(names: list[str], method: str, step: float, seed: int) -> None:
    """Check that contributions add up to the change of a chain of linear maps and element-wise functions."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(4, 4, generator=generator, dtype=torch.float64) for _ in names]

    def f(v: Tensor) -> Tensor:
        for name, w in zip(names, weights, strict=True):
            v = ELEMENTWISE[name](F.linear(v, w))
        return v[:, :1]

    x0 = torch.randn(2, 1, 1, 4, generator=generator, dtype=torch.float64)
    x = x0 + step * torch.randn(2, 1, 1, 4, generator=generator, dtype=torch.float64)
    net = Wrap(f).eval()
    found = attribute_full(net, x, 0, method, baseline=x0, output=OneColumn())
    expected = (net(x) - net(x0))[:, 0]
    scale = found.raw.abs().sum((1, 2, 3)) + net(x).abs()[:, 0]
    # Positive and negative parts of this size are added, and rounded, on the way.
    parts = (x - x0).abs().sum((1, 2, 3))
    for w in weights:
        parts = parts * w.abs().sum(1).max()
    allowed = 1e-9 * scale + 10 * torch.finfo(torch.float64).eps * parts
    assert bool(((found.raw.sum((1, 2, 3)) - expected).abs() <= allowed).all())


def test_image_equal_to_its_baseline_has_no_contribution_and_no_residual() -> None:
    found = attribute_full(
        Spelled("module").double().eval(), torch.zeros(2, 3, 8, 8, dtype=torch.float64), 0, "deeplift"
    )
    assert float(found.raw.abs().max()) == 0
    assert found.residual.tolist() == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_alone_in_a_batch_and_with_own_baselines_are_the_same(method: str) -> None:
    net = Spelled("reused").double().eval()
    x = images(4, 3, 8, 8)
    together = attribute_full(net, x, [0, 1, 2, 3], method).raw
    alone = attribute_full(net, x[2:3], 2, method).raw
    torch.testing.assert_close(together[2:3], alone)
    base = torch.zeros_like(x)
    base[0, 0, 0, 0] = 1.0  # now every image has a baseline of its own
    own = attribute_full(net, x, [0, 1, 2, 3], method, baseline=base).raw
    torch.testing.assert_close(own[1:], together[1:])
    small = attribute_full(net, x, [0, 1, 2, 3], method, max_batch=1).raw
    torch.testing.assert_close(small, together)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    **refused.REFUSED,
    "floor": (torch.floor, "'floor'"),
    "max of two": (lambda v: torch.maximum(v, v.flip(1)), "'maximum'"),
    "product of three": (lambda v: torch.einsum("bi,bj,bj->bi", v, v, v), "'einsum'.*more than two"),
    "normalisation to sum one": (lambda v: F.normalize(v, p=1.0), "'normalize'"),
    "reciprocal": (lambda v: 1 / (v + 9), "has no rule"),
    "norm of neighbours": (lambda v: F.local_response_norm(v[:, :, None], 2)[:, :, 0], "'local_response_norm'"),
    "another mask": (lambda v: (v + (v >= v[:, 1:2]).to(v.dtype).log()).softmax(1), "'softmax'.*masked otherwise"),
    "filled by a mask": (lambda v: v.masked_fill(v > 0, 0).softmax(1), "'masked_fill'"),
    "topk": (lambda v: v.topk(2, 1).values, "'topk'"),
}


@pytest.mark.filterwarnings("ignore:dropout")
@pytest.mark.parametrize("name", REFUSED)
def test_operators_without_a_rule_are_refused_by_name(name: str) -> None:
    f, match = REFUSED[name]
    torch.manual_seed(0)
    net = refused.after_linear(f)
    # Of one image the dynamic weights make one output.
    with pytest.raises(ModelError, match=match):
        attribute_full(net, images(4, 1, 1, 4), 0, "deeplift", output=OneColumn())
    assert not net.fc._forward_hooks
    assert net.fc.weight.requires_grad


def test_other_operators_on_the_baseline_than_on_the_image_are_refused() -> None:
    net = refused.after_linear(lambda v: F.relu(v) if bool((v > 5).any()) else torch.tanh(v))
    with pytest.raises(ModelError, match="on the baseline; expected the same operators on both"):
        attribute_full(net, 100 * images(1, 1, 1, 4), 0, "deeplift")


def test_a_value_that_is_detached_breaks_completeness_and_is_flagged() -> None:
    net = refused.after_linear(lambda v: v * v.detach().abs())
    found = attribute_full(net, images(3, 1, 1, 4), 0, "deeplift")
    assert bool(found.flagged.all())
