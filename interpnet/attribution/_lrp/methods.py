"""Layer-wise relevance propagation: the logit, sent back to the image so that every layer hands on what it got.

zennit's rules on our engine; :mod:`.rules` has the table of methods, :mod:`.engine` what happens at each operator.
The maps' sum should be the logit. What is missing went to biases and stabilisers, and is returned with every map:
``residual`` is ``|sum - logit| / |logit|``, and ``info["absorbed"]`` says how much the layers kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, gradient_of
from interpnet.attribution._lrp.engine import Propagation
from interpnet.attribution._lrp.rules import Composite, composite
from interpnet.attribution._refusals import check_no_hidden_functions
from interpnet.attribution._registry import Run, register
from interpnet.engine import Instrument, instrument
from interpnet.errors import InterpNetError, ModelError
from interpnet.support.checks import one_of, positive_number

Bounds = float | Sequence[float] | Tensor | None


def _plain(method: str, summary: str) -> Run:
    """Return the function of a method that has no options of its own."""

    def run(call: AttributionCall, *, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5) -> Attribution:
        return _relevance(call, composite(method, zero_bias=zero_bias), norm, bound)

    run.__doc__ = summary
    return run


lrp_0 = _plain("lrp_0", "Return relevance under LRP-0: gradient x input on a network of rectifiers and maxima.")
lrp_alpha1beta0 = _plain(
    "lrp_alpha1beta0", "Return relevance where positive contributions alone count at convolutions."
)
lrp_alpha2beta1 = _plain(
    "lrp_alpha2beta1", "Return relevance where positive contributions count twice, negative ones once, at convolutions."
)
lrp_epsilon_plus_flat = _plain(
    "lrp_epsilon_plus_flat", "Return relevance under the flat rule at the image and z-plus at convolutions."
)


def lrp_epsilon(
    call: AttributionCall,
    *,
    epsilon: float = 0.05,
    norm: str = "linear",
    zero_bias: bool = False,
    bound: float = 0.5,
) -> Attribution:
    """Return relevance under the epsilon rule, epsilon in units of a layer's root mean square output."""
    rules = composite("lrp_epsilon", epsilon=positive_number(epsilon, "epsilon"), zero_bias=zero_bias)
    return _relevance(call, rules, norm, bound)


def lrp_gamma(
    call: AttributionCall, *, gamma: float = 0.25, norm: str = "linear", zero_bias: bool = False, bound: float = 0.5
) -> Attribution:
    """Return relevance under the gamma rule at convolutions and the epsilon rule (1e-6) at linear maps."""
    rules = composite("lrp_gamma", gamma=positive_number(gamma, "gamma"), zero_bias=zero_bias)
    return _relevance(call, rules, norm, bound)


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
        See :func:`lrp_gamma` and :func:`_relevance`.
    """
    gamma = positive_number(gamma, "gamma")
    rules = composite("lrp_zbox", gamma=gamma, box=_box(call, low, high), zero_bias=zero_bias)
    return _relevance(call, rules, norm, bound)


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

    See :func:`lrp_zbox` for ``low`` and ``high``.
    """
    return _relevance(call, composite("deep_taylor", box=_box(call, low, high), zero_bias=zero_bias), norm, bound)


for _name, _passes, _paper, _run in (
    ("lrp_0", 1, "Bach et al. 2015: LRP-0", lrp_0),
    ("lrp_epsilon", 1, "Bach et al. 2015: LRP-epsilon", lrp_epsilon),
    ("lrp_gamma", 5, "Montavon et al. 2019: LRP-gamma", lrp_gamma),
    ("lrp_alpha1beta0", 4, "Bach et al. 2015: LRP alpha 1, beta 0", lrp_alpha1beta0),
    ("lrp_alpha2beta1", 4, "Bach et al. 2015: LRP alpha 2, beta 1", lrp_alpha2beta1),
    ("lrp_zbox", 5, "Montavon et al. 2017, 2019: z-box, then gamma, then epsilon", lrp_zbox),
    (
        "lrp_epsilon_plus_flat",
        2,
        "Lapuschkin et al. 2019; Kohlbrenner et al. 2020: flat, then z-plus, then epsilon",
        lrp_epsilon_plus_flat,
    ),
    ("deep_taylor", 2, "Montavon et al. 2017: deep Taylor decomposition", deep_taylor),
):
    register(
        _name,
        family="relevance",
        paper=_paper,
        # One forward pass, the check of merging, and for each rule pass a forward and a backward.
        cost=2 + 3 * _passes,
        needs={"extra:zennit"},
        axioms={"conservation"},
    )(_run)


def _relevance(call: AttributionCall, rules: Composite, norm: str, bound: float) -> Attribution:
    """Return the relevance of the target's logit at the image.

    Parameters
    ----------
    call : AttributionCall
    rules : Composite
        With ``zero_bias`` biases take no share: relevance is conserved, at the price of the rule's derivation.
    norm : {"linear", "pass"}
        Batch norms that no convolution can take in: a linear layer, or passed over as zennit does.
    bound : float
        Maps whose sum is off the logit by more than this, relative, are flagged.

    Raises
    ------
    ModelError
        An operator has no rule (softmax, layer norm, a product of signals, ...); it is named.
    """
    one_of(norm, "norm", ("linear", "pass"))
    images = call.images.detach()
    with torch.enable_grad():
        x = images.clone().requires_grad_()
        flow = Propagation(rules.method, rules, images, norm=norm)
        with instrument(call.model, Instrument(rule=flow.rule, observe=flow.observe)):
            logits = call.forward(x)
        check_no_hidden_functions(rules.method, logits)
        flow.forget()
        if rules.first is not None and flow.first == 0:
            raise ModelError(
                f"method={rules.method!r} needs a convolution or linear map that reads the image itself; something "
                "else comes first in this network (a batch norm, a rectifier). Use 'lrp_gamma' or 'lrp_epsilon'"
            )
        score = logits.gather(1, call.target[:, None])[:, 0]
        # The logit itself is the relevance at the top.
        raw = gradient_of((score * score.detach()).sum(), x)
    absorbed = flow.absorbed.clone()
    found = conserved(call, raw, score.detach(), "sum = F(x)", bound, absorbed=absorbed)
    flagged = _lost(raw, score.detach(), absorbed)
    if found.flagged is not None:
        flagged |= found.flagged
    return replace(found, flagged=flagged)


def _lost(raw: Tensor, score: Tensor, absorbed: Tensor) -> Tensor:
    """Return flags (B,) of samples whose relevance went where no layer accounts for it, or is not finite."""
    wide = raw.to(absorbed)
    size = wide.abs().sum((1, 2, 3)) + absorbed.abs() + score.abs()
    off = (wide.sum((1, 2, 3)) + absorbed - score).abs()
    # Not ``off > ...``: a comparison with NaN is false, and such a sample must be flagged.
    return ~(off <= 1e-2 * size)


def _box(call: AttributionCall, low: Bounds, high: Bounds) -> tuple[Tensor, Tensor]:
    """Return the bounds of pixels, in the images' shape."""
    pixels = call.images.flatten(2)
    bounds = []
    for name, given, own in (("low", low, pixels.amin(2)), ("high", high, pixels.amax(2))):
        if given is None:
            bounds.append(own[:, :, None, None].expand_as(call.images))
            continue
        value = torch.as_tensor(given, dtype=call.images.dtype, device=call.images.device)
        if value.dim() == 1:
            value = value[None, :, None, None]
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
