"""The layers that zennit's rules act on, made from operator calls, and the functions that apply them.

zennit attaches a rule to an ``nn.Module``. Here each convolution, linear map, batch norm and average pooling that
the engine sees becomes such a module for the time of one backward pass, whichever way the network's author wrote
it, and the rule's own ``backward`` runs on it. A batch norm right behind a convolution or linear map is merged into
it, by the flow of the data instead of by the order of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.backward._lrp.prepared import Prepared
from interpnet.backward._passes import Passes
from interpnet.backward._polyphase import nearest
from interpnet.backward._refusals import Ruled, SendBack
from interpnet.engine import Call

Stabiliser = Callable[[Tensor], Tensor]
Absorb = Callable[..., None]


class Layer(nn.Module):
    """``func(x, weight, bias)`` as a module; without weight ``func(x)``."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, func: Callable[..., Tensor], weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        super().__init__()
        self.func = func
        # Registered by name, because zennit's rules change a layer's parameters by their names.
        for name, value in (("weight", weight), ("bias", bias)):
            parameter = None
            if value is not None:
                parameter = nn.Parameter(value.detach(), requires_grad=False)
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return self.func(x)
        return self.func(x, self.weight, self.bias)


def layer_of(call: Call) -> Layer:
    """Return a convolution's or linear map's module."""
    # Without the call itself, whose tensors would stay in memory until the backward pass.
    func = call.func
    rest = call.args[3:]
    named = {k: v for k, v in call.kwargs.items() if k not in {"input", "weight", "bias"}}
    return Layer(lambda x, w, b: func(x, w, b, *rest, **named), call.argument(1, "weight"), call.argument(2, "bias"))


def averaging_layer(call: Call) -> Layer:
    """Return an average pooling's module: linear, without weights."""
    return Layer(lambda x: call.on(x).run())


def scaling_layer(call: Call) -> Layer:
    """Return a batch norm on its running statistics as the linear layer that it is: one weight per channel."""
    return Layer(_scale_channels, *call.batch_norm_affine())


def _scale_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x * weight.view(shape) + bias.view(shape)


def merged_layer(layer: Layer, call: Call) -> Layer:
    """Return a layer with the batch norm behind it folded into its weight and bias.

    Examples
    --------
    >>> import torch
    >>> import torch.nn.functional as F
    >>> conv = Layer(F.linear, torch.tensor([[2.0]]), None)
    >>> norm = Call(F.batch_norm, (torch.ones(1, 1), torch.ones(1), torch.ones(1), None, torch.full((1,), 5.0)),
    ...             {"eps": 0.0}, "batch_norm", "norm", "bn", "bn")
    >>> merged = merged_layer(conv, norm)
    >>> merged.weight.item(), merged.bias.item()
    (2.0, 4.0)
    """
    scale, shift = call.batch_norm_affine()
    weight = layer.weight
    if weight is None:
        raise RuntimeError("a layer without weight has nothing to merge into")
    bias = shift
    if layer.bias is not None:
        bias = shift + scale * layer.bias
    return Layer(layer.func, weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias)


def dense_layer(call: Call) -> tuple[Layer, tuple[int, ...]]:
    """Return a strided convolution's module with stride 1, and the size of its output."""
    how = call.convolution()
    weight = call.argument(1, "weight")
    axes = zip(call.argument(0, "input").shape[2:], how.padding, how.dilation, weight.shape[2:], strict=True)
    size = tuple(D + sum(pads) - step * (k - 1) for D, pads, step, k in axes)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(how.stride) - 1]
    # Uneven padding is that of padding="same", which allows no stride.
    padding = [before for before, _ in how.padding]
    dense = Layer(
        lambda x, w, b: convolve(x, w, b, 1, padding, how.dilation, how.groups), weight, call.argument(2, "bias")
    )
    return dense, size


class Relevance(Ruled):
    """An operator after which the values are no longer those of the image."""


class Through(Ruled):
    """An operator whose other operand counts as a constant: what follows still reads the image's own values."""


def by_rule(x: Tensor, layer: Layer, rule: Any, passes: Passes, absorb: Absorb) -> SendBack:
    """Return what sends relevance through a layer with input ``x`` by a zennit rule.

    ``absorb`` gets what went in and what came out.
    """
    kept: Prepared | None = None

    def send_back(above: Tensor) -> tuple[Tensor]:
        nonlocal kept
        if kept is None and passes.again:
            kept = Prepared.of(x, layer, rule)
        if kept is not None and kept.usable:
            below = kept(above)
        else:
            # zennit's rules keep what their forward hook saw; no hook runs here, so the input is put where it would be.
            ready = rule.copy()
            ready.stored_tensors["input"] = (x,)
            (below,) = ready.backward(layer, (x,), (above,))
            ready.stored_tensors.clear()
        absorb(above, below)
        return (below,)

    return send_back


def spread(send_back: SendBack, size: tuple[int, ...]) -> SendBack:
    """Enlarge relevance to ``size`` by nearest neighbour, its sum kept, before it is sent back."""

    def enlarged(above: Tensor) -> Sequence[Tensor]:
        return send_back(shared_out(above, size))

    return enlarged


def finite(factors: list[Tensor]) -> list[Tensor]:
    """Return factors of relevance, none where one is not finite: it would make NaN of a relevance of zero."""
    if all(float(torch.linalg.vector_norm(factor, 1)) < torch.inf for factor in factors):
        return factors
    return []


def shared_out(relevance: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (B, C, *size): relevance enlarged by nearest neighbour, each value divided among its copies.

    Examples
    --------
    >>> import torch
    >>> shared_out(torch.tensor([[[6.0, 1.0]]]), (5,))
    tensor([[[2.0000, 2.0000, 2.0000, 0.5000, 0.5000]]])
    """
    for axis, n in enumerate(size, start=2):
        d = relevance.shape[axis]
        copies = torch.bincount(torch.arange(n, device=relevance.device) * d // n, minlength=d)
        shape = [1] * relevance.dim()
        shape[axis] = d
        relevance = relevance / copies.to(relevance.dtype).view(shape)
    return nearest(relevance, size)


def passed_on(x: Tensor) -> SendBack:
    """Return what gives all relevance to ``x``."""
    shape = x.shape
    # Broadcasting sent one value to several places.
    return lambda above: (above.sum_to_size(shape),)


def shared(
    a: Tensor, b: Tensor, weights: tuple[float, float], stabilise: Stabiliser, passes: Passes, absorb: Absorb
) -> SendBack:
    """Return what shares a sum's relevance in proportion: ``R_a = a * R / (a + b)``."""
    terms = [a.detach() * weights[0], b.detach() * weights[1]]
    shapes = (a.shape, b.shape)
    depend = (a.requires_grad, b.requires_grad)
    kept: list[Tensor] = []

    def send_back(above: Tensor) -> list[Tensor]:
        if kept:
            below = [share * above for share in kept]
        else:
            total = stabilise(terms[0] + terms[1])
            if passes.again:
                kept.extend(finite([term / total for term in terms]))
            share = above / total
            below = [term * share for term in terms]
            if kept:
                terms.clear()
        below = [part.sum_to_size(shape) for part, shape in zip(below, shapes, strict=True)]
        # A constant's share goes no further: the layer keeps it.
        absorb(above, *compress(below, depend))
        return below

    return send_back
