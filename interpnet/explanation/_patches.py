"""Average visualizations: what the images with the highest response of a channel have in common.

The images with the highest score of a channel are run once more; each is cropped at the receptive field
of the position of the channel's maximum, and the crops are averaged. Source: Oramas et al., ICLR 2019,
section 3.3; the receptive field comes from the trace, exactly, through strides, padding, dilation and
branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Site,
    Trace,
    evaluating,
    find_sites,
    instrument,
    resolve_device,
    to_device,
    unwrap,
)
from interpnet.errors import InterpNetError
from interpnet.scores import ScoreTable
from interpnet.support.progress import progress_bar


@dataclass(frozen=True)
class AverageVisualization:
    """The average of the crops where a channel answers most, and the best of them.

    Attributes
    ----------
    channel : Channel
    mean : array (C, h, w) float32
        Mean of all crops; pixels outside the images do not count, and are grey (0.5) where no crop has any.
    crops : array (n, C, h, w) float32
        The crops with the highest response, best first; grey outside the image.
    indices : array (count,) int64
        The images, as positions in the data set, best first.
    count : int
        Images averaged: fewer than asked for where fewer have a positive score.
    field : tuple of int
        Size of the crop in pixels.
    whole_image : bool
        The receptive field covers the image, so the images themselves were averaged.
    """

    channel: Channel
    mean: npt.NDArray[np.float32]
    crops: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    count: int
    field: tuple[int, ...]
    whole_image: bool


def average_visualization(
    model: nn.Module, data: Any, table: ScoreTable, channel: Channel, *, top: int = 100, **options: Any
) -> AverageVisualization:
    """Return the average visualization of one channel; see :func:`average_visualizations`."""
    return average_visualizations(model, data, table, [channel], top=top, **options)[channel]


def average_visualizations(
    model: nn.Module,
    data: Any,
    table: ScoreTable,
    channels: Sequence[Channel],
    *,
    top: int = 100,
    keep: int = 9,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
) -> dict[Channel, AverageVisualization]:
    """Average the crops of the top-responding images, for several channels in one pass over only these images.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    data : data set
        The images that ``table`` was collected from: ``data[i]`` is (image, label) with the image (C, H, W)
        as the model wants it. If it has ``picture(i)``, crops are taken from that (C, H, W) picture in
        [0, 1] instead.
    table : ScoreTable
    channels : sequence of Channel
    top : int
        Images to average (the paper's 100).
    keep : int
        Crops to return.

    Returns
    -------
    dict of Channel to AverageVisualization

    Raises
    ------
    LayerError
        A channel that the table or the model does not have.

    Examples
    --------
    >>> from interpnet.scores import collect_scores
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> data = [(torch.rand(1, 5, 5), 0) for _ in range(8)]
    >>> table = collect_scores(net, [(torch.stack([x for x, _ in data]), torch.zeros(8, dtype=torch.long))])
    >>> average_visualization(net, data, table, Channel("1", 0), top=4, progress=False).mean.shape
    (1, 3, 3)
    """
    if top < 1 or keep < 0:
        raise InterpNetError(f"top={top}, keep={keep}; expected top >= 1 and keep >= 0")
    channels = list(dict.fromkeys(channels))
    best = {c: _best(table, c, top) for c in channels}
    wanted: dict[int, list[Channel]] = {}
    for channel, indices in best.items():
        for i in indices.tolist():
            wanted.setdefault(i, []).append(channel)
    if not wanted:
        return {c: _nothing(c, table) for c in channels}
    model = unwrap(model)
    where = resolve_device(device, model)
    first = data[min(wanted)][0]
    trace = find_sites(model, first[None].to(where), output=output)
    peaks = _peaks(model, data, wanted, trace, where, batch_size, progress=progress)
    picture: Callable[[int], Any] = getattr(data, "picture", None) or (lambda i: data[i][0])
    pictures = {i: np.asarray(picture(i), dtype=np.float32) for i in sorted(wanted)}
    return {
        c: _average(c, trace[c.layer], best[c], peaks, pictures, keep) if len(best[c]) else _nothing(c, table)
        for c in channels
    }


def _best(table: ScoreTable, channel: Channel, top: int) -> npt.NDArray[np.int64]:
    """Return the images with the highest positive score, best first; ties by position."""
    scores = np.asarray(table.X[:, table.channels.position(channel)])
    order = np.argsort(-scores, kind="stable")[:top]
    chosen: npt.NDArray[np.int64] = table.indices[order[scores[order] > 0]]
    return chosen


def _nothing(channel: Channel, table: ScoreTable) -> AverageVisualization:
    """Return the grey picture of a channel that is zero on every image."""
    shape = (int(table.info.get("image_shape", [1])[0]), 1, 1)
    grey = np.full(shape, 0.5, np.float32)
    return AverageVisualization(channel, grey, grey[None][:0], np.zeros(0, np.int64), 0, (1, 1), whole_image=False)


def _peaks(
    model: nn.Module,
    data: Any,
    wanted: Mapping[int, Sequence[Channel]],
    trace: Trace,
    device: torch.device,
    batch_size: int,
    *,
    progress: bool,
) -> dict[tuple[int, Channel], tuple[int, ...]]:
    """Return, for every image and channel wanted, the position of the map's maximum."""
    sites = {c.layer: trace[c.layer] for cs in wanted.values() for c in cs}
    maps: dict[str, Tensor] = {}

    def reader(site: Site) -> Callable[[Tensor], None]:
        axis = site.axis or 1

        def read(out: Tensor) -> None:
            # Only positions of maxima are kept: one number a channel.
            maps[site.name] = out.movedim(axis, 1).flatten(2).argmax(2).cpu() if out.dim() > 2 else out[:, :0]

        return read

    peaks: dict[tuple[int, Channel], tuple[int, ...]] = {}
    todo = sorted(wanted)
    with (
        evaluating(model),
        torch.inference_mode(),
        instrument(model, Instrument(reads={n: reader(s) for n, s in sites.items()})),
        progress_bar("Averaging crops", len(todo), enabled=progress) as advance,
    ):
        for start in range(0, len(todo), batch_size):
            part = todo[start : start + batch_size]
            model(to_device(torch.stack([data[i][0] for i in part]), device))
            for row, i in enumerate(part):
                for channel in wanted[i]:
                    shape = sites[channel.layer].map_shape
                    if shape:
                        flat = int(maps[channel.layer][row, channel.index])
                        peaks[i, channel] = tuple(int(v) for v in np.unravel_index(flat, shape))
            advance(len(part))
    return peaks


def window(site: Site, position: tuple[int, ...], image: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the receptive field of one position as (start, stop) pixels on each spatial axis of the image.

    It may reach outside the image. ``None``: the position sees the whole image (or nearly: a field at least
    as large as the image along every axis).
    """
    out: list[tuple[int, int]] = []
    whole = True
    map_axes = [a for a in range(1, len(site.shape) + 1) if a != site.axis]
    for axis, size in enumerate(image):
        entry = site.fields[axis] if axis < len(site.fields) else None
        if entry is None:
            out.append((0, size))
            continue
        at, field = entry
        p = position[map_axes.index(at)]
        lo, hi = math.floor(field.lo + p * field.jump), math.ceil(field.hi + p * field.jump) + 1
        if hi - lo >= size:
            out.append((0, size))
        else:
            whole = False
            out.append((lo, hi))
    return None if whole else out


def _average(
    channel: Channel,
    site: Site,
    indices: npt.NDArray[np.int64],
    peaks: Mapping[tuple[int, Channel], tuple[int, ...]],
    pictures: Mapping[int, npt.NDArray[np.float32]],
    keep: int,
) -> AverageVisualization:
    total: npt.NDArray[np.float64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    crops = []
    whole = False
    for rank, i in enumerate(indices.tolist()):
        picture = pictures[i]
        place = window(site, peaks[i, channel], picture.shape[1:]) if (i, channel) in peaks else None
        whole = place is None
        crop, inside = cut(picture, place)
        if total is None or weight is None:
            total, weight = np.zeros(crop.shape), np.zeros(crop.shape[1:])
        total += np.where(inside, crop, 0.0)
        weight += inside
        if rank < keep:
            crops.append(crop)
    if total is None or weight is None:
        raise InterpNetError(f"channel {channel} has no image to average")
    mean = np.where(weight > 0, total / np.maximum(weight, 1), 0.5).astype(np.float32)
    kept = np.stack(crops) if crops else np.zeros((0, *mean.shape), np.float32)
    return AverageVisualization(channel, mean, kept, indices, len(indices), mean.shape[1:], whole)


def cut(
    picture: npt.NDArray[np.float32], place: Sequence[tuple[int, int]] | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the crop (C, h, w), grey outside the picture, and which of its pixels (h, w) lie inside."""
    if place is None:
        return picture, np.ones(picture.shape[1:], dtype=bool)
    shape = tuple(hi - lo for lo, hi in place)
    crop = np.full((picture.shape[0], *shape), 0.5, np.float32)
    inside = np.zeros(shape, dtype=bool)
    source = tuple(slice(max(lo, 0), min(hi, n)) for (lo, hi), n in zip(place, picture.shape[1:], strict=True))
    target = tuple(slice(s.start - lo, s.stop - lo) for s, (lo, _) in zip(source, place, strict=True))
    crop[(slice(None), *target)] = picture[(slice(None), *source)]
    inside[target] = True
    return crop, inside
