"""LRP on the engine: every operator call under a rule of the method, or one that passes relevance on, or refused.

=======================  ==========================================================================================
operator                 what happens to its relevance
=======================  ==========================================================================================
convolution, linear      the composite's rule, with the batch norm behind it merged in
batch norm elsewhere     the convolutions' rule on one weight per channel (``norm="pass"``: passed on, as in zennit)
average pooling, sum     shared in proportion to the values
activation, scaling      passed on by a rectifier or another activation, and by a number that scales
maximum pooling          to the maximum
product with a gate      the signal takes all, the gate none (Arras et al. 2017)
logsumexp                shared in proportion to the exponentials
reshape, concatenation   moved
shift of the image       passed on: the map is that of the image as the network normalises it
product of two maps      half to each, or to the values of attention alone; see :mod:`.attention`
softmax                  first order of Taylor's series, or none
norm by own statistics   the epsilon rule, the deviation held constant
norm that only divides   passed on
anything else            refused by name
=======================  ==========================================================================================

A gate is the output of a sigmoid-like operator, or the smaller of the two factors; a divisor is one where it is
smaller. Merging is checked at every layer of every pass: the merged layer must give the network's own output.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.backward._lrp.attention import factors_of, halved, normalising_layer, product_layer, softened
from interpnet.backward._lrp.bounds import Bounds
from interpnet.backward._lrp.layers import (
    Layer,
    Relevance,
    Rule,
    Through,
    Weighted,
    averaging_layer,
    by_rule,
    dense_layer,
    layer_of,
    parted,
    passed_on,
    scaling_layer,
    shared,
    shared_out,
    spread,
)
from interpnet.backward._lrp.operands import PARTS, factor_of, hides, maker, reads_image, shifts_image
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
from interpnet.engine import OPERATORS, Call, Instrument, instrument, tensors_in, widest
from interpnet.errors import ModelError

_PRODUCTS = {name for name, row in OPERATORS.items() if row.kind_if and row.kind == "product"}


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
        if len(images) == 1:
            self._rules = rules.of_one_image()
        self._norm = norm
        self._bounds = Bounds(rules.box)
        # What each convolution and linear map got, by the node of its output: a batch norm may follow.
        self._layers: dict[Any, Weighted] = {}
        self._squashed: set[Any] = set()
        # Softmax outputs, which are weights of attention.
        self._attention: set[Any] = set()
        # Sums under a rule that counts positive and negative contributions differently, and averages of them.
        self._signed: set[Any] = set()
        self._refusals = Refusals(rules.asked, affine=False, ruled={*_PRODUCTS, "normalize"})
        # (B,): what biases and stabilisers took, filled by the backward pass: the score less the image's relevance. NaN
        # for several images where what is of which image is not known.
        self.absorbed = torch.zeros(images.shape[0], dtype=widest(images.device), device=images.device)
        self.first = 0  # how many layers read the image itself
        # An operator ran on tensors whose first axis is not that of the images (windows, heads or tokens are): what is
        # of which image is not known there.
        self.folded = False

    def on(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the context in which ``model`` runs forward under the rules."""
        return instrument(model, Instrument(rule=self.rule, rule_inplace=True, observe=self.observe))

    def observe(self, call: Call, out: Any) -> None:
        """Pass relevance through scaling by a number; what else makes no site must only move values."""
        self.report.observe(call, out)
        self._bounds.settle(call, out)
        if call.op == "softmax" and out.requires_grad:
            self._attention.add(out.grad_fn)
        factor = factor_of(call, out)
        if factor:
            # The gradient on its way through multiplies by the factor again.
            out.register_hook(lambda relevance: relevance / factor)
            negated = next(t for t in call.tensors() if t.requires_grad)
            if factor < 0 and self._asked.option == "method" and maker(negated, *PARTS) in self._signed:
                out.register_hook(self._refuse_negated)
        # A logsumexp merges classes: its gradient gives each its share of their probability, and shares add up to 1.
        elif call.op != "logsumexp" and not shifts_image(call, out) and not hides(call):
            self._refusals.observe(call, out)

    def rule(self, call: Call) -> Tensor | None:
        """Return the call's output under its rule, ``None`` where its own gradient is the rule."""
        self._bounds.carry(call)
        return self._refusals.guard(self._rule, call)

    def _rule(self, call: Call) -> Tensor | None:
        inputs = [t for t in [*tensors_in(call.args), *tensors_in(tuple(call.kwargs.values()))] if t.requires_grad]
        if inputs and call.op == "getitem" and self.report.resample:
            return self._sliced(call)
        if not inputs:
            return None
        if call.op in _PRODUCTS:
            return self._product(call, inputs)
        if call.op == "normalize":
            return self._passed(call)
        if call.kind == "cat":
            return self._joined(call)
        if call.kind is None:
            return None
        if call.op == "softmax":
            return self._softened(call)
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
            if maker(x) in self._signed:
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
        if reads_image(x):
            self.first += 1
            bounds = self._bounds.of(x)
            if self._rules.box is not None and bounds is None:
                refuse_operator(self._asked, call, "reads values whose bounds do not follow from those of pixels")
            if self._rules.first is not None:
                rule = self._rules.first(bounds)
        layer = layer_of(call)
        found = Weighted(x, layer, layer, rule)
        if self.report.resample and call.operator.convolves and max(call.convolution().stride) > 1:
            dense, size = dense_layer(call)
            found = Weighted(x, layer, dense, rule, size)
            self.report.resampled += 1
        out = self._node(call, self._sent(found), x)
        if call.operator.convolves or (call.op == "linear" and out.dim() == 2):
            self._layers[origin_of(out)] = found
        if getattr(rule, "func", None) is not epsilon_rule:
            self._signed.add(out.grad_fn)
        return out

    def _normed(self, call: Call) -> Tensor:
        if call.op == "batch_norm" and not call.fixed_batch_norm:
            refuse_operator(self._asked, call, "computes its statistics from the images of the batch and has no rule")
        if call.op != "batch_norm":
            return self._normed_by_itself(call)
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
        off, size = merged.off(out)
        # Equal to half of the digits; the rest may go because the merged layer multiplies in another order.
        if not off <= torch.finfo(out.dtype).eps ** 0.5 * size + torch.finfo(out.dtype).tiny:
            raise ModelError(
                f"{self._asked}: merging {call.name!r} into the layer before it changes its output by "
                f"{off:.2g} of {size:.2g}; expected equal outputs, so its running variance is degenerate"
            )
        return out

    def _normed_by_itself(self, call: Call) -> Tensor:
        """Put a norm by the image's own statistics under the epsilon rule."""
        x = first_tensor(call)
        layer = normalising_layer(call, x)
        if layer is None or self._rules.norm is None or self._norm == "pass":
            return self._passed(call)
        return self._node(call, self._by(x.clone(), layer, self._rules.norm), x)

    def _product(self, call: Call, inputs: list[Tensor]) -> Tensor:
        """Put a product of two maps under its rule; with one that is constant it is a linear map."""
        factors, _ = factors_of(call)
        if len(factors) != 2:
            refuse_operator(self._asked, call, "multiplies more than two factors and has no rule")
        dependent = [number for number, one in enumerate(factors) if one.requires_grad]
        if len(inputs) == 2 and self._rules.attention == "attnlrp":
            return self._node(call, halved(call, self._rules.product, self._absorb), *factors)
        if len(inputs) == 2:
            dependent = [number for number in dependent if maker(factors[number]) not in self._attention]
        if len(dependent) != 1:
            refuse_operator(
                self._asked, call, "multiplies two signals and neither is a softmax; take attention='attnlrp'"
            )
        x = factors[dependent[0]]
        if reads_image(x):
            refuse_operator(self._asked, call, "reads the image itself; use torch.nn.functional.linear for it")
        return self._node(
            call, self._by(x, product_layer(call, dependent[0]), self._rules.norm or self._rules.linear), x
        )

    def _softened(self, call: Call) -> Tensor:
        if self._rules.attention == "cp":
            refuse_operator(self._asked, call, "has no rule but as weights of attention; take attention='attnlrp'")
        return self._node(call, softened(call, self._absorb), first_tensor(call))

    def _joined(self, call: Call) -> Tensor | None:
        """Count what comes to constants that are joined to maps, such as the token of the class."""
        parts = call.argument(0, "tensors")
        axis = call.argument(1, "dim", 0)
        dependent = [part.requires_grad for part in parts]
        if all(dependent):
            return None
        inputs = list(compress(parts, dependent))
        kind: type[Ruled] = Relevance
        if all(reads_image(one) for one in inputs):
            kind = Through
        return self._node(call, parted(parts, axis, self._absorb), *inputs, kind=kind)

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
        if len(dependent) == 1 and reads_image(dependent[0]):
            # The network normalises the image itself: the map is that of the normalised image.
            return self._through(call, dependent[0])
        rules = self._rules
        back = shared(a, b, addition_weights(call), rules.inverse, self.passes, self._absorb, sizes=rules.one_sign)
        return self._node(call, back, a, b)

    def _gated(self, call: Call, inputs: list[Tensor]) -> Tensor:
        a, b = call.args[:2]
        if "div" in call.op and b.requires_grad and (not a.requires_grad or a.numel() <= b.numel()):
            refuse_operator(self._asked, call, "divides by a value that depends on the image")
        if len(inputs) == 1:
            return self._through(call, inputs[0])
        a_is_gate = maker(a) in self._squashed
        b_is_gate = maker(b) in self._squashed
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
        if reads_image(x):
            kind = Through
        return self._node(call, send_back, x, kind=kind)

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
        return by_rule(x, layer, rule, self.passes, self._absorb, [] if known is None else known)

    def _sent(self, found: Weighted, known: list[Tensor] | None = None) -> SendBack:
        """Return what sends relevance through a convolution or linear map."""
        send_back = self._by(found.x, found.dense, found.rule, known)
        if found.size is None:
            return send_back
        return spread(send_back, found.size)

    def _node(self, call: Call, send_back: SendBack, *inputs: Tensor, kind: type[Ruled] = Relevance) -> Tensor:
        """Return what the call computes, with a rule as its backward."""
        self.folded |= any(x.requires_grad and x.shape[:1] != self.absorbed.shape for x in inputs)
        # Autograd lets no function of its own overwrite every view; those get a copy, which the engine writes back.
        if call.inplace and not first_tensor(call)._is_view():  # noqa: SLF001
            return kind.of(call.run, send_back, *inputs)
        return kind.of(lambda: evaluate_call(call), send_back, *inputs)

    def check(self, *results: Tensor) -> None:
        """Raise where an operator on the way to the results has no rule, and drop what only the forward pass needed."""
        self._refusals.check(*results)
        if self._rules.relative and self.folded and len(self.absorbed) > 1:
            raise ModelError(
                f"{self._asked} cannot be right for several images at once on this network: windows, heads or tokens "
                "come before the images in some layer, and epsilon is in units of one image's values. Pass one image "
                "at a time, or use 'lrp_gamma'"
            )
        if self._rules.first is not None and self.first == 0:
            raise ModelError(
                f"{self._asked} needs a convolution or linear map that reads the image itself; something else comes "
                "first in this network (a batch norm, a rectifier). Use 'lrp_gamma' or 'lrp_epsilon'"
            )
        # They would keep the graph alive.
        self._layers.clear()
        self._squashed.clear()
        self._attention.clear()
        self._signed.clear()
        self._bounds.clear()

    def _absorb(self, above: Tensor, *below: Tensor) -> None:
        """Count what went in at the top of a layer and did not come out at its bottom."""
        if not self.passes.counts:
            return
        if self.folded and len(self.absorbed) > 1:
            # Whose it is, is not known.
            self.absorbed.fill_(torch.nan)
            return
        for relevance, sign in ((above, 1.0), *((b, -1.0) for b in below)):
            axes = tuple(range(len(self.absorbed) > 1, relevance.dim()))
            self.absorbed += sign * relevance.sum(axes, dtype=self.absorbed.dtype)
