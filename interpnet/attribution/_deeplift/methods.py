"""DeepLIFT on the engine: multipliers against a baseline, exact on reused and functional operators alike.

The baseline runs first, and the inputs of every operator with a rule are kept by the call's name. Then the image
runs with gradients, each nonlinear operator under its rule against what was kept (see :mod:`.rules`, :mod:`.joint`,
:mod:`.by_hand` and :mod:`.parts`); convolutions, linear maps, batch norms, sums, averages and concatenations are
linear, so their gradient is the multiplier. One backward pass then gives m at the image, and ``m * (x - baseline)``
sums to ``F(x) - F(baseline)`` up to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution._call import Attribution, AttributionCall, conserved, gradient_of
from interpnet.attribution._deeplift.by_hand import (
    dispersion,
    length,
    log_sum,
    normalise,
    of_length_two,
    quotient,
    scaled,
)
from interpnet.attribution._deeplift.joint import PRODUCTS, multiply, own_statistics, softmax, standardise
from interpnet.attribution._deeplift.parts import Parts, reveal
from interpnet.attribution._deeplift.rules import maximum, product, rescale
from interpnet.attribution._registry import register
from interpnet.backward import Asked, Refusals, first_tensor, origin_of, refuse_operator
from interpnet.engine import OPERATORS, Call, Instrument, instrument, tensors_in
from interpnet.errors import ModelError

_RULED_KINDS = frozenset({"rectifier", "activation", "pool", "mul", "norm", "softmax"})
#: Operators without a site that have a rule here: what norms, masks and gates written by hand are made of.
_STEPS = frozenset(name for name, row in OPERATORS.items() if row.ruled and not row.moves)

_register = partial(register, family="relevance", needs={"baseline"}, axioms={"exact"})


@_register("deeplift", paper="Shrikumar et al. 2017: DeepLIFT, rescale rule", cost=4)
def deeplift(call: AttributionCall, *, bound: float = 1e-3) -> Attribution:
    """Return DeepLIFT's contributions under the linear and rescale rules.

    Parameters
    ----------
    call : AttributionCall
        The baseline is blank by default.
    bound : float
        Maps whose sum is off ``F(x) - F(baseline)`` by more than this, relative, are flagged.

    Raises
    ------
    ModelError
        An operator has no rule (a batch norm on the batch's statistics, a sort, ...); it is named.
    """
    return _contributions(call, "deeplift", bound)


@_register("deeplift_revealcancel", paper="Shrikumar et al. 2017: DeepLIFT, RevealCancel rule", cost=10)
def deeplift_revealcancel(call: AttributionCall, *, bound: float = 1e-3) -> Attribution:
    """Return DeepLIFT's contributions under the linear and RevealCancel rules; see :func:`deeplift`."""
    return _contributions(call, "deeplift_revealcancel", bound)


def _contributions(call: AttributionCall, method: str, bound: float) -> Attribution:
    baseline = call.reference("blank")
    one = baseline[:1]
    if not torch.equal(baseline, one.expand_as(baseline)):
        one = baseline
    # One baseline for all images runs once, unless the network folds the batch into other axes.
    base, kept = _on_baseline(call, method, one)
    if len(one) < len(baseline) and any(t.shape[:1] != (1,) for t in _inside(kept)):
        base, kept = _on_baseline(call, method, baseline)
    base_score = base.expand(call.images.shape[0], -1).gather(1, call.target[:, None])[:, 0]

    rules = _Rules(method, kept)
    x = call.images.detach().clone().requires_grad_()
    logits = _run(call, x, Instrument(rule=rules.rule, observe=rules.observe))
    rules.check(logits)
    score = logits.gather(1, call.target[:, None])[:, 0]
    raw = gradient_of(score.sum(), x) * (call.images - baseline)
    return conserved(call, raw, score.detach() - base_score, "sum = F(x) - F(baseline)", bound)


def _on_baseline(call: AttributionCall, method: str, baseline: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
    """Return the logits of the baseline, and the inputs of every call that a rule may ask for."""
    keeper = _Keeper(method)
    base = _run(call, baseline, Instrument(rule=keeper.keep)).detach()
    return base, keeper.kept


def _inside(kept: dict[str, tuple[Tensor, ...]]) -> Iterator[Tensor]:
    return (t for inputs in kept.values() for t in inputs if not isinstance(t, nn.Parameter))


def _run(call: AttributionCall, images: Tensor, what: Instrument) -> Tensor:
    with torch.enable_grad(), instrument(call.model, what):
        return call.forward(images)


class _Names:
    """A name for every call that a rule is asked for, the same in every pass."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def of(self, call: Call) -> str:
        if call.name:
            return call.name
        # Products of two maps make no site.
        name = f"{call.module}:{call.op}"
        self._calls[name] += 1
        return f"{name}:{self._calls[name]}"


class _Keeper:
    """The rule of the baseline's pass: it keeps copies of inputs, and leaves every call as it is."""

    def __init__(self, method: str) -> None:
        self.kept: dict[str, tuple[Tensor, ...]] = {}
        self._all = method == "deeplift_revealcancel"
        self._names = _Names()

    def keep(self, call: Call) -> None:
        name = self._names.of(call)
        inputs = _inputs(call)
        if call.kind == "norm":
            inputs = inputs[:1]  # the rest are its weights and statistics
        # The linear rule of RevealCancel needs every operator's input, rescale those of its own operators alone.
        named = call.op in PRODUCTS or call.op in _STEPS
        if call.kind in _RULED_KINDS or named or (call.kind is not None and self._all):
            self.kept[name] = tuple(map(_copy, inputs))


def _copy(x: Tensor) -> Tensor:
    if isinstance(x, nn.Parameter):
        return x  # weights do not change between the two passes
    return x.detach().clone()


def _inputs(call: Call) -> list[Tensor]:
    return [*tensors_in(call.args), *tensors_in(tuple(call.kwargs.values()))]


class _Rules:
    """The rule for every call of the image's pass, against what the baseline's pass kept."""

    def __init__(self, method: str, kept: dict[str, tuple[Tensor, ...]]) -> None:
        self._names = _Names()
        self._name = ""
        self._asked = Asked(method)
        self._kept = kept
        self._refusals = Refusals(self._asked, affine=True, ruled=PRODUCTS | _STEPS)
        # What made one over something, such as the root of a norm.
        self._inverses: set[Any] = set()
        self._parts: Parts | None = None
        if method == "deeplift_revealcancel":
            self._parts = Parts()

    def observe(self, call: Call, out: Any) -> None:
        self._refusals.observe(call, out)
        if self._parts is None:
            return
        if call.operator.moves and not call.operator.bends:
            self._parts.move(call)
        self._parts.settle(out)

    def check(self, logits: Tensor) -> None:
        """Raise where an operator on the way to the logits has no rule."""
        self._refusals.check(logits)
        self._inverses.clear()

    def rule(self, call: Call) -> Tensor | None:
        """Return the call's output under its rule, ``None`` where its own gradient is the rule."""
        return self._refusals.guard(self._rule, call)

    def _rule(self, call: Call) -> Tensor | None:
        self._name = self._names.of(call)
        inputs = [t for t in _inputs(call) if t.requires_grad]
        if call.op in PRODUCTS and len(inputs) > 1:
            return self._product(call, len(inputs))
        if inputs and call.kind is None and call.op in _STEPS:
            return self._step(call, inputs)
        if not inputs or call.kind is None:
            return None
        if call.kind in {"rectifier", "activation"}:
            z = first_tensor(call)
            base = self._base(call, 0)
            if self._parts is None:
                return rescale(call, z, base)
            return reveal(call, z, base, self._parts.of(z, base))
        if call.op in {"softmax", "log_softmax"}:
            return self._softmax(call)
        if call.kind == "norm" and not call.fixed_batch_norm:
            return self._norm(call)
        if call.kind == "pool" and "max" in call.op:
            if "with_indices" in call.op or call.kwargs.get("return_indices"):
                refuse_operator(self._asked, call, "returns positions as well as values")
            return maximum(call, first_tensor(call), self._base(call, 0))
        if call.kind == "mul" and len(inputs) > 1:
            return self._multiplied(call)
        if call.kind == "mul" and "div" in call.op and call.args[1].requires_grad:
            refuse_operator(self._asked, call, "divides a constant by a value that depends on the image")
        if call.kind in {"conv", "linear"} and len(inputs) > 1:
            refuse_operator(self._asked, call, "has weights that depend on the image")
        if call.kind == "softmax" or call.op.startswith("lp_"):
            refuse_operator(self._asked, call, "has no rule")
        # What is left is linear in its one input, so its own gradient is the multiplier.
        if self._parts is not None and call.kind != "mul":
            self._parts.carry(call, lambda i: self._base(call, i))
        return None

    def _step(self, call: Call, inputs: list[Tensor]) -> Tensor | None:
        """Put an operator that makes no site under its rule."""
        x = first_tensor(call)
        if call.op in {"masked_fill", "where"}:
            masks = [(i, t) for i, t in enumerate(_inputs(call)) if t.dtype == torch.bool]
            if not masks or any(not torch.equal(self._base(call, i).expand_as(t), t) for i, t in masks):
                refuse_operator(self._asked, call, "takes other places on the image than on the baseline")
            return None
        if len(inputs) > 1 or inputs[0] is not x:
            refuse_operator(self._asked, call, "has an argument that depends on the image")
        base = self._base(call, 0)
        if call.operator.pointwise:
            out = rescale(call, x, base)
            exponent = call.argument(1, "exponent", 0)
            if call.op in {"rsqrt", "reciprocal"} or (call.op == "pow" and float(exponent) < 0):
                self._inverses.add(origin_of(out))
            return out
        if call.op == "logsumexp":
            return log_sum(call, x, base)
        if call.op in {"var", "std"}:
            return dispersion(call, x, base)
        if not of_length_two(call):
            refuse_operator(self._asked, call, "is no norm of squares and has no rule")
        return (normalise if call.op == "normalize" else length)(call, x, base)

    def _multiplied(self, call: Call) -> Tensor:
        """Put a product or quotient of two values that depend on the image under its rule."""
        a, b = call.args[:2]
        a0, b0 = self._base(call, 0), self._base(call, 1)
        if "div" in call.op and b.numel() < a.numel() and bool((b * b0 > 0).all()):
            return quotient(call, a, b, a0, b0)
        if origin_of(a) in self._inverses:
            a, b, a0, b0 = b, a, b0, a0
        if "div" not in call.op and origin_of(b) in self._inverses and bool((b * b0 > 0).all()):
            return scaled(a, b, a0, b0)
        a, b = call.args[:2]
        return product(call, a, b, self._base(call, 0), self._base(call, 1))

    def _product(self, call: Call, free: int) -> Tensor:
        # What "add" operators add takes no part in the product.
        if free > 2 + call.op.startswith("add"):
            refuse_operator(self._asked, call, "multiplies more than two values that depend on the image")
        inputs = _inputs(call)
        return multiply(call, inputs, [self._base(call, i) for i in range(len(inputs))])

    def _softmax(self, call: Call) -> Tensor:
        z = first_tensor(call)
        base = self._base(call, 0)
        if bool((z.isinf() != base.isinf()).any()):
            refuse_operator(self._asked, call, "is masked otherwise on the image than on the baseline")
        return softmax(call, z, base)

    def _norm(self, call: Call) -> Tensor | None:
        if own_statistics(call):
            return standardise(call, first_tensor(call), self._base(call, 0))
        if call.op != "instance_norm":
            refuse_operator(self._asked, call, "computes its statistics from the batch, or of neighbours: no rule")
        return None  # on its running statistics, so linear

    def _base(self, call: Call, i: int) -> Tensor:
        """Return the i-th input of the same call on the baseline."""
        here = tuple(_inputs(call)[i].shape)
        kept = self._kept.get(self._name, ())[i : i + 1]
        there = next((tuple(t.shape) for t in kept), None)
        # A single baseline stands against every image.
        if there is None or len(there) != len(here) or any(n not in {1, m} for n, m in zip(there, here, strict=True)):
            raise ModelError(
                f"{self._asked} cannot be right on this network: {self._name!r} gets {here} on the images and "
                f"{there} on the baseline; expected the same operators on both"
            )
        return kept[0]
