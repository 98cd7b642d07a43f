"""Where a backward signal starts, and with what values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.engine import Channel, Site
from interpnet.errors import InterpNetError, LayerError

SEEDS = ("activation", "ones", "maximum")


@dataclass(frozen=True, order=True)
class Unit:
    """An output unit of the network, a class before the softmax, to start a signal from.

    Its map is its logit. With ``seed="ones"`` the signal is that of the class as Simonyan, Zeiler & Fergus and
    Springenberg publish it; with the default it is scaled by the logit, its sign included.
    """

    index: int


#: One channel or output unit, or a set of them whose signals start together.
Start = Channel | Unit | Set[Channel | Unit]
Picks = Sequence[Sequence[Start]]

#: Stands for the network's output among the names of sites.
OUTPUT = ""


def places(start: Start) -> list[tuple[str, int]]:
    """Return (site, index) of everything in a start, the output's site being ``OUTPUT``.

    Examples
    --------
    >>> places({Channel("relu", 3)})
    [('relu', 3)]
    """
    members = sorted(start, key=repr) if isinstance(start, Set) else [start]
    if not members:
        raise InterpNetError("an empty set of channels came; expected at least one channel to start from")
    return [(OUTPUT, m.index) if isinstance(m, Unit) else (m.layer, m.index) for m in members]


def deepest_first(picks: Picks, order: Mapping[str, int]) -> list[list[int]]:
    """Return for each image the numbers of its starts, those of the latest site first.

    One backward pass costs as much as its deepest start, so starts of like depth share a pass.
    """
    last = len(order)

    def depth(start: Start) -> int:
        return max(order.get(name, last) for name, _ in places(start))

    falling = [[-depth(start) for start in row] for row in picks]
    return [sorted(range(len(row)), key=row.__getitem__) for row in falling]


def seeds_of(
    row: Sequence[Start | None], maps: Callable[[str], Tensor], sites: Mapping[str, Site], seed: str
) -> dict[str, Tensor]:
    """Return for every site in ``row`` (one start an image) the values its signal starts with, zero elsewhere.

    ``seed``: see :func:`seed_map`.
    """
    found: dict[str, Tensor] = {}
    for i, start in enumerate(row):
        for name, index in places(start) if start is not None else ():
            values = maps(name).detach()
            axis = _axis(sites.get(name), name, index, values)
            if name not in found:
                found[name] = torch.zeros_like(values)
            one = values[i].select(axis - 1, index)
            found[name][i].select(axis - 1, index).copy_(seed_map(one, seed))
    return found


def seed_map(activation: Tensor, seed: str) -> Tensor:
    """Return what a signal starts with at a channel's activation map (any shape).

    ``"activation"``: the map itself (Oramas et al. 2019), so the gradient is that of ``1/2 ||A||^2``; ``"ones"``: one
    everywhere, the gradient of the map's sum; ``"maximum"``: the map at its first maximum, zero elsewhere.

    Examples
    --------
    >>> seed_map(torch.tensor([2.0, 5.0, 5.0]), "maximum")
    tensor([0., 5., 0.])
    """
    if seed == "activation":
        return activation
    if seed == "ones":
        return torch.ones_like(activation)
    if seed == "maximum":
        flat = activation.flatten()
        kept = torch.zeros_like(flat)
        at = flat.argmax()
        kept[at] = flat[at]
        return kept.view(activation.shape)
    raise InterpNetError(f"seed={seed!r}; expected one of {', '.join(map(repr, SEEDS))}")


def _axis(site: Site | None, name: str, index: int, values: Tensor) -> int:
    """Return the channel axis of a site or of the output; refuse a channel that it does not have."""
    if name == OUTPUT:
        if not 0 <= index < values.shape[1]:
            raise LayerError(f"output unit {index} does not exist; expected 0 to {values.shape[1] - 1}")
        return 1
    if site is None or site.axis is None or not 0 <= index < site.channels:
        size = 0 if site is None else site.channels
        raise LayerError(f"channel {index} of layer {name!r} does not exist; expected 0 to {size - 1}")
    return site.axis
