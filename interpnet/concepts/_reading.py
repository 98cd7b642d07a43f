"""Running images through a network: one row of numbers an image at each layer, and the gradient of a class there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    Site,
    check_logits,
    forward_logits,
    instrument,
    log_odds,
)
from interpnet.errors import DataError, LayerError, ModelError
from interpnet.reliance import ContributionReader, probe, values_of
from interpnet.support.types import Float32

Put = Callable[[Tensor], Tensor]


class RowReader:
    """Reads one row for each image at every site: its whole map, flat, or with ``pool`` the mean of each channel.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    >>> images = torch.rand(4, 1, 5, 5)
    >>> reader = RowReader(find_sites(net, images).select(), pool=False)
    >>> with instrument(net, Instrument(reads=reader.reads)):
    ...     _ = net(images)
    >>> [rows.shape for rows in reader.take()]
    [(4, 27)]
    """

    def __init__(self, sites: Sequence[Site], *, pool: bool) -> None:
        self.sites = tuple(sites)
        self.reads = {site.name: site.reading(partial(self._read, site)) for site in self.sites}
        self._pool = pool
        self._rows: dict[str, Tensor] = {}

    def _read(self, site: Site, out: Tensor) -> None:
        if tuple(out.shape[1:]) != site.shape:
            raise ModelError(
                f"layer {site.name!r} had maps of shape {site.shape} when it was traced and of {tuple(out.shape[1:])} "
                "now; a network whose shape depends on its input cannot be read"
            )
        out = out.detach()
        if self._pool:
            out = pooled(out.float(), site)
        # A copy: an operator in place may write over it.
        self._rows[site.name] = out.flatten(1).to("cpu", torch.float32, copy=True)

    def take(self) -> list[Float32]:
        """Return the rows (B, D) of every site of the pass that just ran."""
        missing = [name for name in self.reads if name not in self._rows]
        if missing:
            raise ModelError(
                f"layers {missing[:4]} did not run in this forward pass; a network whose path depends on its input "
                "cannot be read"
            )
        rows = [self._rows[site.name].numpy() for site in self.sites]
        self._rows = {}
        return rows


def pooled(maps: Tensor, site: Site, *, add: bool = False) -> Tensor:
    """Return the mean over positions (B, channels) of a site's maps, or with ``add`` the sum."""
    if maps.dim() <= 2:
        return maps
    flat = maps.movedim(site.axis or 1, 1).flatten(2)
    if add:
        return flat.sum(2)
    return flat.mean(2)


@contextmanager
def rows_read(
    model: nn.Module, sites: Sequence[Site], put: Put, *, pool: bool, output: Output | None
) -> Iterator[Callable[[Tensor, str, int], list[Float32]]]:
    """Yield what returns the rows (B, D) of each site for images; a name and their first number are for errors."""
    reader = RowReader(sites, pool=pool)

    def read(images: Tensor, name: str, start: int) -> list[Float32]:
        with torch.no_grad():
            forward_logits(model, images, output, put)
        rows = reader.take()
        for site, values in zip(sites, rows, strict=True):
            bad = np.flatnonzero(~np.isfinite(values).all(1))
            if bad.size:
                raise DataError(
                    f"image {start + int(bad[0])} of {name} makes NaN or infinite activations in layer {site.name!r}; "
                    "look at that image and its normalisation, or at weights that overflow"
                )
        return rows

    with instrument(model, Instrument(reads=reader.reads)):
        yield read


class Gradients:
    """The gradient of a class's log-odds at every site, one row for each image, as :class:`RowReader` has the maps.

    With ``pool`` it is the sum over positions of each channel: what the log-odds gain when a number is added to the
    channel everywhere, and so to its mean.
    """

    def __init__(
        self, model: nn.Module, sites: Sequence[Site], first: Tensor, *, pool: bool, output: Output | None, outputs: str
    ) -> None:
        self._model = model
        self._pool = pool
        self._output = output
        self._outputs = outputs
        self._reader = ContributionReader(sites, maps=True)
        probe(model, self._reader, first, output, outputs)

    def of(self, images: Tensor, target: int) -> list[Float32]:
        """Return the rows (B, D) of each site for images on the model's device."""
        reader = self._reader
        with torch.inference_mode(False), torch.enable_grad():
            images = images.detach().clone()
            with instrument(self._model, Instrument(reads=reader.reads, edits=reader.edits)):
                logits = check_logits(forward_logits(self._model, images, self._output))
            reader.send_back(log_odds(logits, torch.full((len(images),), target), outputs=self._outputs))
        rows = [self._row(reader.maps, site) for site in reader.sites]
        # For its check that all of them are finite.
        values_of(reader.take(), reader.channels, None)
        return rows

    def _row(self, maps: dict[str, Tensor], site: Site) -> Float32:
        if site.name not in maps:
            raise LayerError(
                f"the class's log-odds do not depend on layer {site.name!r}: no gradient comes back to it; choose "
                "another layer"
            )
        gradient = maps[site.name].float()
        if self._pool:
            gradient = pooled(gradient, site, add=True)
        rows: Float32 = gradient.flatten(1).cpu().numpy()
        return rows
