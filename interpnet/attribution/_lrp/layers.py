"""The layers that zennit's rules act on, made from operator calls, and the autograd functions that apply them.

zennit attaches a rule to an ``nn.Module``. Here each convolution, linear map, batch norm and average pooling that
the engine sees becomes such a module for the time of one backward pass, whichever way the network's author wrote
it, and the rule's own ``backward`` runs on it. A batch norm right behind a convolution or linear map is merged into
it, by the flow of the data instead of by the order of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution._refusals import batch_norm_affine
from interpnet.engine import Call

Stabiliser = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """``func(x, weight, bias, *rest, **named)`` as a module; without weight ``func(x, *rest, **named)``."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        func: Callable[..., Tensor],
        weight: Tensor | None,
        bias: Tensor | None,
        rest: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.func = func
        self.rest = rest
        self.named = dict(named or {})
        for name, value in (("weight", weight), ("bias", bias)):
            parameter = None
            if value is not None:
                parameter = nn.Parameter(value.detach(), requires_grad=False)
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return self.func(x, *self.rest, **self.named)
        return self.func(x, self.weight, self.bias, *self.rest, **self.named)


def layer_of(call: Call) -> Layer:
    """Return a convolution's or linear map's module."""
    weight = call.argument(1, "weight")
    bias = call.argument(2, "bias")
    named = {k: v for k, v in call.kwargs.items() if k not in {"input", "weight", "bias"}}
    return Layer(call.func, weight, bias, call.args[3:], named)


def averaging_layer(call: Call) -> Layer:
    """Return an average pooling's module: linear, without weights."""
    named = {k: v for k, v in call.kwargs.items() if k != "input"}
    return Layer(call.func, None, None, call.args[1:], named)


def scaling_layer(call: Call) -> Layer:
    """Return a batch norm on its running statistics as the linear layer that it is: one weight a channel."""
    return Layer(_scale_channels, *batch_norm_affine(call))


def _scale_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x * weight.view(shape) + bias.view(shape)


def merged_layer(layer: Layer, call: Call) -> Layer:
    """Return a layer with the batch norm behind it folded into its weight and bias.

    Examples
    --------
    >>> import torch.nn.functional as F
    >>> conv = Layer(F.linear, torch.tensor([[2.0]]), None)
    >>> norm = Call(F.batch_norm, (torch.ones(1, 1), torch.ones(1), torch.ones(1), None, torch.full((1,), 5.0)),
    ...             {"eps": 0.0}, "batch_norm", "norm", "bn", "bn")
    >>> merged = merged_layer(conv, norm)
    >>> merged.weight.item(), merged.bias.item()
    (2.0, 4.0)
    """
    scale, shift = batch_norm_affine(call)
    weight = layer.weight
    if weight is None:
        raise RuntimeError("a layer without weight has nothing to merge into")
    bias = shift
    if layer.bias is not None:
        bias = shift + scale * layer.bias
    return Layer(layer.func, weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias, layer.rest, layer.named)


class Relevance(torch.autograd.Function):
    """The value ``run()`` of a layer whose backward is a zennit rule; ``absorb`` gets what went in and came out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Callable[[], Tensor], layer: Layer, rule: Any, absorb: Callable[..., None]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        ctx.rule = rule
        ctx.absorb = absorb
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (x,) = ctx.saved_tensors
        # zennit's rules keep what their forward hook saw; here no hook runs, so the input is put where it would be.
        rule = ctx.rule.copy()
        rule.stored_tensors["input"] = (x,)
        (relevance,) = rule.backward(ctx.layer, (x,), grads)
        rule.stored_tensors.clear()
        ctx.absorb(*grads, relevance)
        return relevance, None, None, None, None


class Pass(torch.autograd.Function):
    """The value of an element-wise operator that passes relevance on unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
        ctx.shape = x.shape
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (relevance,) = grads
        return relevance.sum_to_size(ctx.shape), None  # broadcasting sent one value to several places


class Through(Pass):
    """The same for an operator whose other operand counts as a constant: what follows still reads the same values."""


class Share(torch.autograd.Function):
    """The sum ``a + b`` whose relevance is shared in proportion: ``R_a = a * R / (a + b)``."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        run: Callable[[], Tensor],
        signs: tuple[float, float],
        stabilise: Stabiliser,
        absorb: Callable[..., None],
    ) -> Tensor:
        ctx.save_for_backward(a * signs[0], b * signs[1])
        ctx.stabilise = stabilise
        ctx.absorb = absorb
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (relevance,) = grads
        a, b = ctx.saved_tensors
        share = relevance / ctx.stabilise(a + b)
        shares: list[Tensor | None] = [None, None]
        for i, term in enumerate((a, b)):
            if ctx.needs_input_grad[i]:
                shares[i] = (term * share).sum_to_size(term.shape)
        ctx.absorb(relevance, *[s for s in shares if s is not None])
        return shares[0], shares[1], None, None, None, None
