"""Layers made random so that what runs through the network keeps its size, whatever the network's norms are.

Two things go wrong when a trained layer is simply initialised again. The statistics that batch normalisation has stored
are those of the old activations, so the new ones leave it far too large or too small, layer after layer; and in
networks without norms a framework's default initialisation shrinks the signal several times per layer, until biases are
all that is left. Maps of such a network differ because it is broken, not because the method reads its weights. So:

- weights are permuted (or drawn from a normal) with the layer's own mean and spread;
- a layer's scale is then set so that its outputs on the given images have the root mean square they had before;
- running statistics of batch norms above the lowest random layer are estimated again on the given images.

Sources: Mishkin & Matas 2016, All You Need Is a Good Init; Izmailov et al. 2018 and Jordan et al. 2023 (REPAIR), who
estimate the statistics again after averaging and permuting weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from interpnet.engine import Call, Instrument, forward, instrument, tensors_in
from interpnet.errors import DataError, ModelError
from interpnet.evaluate._checks import wide

HOW = ("permute", "normal")


@dataclass(frozen=True)
class WeightedLayer:
    """A layer to make random, with the norms that follow it."""

    name: str  # the module whose weights these are
    parameters: tuple[str, ...]  # their names, those of the norms after it among them
    scaled: tuple[str, ...]  # those that its output is proportional to; none unless a plain convolution or linear map
    site: str  # where that output is read; "" without ``scaled``
    at: int  # its place in the order of execution


@dataclass(frozen=True)
class Layers:
    """The weighted layers of a network in the order of execution."""

    layers: tuple[WeightedLayer, ...]
    norms: tuple[tuple[int, str], ...]  # its batch norms, with their places in that order
    unused: tuple[str, ...]  # parameters that the forward pass did not show


class _Uses:
    """Notes which call first used each parameter and each batch norm."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self._statistics = {
            id(m.running_mean): name
            for name, m in model.named_modules()
            if isinstance(m, _BatchNorm) and m.running_mean is not None
        }
        self.first: dict[str, int] = {}
        self.scaled: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.norms: dict[str, int] = {}
        self._calls = 0

    def observe(self, call: Call, _out: Any) -> None:
        self._calls += 1
        given = list(tensors_in((call.args, tuple(call.kwargs.values()))))
        names = [self._parameters[id(t)] for t in given if id(t) in self._parameters]
        for t in given:
            if id(t) in self._statistics:
                self.norms.setdefault(self._statistics[id(t)], self._calls)
        if call.kind in {"conv", "linear"} and len(names) == len(given) - 1 and names and names[0] not in self.first:
            self.scaled[names[0]] = (call.name, tuple(names))
        for name in names:
            self.first.setdefault(name, self._calls)


def weighted_layers(model: nn.Module, images: Tensor) -> Layers:
    """Return the layers of ``model`` as one forward pass meets them.

    A layer is a module that owns a parameter of two axes or more. Vectors of other modules (a norm's scale and shift,
    a PReLU's slope) go with the layer before them, or with the first.

    Raises
    ------
    ModelError
        The network has no such layer.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 2)).eval()
    >>> [(layer.name, len(layer.parameters)) for layer in weighted_layers(net, torch.zeros(1, 1, 5, 5)).layers]
    [('0', 4), ('3', 2)]
    """
    uses = _Uses(model)
    with torch.no_grad(), instrument(model, Instrument(observe=uses.observe)):
        forward(model, images[:2])
    parameters = dict(model.named_parameters())
    used = sorted(uses.first, key=lambda name: uses.first[name])
    owners = {_owner(name) for name in used if parameters[name].dim() > 1}
    if not owners:
        raise ModelError("the model has no layer with a matrix of weights that its forward pass would show")
    # A norm's scale and shift go with the layer below it, never as a stage of their own. They hold no pattern of the
    # image, yet permuting them alone, on a trained ResNet-20 with all convolutions intact, takes its predictions to
    # chance and the gradient's maps to a rank correlation of 0.2: such a stage breaks the network and says nothing.
    groups: dict[str, list[str]] = {}
    early: list[str] = []
    for name in used:
        if _owner(name) in owners:
            groups.setdefault(_owner(name), []).append(name)
        else:
            [early, *groups.values()][-1].append(name)
    groups[next(iter(groups))].extend(early)
    layers = []
    for owner, names in groups.items():
        site, scaled = next((uses.scaled[n] for n in names if n in uses.scaled), ("", ()))
        at = min(uses.first[n] for n in names if _owner(n) == owner)
        layers.append(WeightedLayer(owner or "(root)", tuple(names), scaled, site, at))
    unused = tuple(name for name in parameters if name not in uses.first)
    return Layers(tuple(layers), tuple((at, name) for name, at in uses.norms.items()), unused)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def redraw(model: nn.Module, layer: WeightedLayer, how: str, seed: int) -> None:
    """Make a layer's parameters random, in place; what one gets depends on the seed and its name alone.

    ``"permute"`` shuffles the entries of each tensor, so that its distribution stays to the last digit; ``"normal"``
    draws from the normal of its mean and standard deviation.
    """
    parameters = dict(model.named_parameters())
    for name in layer.parameters:
        data = parameters[name].data
        digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        flat = data.detach().cpu().flatten()
        if how == "permute":
            drawn = flat[torch.randperm(flat.numel(), generator=generator)]
        else:
            spread = flat.double().std(correction=0)
            drawn = torch.randn(flat.shape, generator=generator, dtype=torch.float64) * spread + flat.double().mean()
        data.copy_(drawn.view(data.shape))


def output_sizes(model: nn.Module, layers: Sequence[WeightedLayer], images: Tensor) -> dict[str, Tensor]:
    """Return the root mean square of each layer's output on the images, by site."""
    found: dict[str, Tensor] = {}

    def read(site: str, out: Tensor) -> None:
        found.setdefault(site, wide(out).square().mean().sqrt())

    reads = {layer.site: partial(read, layer.site) for layer in layers if layer.scaled}
    with torch.no_grad(), instrument(model, Instrument(reads=reads)):
        forward(model, images)
    return found


def settle(
    model: nn.Module, drawn: Sequence[WeightedLayer], norms: Sequence[str], sizes: Mapping[str, Tensor], images: Tensor
) -> None:
    """Scale the random layers and estimate the norms' statistics, in place and in one forward pass.

    Each layer sees what the layers before it, already settled, send it, so one pass settles all.

    Raises
    ------
    DataError
        A batch norm would see one value per channel.
    """
    parameters = dict(model.named_parameters())

    def scale(layer: WeightedLayer, out: Tensor) -> Tensor:
        now = wide(out).square().mean().sqrt()
        if not float(now) > 0:
            return out.clone()  # nothing comes through: no factor brings it back
        factor = float(sizes[layer.site] / now)
        for name in layer.scaled:
            parameters[name].data.mul_(factor)
        return out * factor

    edits = {layer.site: partial(scale, layer) for layer in drawn if layer.scaled}
    with torch.no_grad(), _estimating(model, norms), instrument(model, Instrument(edits=edits)):
        try:
            forward(model, images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise DataError(
                f"images: {images.shape[0]} came, too few to estimate a batch norm's statistics again ({error}); "
                "pass more images"
            ) from error


@contextmanager
def _estimating(model: nn.Module, norms: Sequence[str]) -> Iterator[None]:
    """Let batch norms take the statistics of what runs through them in the block."""
    modules = [m for m in map(model.get_submodule, norms) if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in modules]
    try:
        for m in modules:
            m.reset_running_stats()
            m.momentum = None  # the plain mean over all calls of the block
            m.training = True
        yield
    finally:
        for m, momentum in zip(modules, momenta, strict=True):
            m.training = False
            m.momentum = momentum
