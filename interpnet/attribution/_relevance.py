"""Layer-wise relevance propagation: the logit, sent back to the image so that every layer hands on what it got.

:mod:`interpnet.backward` has the table of methods, the rules, and what happens at each operator.
The maps' sum should be the logit. What is missing went to biases and stabilisers, and is returned with every map:
``residual`` is ``|sum - logit| / |logit|``, and ``info["absorbed"]`` says how much the layers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import Signature, signature
from typing import Any

import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, gradient_of
from interpnet.attribution._registry import register
from interpnet.backward import ATTENTION, Composite, Propagation, composite, own_box
from interpnet.errors import InterpNetError
from interpnet.support.checks import one_of, positive_number, real_array

Bounds = float | Sequence[float] | Tensor | None
Options = Callable[..., dict[str, Any]]


def _lrp(name: str, paper: str, passes: int) -> Callable[[Options], Options]:
    """Register the method whose function gives its own options of :func:`composite`, checked.

    All methods have the options ``norm``, ``zero_bias``, ``attention`` and ``bound`` as well; see :func:`_relevance`.
    """

    def enter(own: Options) -> Options:
        def run(
            call: AttributionCall,
            *,
            norm: str = "linear",
            zero_bias: bool = False,
            attention: str | None = None,
            bound: float = 0.5,
            **options: Any,
        ) -> Attribution:
            if attention is not None:
                one_of(attention, "attention", ATTENTION)
            given = own(call, **options)

            def rules(rows: slice) -> Composite:
                mine = dict(given)
                if "box" in mine:
                    mine["box"] = tuple(bound[rows] for bound in mine["box"])
                return composite(name, zero_bias=zero_bias, attention=attention, **mine)

            return _relevance(call, rules, norm, bound)

        shared = list(signature(run).parameters.values())[1:-1]
        run.__signature__ = Signature([*signature(own).parameters.values(), *shared])  # type: ignore[attr-defined]
        run.__doc__ = own.__doc__
        # The forward pass, the check of merging, what the rules run of each layer, forward or transposed, and about two
        # passes' worth of work on its values.
        cost = 4 + passes
        register(name, family="relevance", paper=paper, cost=cost, axioms={"conservation"})(run)
        return own

    return enter


@_lrp("lrp_0", "Bach et al. 2015: LRP-0", passes=1)
def lrp_0(_call: AttributionCall) -> dict[str, Any]:
    """Return relevance under LRP-0; on a network of rectifiers and maxima it equals gradient x input."""
    return {}


@_lrp("lrp_epsilon", "Bach et al. 2015: LRP-epsilon", passes=1)
def lrp_epsilon(_call: AttributionCall, *, epsilon: float = 0.05) -> dict[str, Any]:
    """Return relevance under the epsilon rule, epsilon in units of a layer's root mean square output."""
    return {"epsilon": positive_number(epsilon, "epsilon")}


@_lrp("lrp_gamma", "Montavon et al. 2019: LRP-gamma", passes=3)
def lrp_gamma(_call: AttributionCall, *, gamma: float = 0.25, linear_gamma: float | None = None) -> dict[str, Any]:
    """Return relevance under the gamma rule at convolutions and the epsilon rule (1e-6) at linear maps.

    With ``linear_gamma`` linear maps have the gamma rule too, as Achtibat et al. 2024 use it on vision transformers.
    """
    if linear_gamma is not None:
        linear_gamma = positive_number(linear_gamma, "linear_gamma")
    return {"gamma": positive_number(gamma, "gamma"), "linear_gamma": linear_gamma}


@_lrp("lrp_alpha1beta0", "Bach et al. 2015: LRP alpha 1, beta 0", passes=2)
def lrp_alpha1beta0(_call: AttributionCall) -> dict[str, Any]:
    """Return relevance where positive contributions alone count at convolutions; epsilon (1e-6) at linear maps."""
    return {}


@_lrp("lrp_alpha2beta1", "Bach et al. 2015: LRP alpha 2, beta 1", passes=4)
def lrp_alpha2beta1(_call: AttributionCall) -> dict[str, Any]:
    """Return relevance where positive contributions count twice and negative ones once at convolutions."""
    return {}


@_lrp("lrp_zbox", "Montavon et al. 2017, 2019: z-box, then gamma, then epsilon", passes=3)
def lrp_zbox(call: AttributionCall, *, low: Bounds = None, high: Bounds = None, gamma: float = 0.25) -> dict[str, Any]:
    """Return relevance under the z-box rule at the image, gamma at convolutions, epsilon (1e-6) at linear maps.

    Parameters
    ----------
    call : AttributionCall
    low, high : number, (C,) numbers, or Tensor broadcastable to (B, C, H, W), optional
        The lowest and highest pixel that an image can have, in the network's own normalisation; by default those
        of each image and colour.
    gamma : float
    """
    return {"gamma": positive_number(gamma, "gamma"), "box": _box(call, low, high)}


@_lrp(
    "lrp_epsilon_plus_flat",
    "Lapuschkin et al. 2019; Kohlbrenner et al. 2020: flat, then z-plus, then epsilon",
    passes=2,
)
def lrp_epsilon_plus_flat(_call: AttributionCall) -> dict[str, Any]:
    """Return relevance under the flat rule at the image, z-plus at convolutions, epsilon (1e-6) at linear maps."""
    return {}


@_lrp("deep_taylor", "Montavon et al. 2017: deep Taylor decomposition", passes=2)
def deep_taylor(call: AttributionCall, *, low: Bounds = None, high: Bounds = None) -> dict[str, Any]:
    """Return relevance under z-box at the image and z-plus everywhere else: of one sign, that of the logit.

    Sums share by the size of their terms, averages among what is positive, norms by an image's own statistics pass
    relevance on, and attention sends it to the values alone.

    See :func:`lrp_zbox` for ``low`` and ``high``.
    """
    return {"box": _box(call, low, high)}


def _relevance(call: AttributionCall, rules: Callable[[slice], Composite], norm: str, bound: float) -> Attribution:
    """Return the relevance of the target's logit at the image.

    Parameters
    ----------
    call : AttributionCall
    rules : rows -> Composite
        The rules for some of the images. With ``zero_bias`` biases take no share: relevance is conserved, at the price
        of the rule's derivation. ``attention="attnlrp"`` sends relevance to weights and values of attention alike,
        ``"cp"`` to the values alone.
    norm : {"linear", "pass"}
        Norms that no convolution can take in: a linear layer (one by an image's own statistics with the deviation held
        constant), or passed over.
    bound : float
        Maps whose sum is off the logit by more than this, relative, are flagged.

    Raises
    ------
    ModelError
        An operator has no rule (a product of signals, a batch norm of the batch, ...); it is named.
    """
    one_of(norm, "norm", ("linear", "pass"))
    whole = _sent(call, rules, norm, slice(0, len(call.images)))
    if whole is None:
        # Its windows, heads or tokens come first somewhere: one image at a time, all of a tensor is of that image.
        parts = [_sent(call, rules, norm, slice(i, i + 1)) for i in range(len(call.images))]
        whole = tuple(torch.cat(part) for part in zip(*filter(None, parts), strict=True))
    raw, score, absorbed = whole
    found = conserved(call, raw, score, "sum = F(x)", bound, absorbed=absorbed)
    flagged = _lost(raw, score, absorbed)
    if found.flagged is not None:
        flagged |= found.flagged
    return replace(found, flagged=flagged)


def _sent(
    call: AttributionCall, rules: Callable[[slice], Composite], norm: str, rows: slice
) -> tuple[Tensor, ...] | None:
    """Return relevance (b, C, H, W), logit (b,) and what layers kept (b,) of some images.

    ``None`` where there are several and an operator does not have them on its tensors' first axis.
    """
    images = call.images[rows].detach()
    with torch.enable_grad():
        x = images.clone().requires_grad_()
        flow = Propagation(rules(rows), images, norm=norm)
        with flow.on(call.model):
            logits = call.forward(x)
        if flow.folded and len(images) > 1:
            return None
        flow.check(logits)
        score = logits.gather(1, call.target[rows, None])[:, 0]
        # The logit itself is the relevance at the top.
        raw = gradient_of((score * score.detach()).sum(), x)
    return raw, score.detach(), flow.absorbed.clone()


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
    for name, given, own in zip(("low", "high"), (low, high), own_box(call.images), strict=True):
        if given is None:
            bounds.append(own)
            continue
        array = real_array(given, name)
        value = torch.as_tensor(array, dtype=call.images.dtype, device=call.images.device)
        if bool(torch.isnan(value).any()):
            raise InterpNetError(f"{name} holds NaN; expected numbers")
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
