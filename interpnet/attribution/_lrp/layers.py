"""The layers that zennit's rules act on, made from operator calls, and the functions that apply them.

zennit attaches a rule to an ``nn.Module``. Here each convolution, linear map, batch norm and average pooling that
the engine sees becomes such a module for the time of one backward pass, whichever way the network's author wrote
it, and the rule's own ``backward`` runs on it. A batch norm right behind a convolution or linear map is merged into
it, by the flow of the data instead of by the order of attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import Any

from torch import Tensor, nn

from interpnet.attribution._refusals import Ruled, Run
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


class Relevance(Ruled):
    """An operator after which the values are no longer those of the image."""


class Through(Ruled):
    """An operator whose other operand counts as a constant: what follows still reads the image's own values."""


def under_rule(x: Tensor, run: Run, layer: Layer, rule: Any, absorb: Absorb) -> Tensor:
    """Return ``run()``, what a layer makes of ``x``, with a zennit rule; ``absorb`` gets what went in and came out."""

    def send_back(above: Tensor) -> tuple[Tensor]:
        # zennit's rules keep what their forward hook saw; here no hook runs, so the input is put where it would be.
        ready = rule.copy()
        ready.stored_tensors["input"] = (x,)
        (below,) = ready.backward(layer, (x,), (above,))
        ready.stored_tensors.clear()
        absorb(above, below)
        return (below,)

    return Relevance.of(run, send_back, x)


def passed_on(x: Tensor, run: Run, kind: type[Ruled] = Relevance) -> Tensor:
    """Return ``run()``, all of whose relevance is that of ``x``."""
    shape = x.shape
    # Broadcasting sent one value to several places.
    return kind.of(run, lambda above: (above.sum_to_size(shape),), x)


def shared(
    a: Tensor, b: Tensor, run: Run, weights: tuple[float, float], stabilise: Stabiliser, absorb: Absorb
) -> Tensor:
    """Return the sum ``run()`` whose relevance is shared in proportion: ``R_a = a * R / (a + b)``."""
    terms = (a.detach() * weights[0], b.detach() * weights[1])
    depend = (a.requires_grad, b.requires_grad)

    def send_back(above: Tensor) -> list[Tensor]:
        share = above / stabilise(terms[0] + terms[1])
        below = [(term * share).sum_to_size(term.shape) for term in terms]
        # A constant's share goes no further: the layer keeps it.
        absorb(above, *compress(below, depend))
        return below

    return Relevance.of(run, send_back, a, b)
