"""One signature for every attribution method: model, images and one target class an image, to (B, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet._device import beside
from interpnet.backward import backward_rules, check_overridden
from interpnet.errors import InterpNetError, LayerError, did_you_mean
from interpnet.heatmap import reduce_colours
from interpnet.sites import Layers, Output, Site, check_images, find_sites, logits_of
from interpnet.trace import Instrument, evaluating, instrument, unwrap

Target = int | Tensor | Sequence[int] | None


@dataclass(frozen=True)
class Method:
    """What a method is: its family, its paper, and its cost in forward passes (a backward pass counts 2)."""

    name: str
    family: str
    paper: str
    cost: float
    run: Callable[[nn.Module, Tensor, Tensor, Output | None, Layers | None], Tensor]


def attribute(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    method: str = "gradcam",
    *,
    output: Output | None = None,
    layer: Layers | None = None,
) -> Tensor:
    """Return how much each pixel speaks for a class, by a method of the literature.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    target : int, (B,) class numbers, or None
        The class to attribute; the predicted ones by default.
    method : str
        One of :func:`methods`.
    output : function, optional
        Takes what the model returns, gives logits.
    layer : str, optional
        The layer of Grad-CAM; the last convolutional site with a map larger than one position by default.

    Returns
    -------
    Tensor (B, H, W)
        Not normalised.

    Raises
    ------
    InterpNetError
        Unknown method (close matches are named), a target outside the classes or of another length.
    ModelError
        A rectifier escaped the rule of ``guided`` or ``deconvnet``.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> attribute(net, torch.rand(2, 1, 5, 5), 1, "gradient").shape
    torch.Size([2, 5, 5])
    """
    if method not in _METHODS:
        raise InterpNetError(
            f"unknown method {method!r}{did_you_mean(method, _METHODS)}; expected one of {', '.join(_METHODS)}"
        )
    model = unwrap(model)
    images = beside(model, check_images(images))
    with evaluating(model, frozen=True):
        with torch.no_grad():
            logits = logits_of(model(images), images.shape[0], output)
        targets = _targets(target, logits)
        return _METHODS[method].run(model, images, targets, output, layer)


def methods() -> tuple[Method, ...]:
    """Return the methods that :func:`attribute` knows.

    Examples
    --------
    >>> [m.name for m in methods()]
    ['gradient', 'deconvnet', 'guided', 'gradcam']
    """
    return tuple(_METHODS.values())


def _targets(target: Target, logits: Tensor) -> Tensor:
    batch, n = logits.shape
    if target is None:
        return logits.argmax(1)
    if isinstance(target, int):
        target = [target] * batch
    targets = torch.as_tensor(target, device=logits.device).long()
    if targets.shape != (batch,):
        raise InterpNetError(
            f"target has shape {tuple(targets.shape)}; expected one class number for each of {batch} images"
        )
    if bool(((targets < 0) | (targets >= n)).any()):
        raise InterpNetError(f"target {targets.tolist()} holds a class outside 0..{n - 1}")
    return targets


def _from_logit(rectifier: str) -> Callable[[nn.Module, Tensor, Tensor, Output | None, Layers | None], Tensor]:
    """Return the method that sends the target's logit back to the image under a rectifier rule."""

    def run(model: nn.Module, images: Tensor, targets: Tensor, output: Output | None, layer: Layers | None) -> Tensor:
        if layer is not None:
            raise InterpNetError(f"layer={layer!r} came; this method starts at the logit and takes no layer")
        with torch.enable_grad():
            x = images.detach().clone().requires_grad_()
            with backward_rules(model, rectifier=rectifier, resample=False) as report:
                logits = logits_of(model(x.clone()), x.shape[0], output)
            check_overridden(report, logits)
            (signal,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), x)
        return reduce_colours(signal, "max")

    return run


def _gradcam(model: nn.Module, images: Tensor, targets: Tensor, output: Output | None, layer: Layers | None) -> Tensor:
    """Weight the maps of one layer by their mean gradient, keep the positive part, and enlarge bilinearly."""
    site = _cam_site(model, images, output, layer)
    axis = site.axis or 1
    kept: list[Tensor] = []
    with torch.enable_grad():
        # The input takes part in the graph, so that gradients reach the layer with frozen weights.
        x = images.detach().clone().requires_grad_()

        def keep(out: Tensor) -> Tensor:
            copy = out.clone()
            kept.append(copy)
            return copy

        with instrument(model, Instrument(edits={site.name: keep})):
            logits = logits_of(model(x.clone()), x.shape[0], output)
        (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[0])
    maps, gradient = kept[0].detach().movedim(axis, 1), gradient.movedim(axis, 1)
    weights = gradient.mean((2, 3), keepdim=True)
    cam = (weights * maps).sum(1, keepdim=True).clamp(min=0)
    return F.interpolate(cam, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _cam_site(model: nn.Module, images: Tensor, output: Output | None, layer: Layers | None) -> Site:
    found = find_sites(model, images, output=output)
    if layer is not None:
        chosen = found.select(layer)
        if len(chosen) > 1:
            raise LayerError(f"layer={layer!r} names {len(chosen)} sites; Grad-CAM needs one")
        candidates = [s for s in chosen if len(s.map_shape) == 2]
    else:
        usable = [s for s in found.sites if s.default and s.usable and s.family == "conv" and len(s.map_shape) == 2]
        candidates = [s for s in usable if min(s.map_shape) > 1] or usable
    if not candidates:
        raise LayerError("Grad-CAM needs a convolutional layer with a 2-D map before the classifier; none was found")
    return candidates[-1]


_METHODS = {
    m.name: m
    for m in (
        Method(
            "gradient", "gradient", "Simonyan et al. 2014: max over colours of |gradient|", 3, _from_logit("gradient")
        ),
        Method("deconvnet", "gradient", "Zeiler & Fergus 2014", 3, _from_logit("deconvnet")),
        Method("guided", "gradient", "Springenberg et al. 2015: guided backpropagation", 3, _from_logit("guided")),
        Method("gradcam", "cam", "Selvaraju et al. 2017", 3, _gradcam),
    )
}
