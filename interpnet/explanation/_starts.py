"""Where a backward signal starts, and with what values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from interpnet.engine import Channel, Site
from interpnet.errors import InterpNetError, LayerError
from interpnet.support.checks import is_whole

SEEDS = ("activation", "ones", "maximum", "contribution", "relevance")
#: Those that ask what the log-odds of a class say about a map.
OF_A_CLASS = ("contribution", "relevance")

#: Stands for the network's output among the names of sites.
OUTPUT = ""


@dataclass(frozen=True, order=True)
class Unit:
    """An output unit of the network, a class before the softmax, to start a signal from.

    Its map is its logit. With ``seed="ones"`` the signal is that of the class as Simonyan, Zeiler & Fergus and
    Springenberg publish it; with the default it is scaled by the logit, its sign included.
    """

    layer: ClassVar[str] = OUTPUT
    index: int


#: One channel or output unit, or a set of them whose signals start together.
Start = Channel | Unit | Set[Channel | Unit]
Picks = Sequence[Sequence[Start]]


def places(start: Start) -> list[tuple[str, int]]:
    """Return (site, index) of everything in a start, the output's site being ``OUTPUT``."""
    for one in start if isinstance(start, Set) else [start]:
        if not isinstance(one, Channel | Unit) or not isinstance(one.layer, str) or not is_whole(one.index):
            raise InterpNetError(
                f"channels: {one!r} came; expected a Channel(layer, index), a Unit(index) or a set of them"
            )
    if not isinstance(start, Set):
        return [(start.layer, start.index)]
    if not start:
        raise InterpNetError("an empty set of channels came; expected at least one channel to start from")
    # A set has no order of its own; sorted, the same set always gives the same sums.
    return [(member.layer, member.index) for member in sorted(start, key=repr)]


def sites_in(picks: Picks) -> set[str]:
    """Return the names of the sites at which the starts of any image lie."""
    return {name for row in picks for start in row for name, _ in places(start)}


def deepest_first(picks: Picks, order: Mapping[str, int]) -> list[list[int]]:
    """Return for each image the numbers of its starts, those of the latest site first.

    One backward pass costs as much as its deepest start, so starts of similar depth share a pass.
    """
    last = len(order)  # the output comes after every site
    falling = [[-max(order.get(name, last) for name, _ in places(start)) for start in row] for row in picks]
    return [sorted(range(len(row)), key=row.__getitem__) for row in falling]


def seeds_of(
    starts: Mapping[int, Start],
    maps: Mapping[str, Tensor],
    sites: Mapping[str, Site],
    seed: str,
    told: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the values that signals start with at every site in ``starts`` (image to start), zero elsewhere.

    ``told`` is what the log-odds say about each map, position by position: their gradient for ``seed="contribution"``,
    the relevance that they send for ``seed="relevance"``.
    """
    seeds: dict[str, Tensor] = {}
    for image, start in starts.items():
        for name, index in places(start):
            values = maps[name].detach()
            # Without the batch axis, of which an image's own values have none.
            axis = _axis(name, index, values, sites) - 1
            if name not in seeds:
                seeds[name] = torch.zeros_like(values)
            one = values[image].select(axis, index)
            said = None
            if told is not None and name in told:
                said = told[name][image].select(axis, index)
            seeds[name][image].select(axis, index).copy_(seed_map(one, seed, said))
    return seeds


def seed_map(activation: Tensor, seed: str, told: Tensor | None = None) -> Tensor:
    """Return what a signal starts with at a channel's activation map (any shape); docs/method.md, section 5.1.

    ``"activation"``: the map itself (Oramas et al. 2019), so the gradient is that of ``1/2 ||A||^2``; ``"ones"``: one
    everywhere, the gradient of the map's sum; ``"maximum"``: the map at its first maximum, zero elsewhere;
    ``"contribution"``: the map times the gradient of the image's log-odds there, where that is positive and so speaks
    for the class. Over all positions the product sums to the channel's contribution (docs/method.md, section 8.1);
    ``"relevance"``: the relevance that the log-odds send there, where that is positive. ``told`` is that gradient or
    that relevance; without it nothing speaks for the class.
    """
    if seed in OF_A_CLASS:
        if told is None:
            return torch.zeros_like(activation)
        if seed == "contribution":
            told = activation * told
        return told.clamp(min=0)
    if seed == "activation":
        return activation
    if seed == "ones":
        return torch.ones_like(activation)
    flat = activation.flatten()
    kept = torch.zeros_like(flat)
    at = flat.argmax()
    kept[at] = flat[at]
    return kept.view(activation.shape)


def _axis(name: str, index: int, values: Tensor, sites: Mapping[str, Site]) -> int:
    """Return the channel axis of a site or of the output; refuse a channel that it does not have."""
    if name == OUTPUT:
        if 0 <= index < values.shape[1]:
            return 1
        raise LayerError(f"output unit {index} does not exist; expected 0 to {values.shape[1] - 1}")
    site = sites[name]
    if site.axis is None or not 0 <= index < site.channels:
        raise LayerError(f"channel {index} of layer {name!r} does not exist; expected 0 to {site.channels - 1}")
    return site.axis
