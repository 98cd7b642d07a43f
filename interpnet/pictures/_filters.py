"""Filters: the weights of every convolution, as it runs, and as tiles to look at.

A filter of the first layer is a picture of what it answers to: with three input channels its tile is RGB.
A deeper filter has one plane for each input channel; each is a grey tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import Call, Instrument, beside, check_images, evaluating, forward, instrument, unwrap
from interpnet.errors import DataError, LayerError, ModelError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds
from interpnet.support.types import Float32

_COLOURS = 3
# A filter has this many axes: its number, its input channel, height, width.
_PLANAR = 4
_NAMED = 6


@brief
@dataclass(frozen=True)
class Filters:
    """The n filters of one convolution over c input channels (those of one group, if it has groups)."""

    layer: str  # the convolution's site
    weights: Float32  # (n, c, h, w), output per unit of the convolution's input; h is 1 for a 1-D convolution
    stride: tuple[int, ...]
    groups: int
    first: bool  # it is the first convolution that ran

    @property
    def rgb(self) -> bool:
        """Whether its tiles are coloured: the first convolution, over three input channels."""
        return self.first and self.weights.shape[1] == _COLOURS


def filters(model: nn.Module, images: Tensor, layers: str | Iterable[str] | None = None) -> dict[str, Filters]:
    """Return the filters of the convolutions that run on ``images``, in the order of execution.

    The model runs once, on the first image (B, C, ...), and is left as it was. The weights are as the network used
    them (under a weight norm: normed), copied to the CPU.

    Parameters
    ----------
    layers : str or iterable of str, optional
        Names of convolutions, globs over them, or names of modules that hold them; by default all. A name that matches
        no convolution is a LayerError, a network without 1-D or 2-D convolutions a ModelError.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(32, 2))
    >>> [(name, f.weights.shape, f.rgb) for name, f in filters(net, torch.zeros(1, 3, 8, 8)).items()]
    [('0', (4, 3, 5, 5), True), ('2', (2, 4, 1, 1), False)]
    """
    check_kinds(filters, locals())
    # Observed as they run, not read from the modules: functional convolutions have no module, and parametrised weights
    # are only made in the forward pass.
    model = unwrap(model)
    calls: list[Call] = []

    def observe(call: Call, _out: Any) -> None:
        if call.kind is not None:
            calls.append(call)

    with evaluating(model), torch.no_grad(), instrument(model, Instrument(observe=observe)):
        forward(model, beside(model, check_images(images)[:1]))
    planar = [c for c in calls if c.operator.convolves and c.op != "conv3d"]
    if not planar:
        raise ModelError(
            "the model ran without a 1-D or 2-D convolution, so it has no filters to show; "
            "activation maps, embeddings and maximised pictures need none"
        )
    if layers is None:
        layers = "*"
    chosen = _matched(layers, planar, calls)
    return {c.name: _read(c, first=c is planar[0]) for c in planar if c.name in chosen}


def _matched(layers: str | Iterable[str], planar: list[Call], calls: list[Call]) -> set[str]:
    chosen: set[str] = set()
    if isinstance(layers, str):
        layers = [layers]
    # A name first, then a glob over names, then a module: a module may be called as a glob reads.
    for item in layers:
        exact = {c.name for c in planar if c.name == item}
        found = exact or {c.name for c in planar if fnmatchcase(c.name, item)}
        found = found or {c.name for c in planar if c.module == item or c.module.startswith(f"{item}.")}
        if not found:
            other = next((c for c in calls if c.name == item), None)
            what = "no convolution matches"
            if other is not None:
                what = f"this is a {_kind(other)}, which has no filters:"
            names = [c.name for c in planar]
            some = ", ".join(map(repr, names[:_NAMED]))
            if len(names) > _NAMED:
                some += f" and {len(names) - _NAMED} more"
            raise LayerError(f"{what} {item!r}{did_you_mean(item, names)} The convolutions are {some}")
        chosen |= found
    return chosen


def _kind(call: Call) -> str:
    return call.op if call.operator.kind == "conv" else str(call.kind)


def _read(call: Call, *, first: bool) -> Filters:
    given = call.convolution()
    weights = call.argument(1, "weight").detach().to("cpu", torch.float32, copy=True).numpy()
    if weights.ndim < _PLANAR:
        weights = weights[:, :, None, :]
    return Filters(call.name, weights, given.stride, given.groups, first)


def filter_tiles(found: Filters) -> Float32:
    """Return the filters as tiles in [0, 1]: mid-grey is zero, each filter scaled by its largest |weight|.

    ``tile = 1/2 + w / (2 max |w|)``, the maximum over the whole filter, so that signs and the relation of its
    colours or planes can be seen; filters cannot be compared in strength. A filter of zeros is grey; one with NaN or
    infinite weights is a DataError. Returns float32 (n, h, w, 3), one RGB tile per filter, where ``found.rgb``;
    otherwise (n, c, h, w), one grey tile for each input channel.

    Examples
    --------
    >>> filter_tiles(Filters("0", np.array([[[[-2.0, 0.0, 1.0]]]], np.float32), (1,), 1, True)).tolist()
    [[[[0.0, 0.5, 0.75]]]]
    """
    check_kinds(filter_tiles, locals())
    weights = found.weights
    if not np.isfinite(weights).all():
        raise DataError(f"the filters of {found.layer!r} hold NaN or infinite weights; look at the model's weights")
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    tiles = np.asarray(0.5 + weights / (2 * np.where(largest > 0, largest, 1)), np.float32)
    if found.rgb:
        return np.ascontiguousarray(np.moveaxis(tiles, 1, -1))
    return tiles
