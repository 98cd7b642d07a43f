"""Average visualizations: what the images with the highest response of a channel have in common.

Source: Oramas et al., ICLR 2019, section 3.3; docs/method.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    evaluating,
    find_sites,
    forward,
    instrument,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.scores import ScoreTable
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Int64

# What an average and a crop show where they have no pixels; colours lie in [0, 1].
_GREY = 0.5
_Place = Sequence[tuple[int, int]] | None


@dataclass(frozen=True)
class AverageVisualization:
    """The average of the crops where a channel answers most, and the best of them."""

    channel: Channel
    mean: Float32  # (C, h, w): of all crops; pixels outside the images do not count, and are grey where no crop has any
    crops: Float32  # (n, C, h, w): those with the highest response, best first; grey outside the image
    indices: Int64  # (count,): the images averaged, as positions in the data set, best first
    count: int  # fewer than asked for where fewer images have a positive score
    field: tuple[int, ...]  # size of the crop in pixels
    whole_image: bool  # the receptive field covers the image, so the images themselves were averaged


def average_visualization(
    model: nn.Module, data: Any, table: ScoreTable, channel: Channel, *, top: int = 100, **options: Any
) -> AverageVisualization:
    """Return the average visualization of one channel; see :func:`average_visualizations`."""
    check_kinds(average_visualization, locals())
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
    top, keep : int
        Images to average (the paper's 100), and crops to return.

    A channel that the table or the model does not have is a :class:`LayerError`.

    Examples
    --------
    >>> from interpnet.scores import collect_scores
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> data = [(torch.rand(1, 5, 5), 0) for _ in range(8)]
    >>> table = collect_scores(net, [(torch.stack([x for x, _ in data]), torch.zeros(8, dtype=torch.long))])
    >>> average_visualization(net, data, table, Channel("1", 0), top=4, progress=False).mean.shape
    (1, 3, 3)
    """
    check_kinds(average_visualizations, locals())
    whole_number(top, "top", least=1)
    whole_number(keep, "keep", least=0)
    whole_number(batch_size, "batch_size", least=1)
    best = {channel: _best(table, channel, top) for channel in channels}
    wanted: dict[int, list[Channel]] = {}
    for channel, indices in best.items():
        for i in indices.tolist():  # an image may be among the best of several channels, and runs once
            wanted.setdefault(i, []).append(channel)
    colours = int(table.info.get("image_shape", [1])[0])
    if not wanted:
        return {channel: _average(channel, indices, [], [], keep, colours) for channel, indices in best.items()}
    model = unwrap(model)
    where = resolve_device(device, model)
    peaks = {}
    order = sorted(wanted)
    with placed(model, where) as put:
        # The last too, so that a shorter data set is named before the pass.
        _image(data, order[-1])
        trace = find_sites(model, put(_image(data, order[0])[None]), output=output)
        sites = {channel: trace.usable(channel.layer) for channel in best}
        maxima: dict[str, Tensor] = {}
        reads = {site.name: partial(_note_maxima, site, maxima) for site in sites.values()}
        with (
            evaluating(model),
            torch.inference_mode(),
            instrument(model, Instrument(reads=reads)),
            progress_bar("Averaging crops", len(order), enabled=progress) as advance,
        ):
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                forward(model, torch.stack([_image(data, i) for i in part]), put)
                for row, i in enumerate(part):
                    for channel in wanted[i]:
                        flat = int(maxima[channel.layer][row, channel.index])
                        peaks[i, channel] = tuple(map(int, np.unravel_index(flat, sites[channel].map_shape)))
                advance(len(part))
    # A picture is what a person sees; the image itself is normalised for the model.
    picture: Callable[[int], Any] = getattr(data, "picture", None) or (lambda i: data[i][0])
    pictures = {i: np.asarray(picture(i), dtype=np.float32) for i in order}
    averages = {}
    for channel, indices in best.items():
        shown = [pictures[i] for i in indices.tolist()]
        places = [window(sites[channel], peaks[i, channel], pictures[i].shape[1:]) for i in indices.tolist()]
        averages[channel] = _average(channel, indices, shown, places, keep, colours)
    return averages


def _image(data: Any, i: int) -> Tensor:
    """Return image ``i`` of a data set, or raise a DataError where it has none."""
    try:
        image = data[i][0]
    except (TypeError, IndexError, KeyError) as error:
        raise DataError(
            f"data is a {type(data).__name__} without an (image, label) item {i} ({error}); expected the data set that "
            "the table was collected from"
        ) from error
    if not isinstance(image, Tensor):
        raise DataError(f"image {i} of data is a {type(image).__name__}; expected a Tensor (C, H, W)")
    return image


def _best(table: ScoreTable, channel: Channel, top: int) -> Int64:
    """Return the images with the highest positive score, best first; ties by position."""
    scores = np.asarray(table.X[:, table.channels.position(channel)])
    order = np.argsort(-scores, kind="stable")[:top]  # docs/method.md, section 3, step 1
    return table.indices[order[scores[order] > 0]]


def _note_maxima(site: Site, maxima: dict[str, Tensor], out: Tensor) -> None:
    """Put the positions of the maps' maxima (B, channels), counted over the flat map, into ``maxima``."""
    maps = out.movedim(site.axis or 1, 1)
    maxima[site.name] = maps.reshape(*maps.shape[:2], -1).argmax(2).cpu()  # one number is kept per map


def window(site: Site, position: tuple[int, ...], image: tuple[int, ...]) -> _Place:
    """Return the receptive field of one position as (start, stop) pixels on each spatial axis of the image.

    It may reach outside. ``None``: along every axis the field is at least as large as the image.
    """
    out = [(0, size) for size in image]
    map_axes = [a for a in range(1, len(site.shape) + 1) if a != site.axis]
    for axis, entry in enumerate(site.fields[: len(image)]):
        if entry is None or entry[0] not in map_axes:  # no axis of the map follows this one, so it is seen whole
            continue
        at, field = entry
        shift = position[map_axes.index(at)] * field.jump
        lo = math.floor(field.lo + shift)
        hi = math.ceil(field.hi + shift) + 1  # a field between two pixels takes both
        if hi - lo < image[axis]:
            out[axis] = (lo, hi)
    if out == [(0, size) for size in image]:
        return None
    return out


def _average(
    channel: Channel, indices: Int64, pictures: Sequence[Float32], places: Sequence[_Place], keep: int, colours: int
) -> AverageVisualization:
    blank = (np.full((colours, 1, 1), _GREY, np.float32), np.zeros((1, 1), dtype=bool))  # for a silent channel
    crops = [cut(picture, place) for picture, place in zip(pictures, places, strict=True)] or [blank]
    total = np.zeros(crops[0][0].shape)
    weight = np.zeros(total.shape[1:])
    for crop, inside in crops:
        total += np.where(inside, crop, 0.0)
        weight += inside  # pixels outside an image do not count
    mean = np.where(weight > 0, total / np.maximum(weight, 1), _GREY).astype(np.float32)
    kept = [crop for crop, _ in crops[: min(keep, len(indices))]]
    return AverageVisualization(
        channel=channel,
        mean=mean,
        crops=np.array(kept, np.float32).reshape(-1, *mean.shape),
        indices=indices,
        count=len(indices),
        field=mean.shape[1:],
        whole_image=places[-1:] == [None],
    )


def cut(picture: Float32, place: _Place) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Return the crop (C, h, w), grey outside the picture, and which of its pixels (h, w) lie inside."""
    if place is None:
        return picture, np.ones(picture.shape[1:], dtype=bool)
    shape = tuple(hi - lo for lo, hi in place)
    crop = np.full((picture.shape[0], *shape), _GREY, np.float32)
    inside = np.zeros(shape, dtype=bool)
    source = tuple(slice(max(lo, 0), min(hi, n)) for (lo, hi), n in zip(place, picture.shape[1:], strict=True))
    target = tuple(slice(s.start - lo, s.stop - lo) for s, (lo, _) in zip(source, place, strict=True))
    crop[:, *target] = picture[:, *source]
    inside[target] = True
    return crop, inside
