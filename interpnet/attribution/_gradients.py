"""Methods of one backward pass from the class's logit, and the activation map itself."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, score_gradient
from interpnet.attribution._registry import register
from interpnet.errors import InterpNetError
from interpnet.support.checks import is_whole, one_of

_register = partial(register, family="gradient", cost=3)


@_register("gradient", paper="Simonyan et al. 2014: max over colours of |gradient|", reduction="max")
def gradient(call: AttributionCall) -> Attribution:
    """Return dF/dx of the target's logit F."""
    return call.finish(score_gradient(call))


@_register(
    "deconvnet",
    paper="Zeiler & Fergus 2014: only positive signal passes a rectifier",
    reduction="max",
    axioms={"not-gradient"},
)
def deconvnet(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Return the signal under the rule ``deconvnet``; ``resample=True`` adds the stride-1 resampling."""
    # docs/method.md, section 5.
    return call.finish(score_gradient(call, rectifier="deconvnet", resample=resample))


@_register("guided", paper="Springenberg et al. 2015: guided backpropagation", reduction="max", axioms={"not-gradient"})
def guided(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Return the signal under the rule ``guided``; ``resample=True`` adds the stride-1 resampling."""
    return call.finish(score_gradient(call, rectifier="guided", resample=resample))


@_register("gradient_x_input", paper="Shrikumar et al. 2016: gradient x input")
def gradient_x_input(call: AttributionCall) -> Attribution:
    """Return ``x * dF/dx``: the linear rule of DeepLIFT against a blank baseline."""
    return call.finish(call.images * score_gradient(call))


@_register(
    "simple_taylor",
    paper="Montavon et al. 2017: first-order Taylor expansion at a baseline image",
    cost=4,
    needs={"baseline"},
    axioms={"conservation"},
)
def simple_taylor(call: AttributionCall, *, at: str = "baseline", bound: float = 0.5) -> Attribution:
    """Return ``(x - b) * dF/dx``, the derivative taken at the baseline b (or, ``at="image"``, at x).

    The residual is what the terms of higher order hold: ``F(x) - F(b)`` less the sum. The baseline is the blurred
    image by default.
    """
    baseline = call.reference("blurred")
    points = {"baseline": baseline, "image": call.images}
    raw = (call.images - baseline) * score_gradient(call, points[one_of(at, "at", points)])
    expected = call.score - call.scores(baseline)
    return conserved(call, raw, expected, "sum = F(x) - F(baseline), to first order", bound)


@register(
    "upsampled_activation",
    family="activation",
    paper="Zhou et al. 2015; Bau et al. 2017: an activation map, enlarged",
    cost=1,
    needs={"layer"},
    reduction=None,
    axioms={"ignores-target"},
)
def upsampled_activation(call: AttributionCall, *, channel: int | str = "strongest") -> Attribution:
    """Return an activation map of the target layer, enlarged bilinearly.

    Parameters
    ----------
    call : AttributionCall
    channel : {"strongest", "sum"} or int
        ``"strongest"``: for each image the channel whose map has the largest L2 norm; ``"sum"``: the sum over all
        channels; a number: that channel. None of them knows the class.
    """
    site = call.site()
    maps = call.layer_maps(site)
    chosen = torch.full((len(maps),), -1, device=maps.device)  # -1: no single channel
    if channel == "sum":
        picked = maps.sum(1)
    else:
        if is_whole(channel):
            if not 0 <= int(channel) < site.channels:
                raise InterpNetError(f"channel={channel}; layer {site.name!r} has channels 0 to {site.channels - 1}")
            chosen[:] = int(channel)
        elif channel == "strongest":
            chosen = maps.flatten(2).norm(dim=2).argmax(1)
        else:
            raise InterpNetError(f"channel={channel!r}; expected 'strongest', 'sum' or a channel's number")
        picked = maps[torch.arange(len(maps), device=maps.device), chosen]
    return Attribution(enlarge(picked, call), info={"layer": site.name, "channel": chosen})


def enlarge(maps: Tensor, call: AttributionCall) -> Tensor:
    """Return maps (n, h, w) at the images' size, by bilinear interpolation."""
    return F.interpolate(maps[:, None], call.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
