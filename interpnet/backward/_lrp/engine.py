"""LRP on the engine: every operator call under a rule of the method, or one that passes relevance on, or refused.

=======================  ==========================================================================================
operator                 what happens to its relevance
=======================  ==========================================================================================
convolution, linear      the composite's rule, with the batch norm behind it merged in
batch norm elsewhere     the convolutions' rule on one weight per channel (``norm="pass"``: passed on, as in zennit)
average pooling, sum     shared in proportion to the values
rectifier, activation    passed on
maximum pooling          to the maximum
product with a gate      the signal takes all, the gate none (Arras et al. 2017)
logsumexp                shared in proportion to the exponentials
reshape, concatenation   moved
scaling by a number      passed on
shift of the image       passed on: the map is that of the image as the network normalises it
anything else            refused by name
=======================  ==========================================================================================

A gate is the output of a sigmoid-like operator, or the smaller of the two factors. Merging is checked at every
layer of every pass: the merged layer must give the network's own output.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.backward._lrp.layers import (
    Layer,
    Relevance,
    Rule,
    Through,
    averaging_layer,
    by_rule,
    dense_layer,
    layer_of,
    merged_layer,
    passed_on,
    scaling_layer,
    shared,
    shared_out,
    spread,
)
from interpnet.backward._lrp.rules import Composite
from interpnet.backward._lrp.terms import epsilon_rule
from interpnet.backward._passes import Passes
from interpnet.backward._pooling import dense_slice
from interpnet.backward._refusals import (
    Refusals,
    Ruled,
    SendBack,
    addition_weights,
    evaluate_call,
    first_tensor,
    origin_of,
    refuse_operator,
)
from interpnet.backward._report import RuleReport
from interpnet.engine import Call, Instrument, backward_nodes, instrument, node_name, tensors_in, widest
from interpnet.errors import ModelError

_MOVING_NODES = ("View", "Expand", "Unsqueeze", "Squeeze", "Clone", "Reshape", "UnsafeView", "Permute", "Transpose")
_PARTS = ("Select", "Slice")


class Propagation:
    """The rule for every call of one pass, and what the layers kept of the relevance on its way down.

    With ``resample`` a strided convolution or slice counts as one of stride 1 whose output's relevance is that of the
    strided one, enlarged by nearest neighbour with its sum kept.
    """

    def __init__(
        self,
        rules: Composite,
        images: Tensor,
        *,
        norm: str = "linear",
        resample: bool = False,
        passes: Passes | None = None,
    ) -> None:
        self.passes = passes or Passes()
        # Rectifiers that ran, and that are under a rule.
        self.report = RuleReport(rules.asked.name, resample)
        self._asked = rules.asked
        self._rules = rules
        self._norm = norm
        self._images = images
        # What each convolution and linear map got, by the node of its output: a batch norm may follow.
        self._layers: dict[Any, _Weighted] = {}
        self._squashed: set[Any] = set()
        # Sums under a rule that counts positive and negative contributions differently, and averages of them.
        self._signed: set[Any] = set()
        self._refusals = Refusals(rules.asked, affine=False)
        # (B,): what biases and stabilisers took, filled by the backward pass: the score less the image's relevance.
        self.absorbed = torch.zeros(images.shape[0], dtype=widest(images.device), device=images.device)
        self.first = 0  # how many layers read the image itself

    def on(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the context in which ``model`` runs forward under the rules."""
        return instrument(model, Instrument(rule=self.rule, rule_inplace=True, observe=self.observe))

    def observe(self, call: Call, out: Any) -> None:
        """Pass relevance through scaling by a number; what else makes no site must only move values."""
        self.report.observe(call, out)
        factor = _factor(call, out)
        if factor:
            # The gradient on its way through multiplies by the factor again.
            out.register_hook(lambda relevance: relevance / factor)
            negated = next(t for t in call.tensors() if t.requires_grad)
            if factor < 0 and self._asked.option == "method" and _maker(negated, *_PARTS) in self._signed:
                out.register_hook(self._refuse_negated)
        # A logsumexp merges classes: its gradient gives each its share of their probability, and shares add up to 1.
        elif call.op != "logsumexp" and not _shifts_image(call, out):
            self._refusals.observe(call, out)

    def rule(self, call: Call) -> Tensor | None:
        """Return the call's output under its rule, ``None`` where its own gradient is the rule."""
        return self._refusals.guard(self._rule, call)

    def _rule(self, call: Call) -> Tensor | None:
        inputs = [t for t in [*tensors_in(call.args), *tensors_in(tuple(call.kwargs.values()))] if t.requires_grad]
        if inputs and call.op == "getitem" and self.report.resample:
            return self._sliced(call)
        if not inputs or call.kind in {None, "cat"}:
            return None
        if call.kind in {"conv", "linear"}:
            return self._weighted(call, inputs)
        if call.kind == "norm":
            return self._normed(call)
        if call.kind in {"rectifier", "activation"}:
            return self._passed(call)
        if call.kind == "pool" and "max" in call.op:
            return None  # its gradient is the rule: all to the maximum
        if call.kind == "pool" and not call.op.startswith("lp_"):
            x = first_tensor(call).clone()
            out = self._node(call, self._by(x, averaging_layer(call), self._rules.average), x)
            if _maker(x) in self._signed:
                self._signed.add(out.grad_fn)
            return out
        if call.kind == "add":
            return self._summed(call)
        if call.kind == "mul":
            return self._gated(call, inputs)
        return refuse_operator(self._asked, call, "has no rule")

    def _weighted(self, call: Call, inputs: list[Tensor]) -> Tensor:
        if len(inputs) > 1:
            refuse_operator(self._asked, call, "has weights that depend on the image")
        if call.op != "linear" and not call.op.startswith("conv"):
            refuse_operator(self._asked, call, "has no rule; use torch.nn.functional.linear for it")
        # A copy of the input: the network may overwrite its own, and a batch norm behind starts here as well.
        x = inputs[0].clone()
        rule = self._rules.conv
        if call.op == "linear":
            rule = self._rules.linear
        if _reads_image(x):
            self.first += 1
            same = x.numel() == self._images.numel() and torch.equal(x.flatten(), self._images.flatten())
            if self._rules.boxed and not same:
                refuse_operator(
                    self._asked, call, "reads the image in another form, for which the box of pixels does not hold"
                )
            if self._rules.first is not None:
                rule = self._rules.first(x.shape)
        layer = layer_of(call)
        found = _Weighted(x, layer, layer, rule)
        if self.report.resample and call.operator.convolves and max(call.convolution().stride) > 1:
            dense, size = dense_layer(call)
            found = _Weighted(x, layer, dense, rule, size)
            self.report.resampled += 1
        out = self._node(call, self._sent(found), x)
        if call.operator.convolves or (call.op == "linear" and out.dim() == 2):
            self._layers[origin_of(out)] = found
        if getattr(rule, "func", None) is not epsilon_rule:
            self._signed.add(out.grad_fn)
        return out

    def _normed(self, call: Call) -> Tensor:
        if not call.fixed_batch_norm:
            refuse_operator(self._asked, call, "computes its statistics from the image and has no rule")
        z = first_tensor(call)
        found = self._layers.get(origin_of(z))
        if found is None:
            if self._norm == "pass":
                return self._passed(call)
            x = z.clone()
            return self._node(call, self._by(x, scaling_layer(call), self._rules.conv), x)
        merged = found.merged(call)
        known: list[Tensor] = []
        out = self._node(call, self._sent(merged, known), found.x)
        if found.size is None and self._rules.reads_output:
            # A copy: a rectifier may overwrite it.
            known.append(out.detach().clone())
        # One image is enough to tell weights apart, and all of them would cost another pass.
        with torch.no_grad():
            y = out[:1]
            off = (merged.layer.run(found.x[:1], merged.layer.weight, merged.layer.bias) - y).abs().max()
            size = y.abs().max()
        # Equal to half of the digits; the rest may go because the merged layer multiplies in another order.
        if not bool(off <= torch.finfo(y.dtype).eps ** 0.5 * size + torch.finfo(y.dtype).tiny):
            raise ModelError(
                f"{self._asked}: merging {call.name!r} into the layer before it changes its output by "
                f"{float(off):.2g} of {float(size):.2g}; expected equal outputs, so its running variance is degenerate"
            )
        return out

    def _passed(self, call: Call) -> Tensor:
        x = first_tensor(call)
        if call.kind == "rectifier":
            self.report.overridden_calls.append(call.name)
        out = self._node(call, passed_on(x), x)
        if call.operator.squashes:
            self._squashed.add(out.grad_fn)
        return out

    def _summed(self, call: Call) -> Tensor:
        a, b = call.args[:2]
        dependent = [term for term in (a, b) if term.requires_grad]
        if len(dependent) == 1 and _reads_image(dependent[0]):
            # The network normalises the image itself: the map is that of the normalised image.
            return self._through(call, dependent[0])
        weights = addition_weights(call)
        return self._node(call, shared(a, b, weights, self._rules.inverse, self.passes, self._absorb), a, b)

    def _gated(self, call: Call, inputs: list[Tensor]) -> Tensor:
        a, b = call.args[:2]
        if "div" in call.op and b.requires_grad:
            refuse_operator(self._asked, call, "divides by a value that depends on the image")
        if len(inputs) == 1:
            return self._through(call, inputs[0])
        a_is_gate = self._is_squashed(a)
        b_is_gate = self._is_squashed(b)
        if a_is_gate == b_is_gate:
            # Where that does not decide, the gate is the smaller one, which is broadcast.
            a_is_gate = a.numel() < b.numel()
            b_is_gate = b.numel() < a.numel()
        if a_is_gate:
            return self._through(call, b)
        if b_is_gate:
            return self._through(call, a)
        return refuse_operator(self._asked, call, "multiplies two signals and neither is a gate")

    def _sliced(self, call: Call) -> Tensor | None:
        """Put a strided slice under the rule of resampling, as a convolution with a kernel of one position."""
        x = first_tensor(call)
        dense = dense_slice(call, x)
        if dense is None:
            return None
        self.report.resampled += 1

        def send_back(above: Tensor) -> tuple[Tensor]:
            out = above.new_zeros(x.shape)
            out[dense] = shared_out(above, tuple(out[dense].shape[2:]))
            return (out,)

        kind: type[Ruled] = Relevance
        if _reads_image(x):
            kind = Through
        return self._node(call, send_back, x, kind=kind)

    def _is_squashed(self, x: Tensor) -> bool:
        return _maker(x) in self._squashed

    def _refuse_negated(self, relevance: Tensor) -> None:
        """Refuse relevance of what a sum takes away: its rule would share it among what the sum adds."""
        if bool(relevance.any()):
            raise ModelError(
                f"{self._asked} cannot be right for this class: its relevance comes by the negative of a sum, and the "
                "rule counts positive contributions to that sum more. Use method='lrp_epsilon'; of a network of one "
                "output, class 1 can be explained"
            )

    def _through(self, call: Call, x: Tensor) -> Tensor:
        """Give all relevance to ``x``: the other operand counts as a constant."""
        return self._node(call, passed_on(x), x, kind=Through)

    def _by(self, x: Tensor, layer: Layer, rule: Rule, known: list[Tensor] | None = None) -> SendBack:
        if known is None:
            known = []
        return by_rule(x, layer, rule, self.passes, self._absorb, known)

    def _sent(self, found: _Weighted, known: list[Tensor] | None = None) -> SendBack:
        """Return what sends relevance through a convolution or linear map."""
        send_back = self._by(found.x, found.dense, found.rule, known)
        if found.size is None:
            return send_back
        return spread(send_back, found.size)

    def _node(self, call: Call, send_back: SendBack, *inputs: Tensor, kind: type[Ruled] = Relevance) -> Tensor:
        """Return what the call computes, with a rule as its backward."""
        # Autograd lets no function of its own overwrite every view; those get a copy, which the engine writes back.
        if call.inplace and not first_tensor(call)._is_view():  # noqa: SLF001
            return kind.of(call.run, send_back, *inputs)
        return kind.of(lambda: evaluate_call(call), send_back, *inputs)

    def check(self, *results: Tensor) -> None:
        """Raise where an operator on the way to the results has no rule, and drop what only the forward pass needed."""
        self._refusals.check(*results)
        if self._rules.first is not None and self.first == 0:
            raise ModelError(
                f"{self._asked} needs a convolution or linear map that reads the image itself; something else comes "
                "first in this network (a batch norm, a rectifier). Use 'lrp_gamma' or 'lrp_epsilon'"
            )
        # They would keep the graph alive.
        self._layers.clear()
        self._squashed.clear()
        self._signed.clear()

    def _absorb(self, above: Tensor, *below: Tensor) -> None:
        """Count what went in at the top of a layer and did not come out at its bottom."""
        if not self.passes.counts:
            return
        for relevance, sign in ((above, 1.0), *((b, -1.0) for b in below)):
            # Where something was folded into the batch axis, what is kept is missing from the samples' accounts.
            if relevance.shape[0] == self.absorbed.shape[0]:
                axes = tuple(range(1, relevance.dim()))
                self.absorbed += sign * relevance.sum(axes, dtype=self.absorbed.dtype)


@dataclass(frozen=True)
class _Weighted:
    """A convolution or linear map that ran, with its input and rule."""

    x: Tensor
    layer: Layer
    # The same with stride 1, where relevance is resampled; else the layer itself.
    dense: Layer
    rule: Rule
    # The size of the output with stride 1, where relevance is resampled.
    size: tuple[int, ...] | None = None

    def merged(self, norm: Call) -> _Weighted:
        """Return this layer with the batch norm behind it folded into its weights."""
        layer = merged_layer(self.layer, norm)
        dense = layer
        if self.size is not None:
            dense = merged_layer(self.dense, norm)
        return replace(self, layer=layer, dense=dense)


def _maker(x: Tensor, *more: str) -> Any:
    """Return the node of the backward graph whose values ``x`` holds, whatever their places; ``more`` move values."""
    node = x.grad_fn
    while node is not None and node.name().startswith((*_MOVING_NODES, *more)):
        node = node.next_functions[0][0]
    return node


def _factor(call: Call, out: Any) -> float | None:
    """Return the number that a call multiplies its one tensor by, if it does only that."""
    if call.kind is not None or not isinstance(out, Tensor) or not out.requires_grad:
        return None
    if call.op in {"neg", "negative"}:
        return -1.0
    if call.operator.kind != "mul" or len(call.args) < 2 or call.kwargs.get("rounding_mode"):
        return None
    x, number = call.args[:2]
    swapped = not isinstance(x, Tensor) or not x.requires_grad
    if swapped:
        number = x
    if isinstance(number, Tensor) and (number.requires_grad or number.numel() != 1):
        return None
    number = float(number)
    if "div" not in call.op:
        return number
    if swapped:
        return None
    # A factor of zero counts as none: the caller then refuses the operator.
    return number and 1 / number


def _shifts_image(call: Call, out: Any) -> bool:
    """Whether a call adds a number to the image, which passes relevance on: the map is of the normalised image."""
    if call.kind is not None or call.op not in {"add", "sub"} or not isinstance(out, Tensor):
        return False
    return sum(isinstance(a, Tensor) for a in call.args) == 1 and _reads_image(out)


def _reads_image(x: Tensor) -> bool:
    """Whether nothing but moved values, sums and products with constants lie between ``x`` and the image."""
    return all(node_name(node) != Relevance.__name__ for node in backward_nodes([x]))
