"""A zennit rule on one input of a layer, for several signals: what does not depend on the signal is computed once.

Every rule here is linear in the relevance that comes. For each of the rule's parts, a changed input and changed
weights, it multiplies relevance by a factor per output (one over the stabilised denominator), sends the product through
the transpose of the changed weights, and multiplies by the changed input. The factors take most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class _Part:
    """One part of a rule on one input."""

    x: Tensor
    output: Tensor
    # What relevance is multiplied by; None where nothing goes down.
    factor: Tensor | None = None


@dataclass(frozen=True)
class Prepared:
    """A rule on one input of a layer; call it with relevance."""

    rule: Any
    parts: list[_Part]
    # Factors that are not finite would make NaN of a relevance of zero.
    usable: bool

    @classmethod
    def of(cls, x: Tensor, layer: nn.Module, rule: Any) -> Prepared:
        """Return a rule prepared for the input ``x`` of a layer."""
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        empty: list[_Part] = []
        for change_input, change_weights, change_output in zip(
            rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True
        ):
            with change_weights(layer) as changed, torch.enable_grad():
                part = change_input(x.detach()).detach()
                # Behind a rectifier nothing is negative: half of the parts of a rule are zero.
                if empty and _is_linear(changed) and not bool(part.any()):
                    empty.append(_Part(zero, zero))
                    continue
                part.requires_grad_()
                empty.append(_Part(part, change_output(changed(part))))
        with torch.no_grad():
            outputs = [part.output.detach() for part in empty]
            factors = rule.gradient_mapper(torch.ones_like(outputs[0]), outputs)
        if isinstance(factors, Tensor):
            factors = [factors]
        parts = []
        for part, factor in zip(empty, factors, strict=True):
            silent = part.output is zero or not bool(factor.any())
            parts.append(_Part(part.x, part.output, None if silent else factor))
        usable = all(bool(torch.isfinite(part.factor).all()) for part in parts if part.factor is not None)
        return cls(rule, parts, usable)

    def __call__(self, above: Tensor) -> Tensor:
        """Return the relevance of the layer's input."""
        weighted: dict[int, Tensor] = {}
        gradients = []
        for part in self.parts:
            if part.factor is None:
                gradients.append(part.x.new_zeros(()))
                continue
            # Parts of a rule may share their factor.
            key = id(part.factor)
            if key not in weighted:
                weighted[key] = above * part.factor
            (down,) = torch.autograd.grad(part.output, part.x, weighted[key], retain_graph=True)
            gradients.append(down)
        below: Tensor = self.rule.reducer([part.x.detach() for part in self.parts], gradients)
        return below.expand_as(self.parts[0].x)


def _is_linear(layer: nn.Module) -> bool:
    """Whether nothing comes out of a layer where nothing goes in."""
    bias = getattr(layer, "bias", None)
    return bias is None or not bool(bias.any())
