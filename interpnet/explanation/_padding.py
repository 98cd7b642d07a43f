"""Channels that answer to the padding: their maps are largest at the rim, and no longer so once the image moves in.

A convolution pads its input, which makes an edge around every image that no object has. The test has two steps. The
maximum lies on the rim of the map in more images than chance gives (binomial, one in a hundred); and where the image is
moved inwards, its rim continued by reflection, less than half of the response comes along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import bdtrc
from torch import Tensor, nn

from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Site,
    Trace,
    evaluating,
    find_sites,
    forward,
    instrument,
    placed,
    resolve_device,
    stop_forward,
    stoppable,
    unwrap,
)
from interpnet.explanation._images import image_of
from interpnet.explanation._peaks import Peaks
from interpnet.support.progress import progress_bar
from interpnet.support.types import Int64

#: Less of the response than this survives where it came from the padding.
SURVIVES = 0.5
_CHANCE = 0.01
_LOOKED_AT = 4  # images of a suspect channel that are moved
_INWARDS = 2  # positions of the map


def survival(
    model: nn.Module,
    data: Any,
    peaks: Mapping[Channel, Peaks],
    *,
    trace: Trace | None = None,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
) -> dict[Channel, float]:
    """Return which share of each channel's response survives where its images are moved away from the padding.

    1 where its maxima lie on the rim of its map no more often than chance gives; else the median over up to four of
    these images, moved inwards by two positions of the map and continued by reflection, of the value where the maximum
    then should be over the maximum. Below a half the channel answers to the padding. Only suspect channels run.
    """
    model = unwrap(model)
    found = dict.fromkeys(peaks, 1.0)
    with (
        progress_bar("Moving images inwards", len(peaks), unit="channels", enabled=progress) as advance,
        placed(model, resolve_device(device, model)) as put,
        evaluating(model),
        torch.inference_mode(),
    ):
        for channel, own in peaks.items():
            advance(1)
            if not len(own.indices):
                continue
            if trace is None:
                trace = find_sites(model, put(image_of(data, int(own.indices[0]))[None]), output=output)
            site = trace.usable(channel.layer)
            rows = _suspects(site, own)
            if len(rows):
                found[channel] = _surviving(model, data, site, channel, own, rows[:_LOOKED_AT], put)
    return found


def _suspects(site: Site, own: Peaks) -> Int64:
    """Return the images whose maximum lies on the rim; none where chance explains as many, or there is no rim."""
    none: Int64 = np.zeros(0, np.int64)
    size = site.map_shape
    if not size or len(size) != len(site.fields) or any(entry is None for entry in site.fields):
        return none
    # A map of fewer positions is nearly all rim, and there is nowhere to move to.
    if min(size) <= 2 * _INWARDS:
        return none
    inner = np.prod([n - 2 for n in size]) / np.prod(size)
    at = np.stack(np.unravel_index(own.positions, size), 1)
    rim = ((at == 0) | (at == np.array(size) - 1)).any(1)
    # The probability of as many or more.
    if bdtrc(rim.sum() - 1, len(rim), 1 - inner) > _CHANCE:
        return none
    found: Int64 = np.flatnonzero(rim)
    return found


def _surviving(model: nn.Module, data: Any, site: Site, channel: Channel, own: Peaks, rows: Int64, put: Any) -> float:
    """Return the median share of the maxima that is left after moving their images inwards."""
    size = site.map_shape
    axes = [entry[0] for entry in site.fields if entry is not None]
    jumps = [entry[1].jump for entry in site.fields if entry is not None]
    map_axes = [a for a in range(1, len(site.shape) + 1) if a != site.axis]
    images = []
    places = []
    for row in rows:
        at = np.unravel_index(own.positions[row], size)
        # By image axis: the position along the map's axis that follows it.
        along = [map_axes.index(axis) for axis in axes]
        moves = [_INWARDS * (int(at[a] == 0) - int(at[a] == size[a] - 1)) for a in along]
        image = image_of(data, int(own.indices[row]))
        images.append(_moved(image, [round(move * jump) for move, jump in zip(moves, jumps, strict=True)]))
        place = list(at)
        for a, move in zip(along, moves, strict=True):
            place[a] = at[a] + move
        places.append(place)
    kept: list[Tensor] = []

    def read(out: Tensor) -> None:
        kept.append(out.movedim(site.axis or 1, 1)[:, channel.index].float().cpu())
        stop_forward()

    with instrument(model, Instrument(reads={site.name: site.reading(read)})), stoppable():
        forward(model, torch.stack(images), put)
    maps = kept[0].numpy()
    # The neighbours too, as the stride need not divide the image.
    near = [m[tuple(slice(max(p - 1, 0), p + 2) for p in place)].max() for m, place in zip(maps, places, strict=True)]
    return float(np.median(np.array(near) / own.values[rows]))


def _moved(image: Tensor, moves: Sequence[int]) -> Tensor:
    """Return an image (C, *size) moved by pixels along each axis, what comes in being its own reflection."""
    for axis, move in enumerate(moves, start=1):
        size = image.shape[axis]
        at = (torch.arange(size) - move).abs()
        image = image.index_select(axis, torch.where(at < size, at, 2 * size - 2 - at))
    return image
