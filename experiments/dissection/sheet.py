"""A picture of the ten best channels of ten concepts: the strongest image of each, bright above its threshold.

    python -m experiments.dissection.sheet

Draws detectors.png from results.json, from which it takes channels, thresholds and the numbers of their images.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.common.imagenet import networks
from experiments.common.pages import committed, figure_file
from experiments.common.runner import command
from experiments.common.tables import Line
from experiments.dissection.data import Archive, loaders
from interpnet.engine import Instrument, instrument
from interpnet.plotting import Picture, outline

_CONCEPTS = 10
_CHANNELS = 10
_SIZE = 128  # pixels of an image


class Cell(NamedTuple):
    """A channel with the image in which it is strongest."""

    layer: str
    channel: int
    iou: float
    threshold: float
    image: int  # counted through all sources


def cells(line: Line) -> dict[str, list[Cell]]:
    """Return the ten concepts with the best detectors, each with its ten best channels, of a line of results."""
    best = sorted((-found[0][2], concept) for concept, found in line["detectors"].items() if found)
    return {
        concept: [
            Cell(layer, channel, iou, threshold, top[0])
            for layer, channel, iou, _, _, threshold, top in line["detectors"][concept][:_CHANNELS]
        ]
        for _, concept in best[:_CONCEPTS]
    }


def sheet(model: nn.Module, sources: dict[str, Archive], line: Line, path: Path) -> None:
    """Draw a row for each concept."""
    rows = cells(line)
    if not rows:
        return
    images = _images(sources, {cell.image for row in rows.values() for cell in row})
    with figure_file(path, 1.15 * _CHANNELS + 1.0, 1.35 * len(rows), 90) as drawn:
        panels = drawn.subplots(len(rows), _CHANNELS, squeeze=False)
        for panel, (concept, row) in zip(panels, rows.items(), strict=True):
            panel[0].set_ylabel(concept, rotation=0, ha="right", va="center", fontsize=10)
            for axes in panel:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            for axes, cell in zip(panel, row, strict=False):
                axes.imshow(_picture(model, images[cell.image], cell))
                axes.set_title(f"{cell.layer} [{cell.channel}]\nIoU {cell.iou:.2f}", fontsize=5.5, pad=2)


def _images(sources: dict[str, Archive], wanted: set[int]) -> dict[int, Tensor]:
    """Return images by their number, counted through all sources."""
    every = chain.from_iterable(batch for loader in sources.values() for batch, _ in loader)
    return {number: image for number, image in enumerate(every) if number in wanted}


def _picture(model: nn.Module, image: Tensor, cell: Cell) -> Picture:
    """Return the image, dark where the channel is below its threshold."""
    found: list[Tensor] = []

    def read(channel: int, out: Tensor) -> None:
        found.append(out.detach()[:, [channel]].float())

    reads = {cell.layer: partial(read, cell.channel)}
    with torch.no_grad(), instrument(model, Instrument(reads=reads)):
        model(image[None])
    values = functional.interpolate(found[0], size=image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
    return outline((image / 2 + 0.5).clamp(0, 1).numpy(), (values > cell.threshold).numpy(), _SIZE)


@command()
def main() -> None:
    """Draw the picture of the committed results."""
    model, prepare = networks("efficientnet")
    line: dict[str, Any] = committed(__file__)[0]
    sheet(model, loaders(prepare), line, Path(__file__).with_name("detectors.png"))
