"""Removing channels while a network runs: a list of channels for every image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, Instrument, Site, channel_index, find_sites, instrument, unwrap
from interpnet.errors import InterpNetError, LayerError

Channels = Sequence[Channel] | Sequence[Sequence[Channel]]
Fill = str | float | Mapping[Channel, float]


class Removal:
    """Edits that overwrite channels at sites; the list can change from batch to batch.

    ``rows`` and ``columns`` say which channel (a column over all sites) is removed in which image.
    """

    def __init__(self, sites: Sequence[Site], fill: Tensor | None = None) -> None:
        self.sites = tuple(sites)
        self._fill = fill
        self.channels = channel_index(self.sites)
        self._now: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
        self.edits: dict[str, Callable[[Tensor], Tensor]] = {s.name: self._editor(s) for s in self.sites}

    def set(self, rows: Tensor, columns: Tensor) -> None:
        """Remove ``columns[i]`` in image ``rows[i]`` of the next batch."""
        self._now = {}
        for site in self.sites:
            own = self.channels.slice(site.name)
            here = (columns >= own.start) & (columns < own.stop)
            if bool(here.any()):
                at = columns[here]
                fill = None if self._fill is None else self._fill[at]
                self._now[site.name] = (rows[here], at - own.start, fill)

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
                trace = find_sites(model, images, logits=False)
            finally:
                busy.clear()
            sites = [trace.usable(name) for name in dict.fromkeys(c.layer for c in everything)]
            index = channel_index(sites)
            columns = torch.tensor([index.position(c) for c in everything])
            removal = Removal(sites, _values(fill, everything, index))
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


def _values(fill: Fill, channels: Sequence[Channel], index: ChannelIndex) -> Tensor | None:
    if isinstance(fill, str):
        if fill != "zero":
            raise InterpNetError(f"fill={fill!r}; expected 'zero', a number, or a mapping of Channel to number")
        return None
    if isinstance(fill, Mapping):
        missing = [channel for channel in channels if channel not in fill]
        if missing:
            raise InterpNetError(
                f"fill has no value for {missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; "
                "expected one for every channel that is removed"
            )
    values = torch.zeros(len(index))
    for channel in channels:
        values[index.position(channel)] = fill[channel] if isinstance(fill, Mapping) else float(fill)
    return values
