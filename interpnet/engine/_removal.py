"""Channels overwritten while a network runs: the edits behind removal, by columns over several sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from interpnet.engine._sites import Site, channel_index
from interpnet.errors import LayerError
from interpnet.support.types import Int64


class Removal:
    """Edits that overwrite channels at sites with ``fill`` (m,), zeros by default; the lists can change by batch."""

    def __init__(self, sites: Sequence[Site], fill: Tensor | None = None) -> None:
        self.sites = tuple(sites)
        self.channels = channel_index(self.sites)
        self.edits = {site.name: self._editor(site) for site in self.sites}
        self._fill = torch.zeros(len(self.channels)) if fill is None else fill
        self._now: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def set(self, lists: Sequence[Sequence[int] | Int64]) -> None:
        """Remove the channels ``lists[i]``, columns over all sites, in image i of the next batch."""
        rows = np.repeat(np.arange(len(lists)), [len(columns) for columns in lists])
        columns = np.concatenate([[], *lists]).astype(np.int64)  # the first is there for no images
        order = np.argsort(columns, kind="stable")
        rows = rows[order]
        columns = columns[order]
        slices = [self.channels.slice(site.name) for site in self.sites]
        begins = np.searchsorted(columns, [own.start for own in slices])
        ends = np.searchsorted(columns, [own.stop for own in slices])
        self._now = {}  # sites without a channel to remove are left alone
        for site, own, begin, end in zip(self.sites, slices, begins, ends, strict=True):
            if begin < end:
                at = torch.from_numpy(columns[begin:end])
                self._now[site.name] = (torch.from_numpy(rows[begin:end]), at - own.start, self._fill[at])

    def _editor(self, site: Site) -> Callable[[Tensor], Tensor]:
        axis = site.axis
        if axis is None:
            raise LayerError(f"layer {site.name!r} cannot be ablated: {site.why}")

        def edit(out: Tensor) -> Tensor:
            rows, channels, fill = (part.to(out.device) for part in self._now[site.name])
            if out.requires_grad:
                out = out.clone()  # autograd may need what would be overwritten
            maps = out.movedim(axis, 1)  # a view: what is written there is written to the map
            maps[rows, channels] = fill.to(out.dtype).view(-1, *[1] * (out.dim() - 2))
            return out

        seen = site.editing(edit)
        return lambda out: seen(out) if site.name in self._now else out
