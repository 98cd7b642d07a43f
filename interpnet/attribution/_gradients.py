"""Methods of one backward pass from the class's logit, and the activation map itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, score_gradient
from interpnet.attribution._registry import register
from interpnet.engine import Instrument, instrument, logits_of
from interpnet.errors import InterpNetError


@register(
    "gradient", family="gradient", paper="Simonyan et al. 2014: max over colours of |gradient|", cost=3, reduction="max"
)
def gradient(call: AttributionCall) -> Attribution:
    """Return dF/dx of the target's logit F."""
    return call.finish(score_gradient(call))


@register(
    "deconvnet",
    family="gradient",
    paper="Zeiler & Fergus 2014: only positive signal passes a rectifier",
    cost=3,
    reduction="max",
    axioms={"not-gradient"},
)
def deconvnet(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Return the signal under the rule ``deconvnet``; ``resample=True`` adds the stride-1 resampling."""
    return call.finish(score_gradient(call, rectifier="deconvnet", resample=resample))


@register(
    "guided",
    family="gradient",
    paper="Springenberg et al. 2015: guided backpropagation",
    cost=3,
    reduction="max",
    axioms={"not-gradient"},
)
def guided(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Return the signal under the rule ``guided``; ``resample=True`` adds the stride-1 resampling."""
    return call.finish(score_gradient(call, rectifier="guided", resample=resample))


@register("gradient_x_input", family="gradient", paper="Shrikumar et al. 2016: gradient x input", cost=3)
def gradient_x_input(call: AttributionCall) -> Attribution:
    """Return ``x * dF/dx``: the linear rule of DeepLIFT against a blank baseline."""
    return call.finish(call.images * score_gradient(call))


@register(
    "simple_taylor",
    family="gradient",
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
    if at not in {"baseline", "image"}:
        raise InterpNetError(f"at={at!r}; expected 'baseline' or 'image'")
    baseline = call.reference("blurred")
    raw = (call.images - baseline) * score_gradient(call, baseline if at == "baseline" else call.images)
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
    kept: list[Tensor] = []
    with torch.no_grad(), instrument(call.model, Instrument(reads={site.name: lambda out: kept.append(out.clone())})):
        logits_of(call.model(call.images.clone()), call.images.shape[0], call.output)
    maps = kept[0].movedim(site.axis or 1, 1)
    if channel == "sum":
        chosen = torch.full((maps.shape[0],), -1, device=maps.device)
        picked = maps.sum(1)
    else:
        if isinstance(channel, int):
            if not 0 <= channel < site.channels:
                raise InterpNetError(f"channel={channel}; layer {site.name!r} has channels 0 to {site.channels - 1}")
            chosen = torch.full((maps.shape[0],), channel, device=maps.device)
        elif channel == "strongest":
            chosen = maps.flatten(2).norm(dim=2).argmax(1)
        else:
            raise InterpNetError(f"channel={channel!r}; expected 'strongest', 'sum' or a channel's number")
        picked = maps[torch.arange(maps.shape[0], device=maps.device), chosen]
    large = F.interpolate(picked[:, None], call.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return Attribution(large, info={"layer": site.name, "channel": chosen})
