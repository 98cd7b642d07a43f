"""A picture of the best channel of each concept: its strongest images, and outlines of what is above its threshold."""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.common.pages import figure_file
from experiments.dissection.data import Archive
from interpnet.concepts import Dissection
from interpnet.engine import Channel, Instrument, instrument
from interpnet.plotting.style import VERMILLION
from interpnet.support.types import Float64

_CONCEPTS = 10
_IMAGES = 6


def chosen(found: Dissection) -> list[tuple[str, Channel, float]]:
    """Return the concepts with the best detectors, ten at most, each with its best channel and the overlap."""
    best = [(concept, *found.detectors(concept)[0]) for concept in found.concepts if found.detectors(concept)]
    return sorted(best, key=lambda one: -one[2])[:_CONCEPTS]


def sheet(model: nn.Module, sources: dict[str, Archive], found: Dissection, path: Path) -> None:
    """Draw a row for each concept."""
    rows = chosen(found)
    if not rows:
        return
    images = _images(sources, {i for _, channel, _ in rows for i in _top(found, channel)})
    with figure_file(path, 1.5 * _IMAGES + 1.3, 1.5 * len(rows), 50) as drawn:
        panels = drawn.subplots(len(rows), _IMAGES, squeeze=False)
        for line, (concept, channel, overlap) in zip(panels, rows, strict=True):
            shown = torch.stack([images[i] for i in _top(found, channel)])
            maps = _maps(model, shown, channel)
            limit = float(found.thresholds[found.channels.position(channel)])
            for axes, image, values in zip(line, shown, maps, strict=False):
                axes.imshow(_picture(image))
                if values.max() > limit:
                    axes.contour(values, [limit], colors=[VERMILLION], linewidths=1.5)
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            label = f"{concept}\nIoU {overlap:.2f}\n{channel.layer}\nchannel {channel.index}"
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)


def _top(found: Dissection, channel: Channel) -> list[int]:
    numbers = found.top[found.channels.position(channel)][:_IMAGES]
    return [int(number) for number in numbers]


def _images(sources: dict[str, Archive], wanted: set[int]) -> dict[int, Tensor]:
    """Return images by their number, counted through all sources."""
    every = chain.from_iterable(batch for loader in sources.values() for batch, _ in loader)
    return {number: image for number, image in enumerate(every) if number in wanted}


def _maps(model: nn.Module, images: Tensor, channel: Channel) -> Float64:
    """Return the channel's maps, enlarged to the images' size (B, H, W)."""
    found: list[Tensor] = []

    def read(channel: int, out: Tensor) -> None:
        found.append(out.detach()[:, [channel]].float())

    reads = {channel.layer: partial(read, channel.index)}
    with torch.no_grad(), instrument(model, Instrument(reads=reads)):
        model(images)
    maps = functional.interpolate(found[0], size=images.shape[2:], mode="bilinear", align_corners=False)
    return np.asarray(maps[:, 0].double())


def _picture(image: Tensor) -> Float64:
    return np.clip(image.double().numpy().transpose(1, 2, 0) / 2 + 0.5, 0, 1)
