"""The exact upper quantile of every channel over all positions of all images, in one pass and a bounded memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from interpnet.concepts._above import above
from interpnet.support.types import Float32, Int64

_SHIFT = 32  # a key is a channel's number above these bits, and the order of a value in them
_HALF = 1 << (_SHIFT - 1)
_SAMPLED = 16  # every so-many-th position, for a first bound
_FEWEST = 512  # of them; of fewer all positions are as quick
_SAFE = 4  # deviations by which the rank among them is larger than expected


class Tops:
    """The largest values of C channels, as many as lie above the wanted quantile, and the limit below them.

    Examples
    --------
    >>> tops = Tops(1, 2)  # the value below the two largest
    >>> for values in ([[1.0, 5.0, 2.0]], [[4.0, 3.0, 0.0]]):
    ...     tops.add(torch.tensor(values).view(1, 1, 1, 3))
    >>> tops.limits().tolist()
    [3.0]
    """

    def __init__(self, channels: int, most: int) -> None:
        self._wanted = most
        # Values at most so large are not among the wanted ones.
        self._bounds = np.full(channels, -np.inf, np.float32)
        self._keys: list[Int64] = []
        self._held = 0
        self._most = max(4096, 2 * channels * (most + 1))

    def add(self, maps: Tensor) -> None:
        """Take the values of maps (B, C, h, w)."""
        maps = maps.detach().float()
        channels = len(self._bounds)
        count = maps.numel() // channels
        if count > self._wanted and np.isinf(self._bounds).any():
            self._bounds = np.maximum(self._bounds, self._first_bounds(maps, count))
        # At the bound itself values are kept until it is known to be the limit: there they make no difference.
        found = above(maps, torch.from_numpy(self._bounds).to(maps.device))
        self._keys.append(_keys(found.values.cpu().numpy(), found.channel.cpu().numpy()))
        self._held += len(self._keys[-1])
        if self._held > self._most:
            self._settle()

    def _first_bounds(self, maps: Tensor, count: int) -> Float32:
        """Return values (C,) that are at most the limits, already of the first maps alone."""
        places = maps.flatten(2)
        some = places[:, :, ::_SAMPLED]
        n = some.shape[0] * some.shape[2]
        share = (self._wanted + 1) / count
        rank = math.ceil(share * n + _SAFE * math.sqrt(share * n))
        if n < _FEWEST or rank >= n:
            return _ranked(places, self._wanted)
        # A few positions tell about where it lies, and one look at all of them whether enough are above.
        bounds = _ranked(some, rank)
        found = above(maps, torch.from_numpy(bounds).to(maps.device)).channel
        few = np.flatnonzero(torch.bincount(found, minlength=len(bounds)).cpu().numpy() <= self._wanted)
        if len(few):
            bounds[few] = _ranked(places[:, few], self._wanted)
        return bounds

    def limits(self) -> Tensor:
        """Return (C,) float32: of each channel the largest value that is not among its ``most`` largest.

        With fewer values than that, minus infinity.
        """
        self._settle()
        return torch.from_numpy(self._bounds.copy())

    def _settle(self) -> None:
        """Keep of each channel the values among its largest, and raise the bounds."""
        # One sort of whole numbers brings values in order, channel by channel.
        keys = np.sort(np.concatenate([np.zeros(0, np.int64), *self._keys]))
        channels = np.arange(len(self._bounds))
        starts = np.searchsorted(keys, channels << _SHIFT)
        ends = np.append(starts[1:], len(keys))
        full = ends - starts > self._wanted
        limits = _values(keys[ends[full] - 1 - self._wanted])
        self._bounds[full] = np.maximum(self._bounds[full], limits)
        starts = np.searchsorted(keys, _keys(self._bounds, channels), side="right")
        steps = np.zeros(len(keys) + 1, np.int64)
        np.add.at(steps, starts, 1)
        np.add.at(steps, ends, -1)
        keys = keys[steps[:-1].cumsum() > 0]
        self._keys = [keys]
        self._held = len(keys)


def _ranked(values: Tensor, above: int) -> Float32:
    """Return (C,): of each channel of (B, C, n) the largest value that is not among its ``above`` largest."""
    own = values.transpose(0, 1).flatten(1).cpu().numpy()
    at = own.shape[1] - 1 - above
    found: Float32 = np.partition(own, at, axis=1)[:, at]
    return found


def _keys(values: Float32, channels: Int64) -> Int64:
    """Return whole numbers in the order of the channels, and of each channel's values."""
    bits = (values + np.float32(0)).view(np.int32)  # one zero, which has two signs
    order = (bits ^ ((bits >> (_SHIFT - 1)) & np.int32(_HALF - 1))).astype(np.int64)
    found: Int64 = (channels << _SHIFT) + order + _HALF
    return found


def _values(keys: Int64) -> Float32:
    """Return the values of keys."""
    order = ((keys & ((1 << _SHIFT) - 1)) - _HALF).astype(np.int32)
    found: Float32 = (order ^ ((order >> (_SHIFT - 1)) & np.int32(_HALF - 1))).view(np.float32)
    return found
