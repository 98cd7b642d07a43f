"""Layer-wise relevance propagation: the logit, sent back to the image so that every layer hands on what it got.

zennit's rules on our engine; :mod:`._lrp_rules` has the table of methods, :mod:`._lrp_engine` what happens at each
operator. The maps' sum should be the logit. What is missing went to biases and stabilisers, and is returned with
every map: ``residual`` is ``|sum - logit| / |logit|``, and ``info["absorbed"]`` says how much the layers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, gradient_of
from interpnet.attribution._lrp.engine import FUNCTIONS, Propagation
from interpnet.attribution._lrp.rules import Composite, composite
from interpnet.attribution._refusals import check_functions
from interpnet.attribution._registry import Run, register
from interpnet.engine import Instrument, instrument, logits_of
from interpnet.errors import InterpNetError, ModelError

Bounds = float | Sequence[float] | Tensor | None

_KIND = "sum = F(x)"


def _register(name: str, paper: str, passes: int) -> Callable[[Run], Run]:
    # One forward pass, the check of merging, and for each rule pass a forward and a backward.
    return register(
        name, family="relevance", paper=paper, cost=2 + 3 * passes, needs={"extra:zennit"}, axioms={"conservation"}
    )


@_register("lrp_0", "Bach et al. 2015: LRP-0", 1)
def lrp_0(call: AttributionCall, *, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5) -> Attribution:
    """Return relevance under LRP-0; on a network of rectifiers and maxima it equals gradient x input.

    Parameters
    ----------
    call : AttributionCall
    norm : {"linear", "pass"}
        Batch norms that no convolution can take in: a linear layer, or passed over as zennit does.
    zero_bias : bool
        Biases take no share: relevance is conserved, at the price of the rule's derivation.
    bound : float
        Maps whose sum is off the logit by more than this, relative, are flagged.

    Raises
    ------
    ModelError
        An operator has no rule (softmax, layer norm, a product of signals, ...); it is named.
    """
    return _relevance(call, composite("lrp_0", zero_bias=zero_bias), "lrp_0", norm, bound)


@_register("lrp_epsilon", "Bach et al. 2015: LRP-epsilon", 1)
def lrp_epsilon(
    call: AttributionCall,
    *,
    epsilon: float = 0.05,
    norm: str = "linear",
    zero_bias: bool = False,
    bound: float = 0.5,
) -> Attribution:
    """Return relevance under the epsilon rule, epsilon in units of a layer's root mean square output."""
    rules = composite("lrp_epsilon", epsilon=_positive(epsilon, "epsilon"), zero_bias=zero_bias)
    return _relevance(call, rules, "lrp_epsilon", norm, bound)


@_register("lrp_gamma", "Montavon et al. 2019: LRP-gamma", 5)
def lrp_gamma(
    call: AttributionCall, *, gamma: float = 0.25, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5
) -> Attribution:
    """Return relevance under the gamma rule at convolutions and the epsilon rule (1e-6) at linear maps."""
    rules = composite("lrp_gamma", gamma=_positive(gamma, "gamma"), zero_bias=zero_bias)
    return _relevance(call, rules, "lrp_gamma", norm, bound)


@_register("lrp_alpha1beta0", "Bach et al. 2015: LRP alpha 1, beta 0", 4)
def lrp_alpha1beta0(
    call: AttributionCall, *, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5
) -> Attribution:
    """Return relevance where positive contributions alone count at convolutions; epsilon (1e-6) at linear maps."""
    return _relevance(call, composite("lrp_alpha1beta0", zero_bias=zero_bias), "lrp_alpha1beta0", norm, bound)


@_register("lrp_alpha2beta1", "Bach et al. 2015: LRP alpha 2, beta 1", 4)
def lrp_alpha2beta1(
    call: AttributionCall, *, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5
) -> Attribution:
    """Return relevance where positive contributions count twice and negative ones once at convolutions."""
    return _relevance(call, composite("lrp_alpha2beta1", zero_bias=zero_bias), "lrp_alpha2beta1", norm, bound)


@_register("lrp_zbox", "Montavon et al. 2017, 2019: z-box, then gamma, then epsilon", 5)
def lrp_zbox(
    call: AttributionCall,
    *,
    low: Bounds = None,
    high: Bounds = None,
    gamma: float = 0.25,
    norm: str = "linear",
    zero_bias: bool = False,
    bound: float = 0.5,
) -> Attribution:
    """Return relevance under the z-box rule at the image, gamma at convolutions, epsilon (1e-6) at linear maps.

    Parameters
    ----------
    call : AttributionCall
    low, high : number, (C,) numbers, or Tensor broadcastable to (B, C, H, W), optional
        The lowest and highest pixel that an image can have, in the network's own normalisation; by default those
        of each image and colour.
    gamma, norm, zero_bias, bound
        See :func:`lrp_gamma` and :func:`lrp_0`.
    """
    rules = composite("lrp_zbox", gamma=_positive(gamma, "gamma"), box=_box(call, low, high), zero_bias=zero_bias)
    return _relevance(call, rules, "lrp_zbox", norm, bound)


@_register(
    "lrp_epsilon_plus_flat", "Lapuschkin et al. 2019; Kohlbrenner et al. 2020: flat, then z-plus, then epsilon", 2
)
def lrp_epsilon_plus_flat(
    call: AttributionCall, *, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5
) -> Attribution:
    """Return relevance under the flat rule at the image, z-plus at convolutions, epsilon (1e-6) at linear maps."""
    rules = composite("lrp_epsilon_plus_flat", zero_bias=zero_bias)
    return _relevance(call, rules, "lrp_epsilon_plus_flat", norm, bound)


@_register("deep_taylor", "Montavon et al. 2017: deep Taylor decomposition", 2)
def deep_taylor(
    call: AttributionCall,
    *,
    low: Bounds = None,
    high: Bounds = None,
    norm: str = "linear",
    zero_bias: bool = False,
    bound: float = 0.5,
) -> Attribution:
    """Return relevance under z-box at the image and z-plus everywhere else: of one sign, that of the logit.

    See :func:`lrp_zbox` for ``low`` and ``high``, :func:`lrp_0` for the rest.
    """
    rules = composite("deep_taylor", box=_box(call, low, high), zero_bias=zero_bias)
    return _relevance(call, rules, "deep_taylor", norm, bound)


def _relevance(call: AttributionCall, rules: Composite, method: str, norm: str, bound: float) -> Attribution:
    if norm not in {"linear", "pass"}:
        raise InterpNetError(f"norm={norm!r}; expected 'linear' or 'pass'")
    images = call.images.detach()
    with torch.enable_grad():
        x = images.clone().requires_grad_()
        flow = Propagation(method, rules, images, norm=norm)
        with instrument(call.model, Instrument(rule=flow.rule, observe=flow.observe)):
            logits = logits_of(call.model(x.clone()), x.shape[0], call.output)
        check_functions(method, logits, FUNCTIONS)
        flow.forget()
        if rules.first is not None and flow.first == 0:
            raise ModelError(
                f"method={method!r} needs a convolution or linear map that reads the image itself; something else "
                "comes first in this network (a batch norm, a rectifier). Use 'lrp_gamma' or 'lrp_epsilon'"
            )
        score = logits.gather(1, call.target[:, None])[:, 0]
        # The logit itself is the relevance at the top.
        raw = gradient_of((score * score.detach()).sum(), x)
    found = conserved(call, raw, score.detach(), _KIND, bound, absorbed=flow.absorbed.clone())
    return _checked(found, raw, score.detach(), flow.absorbed)


def _checked(found: Attribution, raw: Tensor, score: Tensor, absorbed: Tensor) -> Attribution:
    """Flag samples whose relevance went somewhere that no layer accounts for, or is not finite."""
    total = raw.to(absorbed).sum((1, 2, 3))
    size = raw.to(absorbed).abs().sum((1, 2, 3)) + absorbed.abs() + score.abs()
    lost = (total + absorbed - score).abs()
    flagged = found.flagged if found.flagged is not None else torch.zeros_like(lost, dtype=torch.bool)
    return replace(found, flagged=flagged | ~(lost <= 1e-2 * size))


def _box(call: AttributionCall, low: Bounds, high: Bounds) -> tuple[Tensor, Tensor]:
    """Return the bounds of pixels, in the images' shape."""
    pixels = call.images.flatten(2)
    bounds = []
    for name, given, own in (("low", low, pixels.amin(2)), ("high", high, pixels.amax(2))):
        if given is None:
            bounds.append(own[:, :, None, None].expand_as(call.images))
            continue
        value = torch.as_tensor(given, dtype=call.images.dtype, device=call.images.device)
        value = value[None, :, None, None] if value.dim() == 1 else value
        try:
            bounds.append(value.expand_as(call.images))
        except RuntimeError as error:
            raise InterpNetError(
                f"{name}: shape {tuple(value.shape)} came; expected a number, {call.images.shape[1]} numbers, or what "
                f"broadcasts to {tuple(call.images.shape)}"
            ) from error
    if bool((call.images < bounds[0]).any() | (call.images > bounds[1]).any()):
        raise InterpNetError(
            f"low={low!r}, high={high!r}: pixels from {float(pixels.min()):.4g} to {float(pixels.max()):.4g} came, "
            "outside of these bounds; give bounds in the images' own normalisation"
        )
    return bounds[0], bounds[1]


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise InterpNetError(f"{name}={value!r}; expected a number above 0")
    return float(value)
