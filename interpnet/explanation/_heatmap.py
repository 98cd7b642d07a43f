"""Channel heatmaps: the signal that a channel's activation map sends back to the image, one value per pixel.

Source: Oramas et al., ICLR 2019, section 3.2; docs/method.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import torch
from torch import Tensor, nn

from interpnet.engine import Channel, Output, Trace, beside, check_images, find_sites
from interpnet.errors import InterpNetError
from interpnet.explanation._signals import Options, Signals, backpropagate
from interpnet.explanation._starts import OUTPUT, Picks, Start, Unit, sites_in
from interpnet.support.checks import one_of

# From a raw signal (..., C, H, W) to one value per pixel: docs/method.md, section 5.4.
REDUCTIONS = {
    "abs": lambda signal: signal.abs().sum(-3),
    "positive": lambda signal: signal.clamp(min=0).sum(-3),
    "max": lambda signal: signal.abs().amax(-3),
}


def reduce_colours(signal: Tensor, reduction: str = "abs") -> Tensor:
    """Reduce a raw signal (..., C, H, W) to one value per pixel (..., H, W).

    ``"abs"``: sum over colours of absolute values; ``"positive"``: sum of ``max(signal, 0)``; ``"max"``: the largest
    absolute value (Simonyan et al. 2014). A part darker than what is behind it sends a negative signal, which the
    positive part drops: absolute values mark the known pixels better (``experiments/variant``).

    Examples
    --------
    >>> reduce_colours(torch.tensor([[[1.0]], [[-2.0]]]), "abs")
    tensor([[3.]])
    """
    reduced: Tensor = REDUCTIONS[one_of(reduction, "reduction", REDUCTIONS)](signal)
    return reduced


def normalise(maps: Tensor) -> Tensor:
    """Min-max normalise each map (..., H, W) to [0, 1]; a constant map becomes zeros.

    Examples
    --------
    >>> normalise(torch.tensor([[1.0, 3.0], [2.0, 1.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.0000]])
    """
    low = maps.amin((-2, -1), keepdim=True)
    span = maps.amax((-2, -1), keepdim=True) - low
    scaled = (maps - low) / torch.where(span > 0, span, torch.ones_like(span))  # never divides by zero
    return torch.where(span > 0, scaled, torch.zeros_like(maps))


def channel_signal(
    model: nn.Module,
    images: Tensor,
    channels: Start | Sequence[Start] | Picks,
    *,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Signals:
    """Return the raw signals (B, k, C, H, W) of given channels.

    The parameters are as in :func:`channel_heatmap`; ``channels`` may also hold a list of starts for every image.
    """
    images = beside(model, check_images(images))
    picks = _picks(channels, len(images))
    trace = trace or find_sites(model, images, output=output)
    for name in sorted(sites_in(picks) - {OUTPUT}):
        trace.usable(name)  # names close matches where it is not
    options = Options(rectifier, resample, resample_pool, seed, output)
    return backpropagate(model, images, trace.sites, picks, **vars(options))


def channel_heatmap(
    model: nn.Module,
    images: Tensor,
    channels: Start | Sequence[Start],
    *,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    reduction: str = "abs",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Return (B, H, W): what in each image one channel answers to, in the units of the signal, not normalised.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device, where the result lies.
    channels : Channel, or one for each image
        A :class:`Channel`, an output unit (:class:`Unit`), or a set of them whose signals start together.
    rectifier : {"guided", "deconvnet", "gradient"}
        The rule at rectifiers; see :mod:`interpnet.backward`.
    resample, resample_pool : bool
        The paper's stride-1 resampling of strided convolutions, and of strided pooling.
    seed : {"activation", "ones", "maximum"}
        What the signal starts with: the activation map itself, ones, or the map at its maximum alone.
    reduction : {"abs", "positive", "max"}
        See :func:`reduce_colours`; :func:`channel_signal` gives the raw signal.
    output : function, optional
        Takes what the model returns, gives logits.
    trace : Trace, optional
        A trace made before, to save a forward pass.

    An unknown layer or channel is a :class:`LayerError`, a rectifier that escaped the rule a :class:`ModelError`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> channel_heatmap(net, torch.rand(2, 1, 5, 5), Channel("1", 0)).shape
    torch.Size([2, 5, 5])
    """
    options = vars(Options(rectifier, resample, resample_pool, seed, output))
    return reduce_colours(channel_signal(model, images, channels, trace=trace, **options).signals[:, 0], reduction)


def _picks(channels: Start | Sequence[Start] | Picks, batch: int) -> list[list[Start]]:
    """Return the starts of every image, where one is given for all images, or one or several for each."""
    if isinstance(channels, Channel | Unit | Set):
        channels = [channels] * batch
    if len(channels) != batch:
        raise InterpNetError(f"{len(channels)} channels came for {batch} images; expected one for all or one per image")
    return [[row] if isinstance(row, Channel | Unit | Set) else list(row) for row in channels]
