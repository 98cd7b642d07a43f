"""The images in which channels are strongest, and where: what one looks at to believe a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from interpnet.concepts._dissection import Dissection
from interpnet.concepts._work import maps_of, with_maps
from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Site,
    check_images,
    evaluating,
    find_sites,
    forward_logits,
    instrument,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.scores import Loader, Prepare, batches_from, entries, prepared
from interpnet.support.checks import check_kinds, whole_number


class Strongest(NamedTuple):
    """The n images in which a channel is strongest, the strongest first."""

    numbers: tuple[int, ...]  # counted through all categories in their order
    images: Tensor  # (n, C, H, W) as the loader gave them
    maps: Tensor  # (n, H, W) the channel's map, enlarged to the image
    threshold: float  # above which the map is compared with masks


def strongest(
    model: nn.Module,
    loader: Loader | Mapping[str, Loader],
    found: Dissection,
    channels: Sequence[Channel],
    *,
    most: int = 6,
    max_batch: int = 32,
    device: str | torch.device | None = None,
    output: Output | None = None,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> dict[Channel, Strongest]:
    """Return the images in which channels are strongest, with their maps, in one pass over the loader.

    Parameters
    ----------
    model, loader
        Those of the dissection, with the same images in the same order.
    found : Dissection
    channels : sequence of Channel
        Of ``found``.
    most : int
        Images of each channel, at most as many as ``found.top`` has.
    max_batch, device, output, inputs, labels, prepare
        As in :func:`dissect`.

    Returns
    -------
    dict of Strongest

    Raises
    ------
    DataError
        Fewer images than the dissection saw.
    InterpNetError
        A channel that was not dissected.

    Examples
    --------
    >>> from interpnet.concepts import dissect
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2))
    >>> images, masks = torch.rand(20, 1, 16, 16), torch.arange(20) % 2
    >>> loader = [(images, masks)]
    >>> found = dissect(net, loader, concepts=["even", "odd"], quantile=0.1, untrained=False, progress=False)
    >>> shown = strongest(net, loader, found, [Channel("1", 0)], most=3)
    >>> shown[Channel("1", 0)].maps.shape
    torch.Size([3, 16, 16])
    """
    check_kinds(strongest, locals(), but=["loader"])
    whole_number(most, "most", least=1)
    whole_number(max_batch, "max_batch", least=1)
    rows = {channel: found.channels.position(channel) for channel in channels}
    numbers = {channel: tuple(found.top[row, :most].tolist()) for channel, row in rows.items()}
    wanted: dict[int, list[Channel]] = {}
    for channel, own in numbers.items():
        for number in own:
            wanted.setdefault(number, []).append(channel)
    images: dict[int, Tensor] = {}
    maps: dict[tuple[Channel, int], Tensor] = {}
    model = unwrap(model)
    keys = {"inputs": inputs, "labels": labels}
    with placed(model, resolve_device(device, model), "auto") as put, evaluating(model):
        sites: Mapping[str, Site] = {}
        for some in _wanted(loader, keys, prepare, wanted, max_batch):
            batch = torch.stack(list(some.values()))
            if not sites:
                trace = find_sites(model, put(batch[:1]), output=output)
                chosen = with_maps(trace.select([*dict.fromkeys(channel.layer for channel in rows)]))
                sites = {site.name: site for site in chosen}
            images |= some
            outs = _read(model, put(batch), sites, output)
            for i, number in enumerate(some):
                for channel in wanted[number]:
                    small = outs[channel.layer][i, channel.index].cpu()[None, None]
                    large = functional.interpolate(small, size=batch.shape[2:], mode="bilinear", align_corners=False)
                    maps[channel, number] = large[0, 0]
    missing = sorted(set(wanted) - set(images))
    if missing:
        raise DataError(
            f"the loader yields no image {missing[0]}, which the dissection saw; expected the same images in the same "
            "order"
        )
    return {
        channel: Strongest(
            own,
            torch.stack([images[number] for number in own]),
            torch.stack([maps[channel, number] for number in own]),
            float(found.thresholds[rows[channel]]),
        )
        for channel, own in numbers.items()
    }


def _wanted(
    loader: Loader | Mapping[str, Loader],
    keys: Mapping[str, Any],
    prepare: Prepare | None,
    wanted: Mapping[int, Any],
    most: int,
) -> Iterator[dict[int, Tensor]]:
    """Yield the wanted images by their numbers, so many at a time."""
    number = 0
    held: dict[int, Tensor] = {}
    for source in loader.values() if isinstance(loader, Mapping) else [loader]:
        for raw in batches_from(source, **keys):
            given, _ = entries(raw, **keys)
            for image in check_images(prepared(given, prepare)):
                if number in wanted:
                    held[number] = image.detach().cpu()
                number += 1
                if len(held) == most:
                    yield held
                    held = {}
    if held:
        yield held


def _read(model: nn.Module, images: Tensor, sites: Mapping[str, Site], output: Output | None) -> dict[str, Tensor]:
    """Return the maps (B, C, h, w) at some sites."""
    outs: dict[str, Tensor] = {}

    def read(site: Site, out: Tensor) -> None:
        outs[site.name] = maps_of(out, site)

    reads = {name: site.reading(partial(read, site)) for name, site in sites.items()}
    with torch.no_grad(), instrument(model, Instrument(reads=reads)):
        forward_logits(model, images, output)
    return outs
