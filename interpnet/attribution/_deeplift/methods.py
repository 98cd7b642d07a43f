"""DeepLIFT on the engine: multipliers against a baseline, exact on reused and functional operators alike.

The baseline runs first, and the inputs of every operator with a rule are kept by the call's name. Then the image
runs with gradients, each nonlinear operator under its rule against what was kept (see :mod:`._deeplift_rules` and
:mod:`._deeplift_parts`); convolutions, linear maps, batch norms, sums, averages and concatenations are linear, so
their gradient is the multiplier. One backward pass then gives m at the image, and ``m * (x - baseline)`` sums to
``F(x) - F(baseline)`` up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution._call import Attribution, AttributionCall, conserved, gradient_of
from interpnet.attribution._deeplift.parts import Parts, Reveal, reveal
from interpnet.attribution._deeplift.rules import Product, Scatter, Slope, maximum, product, rescale
from interpnet.attribution._refusals import (
    check_functions,
    check_left_alone,
    evaluates_batch_norm,
    first_tensor,
    refuse,
)
from interpnet.attribution._registry import register
from interpnet.engine import Call, Instrument, instrument, logits_of, tensors_in
from interpnet.errors import ModelError

_PAPER = "Shrikumar et al. 2017: DeepLIFT"
_LINEAR_KINDS = frozenset({"conv", "linear", "norm", "add", "cat"})


@register("deeplift", family="relevance", paper=f"{_PAPER}, rescale rule", cost=4, needs={"baseline"}, axioms={"exact"})
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
        An operator has no rule (softmax, layer norm, ...); it is named.
    """
    return _contributions(call, "deeplift", bound)


@register(
    "deeplift_revealcancel",
    family="relevance",
    paper=f"{_PAPER}, RevealCancel rule",
    cost=10,
    needs={"baseline"},
    axioms={"exact"},
)
def deeplift_revealcancel(call: AttributionCall, *, bound: float = 1e-3) -> Attribution:
    """Return DeepLIFT's contributions under the linear and RevealCancel rules; see :func:`deeplift`."""
    return _contributions(call, "deeplift_revealcancel", bound)


def _contributions(call: AttributionCall, method: str, bound: float) -> Attribution:
    baseline = call.reference("blank")
    if torch.equal(baseline, baseline[:1].expand_as(baseline)):
        baseline = baseline[:1]  # one baseline for all runs once
    kept: dict[str, tuple[Tensor, ...]] = {}
    kinds = None if method == "deeplift_revealcancel" else frozenset({"rectifier", "activation", "pool", "mul"})
    base = _run(call, baseline.clone(), Instrument(rule=lambda c: _keep(method, c, kept, kinds))).detach()
    base_score = base.expand(call.images.shape[0], -1).gather(1, call.target[:, None])[:, 0]

    rules = _Rules(method, kept)
    x = call.images.detach().clone().requires_grad_()
    logits = _run(call, x.clone(), Instrument(rule=rules.rule, observe=rules.observe))
    check_functions(method, logits, (Slope, Scatter, Product, Reveal))
    score = logits.gather(1, call.target[:, None])[:, 0]
    raw = gradient_of(score.sum(), x) * (call.images - baseline)
    return conserved(call, raw, score.detach() - base_score, "sum = F(x) - F(baseline)", bound)


def _run(call: AttributionCall, images: Tensor, what: Instrument) -> Tensor:
    with torch.enable_grad(), instrument(call.model, what):
        return logits_of(call.model(images), images.shape[0], call.output)


def _keep(method: str, call: Call, kept: dict[str, tuple[Tensor, ...]], kinds: frozenset[str] | None) -> None:
    """Keep a copy of a call's inputs on the baseline (of a norm its input alone); weights need no copy."""
    if call.kind == "norm":
        _check_norm(method, call)
    if call.kind is not None and (kinds is None or call.kind in kinds):
        inputs = _inputs(call)[: 1 if call.kind == "norm" else None]
        kept[call.name] = tuple(t if isinstance(t, nn.Parameter) else t.detach().clone() for t in inputs)


def _check_norm(method: str, call: Call) -> None:
    if not evaluates_batch_norm(call):
        refuse(method, call, "computes its statistics from the image and has no rule")


def _inputs(call: Call) -> list[Tensor]:
    return [*tensors_in(call.args), *tensors_in(tuple(call.kwargs.values()))]


class _Rules:
    """The rule for every call of the image's pass, against what the baseline's pass kept."""

    def __init__(self, method: str, kept: dict[str, tuple[Tensor, ...]]) -> None:
        self._method, self._kept = method, kept
        self._parts = Parts() if method == "deeplift_revealcancel" else None

    def observe(self, call: Call, out: Any) -> None:
        check_left_alone(self._method, call, out, affine=True)
        if self._parts is not None:
            self._parts.settle(out)

    def rule(self, call: Call) -> Tensor | None:
        inputs = [t for t in _inputs(call) if t.requires_grad]
        if not inputs or call.kind is None:
            return None
        if call.kind in {"rectifier", "activation"}:
            return self._elementwise(call)
        if call.kind == "pool" and "max" in call.op:
            if "with_indices" in call.op or call.kwargs.get("return_indices"):
                refuse(self._method, call, "returns positions besides values")
            return maximum(call, first_tensor(call), self._base(call, 0))
        if call.kind == "mul" and len(inputs) > 1:
            a, b = call.args[:2]
            return product(call, a, b, self._base(call, 0), self._base(call, 1))
        if call.kind == "mul" and "div" in call.op and call.args[1].requires_grad:
            refuse(self._method, call, "divides a constant by a value that depends on the image")
        self._check_linear(call, inputs)
        if self._parts is not None and call.kind != "mul":
            self._parts.carry(call, lambda i: self._base(call, i))
        return None

    def _elementwise(self, call: Call) -> Tensor:
        z = first_tensor(call)
        base = self._base(call, 0)
        if self._parts is None:
            return rescale(call, z, base)
        return reveal(call, z, base, self._parts.of(z, base))

    def _check_linear(self, call: Call, inputs: list[Tensor]) -> None:
        if call.kind in {"conv", "linear"} and len(inputs) > 1:
            refuse(self._method, call, "has weights that depend on the image")
        if call.kind == "pool" and call.op.startswith("lp_"):
            refuse(self._method, call, "has no rule")
        if call.kind not in _LINEAR_KINDS | {"pool", "mul"}:
            refuse(self._method, call, "has no rule")

    def _base(self, call: Call, i: int) -> Tensor:
        """Return the i-th input of the same call on the baseline."""
        here = tuple(_inputs(call)[i].shape)
        kept = self._kept.get(call.name, ())
        there = tuple(kept[i].shape) if i < len(kept) else None
        if there is None or here[1:] != there[1:] or there[0] not in {1, here[0]}:
            raise ModelError(
                f"method={self._method!r} cannot be right on this network: {call.name!r} gets {here} on the images and "
                f"{there} on the baseline; expected the same operators on both, with the batch in front"
            )
        return kept[i]
