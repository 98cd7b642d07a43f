"""The few values of maps that are above their channel's limit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Above(NamedTuple):
    """Values above their channel's limit, each (n,)."""

    values: Tensor
    image: Tensor
    channel: Tensor
    place: Tensor  # row * width + column


def above(maps: Tensor, limits: Tensor) -> Above:
    """Return the values of maps (B, C, h, w) that are above the limits (C,) of their channels.

    Examples
    --------
    >>> maps = torch.tensor([[1.0, 5.0], [3.0, 0.0]]).view(1, 2, 1, 2)
    >>> found = above(maps, torch.tensor([1.0, 2.0]))
    >>> found.values.tolist(), found.channel.tolist(), found.place.tolist()
    ([5.0, 3.0], [0, 1], [1, 0])
    """
    channels = maps.shape[1]
    places = maps.shape[2] * maps.shape[3]
    # In the order in which they lie in memory: a copy would cost as much as all the rest.
    if maps.is_contiguous(memory_format=torch.channels_last):
        dense = maps.permute(0, 2, 3, 1)
        flat = true_at(_greater(dense, limits))
        channel = flat % channels
        rest = flat.div(channels, rounding_mode="floor")
        place = rest % places
        image = rest.div(places, rounding_mode="floor")
    else:
        dense = maps.contiguous()
        flat = true_at(_greater(dense, limits[:, None, None]))
        place = flat % places
        rest = flat.div(places, rounding_mode="floor")
        channel = rest % channels
        image = rest.div(channels, rounding_mode="floor")
    return Above(dense.reshape(-1)[flat], image, channel, place)


def true_at(mask: Tensor) -> Tensor:
    """Return where a mask is true, as positions in it when flat; numpy looks for them five times as fast."""
    flat = mask.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(flat.numpy()))
    return torch.nonzero(flat)[:, 0]


def _greater(values: Tensor, limits: Tensor) -> Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.greater(values.numpy(), limits.numpy()))
    return values > limits
