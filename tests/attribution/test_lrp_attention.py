"""LRP and deep Taylor through attention: the rules by hand, a transformer written out, every spelling of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.lrp import METHODS, Residual
from helpers.lrp_by_hand import transformer_relevance
from helpers.networks import ATTENTIONS, attention_network, images
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.engine import Channel, OneColumn
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import Unit, channel_signal

WAYS = [(m, a) for m in METHODS for a in ("attnlrp", "cp") if (m, a) != ("deep_taylor", "attnlrp")]

# The rules of tokens differ among these alone.
SPELLED = ("lrp_0", "lrp_epsilon", "lrp_gamma", "deep_taylor")


class By(nn.Module):
    """A function of the pixels of images (B, 1, 1, n), summed."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f
        self.first = nn.Linear(1, 1, bias=False).double()
        self.first.weight.data.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(self.first(x.flatten(1)[..., None])[..., 0]).flatten(1)
        return F.linear(y, torch.ones(1, y.shape[1], dtype=y.dtype))


def relevance(f: Callable[[Tensor], Tensor], x: list[float], method: str = "lrp_0", **options: object) -> list[float]:
    """Return the relevance of the pixels for the sum of ``f``."""
    image = torch.tensor(x, dtype=torch.float64).view(1, 1, 1, -1)
    return attribute_full(By(f).eval(), image, 0, method, output=OneColumn(), **options).raw.flatten().tolist()


def test_a_product_gives_half_to_each_factor() -> None:
    # (1, 2) times (3, 1)' is 5: each term of either factor has half of its part, 3/2 and 2/2.
    def product(v: Tensor) -> Tensor:
        return v[:, None, :2] @ v[:, 2:, None]

    assert relevance(product, [1, 2, 3, 1]) == pytest.approx([1.5, 1, 1.5, 1])

    def summed(v: Tensor) -> Tensor:
        return torch.einsum("bi,bi->b", [v[:, :2], v[:, 2:]])[:, None]

    assert relevance(summed, [1, 2, 3, 1]) == pytest.approx([1.5, 1, 1.5, 1])


def test_a_softmax_by_hand() -> None:
    # Scores log 3 and 0: weights 3/4 and 1/4, of values 8 and 4. The weights get 3 and 1/2 of the 7, half of it; then
    # R_x = x (R - s sum(R)) = log 3 (3 - 3/4 * 3.5).
    def attend(v: Tensor) -> Tensor:
        return F.softmax(v[:, None, :2], -1) @ v[:, 2:, None]

    x = [math.log(3), 0.0, 8.0, 4.0]
    assert relevance(attend, x) == pytest.approx([math.log(3) * 0.375, 0, 3, 0.5])
    assert relevance(attend, x, attention="cp") == pytest.approx([0, 0, 6, 1])


def test_what_a_mask_hides_gets_nothing() -> None:
    hidden = torch.tensor([0.0, -math.inf, 0.0]).double()

    def attend(v: Tensor) -> Tensor:
        return F.softmax(v[:, None, :3] + hidden, -1) @ v[:, 3:, None]

    x = [math.log(3), 5.0, 0.0, 8.0, 9.0, 4.0]
    expected = [math.log(3) * 0.375, 0, 0, 3, 0, 0.5]
    assert relevance(attend, x) == pytest.approx(expected)

    def filled(v: Tensor) -> Tensor:
        return F.softmax(v[:, None, :3].masked_fill(hidden < 0, -math.inf), -1) @ v[:, 3:, None]

    assert relevance(filled, x) == pytest.approx(expected)


def test_a_layer_norm_is_linear_with_its_deviation_held() -> None:
    # (1, 3) has mean 2 and deviation 1; weights 2 and 4 and a bias of 1 give -1 and 5. The row (1, -1) / 2 of the
    # centring is shared as epsilon's rule shares it: of -1 come 2 * 0.5 * (1, -3), of 5 come 4 * 0.5 * (-1, 3).
    w, b = torch.tensor([2.0, 4.0]).double(), torch.ones(2).double()
    norm = lambda v: F.layer_norm(v, (2,), w, b, eps=0.0)  # noqa: E731
    assert relevance(norm, [1, 3]) == pytest.approx([1 - 2, -3 + 6])
    assert relevance(norm, [1, 3], norm="pass") == pytest.approx([-1, 5])
    assert relevance(lambda v: F.rms_norm(v, (2,), w, eps=0.0), [1, 7]) == pytest.approx([2 / 5, 28 / 5])
    assert relevance(lambda v: F.normalize(v, dim=1), [3, 4]) == pytest.approx([0.6, 0.8])


def by_hand(v: Tensor) -> Tensor:
    return (v - v.mean(1, keepdim=True)) / (v.var(1, correction=0, keepdim=True) + 0.1).sqrt() * W + B


W = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
B = torch.tensor([1.0, 0.0, -2.0, 0.5]).double()
NORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "layer norm": (lambda v: F.layer_norm(v, (4,), W, B, 0.1), by_hand),
    "of torch": (lambda v: torch.layer_norm(v, (4,), W, B, 0.1), by_hand),
    "without weights": (
        lambda v: F.layer_norm(v, (4,), eps=0.1),
        lambda v: F.layer_norm(v, (4,), torch.ones_like(W), None, 0.1),
    ),
    "groups": (
        lambda v: F.group_norm(v, 2, W, B, 0.1),
        lambda v: F.layer_norm(v.view(-1, 2, 2), (2,), eps=0.1).flatten(1) * W + B,
    ),
    "instances": (
        lambda v: F.instance_norm(v.view(-1, 2, 2), weight=W[:2], bias=B[:2], eps=0.1),
        lambda v: F.layer_norm(v.view(-1, 2, 2), (2,), eps=0.1) * W[:2, None] + B[:2, None],
    ),
    "of torch, instances": (
        lambda v: torch.instance_norm(v.view(-1, 2, 2), W[:2], B[:2], None, None, True, 0.1, 0.1, False),
        lambda v: F.instance_norm(v.view(-1, 2, 2), weight=W[:2], bias=B[:2], eps=0.1),
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_spelling_of_a_norm_is_the_same(name: str) -> None:
    one, other = NORMS[name]
    x = [0.3, -1.2, 2.0, 0.7]
    assert relevance(one, x) == pytest.approx(relevance(other, x), rel=1e-9)


@pytest.mark.parametrize(("method", "attention"), WAYS)
def test_a_transformer_by_rules_written_out(method: str, attention: str) -> None:
    net = attention_network("qkv").double()
    x = images(2, 3, 16, 16)
    found = attribute_full(net, x, [3, 1], method, attention=attention)
    for i, target in enumerate((3, 1)):
        expected = transformer_relevance(net, x[i], target, method, attention)
        np.testing.assert_allclose(found.raw[i].numpy(), expected, rtol=1e-7, atol=1e-9 * float(abs(expected).max()))


@pytest.mark.parametrize(("method", "attention"), [way for way in WAYS if way[0] in SPELLED])
def test_every_spelling_of_attention_gives_one_map_alone_and_in_a_batch(method: str, attention: str) -> None:
    x = images(2, 3, 16, 16)
    expected: dict[bool, Tensor] = {}
    for spelling in ATTENTIONS:
        net = attention_network(spelling).double()
        found = attribute_full(net, x, [0, 1], method, attention=attention)
        assert found.raw is not None
        size = 1e-9 * float(found.raw.abs().max())
        # Of queries, keys and values by one layer or by three: epsilon is in units of a layer's output.
        packed = method == "lrp_epsilon" and spelling in {"module", "qkv"}
        torch.testing.assert_close(found.raw, expected.setdefault(packed, found.raw), rtol=1e-7, atol=size)
        score = net(x).gather(1, torch.arange(2)[:, None])[:, 0].detach()
        torch.testing.assert_close(found.raw.sum((1, 2, 3)) + found.info["absorbed"], score)
        alone = attribute_full(net, x[1:2], [1], method, attention=attention)
        torch.testing.assert_close(alone.raw, found.raw[1:2], rtol=1e-9, atol=size)


def test_a_small_gamma_at_linear_maps_is_epsilon_and_a_large_one_is_z_plus_where_outputs_are_positive() -> None:
    # z = 3 * 1 - 1 * 1 = 2: epsilon gives (3, -1); gamma 1 gives 2 * (6, -1) / 5.
    weight = torch.tensor([[3.0, -1.0]]).double()

    def linear(v: Tensor) -> Tensor:
        return F.linear(v, weight)

    assert relevance(linear, [1, 1], "lrp_gamma", linear_gamma=1e-9) == pytest.approx([3, -1], rel=1e-5)
    assert relevance(linear, [1, 1], "lrp_gamma", linear_gamma=1.0) == pytest.approx([2.4, -0.4], rel=1e-5)
    assert relevance(linear, [1, 1], "lrp_gamma", linear_gamma=1e9) == pytest.approx([2, 0], abs=1e-5)


def by_lxt(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """Return the relevance of a network in the spelling "qkv" by the authors' own functions for AttnLRP."""
    rules = pytest.importorskip("lxt.explicit.functional")
    tiny = 1e-14

    def linear(layer: nn.Module, v: Tensor) -> Tensor:
        return rules.linear_epsilon(v, layer.weight, layer.bias, epsilon=tiny)

    def norm(layer: nn.LayerNorm, v: Tensor) -> Tensor:
        return rules.layer_norm_grad_fn.apply(v, layer.weight, layer.bias, layer.eps, tiny)

    def heads(v: Tensor) -> Tensor:
        return v.unflatten(2, (2, 4)).transpose(1, 2)

    x = x.clone().requires_grad_()
    patches = F.unfold(x, 4, stride=4).transpose(1, 2)
    v = rules.linear_epsilon(patches, net.patches.weight.flatten(1), net.patches.bias, epsilon=tiny)
    v = rules.add2(
        torch.cat([net.token.expand(len(x), -1, -1), v], 1), net.positions.expand(len(x), -1, -1), False, tiny
    )
    for block in net.blocks:
        q, k, values = linear(block.attention.qkv, norm(block.norm1, v)).chunk(3, 2)
        # Where relevance is divided by what it is of, scaling passes it on.
        q = rules.mul2(q, torch.tensor(0.5).double())
        weights = rules.softmax(rules.matmul(heads(q), heads(k).transpose(-2, -1), False, tiny), -1)
        y = rules.matmul(weights, heads(values), False, tiny).transpose(1, 2).flatten(2)
        v = rules.add2(v, linear(block.attention.proj, y), False, tiny)
        h = linear(block.mlp[0], norm(block.norm2, v))
        h = h + (F.gelu(h) - h).detach()  # relevance is passed on
        v = rules.add2(v, linear(block.mlp[2], h), False, tiny)
    score = linear(net.head, norm(net.norm, v)[:, 0])[:, target]
    return torch.autograd.grad(score, x, score.detach())[0]


def test_the_authors_own_functions_give_the_same() -> None:
    net = attention_network("qkv").double().requires_grad_(False)
    x = images(2, 3, 16, 16)
    expected = by_lxt(net, x, 2)
    got = attribute_full(net, x, 2, "lrp_0").raw
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


class TokensFirst(nn.Module):
    """Tokens, then images, as many as tokens: which axis is which cannot be seen from shapes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 3)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(0))


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_gamma"])
def test_tokens_first_and_as_many_as_images(method: str) -> None:
    net = TokensFirst()
    x = images(4, 1, 4, 4)
    found = attribute_full(net, x, 1, method)
    torch.testing.assert_close(found.raw.sum((1, 2, 3)) + found.info["absorbed"], net(x)[:, 1].detach())
    for i in range(4):
        alone = attribute_full(net, x[i : i + 1], 1, method)
        torch.testing.assert_close(alone.raw[0], found.raw[i])


@pytest.mark.parametrize("net", [Residual(), attention_network("fused").double()], ids=["sum", "attention"])
def test_deep_taylor_keeps_the_sign_of_the_logit_through_sums_and_attention(net: nn.Module) -> None:
    shape = (3, 16, 16)
    if isinstance(net, Residual):
        shape = (2, 8, 8)
    x = images(4, *shape)
    score = net(x)[:, 2].detach()
    raw = attribute_full(net, x, 2, "deep_taylor").raw * score.sign().view(-1, 1, 1, 1)
    assert float(raw.min()) >= 0
    assert float(raw.max()) > 0


def test_without_the_rules_that_lose_a_transformer_conserves() -> None:
    net = attention_network("module").double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "bias" in name or name in {"token", "positions"}:
                p.zero_()
    found = attribute_full(net, images(2, 3, 16, 16), 0, "lrp_0", attention="cp")
    assert float(found.residual.max()) < 1e-6


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, object], str]] = {
    "three factors": (lambda v: torch.einsum("bi,bi,bi->bi", v, v, v), {}, "'einsum'.*more than two factors"),
    "of the image": (lambda v: v[:, None] @ v[..., None], {"attention": "cp"}, "'matmul'.*neither is a softmax"),
    "a last softmax": (lambda v: F.softmax(v, 1), {"attention": "cp"}, "'softmax'.*but as weights of attention"),
    "filled": (lambda v: v.masked_fill(v > 0, 1.0), {}, "'masked_fill'.*no rule"),
    "quotient": (lambda v: v / v.flip(1), {}, "'div'.*divides by a value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(name: str) -> None:
    f, options, match = REFUSED[name]
    with pytest.raises(ModelError, match=match):
        relevance(f, [1.0, 2.0, 3.0], **options)


def test_a_product_that_reads_the_image_is_refused() -> None:
    class Read(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ torch.ones(4, 2, dtype=x.dtype)

    with pytest.raises(ModelError, match=r"'matmul'.*reads the image itself; use torch.nn.functional.linear"):
        attribute_full(Read().eval(), images(1, 1, 2, 2), 0, "lrp_0")


def test_bad_ways_through_attention_are_refused() -> None:
    net = attention_network().double()
    with pytest.raises(InterpNetError, match=r"linear_gamma is -1\.0; expected a number above 0"):
        attribute_full(net, images(1, 3, 16, 16), 0, "lrp_gamma", linear_gamma=-1.0)
    with pytest.raises(InterpNetError, match="attention is 'rollout'; expected 'attnlrp' or 'cp'"):
        attribute_full(net, images(1, 3, 16, 16), 0, "lrp_gamma", attention="rollout")
    with pytest.raises(InterpNetError, match=r"attention='attnlrp' came with method='deep_taylor'.*both signs"):
        attribute_full(net, images(1, 3, 16, 16), 0, "deep_taylor", attention="attnlrp")


def test_maps_of_several_images_at_once_are_right_or_refused_where_tokens_come_first() -> None:
    net = TokensFirst()
    x = images(4, 1, 4, 4)
    start = Channel("patches", 1)
    found = channel_signal(net, x, Unit(1), rule="lrp_gamma")
    alone = channel_signal(net, x[2:3], Unit(1), rule="lrp_gamma")
    # A product's epsilon, a millionth, is in units of the batch here.
    torch.testing.assert_close(found.signals[2], alone.signals[0], rtol=0, atol=1e-4 * float(alone.signals.abs().max()))
    assert bool(found.absorbed.isnan().all())
    assert bool(alone.absorbed.isfinite().all())
    assert bool(channel_signal(net, x, start, rule="lrp_gamma").absorbed.isfinite().all())
    with pytest.raises(ModelError, match="'lrp_epsilon' cannot be right for several images at once"):
        channel_signal(net, x, Unit(1), rule="lrp_epsilon")
    one = channel_signal(net, x[:1], Unit(1), rule="lrp_epsilon")
    torch.testing.assert_close(one.signals.sum() + one.absorbed.sum(), net(x[:1])[0, 1].detach())
