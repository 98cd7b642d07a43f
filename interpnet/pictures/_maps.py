"""Activation maps: what every channel of one layer makes of some images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import Instrument, Output, Trace, beside, check_images, evaluating, find_sites, instrument, unwrap


def activation_maps(
    model: nn.Module, images: Tensor, layer: str, *, output: Output | None = None, trace: Trace | None = None
) -> npt.NDArray[np.float32]:
    """Return the activation maps of one site.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them.
    layer : str
        A site's name, as `interpnet layers MODEL` prints it.
    output : function, optional
        Takes what the model returns, gives logits (B, classes).
    trace : Trace, optional
        A trace made before, to save a forward pass.

    Returns
    -------
    array (B, channels, ...) float32
        The channels on axis 1 wherever the network keeps them, then the positions: (h, w) for a convolution's
        map, (tokens,) for tokens, none for a fully connected unit. In the network's own units.

    Raises
    ------
    LayerError
        An unknown layer (close matches are named), or one whose channels are not known.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> net[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    >>> activation_maps(net, torch.tensor([[[[1.0, -2.0], [4.0, 3.0]]]]), "1").tolist()
    [[[[1.0, 0.0], [4.0, 3.0]], [[0.0, 2.0], [0.0, 0.0]]]]
    """
    model = unwrap(model)
    images = beside(model, check_images(images))
    trace = trace or find_sites(model, images, output=output)
    site = trace.usable(layer)
    axis = site.axis or 1
    kept: list[npt.NDArray[np.float32]] = []

    def read(out: Tensor) -> None:
        kept.append(out.movedim(axis, 1).to("cpu", torch.float32, copy=True).numpy())

    with evaluating(model), torch.inference_mode(), instrument(model, Instrument(reads={site.name: read})):
        model(images)
    return kept[0]
