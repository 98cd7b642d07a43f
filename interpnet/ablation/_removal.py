"""Removing channels while a network runs: a list of channels for every image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interpnet.engine import Channel, Instrument, Removal, channel_index, find_sites, instrument, unwrap
from interpnet.errors import InterpNetError, LayerError
from interpnet.support.checks import instance_of, listed, number, text

Channels = Sequence[Channel] | Sequence[Sequence[Channel]]
Fill = str | float | Mapping[Channel, float]


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
        An unknown layer or channel, when the first batch runs.
    InterpNetError
        A list or fill that does not fit.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    >>> with torch.no_grad(), ablate(net, [Channel("1", 0), Channel("1", 1)]):
    ...     print(net(torch.ones(1, 1, 1, 1)))
    tensor([[0.]])
    """
    ablation = _Ablation(unwrap(model), listed(channels, "channels"), fill)
    with instrument(ablation.model, Instrument(edits=ablation.edits, before=ablation.before)):
        yield


class _Ablation:
    """What :func:`ablate` removes. Its sites are found when the first batch runs, for they depend on the images."""

    def __init__(self, model: nn.Module, channels: Channels, fill: Fill) -> None:
        self.model = model
        flat = [c for c in channels if isinstance(c, Channel)]
        self._shared = len(flat) == len(channels)  # by all images
        if flat and not self._shared:
            raise InterpNetError("channels mixes Channels and lists of Channels; expected one or the other")
        lists: list[Sequence[Channel]] = [
            listed(row, "a list in channels") for row in channels if not isinstance(row, Channel)
        ]
        self._rows: list[Sequence[Channel]] = [flat] if self._shared else lists
        self._channels = [channel for row in self._rows for channel in row]
        for channel in self._channels:
            instance_of(channel, "a channel in channels", Channel)
            text(channel.layer, "the layer of a channel", error=LayerError)
        self._levels = _levels(fill, self._channels)
        self._removal: Removal | None = None
        self._lists: list[list[int]] = []  # known once the sites are
        self._tracing = False
        self.edits: dict[str, Callable[[Tensor], Tensor]] = {}  # filled when the first batch runs

    def before(self, args: tuple[object, ...]) -> None:
        """Set what the batch that is about to run loses."""
        if self._tracing or not self._channels:  # finding the sites runs the network too
            return
        images = next((a for a in args if isinstance(a, Tensor)), None)
        if images is None:
            raise InterpNetError("ablate found no tensor among the model's positional inputs; pass the images first")
        removal = self._removal or self._prepare(images)
        n = len(images)
        if not self._shared and n != len(self._rows):
            raise InterpNetError(
                f"ablate got lists of channels for {len(self._rows)} images and a batch of {n}; expected one list per "
                "image, or one list of channels for all"
            )
        removal.set(self._lists * n if self._shared else self._lists)

    def _prepare(self, images: Tensor) -> Removal:
        self._tracing = True
        try:
            trace = find_sites(self.model, images, logits=False)
        finally:
            self._tracing = False
        sites = [trace.usable(layer) for layer in dict.fromkeys(channel.layer for channel in self._channels)]
        index = channel_index(sites)
        self._lists = [[index.position(channel) for channel in row] for row in self._rows]
        fill = torch.zeros(len(index))
        for channel in self._channels:
            fill[index.position(channel)] = self._levels[channel]
        self._removal = Removal(sites, fill)
        self.edits.update(self._removal.edits)
        return self._removal


def _levels(fill: Fill, channels: Sequence[Channel]) -> Mapping[Channel, float]:
    """Return what each channel is overwritten with."""
    if fill == "zero":
        fill = 0.0
    if isinstance(fill, str):
        raise InterpNetError(f"fill={fill!r}; expected 'zero', a number, or a mapping of Channel to number")
    if not isinstance(fill, Mapping):
        return dict.fromkeys(channels, number(fill, "fill"))
    missing = [channel for channel in channels if channel not in fill]
    if missing:
        raise InterpNetError(
            f"fill has no value for {missing[0]}, and {len(missing)} of {len(channels)} channels have none; "
            "expected one for every channel that is removed"
        )
    return {channel: number(fill[channel], f"fill of {channel}") for channel in channels}
