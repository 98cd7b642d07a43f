"""Reading the scores of a batch while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpnet.engine import ChannelIndex, Site, Trace, channel_index
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.scores._norms import channel_norms
from interpnet.support.checks import one_of

# Each norm, with the power of a map's size that normalisation="size" divides it by: docs/method.md, section 1.1.
NORMS = {"l2": 0.5, "l2sq": 1.0}
NORMALISATIONS = ("layer", "size", "none")


class ScoreReader:
    """Read the scores of a batch at given sites while the network runs, with the norms of :func:`collect_scores`.

    Examples
    --------
    >>> from torch import nn
    >>> from interpnet.engine import Instrument, find_sites, instrument
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).eval()
    >>> images = torch.ones(1, 1, 3, 3)
    >>> reader = ScoreReader(find_sites(net, images).select())
    >>> with instrument(net, Instrument(reads=reader.reads)):
    ...     _ = net(images)
    >>> reader.take().shape
    torch.Size([1, 2])
    """

    def __init__(self, sites: Sequence[Site], *, norm: str = "l2", normalisation: str = "layer") -> None:
        self._norm = one_of(norm, "norm", NORMS)
        self._normalisation = one_of(normalisation, "normalisation", NORMALISATIONS)
        self.sites = tuple(sites)
        self.channels = channel_index(self.sites)
        self.reads = {site.name: site.reading(self._reader(site)) for site in self.sites}
        self._parts: dict[str, Tensor] = {}

    @classmethod
    def of(cls, trace: Trace, channels: ChannelIndex, info: Mapping[str, Any]) -> ScoreReader:
        """Return the reader of the scores that a table or an interpretation describes by ``channels`` and ``info``."""
        options = {name: info[name] for name in ("norm", "normalisation") if name in info}
        return cls(sites_of(trace, channels), **options)

    def _reader(self, site: Site) -> Callable[[Tensor], None]:
        axis = site.axis
        if axis is None:
            raise LayerError(f"layer {site.name!r} cannot be scored: {site.why}")

        def read(out: Tensor) -> None:
            if out.shape[axis] != site.channels:
                raise ModelError(
                    f"layer {site.name!r} had {site.channels} channels when it was traced and has "
                    f"{out.shape[axis]} now; a network whose shape depends on its input cannot be scored"
                )
            # Reduced at once: a later in-place operator may overwrite the map. Scores take no gradient.
            s = channel_norms(out.detach(), axis, squared=self._norm == "l2sq")
            if self._normalisation == "size":
                positions = out[0].numel() // out.shape[axis]
                s /= positions ** NORMS[self._norm]
            self._parts[site.name] = s

        return read

    def take(self) -> Tensor:
        """Return the (B, m) scores of the forward pass that just ran."""
        missing = [name for name in self.reads if name not in self._parts]
        if missing:
            raise ModelError(
                f"layers {missing[:4]} did not run in this forward pass; a network whose path depends on its "
                "input cannot be scored"
            )
        parts = [self._parts[name] for name in self.reads]
        self._parts = {}  # the next pass must not find the scores of this one
        if self._normalisation != "layer":
            return torch.cat(parts, 1)
        sums = torch.stack([part.sum(1) for part in parts], 1)
        # A layer of zeros keeps its zeros; a NaN stays a NaN and is reported.
        sums = torch.where(sums == 0, torch.ones_like(sums), sums)
        return torch.cat([part / sums[:, i : i + 1] for i, part in enumerate(parts)], 1)


def sites_of(trace: Trace, channels: ChannelIndex) -> list[Site]:
    """Return the sites of a traced model at which ``channels`` were scored; a layer that does not fit is an error."""
    sites = [trace[name] for name in channels.layers]
    for site, (name, size) in zip(sites, channels.sizes, strict=True):
        if site.channels != size:
            raise InterpNetError(
                f"layer {name!r} has {site.channels} channels in this model and {size} in the interpretation; "
                "was it made from another model?"
            )
    return sites
