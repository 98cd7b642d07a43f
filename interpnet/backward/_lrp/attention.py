"""What sends relevance through attention and through normalisations by an image's own statistics.

==============  ====================================================================================================
operator        rule
==============  ====================================================================================================
product A B     half to each factor by the epsilon rule: ``R_A = A * (R / 2z) B'`` and ``R_B = B * A' (R / 2z)``
softmax s(x)    Taylor's first order: ``R_x = x * (R - s * sum(R))``, the sum along the softmax; 0 where s is 0
norm            the epsilon rule on ``(x - mean(x)) / sd * w + b``, linear in x because sd counts as a constant
==============  ====================================================================================================

Source: Achtibat et al., "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers", ICML 2024,
section 3.3. Where the weights of attention count as constants (``attention="cp"``), a product has one factor, and no
relevance comes to a softmax: Ali et al., "XAI for Transformers: Better Explanations through Conservative Propagation",
ICML 2022, who take the standard deviation for a constant as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from interpnet.backward._lrp.layers import Absorb, Inverse, Layer
from interpnet.backward._refusals import SendBack, evaluate_call
from interpnet.engine import Call

#: How relevance goes through attention: to weights and values alike, or to the values alone.
ATTENTION = ("attnlrp", "cp")


def factors_of(call: Call) -> tuple[list[Tensor], Callable[..., Tensor]]:
    """Return a product's factors, and the product as a function of them."""
    if call.op == "einsum":
        operands = call.args[1:]
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = tuple(operands[0])
        return list(operands), lambda *both: torch.einsum(call.args[0], *both)
    return [*call.args, *call.kwargs.values()], call.func


def product_layer(call: Call, number: int) -> Layer:
    """Return a product of which factor ``number`` alone depends on the image, as the linear layer that it is."""
    factors, product = factors_of(call)
    constant = factors[1 - number].detach()
    if number == 0:
        return Layer(lambda x, w, _b: product(x, w), constant)
    return Layer(lambda x, w, _b: product(w, x), constant)


def halved(call: Call, inverse: Inverse, absorb: Absorb) -> SendBack:
    """Return what gives half of a product's relevance to either factor, in proportion to the contributions."""
    factors, product = factors_of(call)
    a, b = (factor.detach() for factor in factors)

    def send_back(above: Tensor) -> Sequence[Tensor]:
        with torch.enable_grad():
            both = (a.detach().requires_grad_(), b.detach().requires_grad_())
            z = product(*both)
        slopes = torch.autograd.grad(z, both, above * inverse(z.detach()) / 2)
        below = [factor * slope for factor, slope in zip((a, b), slopes, strict=True)]
        absorb(above, *below)
        return below

    return send_back


def softened(call: Call, absorb: Absorb) -> SendBack:
    """Return what sends relevance through a softmax."""
    x = call.argument(0, "input").detach()
    axis = call.argument(1, "dim")

    def send_back(above: Tensor) -> tuple[Tensor]:
        share = evaluate_call(call.on(x))
        # Minus infinity hides a position; what the softmax does not see gets nothing.
        below = x.masked_fill(share == 0, 0) * (above - share * above.sum(axis, keepdim=True))
        below = below.masked_fill(share == 0, 0)
        absorb(above, below)
        return (below,)

    return send_back


def normalising_layer(call: Call, x: Tensor) -> Layer | None:
    """Return a norm by an image's own statistics as a layer that is linear in ``x``, the deviation held constant.

    ``None`` for a norm that only divides.

    Examples
    --------
    The values 1 and 3 have the mean 2 and the deviation 1; the weights 2 and 3 count.

    >>> import torch.nn.functional as F
    >>> x = torch.tensor([[1.0, 3.0]])
    >>> given = {"weight": torch.tensor([2.0, 3.0]), "eps": 0.0}
    >>> layer = normalising_layer(Call(F.layer_norm, (x, (2,)), given, "layer_norm", "norm", "norm", ""), x)
    >>> layer.run(x, layer.weight, layer.bias).tolist(), layer.down(layer.weight, x)(torch.ones(1, 2)).tolist()
    ([[-2.0, 3.0]], [[-0.5, 0.5]])
    """
    if call.op == "layer_norm":
        axes = tuple(range(-len(call.argument(1, "normalized_shape")), 0))
        return _centred(x, lambda v: v, axes, call.argument(4, "eps", 1e-5), _affine(call, 2, 1))
    if call.op == "group_norm":
        groups = call.argument(1, "num_groups")
        axes = tuple(range(2, x.dim() + 1))
        apart = partial(_grouped, groups=groups)
        return _centred(x, apart, axes, call.argument(4, "eps", 1e-5), _affine(call, 2, x.dim()))
    if call.op == "instance_norm" and call.argument(5, "use_input_stats", default=True):
        # The function that torch.nn.functional calls has its weights before its statistics.
        first = 1 if call.func is torch.instance_norm else 3
        axes = tuple(range(2, x.dim()))
        return _centred(x, lambda v: v, axes, call.argument(7, "eps", 1e-5), _affine(call, first, x.dim()))
    return None


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:])


def _affine(call: Call, first: int, dims: int) -> tuple[Tensor, Tensor | None]:
    """Return a norm's weight and bias; those of channels as they multiply a tensor of ``dims`` axes."""
    found = []
    for number, name in enumerate(("weight", "bias")):
        given = call.argument(first + number, name)
        if given is not None:
            given = given.detach()
            if dims > 1:
                given = given.view(-1, *[1] * (dims - 2))
        found.append(given)
    weight, bias = found
    if weight is None:
        weight = torch.ones(())
    return weight, bias


def _centred(
    x: Tensor,
    apart: Callable[[Tensor], Tensor],
    axes: tuple[int, ...],
    eps: float,
    affine: tuple[Tensor, Tensor | None],
) -> Layer:
    """Return the layer ``(x - mean) / sd * weight + bias`` with the deviation of this ``x``."""
    x = x.detach()
    scale = (apart(x).var(axes, correction=0, keepdim=True) + eps).rsqrt()

    def normed(v: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = apart(v)
        out = ((rows - rows.mean(axes, keepdim=True)) * scale).reshape(v.shape) * weight
        if bias is None:
            return out
        return out + bias

    return Layer(normed, affine[0].to(x), affine[1])
