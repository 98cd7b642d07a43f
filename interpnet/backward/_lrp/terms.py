"""LRP's rules as sums of products: relevance times a factor, through a transposed layer, times a share of the input.

With x the input, W and b the weights and z the output of a layer, + and - the positive and negative parts, and one over
a denominator meaning that of the stabilised denominator:

===========  ===================================================================================================
epsilon      ``x W' (R / z)``
z-plus       ``x+ W+' (R / d) + x- W-' (R / d)``, ``d = x+ W+ + x- W- + b+``
alpha-beta   alpha times z-plus, less beta times ``x+ W-' (R / e) + x- W+' (R / e)``, ``e = x+ W- + x- W+ + b-``
gamma        where z > 0 epsilon on ``W + gamma W+`` for x+ and ``W + gamma W-`` for x-, where z < 0 the reverse
z-box        ``x W' (R / f) - low W+' (R / f) - high W-' (R / f)``, ``f = x W - low W+ - high W-``
flat         z-plus with all inputs and weights 1
===========  ===================================================================================================

Sources: Bach et al. 2015 (epsilon, alpha-beta), Montavon et al. 2017 (z-plus, z-box), Lapuschkin et al. 2019 (flat),
Montavon et al. 2019 (gamma). On inputs that are nowhere negative, as behind a rectifier, half of the products is zero.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interpnet.backward._lrp.layers import Inverse, Layer, Term


def stabilised(epsilon: float, *, relative: bool = False) -> Inverse:
    """Return ``1 / (z + epsilon * sign(z))``, where 0 counts as positive.

    ``relative``: epsilon is in units of the root mean square of each sample's z.
    """

    def one(z: Tensor) -> Tensor:
        shift = z.new_full((), epsilon)
        if relative:
            shift = epsilon * z.square().mean(tuple(range(1, z.dim())), keepdim=True).sqrt()
        # Adding zero makes -0 positive.
        signed = z + 0.0
        return torch.copysign(shift, signed, out=signed).add_(z).reciprocal_()

    return lambda z: _each(one, z)


def one_image(inverse: Inverse) -> Inverse:
    """Return the same of a tensor that belongs to one image, whatever its first axis is."""
    return lambda z: inverse(z.unsqueeze(0)).squeeze(0)


def exactly(z: Tensor) -> Tensor:
    """Return ``1 / z`` for LRP-0, and 0 where z is 0, whose relevance 0/0 counts as 0."""
    # A stabiliser would make epsilon's rule of it. Of numbers below the smallest normal one the inverse overflows.
    whole = z.abs() >= torch.finfo(z.dtype).tiny
    return torch.where(whole, z, torch.ones_like(z)).reciprocal_() * whole


def epsilon_rule(layer: Layer, x: Tensor, z: Tensor | None = None, *, inverse: Inverse, bias: bool) -> list[Term]:
    """Return the terms of the epsilon rule, of LRP-0 with :func:`exactly`."""
    if z is None or not bias:
        z = layer.run(x, layer.weight, _kept(layer.bias, bias))
    return [Term(inverse(z), layer.down(layer.weight, x), x)]


def z_plus_rule(layer: Layer, x: Tensor, _z: Tensor | None = None, *, inverse: Inverse, bias: bool) -> list[Term]:
    """Return the terms of the z-plus rule."""
    return _one_sign(layer, x, inverse, bias, sign=1.0)


def alpha_beta_rule(
    layer: Layer, x: Tensor, _z: Tensor | None = None, *, alpha: float, beta: float, inverse: Inverse, bias: bool
) -> list[Term]:
    """Return the terms of the alpha-beta rule."""
    terms = _scaled(_one_sign(layer, x, inverse, bias, sign=1.0), alpha)
    if beta:
        terms += _scaled(_one_sign(layer, x, inverse, bias, sign=-1.0), -beta)
    return terms


def _one_sign(layer: Layer, x: Tensor, inverse: Inverse, bias: bool, *, sign: float) -> list[Term]:
    """Return the terms of the contributions of one sign."""
    plus, minus = _halves(x)
    parts = [(plus, _half(layer.weight, sign))]
    if minus is not None:
        parts.append((minus, _half(layer.weight, -sign)))
    total = layer.run(plus, parts[0][1], _half(_kept(layer.bias, bias), sign))
    for part, weight in parts[1:]:
        total = total + layer.run(part, weight, None)
    factor = inverse(total)
    return [Term(factor, layer.down(weight, x), part) for part, weight in parts]


def gamma_rule(
    layer: Layer, x: Tensor, z: Tensor | None = None, *, gamma: float, inverse: Inverse, bias: bool
) -> list[Term]:
    """Return the terms of the gamma rule, those of positive outputs first."""
    weight = layer.weights
    b = _kept(layer.bias, bias)
    plus, minus = _halves(x)
    changed = {1.0: weight + gamma * weight.clamp(min=0), -1.0: weight + gamma * weight.clamp(max=0)}
    if z is None:
        z = layer.run(x, weight, layer.bias)
    if minus is None:
        # z is linear in the weights: of the negative half it is what the positive half leaves.
        own = z
        if b is None and layer.bias is not None:
            own = layer.run(x, weight, None)
        halves = [own, layer.run(plus, weight.clamp(min=0), _half(b, 1.0))]
    else:
        halves = []
        for sign in (1.0, -1.0):
            shifted = b
            half = _half(b, sign)
            if b is not None and half is not None:
                shifted = b + gamma * half
            total = layer.run(plus, changed[sign], shifted)
            halves.append(total + layer.run(minus, changed[-sign], None))

    def factors(z: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        # One denominator for each output, by its sign; products with 0 and 1 take a third of the time of a selection.
        sign = z.sign()
        positive = sign.relu()
        negative = positive - sign
        if minus is None:
            # The outputs themselves, and what the weights above zero make of them.
            total = (first - second).mul_(negative).add_(second * positive).mul_(gamma).add_(first)
        else:
            total = first * positive + second * negative
        factor = inverse(total)
        return positive.mul_(factor), factor.mul_(negative)

    # One image after another, as in _each().
    images = [factors(*[part[i : i + 1] for part in (z, *halves)]) for i in range(len(z))]
    terms = []
    for sign, found in zip((1.0, -1.0), zip(*images, strict=True), strict=True):
        factor = torch.cat(found)
        terms.append(Term(factor, layer.down(changed[sign], x), plus))
        if minus is not None:
            terms.append(Term(factor, layer.down(changed[-sign], x), minus))
    return terms


def z_box_rule(
    layer: Layer, x: Tensor, _z: Tensor | None = None, *, bounds: tuple[Tensor, Tensor], inverse: Inverse
) -> list[Term]:
    """Return the terms of the z-box rule, with bounds of the shape of ``x``; biases take no share of it."""
    low, high = bounds
    plus = _half(layer.weight, 1.0)
    minus = _half(layer.weight, -1.0)
    parts = [(x, layer.weight), (-low, plus), (-high, minus)]
    total = sum(layer.run(part, weight, None) for part, weight in parts)
    factor = inverse(total)  # type: ignore[arg-type]
    return [Term(factor, layer.down(weight, x), part) for part, weight in parts]


def flat_rule(layer: Layer, x: Tensor, _z: Tensor | None = None, *, inverse: Inverse) -> list[Term]:
    """Return the terms of the flat rule, the same for all images."""
    ones = torch.ones_like(layer.weights)
    total = layer.run(torch.ones_like(x[:1]), ones, None)
    return [Term(inverse(total), layer.down(ones, x), None)]


def norm_rule(
    layer: Layer, x: Tensor, _z: Tensor | None = None, *, inverse: Inverse, positive: bool = False
) -> list[Term]:
    """Return the terms of a layer without weights: relevance in proportion to the values, or to the positive ones."""
    if positive:
        x = x.clamp(min=0)
    return [Term(inverse(layer.run(x, layer.weight, None)), layer.down(layer.weight, x), x)]


def _scaled(terms: list[Term], number: float) -> list[Term]:
    if number == 1.0:
        return terms
    return [Term(term.factor * number, term.down, term.share) for term in terms]


def _halves(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the positive and negative parts of an input; ``None`` for a negative part that is zero everywhere."""
    if x.numel() and bool(x.amin() >= 0):
        return x, None
    return x.clamp(min=0), x.clamp(max=0)


def _half(values: Tensor | None, sign: float) -> Tensor | None:
    if values is None:
        return None
    if sign > 0:
        return values.clamp(min=0)
    return values.clamp(max=0)


def _kept(bias: Tensor | None, keep: bool) -> Tensor | None:
    if keep:
        return bias
    return None


def _each(one: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return a function of each image, joined: its small steps stay in the processor's cache."""
    if len(z) == 1:
        return one(z)
    return torch.cat([one(z[i : i + 1]) for i in range(len(z))])
