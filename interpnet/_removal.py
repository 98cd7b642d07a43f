"""Removing channels while a network runs: a list of channels for every image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interpnet.channels import Channel
from interpnet.errors import InterpNetError, LayerError
from interpnet.sites import Site, find_sites
from interpnet.trace import Instrument, instrument, unwrap

Channels = Sequence[Channel] | Sequence[Sequence[Channel]]
Fill = str | float | Mapping[Channel, float]


class Removal:
    """Edits that overwrite channels at sites; the list can change from batch to batch.

    ``rows`` and ``columns`` say which channel (a column over all sites) is removed in which image.
    """

    def __init__(self, sites: Sequence[Site], fill: Tensor | None = None) -> None:
        self.sites = tuple(sites)
        self._fill = fill
        self._starts: list[int] = []
        start = 0
        for site in self.sites:
            self._starts.append(start)
            start += site.channels
        self.m = start
        self._now: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
        self.edits: dict[str, Callable[[Tensor], Tensor]] = {s.name: self._editor(s) for s in self.sites}

    def set(self, rows: Tensor, columns: Tensor) -> None:
        """Remove ``columns[i]`` in image ``rows[i]`` of the next batch."""
        self._now = {}
        for site, start in zip(self.sites, self._starts, strict=True):
            here = (columns >= start) & (columns < start + site.channels)
            if bool(here.any()):
                at = columns[here]
                fill = None if self._fill is None else self._fill[at]
                self._now[site.name] = (rows[here], at - start, fill)

    def _editor(self, site: Site) -> Callable[[Tensor], Tensor]:
        axis = site.axis
        if axis is None:
            raise LayerError(f"layer {site.name!r} cannot be ablated: {site.why}")

        def edit(out: Tensor) -> Tensor:
            found = self._now.get(site.name)
            if found is None:
                return out
            rows, channels, fill = (None if t is None else t.to(out.device) for t in found)
            if out.requires_grad:
                out = out.clone()
            maps = out.movedim(axis, 1)
            value = out.new_zeros(()) if fill is None else fill.to(out.dtype).view(-1, *[1] * (out.dim() - 2))
            maps[rows, channels] = value
            return out

        return edit


def columns_of(sites: Sequence[Site], channels: Sequence[Channel]) -> Tensor:
    """Return the columns of ``channels`` over all ``sites``."""
    start: dict[str, tuple[int, int]] = {}
    offset = 0
    for site in sites:
        start[site.name] = (offset, site.channels)
        offset += site.channels
    columns = []
    for channel in channels:
        at, size = start[channel.layer]
        if not 0 <= channel.index < size:
            raise LayerError(
                f"channel {channel.index} of layer {channel.layer!r} does not exist; expected 0 to {size - 1}"
            )
        columns.append(at + channel.index)
    return torch.tensor(columns, dtype=torch.long)


@contextmanager
def ablate(model: nn.Module, channels: Channels, *, fill: Fill = "zero") -> Iterator[None]:
    """Run ``model`` inside the block without some channels: their maps are overwritten where they are made.

    The value is set at the site named, so naming a rectifier's output removes the channel after its
    activation (zero before a normalisation layer would not be zero after it).

    Parameters
    ----------
    model : nn.Module
        Left as it was afterwards. Put it in evaluation mode: this manager does not change the mode.
    channels : list of Channel, or one list for each image of the batches that will run
    fill : "zero", float, or mapping of Channel to float
        What the maps are overwritten with (each channel's mean activation, say).

    Raises
    ------
    LayerError
        Unknown layer (with close matches) or channel, when the first batch runs.
    InterpNetError
        One list an image, but a batch of another size.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    >>> with torch.no_grad(), ablate(net, [Channel("1", 0), Channel("1", 1)]):
    ...     print(net(torch.ones(1, 1, 1, 1)))
    tensor([[0.]])
    """
    model = unwrap(model)
    shared, rows = _lists(channels)
    everything = [c for row in rows for c in row]
    edits: dict[str, Callable[[Tensor], Tensor]] = {}
    prepared: list[tuple[Removal, Tensor, Tensor]] = []
    busy: list[bool] = []

    def before(args: tuple[object, ...]) -> None:
        if busy or not everything:
            return
        images = next((a for a in args if isinstance(a, Tensor)), None)
        if images is None:
            raise InterpNetError("ablate found no tensor among the model's positional inputs; pass the images first")
        if not prepared:
            busy.append(True)
            try:
                found = find_sites(model, images, logits=False)
            finally:
                busy.clear()
            sites = [_usable(found[name]) for name in dict.fromkeys(c.layer for c in everything)]
            columns = columns_of(sites, everything)
            removal = Removal(sites, _values(fill, everything, columns, sites))
            image_of = torch.tensor([i for i, row in enumerate(rows) for _ in row])
            prepared.append((removal, image_of, columns))
            edits.update(removal.edits)
        removal, image_of, columns = prepared[0]
        if shared:
            n, c = images.shape[0], len(columns)
            removal.set(torch.arange(n).repeat_interleave(c), columns.repeat(n))
        elif images.shape[0] != len(rows):
            raise InterpNetError(
                f"ablate got lists of channels for {len(rows)} images and a batch of {images.shape[0]}; expected one "
                "list an image, or one list of channels for all"
            )
        else:
            removal.set(image_of, columns)

    with instrument(model, Instrument(edits=edits, before=before)):
        yield


def _lists(channels: Channels) -> tuple[bool, list[list[Channel]]]:
    """Return (one list for all images?, the lists)."""
    flat = [c for c in channels if isinstance(c, Channel)]
    if len(flat) == len(channels):
        return True, [flat]
    rows: list[list[Channel]] = []
    for item in channels:
        if isinstance(item, Channel):
            raise InterpNetError("channels mixes Channels and lists of Channels; expected one or the other")
        rows.append(list(item))
    return False, rows


def _usable(site: Site) -> Site:
    if not site.usable:
        raise LayerError(f"layer {site.name!r} cannot be ablated: {site.why}")
    return site


def _values(fill: Fill, channels: Sequence[Channel], columns: Tensor, sites: Sequence[Site]) -> Tensor | None:
    if isinstance(fill, str):
        if fill != "zero":
            raise InterpNetError(f"fill={fill!r}; expected 'zero', a number, or a mapping of Channel to number")
        return None
    values = torch.zeros(sum(s.channels for s in sites))
    for column, channel in zip(columns.tolist(), channels, strict=True):
        values[column] = fill[channel] if isinstance(fill, Mapping) else float(fill)
    return values
