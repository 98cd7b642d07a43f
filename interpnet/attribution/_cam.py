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
(Inception, Fire), the concatenation. In transformers it is the last layer whose positions are those of the image; where
the class has a token of its own, the norm before the last attention, since other tokens are not read after it. Tokens
that stand for no place are left out of maps and weights. All run on the engine, so functional and reused layers are as
good as modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, gradient_of, score_gradient, site_of
from interpnet.attribution._gradients import enlarge
from interpnet.attribution._registry import register
from interpnet.engine import Instrument, Layers, Site, Trace, instrument, widest
from interpnet.errors import ModelError
from interpnet.support.checks import whole_number

_register = partial(register, family="cam", needs={"layer"}, reduction=None)


@_register("cam", paper="Zhou et al. 2016", cost=3)
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
    # Behind a global average every position has the same gradient; anything else is not the paper's method.
    uneven = (gradient - gradient.mean((2, 3), keepdim=True)).abs().amax() > 1e-4 * gradient.abs().amax()
    if bool(uneven):
        raise ModelError(
            f"method='cam' needs a global average after layer {site.name!r}, but its positions have different weights; "
            "use method='gradcam'"
        )
    return _enlarged(call, site, (weights * maps).sum(1), relu=relu)


@_register("gradcam", paper="Selvaraju et al. 2017", cost=3)
def gradcam(call: AttributionCall, *, relu: bool = True) -> Attribution:
    """Weight the maps of one layer by their mean gradient; ``relu`` keeps the positive part of the sum."""
    site = target_layer(call)
    return _enlarged(call, site, _gradcam(*_maps_and_gradient(call, site)), relu=relu)


@_register("gradcam++", paper="Chattopadhay et al. 2018", cost=3)
def gradcam_plus_plus(call: AttributionCall) -> Attribution:
    """Weight the maps by their positive gradients, each position by its share alpha of the class's evidence."""
    site = target_layer(call)
    return _enlarged(call, site, _gradcam_plus_plus(*_maps_and_gradient(call, site)))


@_register("layercam", paper="Jiang et al. 2021", cost=3)
def layercam(call: AttributionCall) -> Attribution:
    """Weight every position of every map by its own positive gradient."""
    site = target_layer(call)
    maps, gradient = _maps_and_gradient(call, site)
    return _enlarged(call, site, (gradient.clamp(min=0) * maps).sum(1))


@_register(
    "scorecam",
    paper="Wang et al. 2020",
    cost="one forward pass for each channel of the layer, or for each of `channels`",
)
def scorecam(call: AttributionCall, *, channels: int | None = None) -> Attribution:
    """Weight the maps by the softmax, over channels, of the logit of the image seen through each map.

    Each map is enlarged, min-max normalised, and multiplied with the image.

    Parameters
    ----------
    channels : int, optional
        Only the channels with the largest norm, for each image; all by default, as published.
    """
    site = target_layer(call)
    maps = call.layer_maps(site)
    count = maps.shape[1]
    if channels is not None:
        count = min(whole_number(channels, "channels", least=1), count)
    # In the layer's own order, so that all channels give what no choice gives.
    chosen = maps.flatten(2).norm(dim=2).topk(count, dim=1).indices.sort(1).values
    maps = torch.stack([image[which] for image, which in zip(maps, chosen, strict=True)])
    # The paper subtracts the logit of a baseline image; the softmax does not change by that.
    scores = _masked_scores(call, maps)
    cam = (scores.softmax(1)[:, :, None, None] * maps).sum(1)
    return _enlarged(call, site, cam)


@_register("guided_gradcam", paper="Selvaraju et al. 2017", cost=6, reduction="max")
def guided_gradcam(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Multiply Grad-CAM with guided backpropagation; ``resample`` as in :mod:`interpnet.backward`."""
    site = target_layer(call)
    return _guided(call, site, _gradcam(*_maps_and_gradient(call, site)), resample)


@_register("guided_gradcam++", paper="Chattopadhay et al. 2018", cost=6, reduction="max")
def guided_gradcam_plus_plus(call: AttributionCall, *, resample: bool = False) -> Attribution:
    """Multiply Grad-CAM++ with guided backpropagation; ``resample`` as in :mod:`interpnet.backward`."""
    site = target_layer(call)
    return _guided(call, site, _gradcam_plus_plus(*_maps_and_gradient(call, site)), resample)


def target_layer(call: AttributionCall) -> Site:
    """Return the layer asked for, else the last convolutional site, or the concatenation that it goes into."""
    return target_site(call.trace(), call.layer)


def target_site(trace: Trace, layer: Layers | None = None) -> Site:
    """Return the layer of :func:`target_layer` in a network's trace."""
    site = site_of(trace, layer)
    if layer is not None:
        return site
    # Inception, Fire: the last convolution's maps are only a part of what the classifier sees.
    for after in trace.sites[trace.sites.index(site) + 1 :]:
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
    # Where the classifier is a convolution that is averaged last, its own maps are the class's.
    if (
        call.layer is None
        and last.usable
        and len(last.map_shape) == 2
        and min(last.map_shape) > 1
        and not _not_averages(sites[sites.index(last) + 1 :])
    ):
        return last
    raise ModelError(
        f"method='cam' needs a global average and one linear layer after layer {first.name!r}; this network has "
        f"{foreign[0].op!r} at {foreign[0].name!r} there. Use method='gradcam', which is the same where both are right"
    )


def _not_averages(after: Sequence[Site]) -> list[Site]:
    """Return the sites that are neither pooling nor the one linear layer."""
    # On a map of one position, a convolution is a linear layer.
    linear = [s for s in after if s.kind == "linear" or (s.kind == "conv" and s.map_shape == (1, 1))]
    return [s for s in after if s not in linear and s.kind != "pool"] + linear[1:]


def _maps_and_gradient(call: AttributionCall, site: Site) -> tuple[Tensor, Tensor]:
    """Return the layer's maps (B, K, h, w) and the gradient of the target's logit with respect to them."""
    kept: list[Tensor] = []

    def keep(out: Tensor) -> Tensor:
        # A copy that the network goes on with: a later in-place operator would overwrite the map itself.
        kept.append(out.clone())
        return kept[-1]

    with torch.enable_grad():
        # The input takes part in the graph, so that gradients reach the layer with frozen weights.
        x = call.images.detach().clone().requires_grad_()
        with instrument(call.model, Instrument(edits={site.name: site.editing(keep)})):
            logits = call.forward(x)
        gradient = gradient_of(logits.gather(1, call.target[:, None]).sum(), kept[0])
    return site.maps(kept[0].detach()), site.maps(gradient)


def _masked_scores(call: AttributionCall, maps: Tensor) -> Tensor:
    """Return the target's logit (B, K) of every image times each of its maps, ``max_batch`` images in one pass."""
    low = maps.amin((2, 3), keepdim=True)
    span = maps.amax((2, 3), keepdim=True) - low
    masks = torch.where(span > 0, (maps - low) / torch.where(span > 0, span, torch.ones_like(span)), 0)
    batch, count = maps.shape[:2]
    scores = maps.new_zeros(batch * count)
    for at in torch.split(torch.arange(batch * count, device=maps.device), call.max_batch):
        image = at // count
        mask = enlarge(masks.flatten(0, 1)[at], call)
        scores[at] = call.scores(call.images[image] * mask[:, None], call.target[image]).to(scores)
    return scores.view(batch, count)


def _gradcam(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1)


def _gradcam_plus_plus(maps: Tensor, gradient: Tensor) -> Tensor:
    # Third powers of small gradients leave float32 too soon.
    wide = widest(maps.device)
    g = gradient.to(wide)
    a = maps.to(wide)
    # Chattopadhay et al. 2018: alpha is 0 where the gradient is.
    below = 2 * g**2 + g**3 * a.sum((2, 3), keepdim=True)
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, torch.ones_like(below)), 0)
    weights = (alpha * g.clamp(min=0)).sum((2, 3), keepdim=True)
    return (weights * a).sum(1).to(maps.dtype)


def _guided(call: AttributionCall, site: Site, low: Tensor, resample: bool) -> Attribution:
    signal = score_gradient(call, rectifier="guided", resample=resample)
    return call.finish(signal * enlarge(low.clamp(min=0), call)[:, None], info={"layer": site.name})


def _enlarged(call: AttributionCall, site: Site, low: Tensor, *, relu: bool = True) -> Attribution:
    if relu:
        low = low.clamp(min=0)
    return Attribution(enlarge(low, call), info={"layer": site.name})
