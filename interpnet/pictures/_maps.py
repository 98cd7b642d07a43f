"""Activation maps: what every channel of one layer makes of some images."""

from __future__ import annotations

from functools import partial
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    Site,
    Trace,
    beside,
    evaluating,
    find_sites,
    finite_images,
    forward,
    instrument,
    unwrap,
)
from interpnet.errors import DataError, LayerError
from interpnet.support.checks import check_kinds
from interpnet.support.types import Float32


@overload
def activation_maps(
    model: nn.Module, images: Tensor, layer: str, *, output: Output | None = None, trace: Trace | None = None
) -> Float32: ...


@overload
def activation_maps(
    model: nn.Module, images: Tensor, layer: list[str], *, output: Output | None = None, trace: Trace | None = None
) -> dict[str, Float32]: ...


def activation_maps(
    model: nn.Module,
    images: Tensor,
    layer: str | list[str],
    *,
    output: Output | None = None,
    trace: Trace | None = None,
) -> Float32 | dict[str, Float32]:
    """Return the activation maps of one site, for images (B, C, H, W) as the model wants them.

    ``layer`` is a site's name, as `interpnet layers MODEL` prints it; an unknown one, or one whose channels are not
    known, is a LayerError. Of several names the maps come by name, from one forward pass. NaN or infinite pixels or
    activations are a DataError. ``output`` takes what the model returns and gives logits (B, classes); a ``trace`` made
    before saves a forward pass.

    Returns
    -------
    array (B, channels, ...) float32
        The channels on axis 1 wherever the network keeps them, then the positions: (h, w) for a convolution's
        map and for tokens that are rows and columns, (tokens,) for others, none for a fully connected unit. In the
        network's own units.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> net[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    >>> activation_maps(net, torch.tensor([[[[1.0, -2.0], [4.0, 3.0]]]]), "1").tolist()
    [[[[1.0, 0.0], [4.0, 3.0]], [[0.0, 2.0], [0.0, 0.0]]]]
    """
    check_kinds(activation_maps, locals())
    model = unwrap(model)
    images = beside(model, finite_images(images))
    trace = trace or find_sites(model, images, output=output)
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise LayerError("layer is empty; expected the name of a site, or several")
    kept: dict[str, Float32] = {}

    def read(site: Site, out: Tensor) -> None:
        # A copy, because an operation in place behind the layer would overwrite it.
        kept[site.name] = out.movedim(site.axis or 1, 1).to("cpu", torch.float32, copy=True).numpy()

    reads = {site.name: site.reading(partial(read, site)) for site in map(trace.usable, names)}
    with evaluating(model), torch.inference_mode(), instrument(model, Instrument(reads=reads)):
        forward(model, images)
    for name, maps in kept.items():
        if not np.isfinite(maps).all():
            raise DataError(f"layer {name!r} has NaN or infinite activations; look at weights that overflow")
    if isinstance(layer, str):
        return kept[layer]
    return {name: kept[name] for name in names}
