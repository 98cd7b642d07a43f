"""The pictures of a channel: its activation map enlarged, and its signal at the image under four rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from experiments.common.maps import activations, enlarged
from interpnet.engine import Channel, Trace, find_sites
from interpnet.evaluate import checkerboard
from interpnet.explanation import channel_signal, reduce_colours

#: Name of a picture: rectifier, resampled.
SIGNALS = {
    "guided, plain": ("guided", False),
    "guided, resampled": ("guided", True),
    "DeconvNet, plain": ("deconvnet", False),
    "DeconvNet, resampled": ("deconvnet", True),
}
UPSAMPLED = "activation, enlarged"  # what CAM methods show
#: Two more of the guided, resampled signal, to find out what keeps it from a mask; measured, not shown.
ABSOLUTE = "guided, resampled, absolute"
BLURRED = "guided, resampled, absolute, blurred"
_SIGMA = 2.0  # pixels
STRIDE = 2  # the first strided layer's, which is the one whose grid reaches the image


class Maps(NamedTuple):
    """Maps (B, H, W) by name, and the share of each signal's energy at the frequencies of a stride (B,)."""

    maps: dict[str, Tensor]
    grid: dict[str, Tensor]


def pictures(model: nn.Module, images: Tensor, channels: Sequence[Channel]) -> Maps:
    """Return every picture of one channel per image."""
    trace = find_sites(model, images[:1])
    kept = activations(model, images, {c.layer for c in channels})
    large = [enlarged(kept[c.layer][i, c.index], images.shape[2:]) for i, c in enumerate(channels)]
    maps = {UPSAMPLED: torch.stack(large)}
    grid = {}
    for name, (rule, resample) in SIGNALS.items():
        found = channel_signal(model, images, channels, rectifier=rule, resample=resample, trace=trace)
        signal = found.signals[:, 0].detach()  # one channel per image
        maps[name] = reduce_colours(signal, "positive")
        grid[name] = checkerboard(signal, STRIDE).mean(1)  # over colours
        if name == "guided, resampled":
            maps[ABSOLUTE] = reduce_colours(signal, "abs")
            maps[BLURRED] = blurred(maps[ABSOLUTE])
    return Maps(maps, grid)


def blurred(maps: Tensor) -> Tensor:
    """Return maps (B, H, W) under a Gaussian; zero beyond the border."""
    side = 2 * round(3 * _SIGMA) + 1  # three sigmas either side
    soft: Tensor = gaussian_blur(F.pad(maps[:, None], [side] * 4), [side, side], [_SIGMA, _SIGMA])
    return soft[:, 0, side:-side, side:-side]


def strided_below(trace: Trace, layer: str) -> bool:
    """Whether anything strided lies between the image and a layer: only there resampling can change a picture."""
    return any(field is not None and field[1].jump > 1 for field in trace[layer].fields)


def half_mass(maps: Tensor) -> Tensor:
    """Return the smallest share of the pixels that holds half of a map's sum (B,); 0 for a blank map."""
    flat = maps.flatten(1).double().sort(descending=True).values
    total = flat.sum(1, keepdim=True)
    needed = (flat.cumsum(1) < 0.5 * total).sum(1) + (total[:, 0] > 0)  # a blank map needs none
    return (needed / flat.shape[1]).float()
