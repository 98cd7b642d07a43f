"""Class activation maps: the maps of one layer, weighted for a class and enlarged.

With the maps A_k (h x w) of the target layer, the logit F of the target and g = dF/dA_k:

================  ===================================================================  =======================
method            low-resolution map                                                    source
================  ===================================================================  =======================
``cam``           ``sum_k w_k A_k``, w the classifier's weights: F = sum_k w_k mean A_k  Zhou et al. 2016
``gradcam``       ``max(0, sum_k mean(g_k) A_k)``                                        Selvaraju et al. 2017
``gradcam++``     the same with ``sum_ij alpha max(0, g)`` for ``mean(g)``,              Chattopadhay et al. 2018
                  ``alpha = g^2 / (2 g^2 + g^3 sum A_k)``
``scorecam``      the same with softmax over k of F(image x enlarged, normalised A_k)    Wang et al. 2020
``layercam``      ``max(0, sum_k max(0, g_k) A_k)``, position by position                Jiang et al. 2021
``guided_...``    the enlarged map times guided backpropagation                          Selvaraju et al. 2017
================  ===================================================================  =======================

The target layer is the one given by ``layer``, else the last convolutional site with a map before the classifier, as
the trace found it with the user's own batch; where its maps are concatenated with others before the classifier
(Inception, Fire), the concatenation. All run on the engine, so functional and reused layers are as good as modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, gradient_of, score_gradient
from interpnet.attribution._registry import register
from interpnet.engine import Instrument, Site, instrument, logits_of
from interpnet.errors import InterpNetError, ModelError


@register("cam", family="cam", paper="Zhou et al. 2016", cost=3, needs={"layer"}, reduction=None)
def cam(call: AttributionCall, *, relu: bool = False) -> Attribution:
    """Weight the maps by the classifier's weights, where a global average and one linear layer follow the layer.

    Where the classifier is a convolution that is averaged last (SqueezeNet, Network in Network), the class has a map
    of its own, which is taken.

    Parameters
    ----------
    relu : bool
        Keep the positive part alone; the paper keeps both signs.

    Raises
    ------
    ModelError
        Something else lies between the layer and the logits; the operator is named.
    """
    site = _averaged_layer(call)
    maps, gradient = _maps_and_gradient(call, site)
    weights = gradient.sum((2, 3), keepdim=True)
    uneven = (gradient - gradient.mean((2, 3), keepdim=True)).abs().amax() > 1e-4 * gradient.abs().amax()
    if bool(uneven):
        raise ModelError(
            f"method='cam' needs a global average after layer {site.name!r}, but its positions have different weights; "
            "use method='gradcam'"
        )
    return _enlarged(call, site, (weights * maps).sum(1), relu=relu)


@register("gradcam", family="cam", paper="Selvaraju et al. 2017", cost=3, needs={"layer"}, reduction=None)
def gradcam(call: AttributionCall, *, relu: bool = True) -> Attribution:
    """Weight the maps of one layer by their mean gradient; ``relu`` keeps the positive part of the sum."""
    site = target_layer(call)
    return _enlarged(call, site, _gradcam(*_maps_and_gradient(call, site)), relu=relu)


@register("gradcam++", family="cam", paper="Chattopadhay et al. 2018", cost=3, needs={"layer"}, reduction=None)
def gradcam_plus_plus(call: AttributionCall) -> Attribution:
    """Weight the maps by their positive gradients, each position by its share alpha of the class's evidence."""
    site = target_layer(call)
    return _enlarged(call, site, _gradcam_plus_plus(*_maps_and_gradient(call, site)))


@register("layercam", family="cam", paper="Jiang et al. 2021", cost=3, needs={"layer"}, reduction=None)
def layercam(call: AttributionCall) -> Attribution:
    """Weight every position of every map by its own positive gradient."""
    site = target_layer(call)
    maps, gradient = _maps_and_gradient(call, site)
    return _enlarged(call, site, (gradient.clamp(min=0) * maps).sum(1))


@register(
    "scorecam",
    family="cam",
    paper="Wang et al. 2020",
    cost="one forward pass for each channel of the layer, or for each of `channels`",
    needs={"layer"},
    reduction=None,
)
def scorecam(call: AttributionCall, *, channels: int | None = None) -> Attribution:
    """Weight the maps by the softmax, over channels, of the logit of the image seen through each map.

    Each map is enlarged, min-max normalised, and multiplied with the image. The paper subtracts the logit of a
    baseline image; the softmax does not change by that.

    Parameters
    ----------
    channels : int, optional
        Only the channels with the largest norm, for each image; all by default, as published.
    """
    if channels is not None and channels < 1:
        raise InterpNetError(f"channels={channels}; expected at least 1, or None for all channels")
    site = target_layer(call)
    maps = _maps(call, site)
    norms = maps.flatten(2).norm(dim=2)
    count = maps.shape[1] if channels is None else min(channels, maps.shape[1])
    # In the layer's own order, so that all channels give what no choice gives.
    chosen = norms.topk(count, dim=1).indices.sort(1).values
    maps = torch.stack([image[which] for image, which in zip(maps, chosen, strict=True)])
    scores = _masked_scores(call, maps)
    cam = (scores.softmax(1)[:, :, None, None] * maps).sum(1)
    return _enlarged(call, site, cam)


@register("guided_gradcam", family="cam", paper="Selvaraju et al. 2017", cost=6, needs={"layer"}, reduction="max")
def guided_gradcam(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Multiply Grad-CAM with guided backpropagation; ``resample`` as in :mod:`interpnet.backward`."""
    site = target_layer(call)
    return _guided(call, site, _gradcam(*_maps_and_gradient(call, site)), resample)


@register("guided_gradcam++", family="cam", paper="Chattopadhay et al. 2018", cost=6, needs={"layer"}, reduction="max")
def guided_gradcam_plus_plus(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Multiply Grad-CAM++ with guided backpropagation; ``resample`` as in :mod:`interpnet.backward`."""
    site = target_layer(call)
    return _guided(call, site, _gradcam_plus_plus(*_maps_and_gradient(call, site)), resample)


def target_layer(call: AttributionCall) -> Site:
    """Return the layer asked for, else the last convolutional site, or the concatenation that it goes into."""
    site = call.site()
    if call.layer is not None:
        return site
    sites = call.trace().sites
    for after in sites[sites.index(site) + 1 :]:
        if after.output or after.kind not in {"cat", "add"}:
            break
        if after.usable and after.map_shape == site.map_shape:
            site = after
    return site


def _averaged_layer(call: AttributionCall) -> Site:
    """Return the target layer if only averages and one linear layer follow, else a later one of which that is so."""
    first = target_layer(call)
    sites = call.trace().sites
    at = sites.index(first)
    foreign = _not_averages(sites[at + 1 :])
    if not foreign:
        return first
    last = foreign[-1]
    if call.layer is None and len(last.map_shape) == 2 and not _not_averages(sites[sites.index(last) + 1 :]):
        return last
    raise ModelError(
        f"method='cam' needs a global average and one linear layer after layer {first.name!r}; this network has "
        f"{foreign[0].op!r} at {foreign[0].name!r} there. Use method='gradcam', which is the same where both are right"
    )


def _not_averages(after: Sequence[Site]) -> list[Site]:
    """Return the sites that are neither pooling nor the one linear layer."""
    linear = [s for s in after if s.kind == "linear"]
    return [s for s in after if s.kind not in {"linear", "pool"}] + linear[1:]


def _maps_and_gradient(call: AttributionCall, site: Site) -> tuple[Tensor, Tensor]:
    """Return the layer's maps (B, K, h, w) and the gradient of the target's logit with respect to them."""
    kept: list[Tensor] = []
    with torch.enable_grad():
        # The input takes part in the graph, so that gradients reach the layer with frozen weights.
        x = call.images.detach().clone().requires_grad_()

        def keep(out: Tensor) -> Tensor:
            copy = out.clone()
            kept.append(copy)
            return copy

        with instrument(call.model, Instrument(edits={site.name: keep})):
            logits = logits_of(call.model(x.clone()), x.shape[0], call.output)
        gradient = gradient_of(logits.gather(1, call.target[:, None]).sum(), kept[0])
    axis = site.axis or 1
    return kept[0].detach().movedim(axis, 1), gradient.movedim(axis, 1)


def _maps(call: AttributionCall, site: Site) -> Tensor:
    """Return the layer's maps (B, K, h, w)."""
    kept: list[Tensor] = []
    with torch.no_grad(), instrument(call.model, Instrument(reads={site.name: lambda out: kept.append(out.clone())})):
        call.model(call.images.clone())
    return kept[0].movedim(site.axis or 1, 1)


def _masked_scores(call: AttributionCall, maps: Tensor) -> Tensor:
    """Return the target's logit (B, K) of every image times each of its maps, ``max_batch`` images a pass."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    masks = torch.where(span > 0, (maps - low) / torch.where(span > 0, span, torch.ones_like(span)), 0)
    batch, count = maps.shape[:2]
    scores = maps.new_zeros(batch * count)
    for first in range(0, batch * count, call.max_batch):
        at = torch.arange(first, min(first + call.max_batch, batch * count), device=maps.device)
        image, channel = at // count, at % count
        mask = _enlarge(masks[image, channel], call)
        scores[at] = call.scores(call.images[image] * mask[:, None], call.target[image]).to(scores)
    return scores.view(batch, count)


def _gradcam(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1)


def _gradcam_plus_plus(maps: Tensor, gradient: Tensor) -> Tensor:
    # Third powers of small gradients leave float32 too soon; MPS has no float64.
    wide = torch.float32 if maps.device.type == "mps" else torch.float64
    g, a = gradient.to(wide), maps.to(wide)
    below = 2 * g**2 + g**3 * a.sum((2, 3), keepdim=True)
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, torch.ones_like(below)), 0)
    weights = (alpha * g.clamp(min=0)).sum((2, 3), keepdim=True)
    return (weights * a).sum(1).to(maps.dtype)


def _guided(call: AttributionCall, site: Site, low: Tensor, resample: bool) -> Attribution:
    signal = score_gradient(call, rectifier="guided", resample=resample)
    return call.finish(signal * _enlarge(low.clamp(min=0), call)[:, None], info={"layer": site.name})


def _enlarged(call: AttributionCall, site: Site, low: Tensor, *, relu: bool = True) -> Attribution:
    low = low.clamp(min=0) if relu else low
    return Attribution(_enlarge(low, call), info={"layer": site.name})


def _enlarge(low: Tensor, call: AttributionCall) -> Tensor:
    """Return maps (n, h, w) at the images' size, by bilinear interpolation."""
    return F.interpolate(low[:, None], call.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
