"""Where channels answer most: the place and the size of the largest value of each map, read while a network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from interpnet.engine import Site
from interpnet.support.brief import brief
from interpnet.support.types import Float32, Int64

_AT_ONCE = 1 << 18  # values of maps


@brief
@dataclass(frozen=True)
class Peaks:
    """Where one channel answers most in n images."""

    indices: Int64  # (n,), the images, as positions in the data set
    values: Float32  # (n,), the largest value of the map
    positions: Int64  # (n,), where it lies among the map's places, counted over the flat map
    extents: Float32  # (n,), the share of the map's places with more than half of the largest value


class PeakReader:
    """Reads the maxima of the maps at some sites from batches: ``Instrument(reads=reader.reads)``.

    Examples
    --------
    >>> from interpnet.engine import Instrument, find_sites, instrument
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    >>> reader = PeakReader(find_sites(net, torch.ones(1, 1, 2, 2)).select(["1"]))
    >>> with instrument(net, Instrument(reads=reader.reads)):
    ...     _ = net(torch.ones(3, 1, 2, 2))
    >>> values, positions, extents = reader.take()["1"]
    >>> values.shape
    (3, 2)
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.reads = {site.name: site.reading(partial(self._read, site)) for site in sites}
        self.clear()

    def clear(self) -> None:
        """Forget what was read."""
        self._kept: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in self.reads}

    def _read(self, site: Site, out: Tensor) -> None:
        # A class token stands for no place: what is cut out of the image there would be all of it.
        maps = site.maps(out.detach())
        flat = maps.reshape(*maps.shape[:2], -1)
        # Some images at a time, so that what is compared is still at hand: half the time of all at once.
        parts = torch.split(flat, max(1, _AT_ONCE // max(1, flat[:1].numel())))
        above = torch.empty_like(parts[0], dtype=torch.float32)
        for part in parts:
            values, positions = part.max(2)
            # Numbers at once instead of truths, which take longer to count.
            larger = torch.gt(part, 0.5 * values[..., None], out=above[: len(part)])
            # Three numbers are kept per map, and no view of it.
            self._kept[site.name].append(
                (values.cpu().float().clone(), (positions + site.lead).cpu().int(), larger.mean(2).cpu())
            )

    def take(self) -> dict[str, tuple[Float32, Int64, Float32]]:
        """Return values, positions and extents (N, channels) of each site, as in :class:`Peaks`, and forget them."""
        found = {}
        for name, parts in self._kept.items():
            values, positions, extents = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
            found[name] = (values, positions.astype(np.int64), extents)
        self.clear()
        return found
