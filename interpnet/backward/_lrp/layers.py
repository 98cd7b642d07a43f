"""The layers that LRP's rules act on, made from operator calls, and what sends relevance through them.

Each convolution, linear map, batch norm and average pooling that the engine sees becomes such a layer, whichever way
the network's author wrote it. A batch norm right behind a convolution or linear map is merged into it, by the flow of
the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.backward._functions import transposed
from interpnet.backward._passes import Passes
from interpnet.backward._polyphase import nearest
from interpnet.backward._refusals import Ruled, SendBack
from interpnet.engine import Call, Convolution

#: One over a stabilised denominator.
Inverse = Callable[[Tensor], Tensor]
Absorb = Callable[..., None]
Down = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """A linear operator, with its weight and bias; an operator without weights leaves them away."""

    func: Callable[..., Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    # How a convolution walks over its input; None for other operators.
    how: Convolution | None = None

    @property
    def weights(self) -> Tensor:
        """Return the weight of a layer that has one."""
        if self.weight is None:
            raise RuntimeError("a layer without weights was asked for them")
        return self.weight

    def run(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Return what the operator makes of ``x`` with other weights."""
        with torch.no_grad():
            if weight is None:
                return self.func(x)
            return self.func(x, weight, bias)

    def down(self, weight: Tensor | None, x: Tensor) -> Down:
        """Return the transpose of the operator with other weights, for an input like ``x``."""
        if self.how is not None and weight is not None:
            return transposed(weight, tuple(x.shape[2:]), self.how)
        if self.func is F.linear:
            own = self.weights if weight is None else weight
            return lambda above: above @ own
        return lambda above: self._gradient(weight, x, above)

    def _gradient(self, weight: Tensor | None, x: Tensor, above: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = self.func(x) if weight is None else self.func(x, weight, None)
        (gradient,) = torch.autograd.grad(out, x, above)
        return gradient


@dataclass(frozen=True)
class Term:
    """One product of a rule on one input; it does not depend on the relevance."""

    factor: Tensor
    down: Down
    # What the product is multiplied by; None for 1.
    share: Tensor | None


#: A rule on a layer and its input; the third is the layer's output where it is known, else None.
Rule = Callable[[Layer, Tensor, Tensor | None], list[Term]]


def layer_of(call: Call) -> Layer:
    """Return a convolution's or linear map's layer."""
    weight = call.argument(1, "weight").detach()
    bias = call.argument(2, "bias")
    if bias is not None:
        bias = bias.detach()
    if call.op == "linear":
        return Layer(F.linear, weight, bias)
    # Without the call itself, whose tensors would stay in memory until the backward pass.
    func = call.func
    rest = call.args[3:]
    named = {k: v for k, v in call.kwargs.items() if k not in {"input", "weight", "bias"}}
    how = None
    if call.operator.convolves and call.argument(0, "input").dim() == call.operator.dimensions + 2:
        how = call.convolution()
    return Layer(lambda x, w, b: func(x, w, b, *rest, **named), weight, bias, how)


def averaging_layer(call: Call) -> Layer:
    """Return an average pooling's layer: linear, without weights."""
    return Layer(lambda x: call.on(x).run())


def scaling_layer(call: Call) -> Layer:
    """Return a batch norm on its running statistics as the linear layer that it is: one weight per channel."""
    return Layer(_scale_channels, *call.batch_norm_affine())


def _scale_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    scaled = x * weight.view(shape)
    if bias is None:
        return scaled
    return scaled + bias.view(shape)


def merged_layer(layer: Layer, call: Call) -> Layer:
    """Return a layer with the batch norm behind it folded into its weight and bias.

    Examples
    --------
    >>> conv = Layer(F.linear, torch.tensor([[2.0]]), None)
    >>> norm = Call(F.batch_norm, (torch.ones(1, 1), torch.ones(1), torch.ones(1), None, torch.full((1,), 5.0)),
    ...             {"eps": 0.0}, "batch_norm", "norm", "bn", "bn")
    >>> merged = merged_layer(conv, norm)
    >>> merged.weight.item(), merged.bias.item()
    (2.0, 4.0)
    """
    scale, shift = call.batch_norm_affine()
    weight = layer.weights
    bias = shift
    if layer.bias is not None:
        bias = shift + scale * layer.bias
    return replace(layer, weight=weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias=bias)


def dense_layer(call: Call) -> tuple[Layer, tuple[int, ...]]:
    """Return a strided convolution's layer with stride 1, and the size of its output."""
    layer = layer_of(call)
    how = replace(call.convolution(), stride=(1,) * call.operator.dimensions)
    weight = call.argument(1, "weight")
    axes = zip(call.argument(0, "input").shape[2:], how.padding, how.dilation, weight.shape[2:], strict=True)
    size = tuple(D + sum(pads) - step * (k - 1) for D, pads, step, k in axes)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(how.stride) - 1]
    # Uneven padding is that of padding="same", which allows no stride.
    padding = [before for before, _ in how.padding]
    return replace(layer, func=lambda x, w, b: convolve(x, w, b, 1, padding, how.dilation, how.groups), how=how), size


@dataclass(frozen=True)
class Weighted:
    """A convolution or linear map that ran, with its input and rule."""

    x: Tensor
    layer: Layer
    # The same with stride 1, where relevance is resampled; else the layer itself.
    dense: Layer
    rule: Rule
    # The size of the output with stride 1, where relevance is resampled.
    size: tuple[int, ...] | None = None

    def merged(self, norm: Call) -> Weighted:
        """Return this layer with the batch norm behind it folded into its weights."""
        layer = merged_layer(self.layer, norm)
        dense = layer
        if self.size is not None:
            dense = merged_layer(self.dense, norm)
        return replace(self, layer=layer, dense=dense)

    def off(self, out: Tensor) -> tuple[float, float]:
        """Return how far the layer's output is from ``out``, and the size of that, on the first image."""
        # One image is enough to tell weights apart, and all of them would cost another pass.
        with torch.no_grad():
            y = out[:1]
            off = (self.layer.run(self.x[:1], self.layer.weight, self.layer.bias) - y).abs().max()
            return float(off), float(y.abs().max())


class Relevance(Ruled):
    """An operator after which the values are no longer those of the image."""


class Through(Ruled):
    """An operator whose other operand counts as a constant: what follows still reads the image's own values."""


def by_rule(x: Tensor, layer: Layer, rule: Rule, passes: Passes, absorb: Absorb, known: list[Tensor]) -> SendBack:
    """Return what sends relevance through a layer with input ``x`` by a rule of :mod:`.terms`.

    ``absorb`` gets what went in and what came out. ``known`` may hold the layer's output, and loses it once it is used.
    """
    x = x.detach()
    kept: list[Term] = []

    def send_back(above: Tensor) -> tuple[Tensor]:
        terms = kept or rule(layer, x, next(iter(known), None))
        if passes.again and not kept:
            kept.extend(terms)
            known.clear()
        below = send_down(terms, above, x)
        absorb(above, below)
        return (below,)

    return send_back


def send_down(terms: list[Term], above: Tensor, x: Tensor) -> Tensor:
    """Return the relevance of a layer's input ``x`` from that of its output."""
    below: Tensor | None = None
    for number, term in enumerate(terms):
        weighted = above * term.factor
        # Behind a rectifier no relevance comes where the output is negative, which is all of the later terms.
        if number and not int(torch.count_nonzero(weighted)):
            continue
        product = term.down(weighted)
        if term.share is not None:
            product = product * term.share
        below = product if below is None else below + product
    if below is None:
        return torch.zeros_like(x)
    return below


def spread(send_back: SendBack, size: tuple[int, ...]) -> SendBack:
    """Enlarge relevance to ``size`` by nearest neighbour, its sum kept, before it is sent back."""

    def enlarged(above: Tensor) -> Sequence[Tensor]:
        return send_back(shared_out(above, size))

    return enlarged


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


def parted(parts: Sequence[Tensor], axis: int, absorb: Absorb) -> SendBack:
    """Return what gives each part of a concatenation its own relevance; the layer keeps that of constants."""
    sizes = [part.shape[axis] for part in parts]
    depend = [part.requires_grad for part in parts]

    def send_back(above: Tensor) -> list[Tensor]:
        below = list(compress(torch.split(above, sizes, axis), depend))
        absorb(above, *below)
        return below

    return send_back


def shared(
    a: Tensor,
    b: Tensor,
    weights: tuple[float, float],
    inverse: Inverse,
    passes: Passes,
    absorb: Absorb,
    *,
    sizes: bool = False,
) -> SendBack:
    """Return what shares a sum's relevance in proportion, ``R_a = a * R / (a + b)``, or by the terms' ``sizes``."""
    terms = [a.detach() * weights[0], b.detach() * weights[1]]
    if sizes:
        terms = [term.abs() for term in terms]
    shapes = (a.shape, b.shape)
    depend = (a.requires_grad, b.requires_grad)
    kept: list[Tensor] = []

    def send_back(above: Tensor) -> list[Tensor]:
        shares = kept
        if not kept:
            scale = inverse(terms[0] + terms[1])
            shares = [term * scale for term in terms]
        if passes.again and not kept:
            kept.extend(shares)
            terms.clear()
        below = [(share * above).sum_to_size(shape) for share, shape in zip(shares, shapes, strict=True)]
        # A constant's share goes no further: the layer keeps it.
        absorb(above, *compress(below, depend))
        return below

    return send_back
