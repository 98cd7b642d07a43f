"""Average visualizations: what the images with the highest response of a channel have in common.

Source: Oramas et al., ICLR 2019, section 3.3; docs/method.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

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
    unwrap,
)
from interpnet.explanation._images import image_of
from interpnet.explanation._padding import SURVIVES, survival
from interpnet.explanation._peaks import PeakReader, Peaks
from interpnet.scores import ScoreTable
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Float64, Int64

#: How large crops are: round the part of the map that answers, or all that the place of the maximum sees.
CROPS = ("peak", "field")
# What an average and a crop show where they have no pixels; colours lie in [0, 1].
_GREY = 0.5
# Beside a side of the square with as many positions as answer by more than half; and shares of the image's sides.
_ROOM = 1.5
_LEAST = 0.25
_MOST = 2 / 3
_FEWEST_PIXELS = 12  # along a side, of an image that has as many
_Place = Sequence[tuple[int, int]] | None
_NONE = (np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


@brief
@dataclass(frozen=True)
class AverageVisualization:
    """The average of the crops where a channel answers most, and the best of them."""

    channel: Channel
    mean: Float32  # (C, h, w): of all crops; pixels outside the images do not count, and are grey where no crop has any
    crops: Float32  # (n, C, h, w): those with the highest response, best first; grey outside the image
    indices: Int64  # (count,): the images averaged, as positions in the data set, best first
    count: int  # fewer than asked for where fewer images have a positive score
    field: tuple[int, ...]  # size of the crops in pixels
    whole_image: bool  # the crops are the images themselves
    # What the crops share: the mean correlation of two of them, as pictures without their mean colours, from below 0 to
    # 1; NaN for fewer than two, or flat ones. The average of crops that share nothing is a blur.
    shared: float = math.nan
    # What survives of the response where images are moved away from the padding: 1 unless the maxima lie on the rim of
    # the map more often than chance gives; see survival().
    survives: float = 1.0

    @property
    def by_padding(self) -> bool:
        """Whether the channel answers to the padding: to the edge of any image, whatever is in it."""
        return self.survives < SURVIVES


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
    crop: str = "peak",
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
    crop : {"peak", "field"}
        ``"field"`` is the paper's: each crop is all that the place of the map's maximum sees, grey outside the image.
        In deep layers that is the image, or more. ``"peak"`` is no larger than that, nor than the part of the image
        that makes the map large: half as wide again as the square with as many positions of the map as exceed half of
        the maximum (the median over images), at least a quarter and at most two thirds of each side of the image, and
        no less than 12 pixels. It is moved into the image.

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
    check_kinds(average_visualizations, locals())
    whole_number(top, "top", least=1)
    whole_number(keep, "keep", least=0)
    whole_number(batch_size, "batch_size", least=1)
    one_of(crop, "crop", CROPS)
    best = {channel: _best(table, channel, top) for channel in channels}
    order = sorted({i for indices in best.values() for i in indices.tolist()})
    model = unwrap(model)
    where = resolve_device(device, model)
    peaks = {channel: Peaks(indices, *_NONE) for channel, indices in best.items()}
    trace: Trace | None = None
    if order:
        with placed(model, where) as put:
            # The last too, so that a shorter data set is named before the pass.
            image_of(data, order[-1])
            trace = find_sites(model, put(image_of(data, order[0])[None]), output=output)
            reader = PeakReader([trace.usable(layer) for layer in dict.fromkeys(channel.layer for channel in best)])
            with (
                evaluating(model),
                torch.inference_mode(),
                instrument(model, Instrument(reads=reader.reads)),
                progress_bar("Finding maxima", len(order), enabled=progress) as advance,
            ):
                for start in range(0, len(order), batch_size):
                    part = order[start : start + batch_size]
                    forward(model, torch.stack([image_of(data, i) for i in part]), put)
                    advance(len(part))
        found = reader.take()
        for channel, indices in best.items():
            rows = np.searchsorted(order, indices)
            peaks[channel] = Peaks(indices, *(array[rows, channel.index] for array in found[channel.layer]))
    survives = survival(model, data, peaks, trace=trace, device=where, output=output, progress=progress)
    sites = {}
    if trace is not None:
        sites = {channel: trace.usable(channel.layer) for channel in best}
    colours = int(table.info.get("image_shape", [1])[0])
    return average_at(data, sites, peaks, keep=keep, crop=crop, colours=colours, survives=survives, progress=progress)


def average_at(
    data: Any,
    sites: Mapping[Channel, Site],
    peaks: Mapping[Channel, Peaks],
    *,
    keep: int = 9,
    crop: str = "peak",
    colours: int = 1,
    survives: Mapping[Channel, float] | None = None,
    progress: bool = True,
) -> dict[Channel, AverageVisualization]:
    """Average crops at maxima that are known already; each image is read once.

    ``sites`` has the site of each channel with images, ``peaks`` the images, best first. ``colours`` are those of the
    average of a channel without images; ``survives`` is what :func:`survival` found. For the rest see
    :func:`average_visualizations`.
    """
    # A picture is what a person sees; the image itself is normalised for the model.
    picture: Callable[[int], Any] = getattr(data, "picture", None) or (lambda i: data[i][0])
    wanted: dict[int, list[tuple[Channel, int]]] = {}
    for channel, own in peaks.items():
        for rank, i in enumerate(own.indices.tolist()):
            wanted.setdefault(i, []).append((channel, rank))
    averages = {channel: _Average(own, keep, crop) for channel, own in peaks.items()}
    with progress_bar("Averaging crops", len(wanted), enabled=progress) as advance:
        for i in sorted(wanted):
            shown = np.asarray(picture(i), dtype=np.float32)
            for channel, rank in wanted[i]:
                averages[channel].add(sites[channel], shown, rank)
            advance(1)
    known = survives or {}
    return {channel: average.result(channel, colours, known.get(channel, 1.0)) for channel, average in averages.items()}


def _best(table: ScoreTable, channel: Channel, top: int) -> Int64:
    """Return the images with the highest positive score, best first; ties by position."""
    scores = np.asarray(table.X[:, table.channels.position(channel)])
    order = np.argsort(-scores, kind="stable")[:top]  # docs/method.md, section 3, step 1
    return table.indices[order[scores[order] > 0]]


def window(site: Site, position: tuple[int, ...], image: tuple[int, ...]) -> _Place:
    """Return the receptive field of one position as (start, stop) pixels on each spatial axis of the image.

    It may reach outside. ``None``: along every axis the field is at least as large as the image.
    """
    out = [(0, size) for size in image]
    for axis, seen in _seen(site, position, image).items():
        if seen.hi - seen.lo < image[axis]:
            out[axis] = (seen.lo, seen.hi)
    return _unless_whole(out, image)


def peak_window(site: Site, position: tuple[int, ...], image: tuple[int, ...], extent: float) -> _Place:
    """Return the part of the image round one position as :func:`window` does, of the size of what answers there.

    ``extent`` is the share of the map's positions that exceed half of the maximum. It lies inside the image.
    """
    # As many positions along each axis, if what answers were a square.
    places = site.grid or site.map_shape
    along = (extent * math.prod(places)) ** (1 / max(1, len(places)))
    out = [(0, size) for size in image]
    for axis, seen in _seen(site, position, image).items():
        size = image[axis]
        side = math.ceil(min(max(_ROOM * along * seen.jump, _LEAST * size), _MOST * size))
        side = min(max(side, _FEWEST_PIXELS), seen.hi - seen.lo, size)
        start = min(max(round((seen.lo + seen.hi - side) / 2), 0), size - side)
        out[axis] = (start, start + side)
    return _unless_whole(out, image)


class _Seen(NamedTuple):
    """What a position sees along one axis of the image: pixels from lo to below hi; the next sees jump pixels on."""

    lo: int
    hi: int
    jump: float


def _seen(site: Site, position: tuple[int, ...], image: tuple[int, ...]) -> dict[int, _Seen]:
    """Return what one position sees, by axis of the image; those that no axis of the map follows are seen whole."""
    map_axes = [a for a in range(1, len(site.shape) + 1) if a != site.axis]
    found = {}
    for axis, place in enumerate(_on_grid(site, position)[: len(image)]):
        # It sees the whole image, and lies in the middle of its part.
        jump = image[axis] / site.grid[axis]
        middle = (place + 0.5) * jump
        found[axis] = _Seen(math.floor(middle - image[axis]), math.ceil(middle + image[axis]), jump)
    for axis, entry in enumerate(site.fields[: len(image)]):
        if entry is None or entry[0] not in map_axes:
            continue
        at, field = entry
        shift = position[map_axes.index(at)] * field.jump
        lo = math.floor(field.lo + shift)
        hi = math.ceil(field.hi + shift) + 1  # a field between two pixels takes both
        found[axis] = _Seen(lo, hi, field.jump)
    return found


def _on_grid(site: Site, position: tuple[int, ...]) -> tuple[int, ...]:
    """Return the rows and columns of a position of a map over the image; nothing for one that stands for no place."""
    if not site.grid:
        return ()
    at = int(np.ravel_multi_index(position, site.map_shape)) - site.lead
    if not 0 <= at < math.prod(site.grid):
        return ()
    return tuple(map(int, np.unravel_index(at, site.grid)))


def _unless_whole(out: list[tuple[int, int]], image: tuple[int, ...]) -> _Place:
    if out == [(0, size) for size in image]:
        return None
    return out


class _Average:
    """The average of one channel's crops in the making."""

    def __init__(self, peaks: Peaks, keep: int, crop: str) -> None:
        self._peaks = peaks
        self._keep = keep
        self._crop = crop
        # One size for all, or they could not be averaged.
        self._extent = 0.0
        if len(peaks.extents):
            self._extent = float(np.median(peaks.extents))
        self._kept: dict[int, Float32] = {}
        self._total: Float64 | None = None
        self._whole = False
        self._spread = 0.0

    def add(self, site: Site, picture: Float32, rank: int) -> None:
        """Add the crop of the image with the rank-th response."""
        position = tuple(map(int, np.unravel_index(int(self._peaks.positions[rank]), site.map_shape)))
        if self._crop == "field":
            place = window(site, position, picture.shape[1:])
        else:
            place = peak_window(site, position, picture.shape[1:], self._extent)
        crop, inside = cut(picture, place)
        if self._total is None:
            self._total = np.zeros(crop.shape)
            self._weight = np.zeros(crop.shape[1:])
        self._total += np.where(inside, crop, 0.0)
        self._weight += inside  # pixels outside an image do not count
        self._spread += float(crop.reshape(len(crop), -1).var(1, dtype=np.float64).sum())
        if rank < self._keep:
            self._kept[rank] = crop
        if rank + 1 == len(self._peaks.indices):
            self._whole = place is None

    def result(self, channel: Channel, colours: int, survives: float) -> AverageVisualization:
        """Return the average of what was added."""
        n = len(self._peaks.indices)
        mean = np.full((colours, 1, 1), _GREY, np.float32)  # of a silent channel
        shared = math.nan
        if self._total is not None:
            average = np.where(self._weight > 0, self._total / np.maximum(self._weight, 1), _GREY)
            mean = average.astype(np.float32)
            if n > 1 and self._spread > 0:
                # Of n crops that share nothing the average keeps an n-th of their variance.
                kept = average.reshape(len(average), -1).var(1).sum() / (self._spread / n)
                shared = float((n * kept - 1) / (n - 1))
        crops = [self._kept[rank] for rank in sorted(self._kept)]
        return AverageVisualization(
            channel=channel,
            mean=mean,
            crops=np.array(crops, np.float32).reshape(-1, *mean.shape),
            indices=self._peaks.indices,
            count=n,
            field=mean.shape[1:],
            whole_image=self._whole,
            shared=shared,
            survives=survives,
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
