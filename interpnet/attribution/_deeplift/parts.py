"""RevealCancel: the positive and negative parts of a difference, from a linear layer to the rectifier it feeds.

A linear layer splits its output's difference ``dz = z - z0`` by the sign of each input's contribution (the *linear
rule*): ``dz+ = sum over w * dx > 0 of w * dx``, ``dz- = dz - dz+``. Batch norms, sums, averages and concatenations
between the layer and the rectifier carry the two parts on, so that a convolution and its batch norm count as the
one linear layer that they are. At an element-wise operator f the parts enter in both orders, and each order counts
half::

    dy+ = 1/2 [f(z0 + dz+) - f(z0)] + 1/2 [f(z0 + dz- + dz+) - f(z0 + dz-)]
    dy- = 1/2 [f(z0 + dz-) - f(z0)] + 1/2 [f(z0 + dz+ + dz-) - f(z0 + dz+)]

with multipliers ``m+ = dy+ / dz+`` and ``m- = dy- / dz-``. Their sum is ``f(z) - f(z0)``: completeness is exact.
Where a difference arrives as a whole (after a rectifier, a maximum, a product) it is one part, by its sign.

Only ``dz+`` is kept, as a tensor of the backward graph; ``dz-`` is the rest.

Source: Shrikumar, Greenside & Kundaje, ICML 2017, sections 3.5.1 and 3.5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from interpnet.attribution._deeplift.rules import Multiplied, closeness, function_of, mean_derivative
from interpnet.backward import addition_weights, first_tensor, origin_of
from interpnet.engine import Call


def positive(d: Tensor) -> Tensor:
    """Return the positive part of a difference, with derivative 1/2 at 0: there the linear rule halves its weight."""
    return (d + d.abs()) / 2


def reveal(call: Call, z: Tensor, z0: Tensor, plus: Tensor) -> Tensor:
    """Return an element-wise operator's output whose backward is the RevealCancel rule.

    Examples
    --------
    The paper's minimum of two inputs: plus 2 and minus 2 cancel, yet both count.

    >>> z, plus = torch.zeros(1, requires_grad=True), torch.tensor([2.0], requires_grad=True)
    >>> y = reveal(Call(torch.relu, (z,), {}, "relu", "rectifier", "relu", ""), z, torch.zeros(1), plus)
    >>> torch.autograd.grad(y, (z, plus))
    (tensor([0.5000]), tensor([0.]))
    """
    # The names of the module's formulas: up is dz+, down is dz-, and each gain counts half.
    f = function_of(call)
    with torch.no_grad():
        x = z.detach()
        up = plus.detach()
        down = x - z0 - up
        y = f(x)
        base = f(z0)
        only_up = f(z0 + up)
        only_down = f(z0 + down)
        size = torch.maximum(torch.maximum(x.abs(), z0.abs()), torch.maximum(up.abs(), down.abs()))
        near = closeness(x.dtype) * size
        slope = mean_derivative(call, x, z0)

        up_is_near = up.abs() <= near
        down_is_near = down.abs() <= near
        # What a part that is near has by its slope, the other one lacks: the two make up the output's difference.
        for_up = (only_up - base + y - only_down) / 2
        for_up = torch.where(down_is_near, y - base - slope * down, for_up) / torch.where(up_is_near, 1, up)
        for_up = torch.where(up_is_near, slope, for_up)
        for_down = (only_down - base + y - only_up) / 2
        for_down = torch.where(up_is_near, y - base - slope * up, for_down) / torch.where(down_is_near, 1, down)
        for_down = torch.where(down_is_near, slope, for_down)
    # The whole difference gets the multiplier of its negative part, and the positive part what that one has more.
    return Multiplied.of(lambda: y, lambda signal: (signal * for_down, signal * (for_up - for_down)), z, plus)


class Parts:
    """The positive parts known so far, by the tensor they belong to."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, int], Tensor] = {}
        self._next: Any = None

    def of(self, x: Tensor, x0: Tensor) -> Tensor:
        """Return the positive part of ``x - x0``: the one carried here, else the difference where it is positive."""
        known = self._known.get(origin_of(x))
        if known is None:
            return positive(x - x0)
        return known

    def carry(self, call: Call, base: Callable[[int], Tensor]) -> None:
        """Work out the positive part of a linear call's output; :meth:`settle` enters it once the output is there.

        ``base(i)`` gives the i-th recorded input on the baseline.
        """
        self._next = None
        x = first_tensor(call)
        if call.kind in {"conv", "linear"}:
            self._next = _split(call, x - base(0))
        elif call.kind == "norm":
            scale = call.batch_norm_affine()[0].view(1, -1, *[1] * (x.dim() - 2))
            plus = self.of(x, base(0))
            self._next = scale.clamp(min=0) * plus + scale.clamp(max=0) * (x - base(0) - plus)
        elif call.kind == "pool":
            self._next = function_of(call)(self.of(x, base(0)))
        elif call.kind == "cat":
            parts = [self.of(t, base(i)).expand_as(t) for i, t in enumerate(call.args[0])]
            self._next = torch.cat(parts, int(call.argument(1, "dim", call.kwargs.get("axis", 0))))
        elif call.kind == "add":
            self._next = self._sum(call, base)

    def move(self, call: Call) -> None:
        """Let the positive part follow its tensor through an operator that only moves values; see :meth:`carry`."""
        self._next = None
        known = self._known.get(origin_of(first_tensor(call)))
        if known is not None:
            self._next = function_of(call)(known)

    def _sum(self, call: Call, base: Callable[[int], Tensor]) -> Tensor:
        parts = []
        for i, (operand, weight) in enumerate(zip(call.args[:2], addition_weights(call), strict=True)):
            if operand.requires_grad:
                part = self.of(operand, base(i))
                if weight < 0:
                    # A negative weight turns the negative part into a positive one.
                    part = operand - base(i) - part
                parts.append(weight * part)
        if not parts:
            return torch.zeros_like(call.args[0])
        return reduce(torch.add, parts)

    def settle(self, out: Any) -> None:
        """Enter what :meth:`carry` or :meth:`move` worked out as the positive part of ``out``, or of its tensors."""
        parts = self._next
        self._next = None
        if parts is None:
            return
        outs = out
        # An operator that splits a tensor splits its part alike.
        if isinstance(out, Tensor):
            outs = [out]
            parts = [parts]
        for tensor, part in zip(outs, parts, strict=True):
            if tensor.requires_grad:
                self._known[origin_of(tensor)] = part.expand_as(tensor)


def _split(call: Call, step: Tensor) -> Tensor | None:
    """Return the sum of the positive contributions ``w * step`` of a convolution or linear map."""
    if call.op != "linear" and call.operator.kind != "conv":
        return None  # a matrix product in other words: its difference counts as a whole
    weight = call.argument(1, "weight").detach()
    named = {k: v for k, v in call.kwargs.items() if k not in {"input", "weight", "bias"}}
    up = positive(step)
    from_up = call.func(up, weight.clamp(min=0), None, *call.args[3:], **named)
    from_down = call.func(step - up, weight.clamp(max=0), None, *call.args[3:], **named)
    total: Tensor = from_up + from_down
    return total
