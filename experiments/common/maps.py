"""Every map that is compared: identified channels, logits under the same rules, all attribution methods, controls."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.attribution import AttributionWarning, attribute, methods
from interpnet.engine import Instrument, Trace, evaluating, instrument
from interpnet.errors import ModelError
from interpnet.explanation import Explanation, explain, normalise, reduce_colours
from interpnet.interpretation import Interpretation

#: The paper's method with its defaults: the three channels with the largest weight times score, guided, resampled.
PAPER = "channels guided resampled"
RULES = ("gradient", "deconvnet", "guided")  # backward rules of docs/method.md, section 5
#: Where the default is for final figures; stated in the README.
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 10},
    "vargrad": {"samples": 10},
    "integrated_gradients": {"steps": 16},
    "expected_gradients": {"samples": 16},
    "occlusion": {"patch": 16, "stride": 12},
    "lime": {"samples": 100},
    "kernel_shap": {"samples": 100},
    "shapley_sampling": {"orders": 2},
    "scorecam": {"channels": 32},
}
K = 3  # the library's default (docs/method.md, section 4)


def quietly(model: nn.Module, images: Tensor, target: Tensor, method: str, **options: Any) -> Tensor:
    """Return a method's maps; signed maps keep their sign, and no warning says that a map is zero or unreliable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttributionWarning)  # a map of zeros is counted, not warned of
        return attribute(model, images, target, method, **options)


def all_maps(
    model: nn.Module, images: Tensor, labels: Tensor, found: Interpretation, trace: Trace
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, maps (B, H, W)) for the images' true classes; signed maps keep their sign."""
    for rule in RULES:
        for how, resample in (("plain", False), ("resampled", True)):
            shown = explain(
                model,
                images,
                found,
                k=K,
                classes=labels,
                rectifier=rule,
                resample=resample,
                trace=trace,
                variant="paper",
            )
            for reduction, mark in (("positive", ""), ("abs", ", absolute")):
                yield f"channels {rule} {how}{mark}", normalise(reduce_colours(shown.signals, reduction)).amax(1)
            if resample and rule != "gradient":
                yield f"logit {rule} {how}", attribute(model, images, labels, rule, resample=True)
    # Every rule has chosen the same channels: the last choice stands for all.
    yield "channels upsampled", upsampled(model, images, shown)
    for method in methods():
        try:
            yield method.name, quietly(model, images, labels, method.name, **OPTIONS.get(method.name, {}))
        except ModelError:
            continue  # CAM where the network does not average


def activations(model: nn.Module, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Return the outputs of some layers by name."""
    kept: dict[str, Tensor] = {}

    def reader(layer: str) -> Any:
        return lambda out: kept.setdefault(layer, out.clone())

    with torch.no_grad(), evaluating(model), instrument(model, Instrument(reads={n: reader(n) for n in layers})):
        model(images.clone())
    return kept


def enlarged(one: Tensor, size: torch.Size) -> Tensor:
    """Return an activation map (h, w) enlarged bilinearly to the image's size (H, W)."""
    return F.interpolate(one[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def upsampled(model: nn.Module, images: Tensor, shown: Explanation) -> Tensor:
    """Return the maximum over each image's channels of their activation maps, min-max normalised and enlarged."""
    kept = activations(model, images, {channel.layer for row in shown.channels for channel in row})
    maps = torch.zeros(len(images), *images.shape[2:])
    for i, row in enumerate(shown.channels):
        for channel in row:
            scaled = normalise(kept[channel.layer][i, channel.index])
            maps[i] = torch.maximum(maps[i], enlarged(scaled, images.shape[2:]))
    return maps
