"""Norms, masks and cosines that a network's author wrote out: LRP and DeepLIFT as with torch's own operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.deeplift import METHODS, Wrap, raw
from helpers.networks import images
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from interpnet.attribution import attribute_full
from interpnet.attribution._deeplift.by_hand import dispersion, length, log_sum, normalise
from interpnet.engine import Call
from interpnet.errors import ModelError

EPS = 1e-3
Steps = Callable[[Tensor, Tensor, Tensor], Tensor]


def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.layer_norm(x, (6,), w, b, EPS)


def rms(x: Tensor, w: Tensor, _b: Tensor) -> Tensor:
    return F.rms_norm(x, (6,), w, EPS)


def moments(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + EPS) * w + b


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def mean_square(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True)


#: Torch's own norm, and the same written out.
NORMS: dict[str, tuple[Steps, Steps]] = {
    "layer, mean of squares": (
        layer,
        lambda x, w, b: w * (centred(x) / torch.sqrt(mean_square(centred(x)) + EPS)) + b,
    ),
    "layer, variance": (
        layer,
        lambda x, w, b: centred(x) / (x.var(-1, keepdim=True, unbiased=False) + EPS).sqrt() * w + b,
    ),
    "layer, both moments": (layer, moments),
    "RMS, quotient": (rms, lambda x, w, _b: x / mean_square(x).add(EPS).sqrt() * w),
    "RMS, product": (rms, lambda x, w, _b: w * (x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt())),
    "RMS, power": (rms, lambda x, w, _b: (mean_square(x) + EPS).pow(-0.5) * x * w),
}


def network(norm: Steps) -> Wrap:
    """A linear map of 6 values, the norm, and a linear map to one output."""
    a, w, b, c = images(6, 6), images(6, seed=1).abs() + 0.5, images(6, seed=2), images(1, 6, seed=3)
    return Wrap(lambda x: F.linear(norm(F.linear(x, a), w, b), c))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("method", METHODS)
def test_deeplift_of_a_norm_written_out_is_that_of_torchs(name: str, method: str) -> None:
    x = images(3, 1, 1, 6, seed=4)
    own, by_hand = (raw(network(norm), x, method, baseline=0.1) for norm in NORMS[name])
    torch.testing.assert_close(by_hand, own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("method", ["lrp_0", "lrp_gamma", "deep_taylor"])
def test_relevance_of_a_norm_written_out_is_that_of_torchs(name: str, method: str) -> None:
    x = images(3, 1, 1, 6, seed=4)
    # Class 1 has the output's own sign. Written out, centring is a sum with a stabiliser of its own.
    own, by_hand = (attribute_full(network(norm).eval(), x, 1, method, bound=1e9).raw for norm in NORMS[name])
    if method == "deep_taylor" and "layer" in name:
        pytest.skip("torch's own norm passes relevance on as a whole, centring shares it")
    if method != "lrp_0" and "RMS" not in name:
        torch.testing.assert_close(by_hand, own, rtol=1e-3, atol=1e-5)
    else:
        torch.testing.assert_close(by_hand, own, rtol=1e-8, atol=1e-10)


def asked(func: Callable[..., Tensor], *args: object, op: str = "", **kwargs: object) -> Call:
    return Call(func, (None, *args), kwargs, op or func.__name__, None, "", "")


X, X0 = images(2, 4, 3, seed=5), images(2, 4, 3, seed=6)
#: A rule, its call, and the mean slope between image and baseline of what it computes, value by value.
RULES: dict[str, tuple[Callable[..., Tensor], Call]] = {
    "variance": (dispersion, asked(torch.var, 1)),
    "variance, all of it": (dispersion, asked(torch.var, (1, 2), correction=0, keepdim=True)),
    "deviation": (dispersion, asked(torch.std, -1, unbiased=False)),
    "deviation, without bias": (dispersion, asked(torch.std, (1, 2), True, keepdim=True)),
    "length": (length, asked(torch.norm, dim=1, keepdim=True)),
    "length of all": (length, asked(torch.linalg.vector_norm, 2, (1, 2), True, op="linalg_vector_norm")),
    "length one": (normalise, asked(F.normalize, dim=1)),
    "length one, short": (normalise, asked(F.normalize, 2.0, 2, 1.5)),
    "log of a sum": (log_sum, asked(torch.logsumexp, 1)),
    "log of sums of groups": (log_sum, asked(torch.logsumexp, (1, 2), keepdim=True)),
}


@pytest.mark.parametrize("name", RULES)
def test_multipliers_make_up_each_output_alone(name: str) -> None:
    rule, call = RULES[name]
    y0 = call.on(X0).run()
    for i in range(y0[0].numel()):
        x = X.clone().requires_grad_()
        y = rule(call.on(x), x, X0)
        torch.testing.assert_close(y.detach(), call.on(X).run(), rtol=0, atol=0)
        one = torch.zeros_like(y[0])
        one.view(-1)[i] = 1
        (m,) = torch.autograd.grad(y, x, one.expand_as(y))
        change = (y.detach() - y0).reshape(len(y), -1)[:, i]
        torch.testing.assert_close((m * (X - X0)).flatten(1).sum(1), change, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_multipliers_are_the_gradient_where_image_and_baseline_meet(name: str) -> None:
    rule, call = RULES[name]
    found = []
    for run in (lambda x: rule(call.on(x), x, X), lambda x: call.on(x).run()):
        x = X.clone().requires_grad_()
        y = run(x)
        found.append(torch.autograd.grad(y, x, torch.linspace(1, 2, y.numel()).double().view_as(y))[0])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-20])
def test_values_that_are_zero_on_both_have_no_multiplier(value: float) -> None:
    for rule, call in (RULES["length"], RULES["deviation"], RULES["length one"]):
        x = torch.full((1, 2, 3), value).double().requires_grad_()
        y = rule(call.on(x), x, torch.zeros(1, 2, 3).double())
        assert bool(torch.autograd.grad(y.sum(), x)[0].isfinite().all())


HIDDEN = torch.eye(3, dtype=torch.bool)
#: Scores of attention with a diagonal that is not seen, by spelling.
MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "added": lambda a: a + torch.zeros(3, 3).double().masked_fill(HIDDEN, -1e9),
    "filled": lambda a: a.masked_fill(HIDDEN, -1e9),
    "filled with infinity": lambda a: a.masked_fill(HIDDEN, float("-inf")),
    "filled with a tensor": lambda a: a.masked_fill(HIDDEN, torch.tensor(-1e9).double()),
    "in place": lambda a: a.clone().masked_fill_(HIDDEN, torch.finfo(a.dtype).min),
    "where": lambda a: torch.where(HIDDEN, torch.tensor(-1e9).double(), a),
    "where not": lambda a: torch.where(~HIDDEN, a, -1e9),
}


class Masked(nn.Module):
    """Attention among three tokens of two values that do not see themselves."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mask = mask
        self.weight = images(6, 2, seed=8)
        self.head = images(2, 6, seed=9)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.linear(x.reshape(-1, 3, 2), self.weight).chunk(3, -1)
        seen = self.mask(q @ k.transpose(1, 2)).softmax(-1) @ v
        return F.linear(seen.flatten(1), self.head)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("method", [*METHODS, "lrp_0", "lrp_epsilon"])
def test_masks_of_attention_are_the_same_in_every_spelling(name: str, method: str) -> None:
    x = images(1, 1, 2, 3, seed=7)
    expected = attribute_full(Masked(MASKS["filled"]).eval(), x, 1, method, bound=1e9).raw
    found = attribute_full(Masked(MASKS[name]).eval(), x, 1, method, bound=1e9)
    if name == "added" and method.startswith("lrp"):
        return  # a sum shares relevance with its constant
    torch.testing.assert_close(found.raw, expected)
    if method in METHODS:
        assert float(found.residual.max()) < 1e-9


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (lambda v: torch.where(v > 0.3, v, v * 2), "operator 'where' .* takes other places on the image than"),
        (lambda v: v.norm(p=1, dim=1, keepdim=True), "operator 'norm' .* is no norm of squares"),
        (lambda v: torch.pow(v.square() + 1, v), "has an argument that depends on the image"),
    ],
)
def test_what_cannot_be_right_is_refused(steps: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        raw(Wrap(lambda v: steps(v).softmax(1)[:, :1]), images(2, 1, 1, 4), "deeplift")


def swin_v2() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        [4, 4], 8, [2], [2], [4, 4], num_classes=3, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    )


@pytest.mark.parametrize("method", [*METHODS, "lrp_gamma", "deep_taylor", "gradcam"])
def test_cosine_attention_of_swin_v2(method: str) -> None:
    net = swin_v2().double().eval()
    x = images(2, 3, 32, 32)
    found = attribute_full(net, x, [0, 1], method)
    alone = attribute_full(net, x[1:], [1], method)
    torch.testing.assert_close(found.maps[1:], alone.maps)
    if method in METHODS:
        assert float(found.residual.max()) < 1e-9
