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
from torch.autograd.graph import GradientEdge, get_gradient_edge


@dataclass(frozen=True)
class _Part:
    """One part of a rule on one input."""

    x: Tensor
    # The changed layer's output in the backward graph; its values are not kept.
    output: GradientEdge
    # What relevance is multiplied by above the layer, and below it.
    factor: Tensor
    share: Tensor


@dataclass(frozen=True)
class Prepared:
    """A rule on one input of a layer; call it with relevance."""

    shape: torch.Size
    parts: list[_Part]
    # Factors that are not finite would make NaN of a relevance of zero.
    usable: bool

    @classmethod
    def of(cls, x: Tensor, layer: nn.Module, rule: Any) -> Prepared:
        """Return a rule prepared for the input ``x`` of a layer."""
        x = x.detach()
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for change_input, change_weights, change_output in zip(
            rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True
        ):
            with change_weights(layer) as changed, torch.enable_grad():
                part = change_input(x).detach()
                # Behind a rectifier nothing is negative: half of the parts of a rule are zero, the others the input.
                if outputs and _is_linear(changed) and not bool(part.any()):
                    inputs.append(x.new_zeros(()))
                    outputs.append(x.new_zeros(()))
                    continue
                if torch.equal(part, x):
                    part = x.detach()
                inputs.append(part.requires_grad_())
                outputs.append(change_output(changed(part)))
        with torch.no_grad():
            parts = []
            usable = True
            for i, (factor, output) in enumerate(zip(_factors(rule, outputs), outputs, strict=True)):
                size = float(torch.linalg.vector_norm(factor, 1))
                usable &= size < torch.inf
                if output.dim() and size:
                    share = _share(rule, inputs, i)
                    parts.append(_Part(inputs[i], get_gradient_edge(output), factor, share))
        return cls(x.shape, parts, usable)

    def __call__(self, above: Tensor) -> Tensor:
        """Return the relevance of the layer's input."""
        weighted: dict[int, Tensor] = {}
        below = None
        for part in self.parts:
            # Parts of a rule may have the same factor.
            key = id(part.factor)
            if key not in weighted:
                weighted[key] = above * part.factor
            (down,) = torch.autograd.grad(part.output, part.x, weighted[key], retain_graph=True)
            if below is None:
                below = down * part.share
            else:
                below.addcmul_(down, part.share)
        if below is None:
            return above.new_zeros(self.shape)
        return below


def _factors(rule: Any, outputs: list[Tensor]) -> list[Tensor]:
    """Return what relevance is multiplied by for each part of a rule; parts may have the same factor."""
    found: list[Tensor] = []
    # One image after another: the rule's many small steps then stay in the processor's cache.
    for i in range(len(outputs[0])):
        own = [output[i : i + 1] if output.dim() else output for output in outputs]
        factors = rule.gradient_mapper(torch.ones_like(own[0]), own)
        if isinstance(factors, Tensor):
            factors = [factors]
        first = [next(j for j, other in enumerate(factors) if other is factor) for factor in factors]
        if not found:
            made = {j: torch.empty_like(outputs[0]) for j in first}
            found = [made[j] for j in first]
        for j in set(first):
            found[j][i : i + 1] = factors[j]
    return found


def _share(rule: Any, inputs: list[Tensor], number: int) -> Tensor:
    """Return what the gradient of one of the parts is multiplied by: the reducer is a sum of such products."""
    gradients = [part.new_zeros(()) for part in inputs]
    gradients[number].fill_(1.0)
    share: Tensor = rule.reducer([part.detach() for part in inputs], gradients)
    if torch.equal(share, inputs[number]):
        return inputs[number].detach()
    return share


def _is_linear(layer: nn.Module) -> bool:
    """Whether nothing comes out of a layer where nothing goes in."""
    bias = getattr(layer, "bias", None)
    return bias is None or not bool(bias.any())
