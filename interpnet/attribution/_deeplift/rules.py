"""The multipliers of DeepLIFT at operators that are not linear, for one image against one baseline.

With x, y the operator's input and output on the image and x0, y0 those on the baseline, a multiplier m carries
``m * (x - x0)`` of ``y - y0`` back to the input; the sum over inputs must be ``y - y0`` exactly.

=============  =======================================================================================
operator       rule
=============  =======================================================================================
element-wise   *rescale*: ``m = (y - y0) / (x - x0)``; where the two nearly meet, the mean derivative
element-wise   *RevealCancel*: positive and negative parts apart, see :mod:`.parts`
maximum        all to the position of the image's maximum if ``y >= y0``, else to that of the baseline's
product a * b  ``m_a = (b + b0) / 2``, ``m_b = (a + a0) / 2``: each factor's Shapley value
quotient a/b   the product of a and 1/b; of norms written by hand see :mod:`.by_hand`
=============  =======================================================================================

The maximum: if y >= y0 its position i has ``x_i - x0_i = y - x0_i >= y - y0 >= 0`` since x0_i <= y0, so the
multiplier lies in [0, 1]; for y < y0 likewise at the baseline's position. Overlapping windows add up.

Source: Shrikumar, Greenside & Kundaje, ICML 2017. The paper has no rule for maxima and products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.backward import Ruled
from interpnet.engine import Call

Elementwise = Callable[[Tensor], Tensor]


class Multiplied(Ruled):
    """An operator whose backward carries multipliers."""


def closeness(dtype: torch.dtype) -> float:
    """Return the relative difference below which a quotient of differences is mostly rounding: ``eps ** (2/3)``.

    There the mean derivative is used: its own error is of second order, so far below rounding.
    """
    eps = float(torch.finfo(dtype).eps)
    return math.exp(2 / 3 * math.log(eps))


def function_of(call: Call) -> Elementwise:
    """Return an element-wise call as a function of its input, safe for operators that work in place."""

    def f(x: Tensor) -> Tensor:
        y: Tensor = call.on(x.clone()).run()
        return y

    return f


def derivative(call: Call, x: Tensor) -> Tensor:
    """Return the element-wise derivative at ``x``."""
    if call.op == "relu":  # torch's own derivative, without a graph
        return (x > 0).to(x.dtype)
    with torch.enable_grad():
        copy = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(function_of(call)(copy).sum(), copy)
    return slope


def mean_derivative(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return the mean of the derivatives at image and baseline."""
    return (derivative(call, x) + derivative(call, x0)) / 2


def rescale(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return an element-wise operator's output whose backward is the rescale rule.

    Examples
    --------
    A rectifier that the image opens from -1 to 3: 3 of 4 steps count.

    >>> x, x0 = torch.tensor([3.0], requires_grad=True), torch.tensor([-1.0])
    >>> y = rescale(Call(torch.relu, (x,), {}, "relu", "rectifier", "relu", ""), x, x0)
    >>> torch.autograd.grad(y, x)[0]
    tensor([0.7500])
    """
    f = function_of(call)
    z = x.detach()
    with torch.no_grad():
        y = f(z)
        step = z - x0
        near = step.abs() <= closeness(z.dtype) * torch.maximum(z.abs(), x0.abs())
        slope = (y - f(x0)) / step.masked_fill(near, 1)
        if bool(near.any()):
            slope = torch.where(near, mean_derivative(call, z, x0), slope)
    return Multiplied.of(lambda: y, lambda signal: (signal * slope,), x)


def maximum(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return the output of a maximum pooling whose backward is the rule of the maximum.

    Examples
    --------
    The image's maximum 3 stands where the baseline had 1, whose own maximum is 2: half of the difference counts.

    >>> x, x0 = torch.tensor([[[3.0, 0.0]]], requires_grad=True), torch.tensor([[[1.0, 2.0]]])
    >>> y = maximum(Call(F.max_pool1d, (x, 2), {}, "max_pool1d", "pool", "pool", ""), x, x0)
    >>> torch.autograd.grad(y, x)[0]
    tensor([[[0.5000, 0.0000]]])
    """
    if call.op == "amax":
        return _amax(call, x, x0)
    with torch.no_grad():
        z = x.detach()
        z0 = x0.expand_as(z)
        y, index, slope = _winner(z, z0, _pool_with_indices(call, z), _pool_with_indices(call, z0))
    return _scattered(x, y, index, slope)


def _scattered(x: Tensor, y: Tensor, index: Tensor, slope: Tensor) -> Tensor:
    """Return the maxima ``y`` over windows of ``x``; ``signal * slope`` goes back to the positions ``index``."""
    shape = x.shape

    def send_back(signal: Tensor) -> tuple[Tensor]:
        flat = signal.new_zeros((*shape[:2], shape[2:].numel()))
        # Overlapping windows may have one maximum: their signals add up.
        flat.scatter_add_(2, index.flatten(2), (signal * slope).flatten(2))
        return (flat.view(shape),)

    return Multiplied.of(lambda: y, send_back, x)


def _winner(
    z: Tensor, z0: Tensor, found: tuple[Tensor, Tensor], base: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maxima, the position that gets each one's signal, and its multiplier."""
    y, at = found
    y0, at0 = base
    index = torch.where(y >= y0, at, at0)
    step = (z - z0).flatten(2).gather(2, index.flatten(2)).view_as(y)
    moved = step != 0
    # In [0, 1] but for rounding; where nothing moved there, y = y0 and any multiplier is right.
    slope = torch.where(moved, ((y - y0) / torch.where(moved, step, 1)).clamp(0, 1), 1)
    return y, index, slope


def _amax(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    dims = call.argument(1, "dim")
    keep = bool(call.argument(2, "keepdim", default=False))
    if isinstance(dims, int):
        dims = [dims]
    axes = sorted(d % x.dim() for d in dims)
    # The axes of the maximum go last and become one, as for a window that covers all of it.
    rest = [a for a in range(x.dim()) if a not in axes]

    def rows(v: Tensor) -> Tensor:  # (B, everything else, the positions of one maximum)
        return v.permute(*rest, *axes).reshape(v.shape[0], -1, torch.Size(v.shape[a] for a in axes).numel())

    flat = rows(x)
    flat0 = rows(x0.expand_as(x))
    with torch.no_grad():
        flat_image = flat.detach()
        y, index, slope = _winner(flat_image, flat0, flat_image.max(2, keepdim=True), flat0.max(2, keepdim=True))
    out = _scattered(flat, y, index, slope)
    shape = list(x.shape)
    for axis in reversed(axes):
        shape[axis : axis + 1] = [1] * keep
    return out.reshape(shape)


def _pool_with_indices(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    n = call.operator.dimensions
    named = {k: v for k, v in call.kwargs.items() if k not in {"input", "return_indices"}}
    if call.op.startswith("adaptive"):
        pool: Any = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[n - 1]
        given = {"output_size": call.argument(1, "output_size")}
    else:
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = {**dict(zip(names, call.args[1:], strict=False)), **named}
        # torch.max_pool2d spells "as the kernel" with an empty list, which torch.nn.functional refuses.
        given["stride"] = given.get("stride") or None
    y, at = pool(x, **given, return_indices=True)
    return y, at


def product(call: Call, a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
    """Return a product or quotient of two values that both depend on the image, under the product rule.

    Examples
    --------
    >>> a, b = (torch.tensor([v], requires_grad=True) for v in (3.0, 5.0))
    >>> one = torch.ones(1)
    >>> y = product(Call(torch.mul, (a, b), {}, "mul", "mul", "mul", ""), a, b, one, one)
    >>> torch.autograd.grad(y, (a, b))
    (tensor([3.]), tensor([2.]))
    """
    with torch.no_grad():
        # A copy of the first factor: the call may work in place.
        y: Tensor = call.func(a.detach().clone(), b.detach(), **call.kwargs)
        for_a = (b + b0) / 2
        for_b = (a + a0) / 2
        if "div" in call.op:
            # a / b is the product of a and 1/b, and 1/b - 1/b0 is -(b - b0) / (b b0).
            for_a = (1 / b + 1 / b0) / 2
            for_b = -for_b / (b * b0)
    shape_a = a.shape
    shape_b = b.shape

    def send_back(signal: Tensor) -> tuple[Tensor, Tensor]:
        return (signal * for_a).sum_to_size(shape_a), (signal * for_b).sum_to_size(shape_b)

    return Multiplied.of(lambda: y, send_back, a, b)
