"""The sites of a network: what can be read, edited or visualised, found by running it once.

docs/engine.md says how they are named, and which are taken by default.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interpnet.engine._call import tensors_in
from interpnet.engine._channels import ChannelIndex
from interpnet.engine._draws import Draws
from interpnet.engine._finite import check_weights
from interpnet.engine._forward import check_images
from interpnet.engine._function import FunctionCheck, probing
from interpnet.engine._graph import Graph, Node, active_site, doubts
from interpnet.engine._layout import Field
from interpnet.engine._logits import Output, logits_of, output_key
from interpnet.engine._probabilities import Probabilities
from interpnet.engine._readable import check_readable
from interpnet.engine._trace import Edit, Read, site_names
from interpnet.engine._unwrap import unwrap
from interpnet.engine._view import Seen, View, seen_as
from interpnet.engine._watched import told_apart, watched
from interpnet.errors import LayerError, ModelError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, instance_of, listed, text

Layers = str | nn.Module | Iterable[str | nn.Module]

#: Kinds that ``layers="all"`` takes; docs/method.md, section 1: the output of every layer.
LAYER_KINDS = frozenset({"conv", "linear", "norm", "rectifier", "activation", "pool"})


class SiteWarning(UserWarning):
    """A site that a selection would take but that cannot be used, with the reason."""


@dataclass(frozen=True)
class Site:
    """The output of one operator call."""

    # Stable and readable; see interpnet.engine.
    name: str
    # The module whose code made the call, the operator, and its kind: conv, linear, norm, rectifier, activation,
    # softmax, pool, add, mul, cat, attention (what a softmax gathers) or product (of two other maps).
    module: str
    op: str
    kind: str
    # The shape of the output without the batch axis.
    shape: tuple[int, ...]
    # The channel axis, counted with the batch axis, and the number of channels; None and 0 where it is not known.
    axis: int | None
    channels: int
    # "conv" or "linear": the nearest operator with weights before it; "" for none.
    family: str
    # For each spatial axis of the images: the axis of the site that moves along it, with the receptive field of its
    # positions; None where each sees the whole image.
    fields: tuple[tuple[int, Field] | None, ...]
    # The output only scales other maps (squeeze-and-excite).
    gate: bool
    # Part of the classifier's output: at or after the last operator with weights.
    output: bool
    # Taken by layers="default".
    default: bool
    # Why the site cannot be used, or "".
    why: str
    # The shape of a map over the image, () for none: that of rows and columns, also where each position sees the whole
    # image. Before them come ``lead`` positions that stand for no place, such as a class token.
    grid: tuple[int, ...] = ()
    lead: int = 0
    # How the operator's output is read and edited where the batch, rows, columns or channels share axes in it: shape
    # and axis are those of the view.
    view: View | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether channels of this site can be scored, ablated and visualised."""
        return not self.why

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Shape of one channel's activation map; ``()`` for a fully connected unit."""
        return tuple(s for a, s in enumerate(self.shape, start=1) if a != self.axis)

    def reading(self, read: Read) -> Read:
        """Return what an :class:`Instrument` calls so that ``read`` gets the output as this site has it."""
        return read if self.view is None else self.view.reading(read)

    def editing(self, edit: Edit) -> Edit:
        """Return what an :class:`Instrument` calls so that ``edit`` gets the output as this site has it."""
        return edit if self.view is None else self.view.editing(edit)

    def over_image(self, maps: Tensor) -> Tensor:
        """Return maps (B, channels, *grid) of the site's output; without a grid a :class:`LayerError`."""
        if not self.grid:
            raise LayerError(
                f"layer {self.name!r}: its map of shape {self.map_shape} does not lie over the image; choose a layer "
                "whose positions are rows and columns, or tokens that stand for them"
            )
        flat = maps.movedim(self.axis or 1, 1).flatten(2)
        own = flat[:, :, self.lead : self.lead + math.prod(self.grid)]
        return own.reshape(*own.shape[:2], *self.grid)

    def maps(self, out: Tensor) -> Tensor:
        """Return maps (B, channels, ...) of the site's output: those over the image where it has a grid, else all."""
        return self.over_image(out) if self.grid else out.movedim(self.axis or 1, 1)


@brief
@dataclass(frozen=True)
class Trace:
    """All sites of one network for one image shape, in the order of execution."""

    sites: tuple[Site, ...]
    image_shape: tuple[int, ...]
    n_outputs: int
    _modules: WeakKeyDictionary[nn.Module, str] = field(repr=False, compare=False, default_factory=WeakKeyDictionary)
    # Operators that look like activations written by hand, and were not recognised.
    doubts: tuple[str, ...] = field(repr=False, compare=False, default=())

    def __getitem__(self, name: str) -> Site:
        text(name, "the name of a layer", error=LayerError)
        for site in self.sites:
            if site.name == name:
                return site
        names = [s.name for s in self.sites]
        raise LayerError(
            f"unknown layer {name!r}{did_you_mean(name, names) or ';'} `interpnet layers MODEL` lists all {len(names)}"
        )

    def usable(self, name: str) -> Site:
        """Return the site called ``name``; an unknown or unusable one is a :class:`LayerError`."""
        site = self[name]
        if not site.usable:
            raise LayerError(f"layer {name!r} cannot be used: {site.why}")
        return site

    def index(self, layers: Layers = "default") -> ChannelIndex:
        """Return the channels of the selected sites, in order."""
        return channel_index(self.select(layers))

    def select(self, layers: Layers = "default") -> tuple[Site, ...]:
        """Return the sites that ``layers`` names, in the order of execution.

        Parameters
        ----------
        layers : str, module, or iterable of them
            ``"default"``: the post-activation maps of convolutional and fully connected layers,
            without gates and without the classifier's output. ``"conv"``: those of convolutional
            layers only. ``"all"``: the output of every convolution, linear map, norm, activation and
            pooling before the classifier's output (the paper's choice). ``"attention"``: what every
            attention gathers, before its last linear map; ``"heads"``: the same, each head one
            channel. Otherwise site names, glob
            patterns over site names, or the name of a module or a module itself, for the default
            sites inside it (its usable sites, if it has no default ones).

        Raises
        ------
        LayerError
            A name that matches nothing (close ones are named) or a site that cannot be used.
        """
        if isinstance(layers, str | nn.Module):
            layers = [layers]
        chosen: set[str] = set()
        for item in listed(layers, "layers", error=LayerError):
            instance_of(item, "a layer in layers", (str, nn.Module), error=LayerError)
            chosen.update(self._match(item))
        sites = tuple(s for s in self.sites if s.name in chosen)
        if not sites:
            raise LayerError(
                f"layers={layers!r} selects nothing; `interpnet layers MODEL` lists the {len(self.sites)} sites"
            )
        return sites

    def _match(self, item: str | nn.Module) -> list[str]:
        if isinstance(item, nn.Module):
            path = self._modules.get(item)
            if path is None:
                raise LayerError(f"layers: this {type(item).__name__} is not a part of the traced model")
            return self._inside(path) or self._nothing(path)
        usable = [s for s in self.sites if s.usable]
        # The choices of docs/method.md, section 1.
        if item == "default":
            lost = [f"{s.name} ({s.why})" for s in self.sites if s.default and not s.usable]
            if lost:
                more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
                message = f"left out of the default layers: {', '.join(lost[:4])}{more}"
                # The level of whoever called select().
                warnings.warn(message, SiteWarning, stacklevel=3)
            if self.doubts:
                names = ", ".join(self.doubts[:4])
                message = (
                    f"{names}: activations written by hand that are not recognised. The default layers leave them out, "
                    "or are the maps before them; use torch's own operators, or name the layers yourself"
                )
                warnings.warn(message, SiteWarning, stacklevel=3)
            return [s.name for s in usable if s.default]
        if item == "conv":
            return [s.name for s in usable if s.default and s.family == "conv"]
        if item == "all":
            return [s.name for s in usable if s.kind in LAYER_KINDS and not s.output and not s.gate]
        if item in {"attention", "heads"}:
            found = [s.name for s in usable if s.kind == "attention" and s.name.endswith("/heads") == (item == "heads")]
            return found or self._no_attention(item)
        if any(s.name == item for s in self.sites):
            return [self.usable(item).name]
        matched = [s.name for s in usable if fnmatchcase(s.name, item)]
        return matched or self._inside(item) or self._nothing(item)

    def _inside(self, path: str) -> list[str]:
        inside = [s for s in self.sites if s.usable and (s.module == path or s.module.startswith(f"{path}."))]
        return [s.name for s in inside if s.default] or [s.name for s in inside if not s.output]

    def _no_attention(self, item: str) -> NoReturn:
        why = "the network has no attention"
        if any(s.kind == "attention" for s in self.sites):
            why = "attention has one head" if item == "heads" else "its channels are not known"
        raise LayerError(f"layers={item!r} selects nothing: {why}; `interpnet layers MODEL` lists all sites")

    def _nothing(self, item: str) -> NoReturn:
        names = [s.name for s in self.sites] + [s.module for s in self.sites if s.module]
        raise LayerError(
            f"no layer matches {item!r}{did_you_mean(item, names) or ';'} `interpnet layers MODEL` lists all "
            f"{len(self.sites)}"
        )


def channel_index(sites: Iterable[Site]) -> ChannelIndex:
    """Return the channels of ``sites``, in their order."""
    return ChannelIndex(tuple((s.name, s.channels) for s in sites))


def find_sites(model: nn.Module, images: Tensor, *, output: Output | None = None, logits: bool = True) -> Trace:
    """Run ``model`` once on at most two of ``images`` and return its sites.

    Parameters
    ----------
    model : nn.Module
        In any mode; it runs in evaluation mode and is left as it was.
    images : Tensor (B, C, ...)
        A real batch: shapes, layouts and receptive fields are read off it.
    output : str, int or function, optional
        Which part of what the model returns are its logits (B, classes): a key or attribute, an index, or a function
        that takes what the model returns. One output z, (B, 1) or (B,), is a binary classifier with the logits
        (-z/2, z/2); :class:`interpnet.engine.OneColumn` leaves it one column.
    logits : bool
        Insist on (B, classes) logits; without, any output will do and ``n_outputs`` may be 0.

    Raises
    ------
    ModelError
        A model that is scripted, exported or quantised, whose output does not depend on the image alone, that returns
        no (B, classes) tensor, whose one output is a probability, or that has no operator that makes a site.
    DataError
        ``images`` that are no floating-point batch of images.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> [(s.name, s.kind, s.default) for s in find_sites(net, torch.zeros(1, 1, 5, 5)).sites]
    [('0', 'conv', False), ('1', 'rectifier', True), ('3', 'linear', False)]
    """
    check_kinds(find_sites, locals())
    model = unwrap(model)
    check_readable(model)
    # Two images are enough to tell the batch axis from the others.
    two = check_images(images)[:2].detach()

    def read(result: Any, batch: int) -> list[Tensor]:
        if logits:
            return [logits_of(result, batch, output)]
        return [t for t in tensors_in((result,)) if t.is_floating_point() and t.shape[:1] == (batch,)]

    draws = Draws()
    probabilities = Probabilities()
    with probing(model, two.device) as drawn:
        check = FunctionCheck(model, two, read, output_key(output))
        seen = watched(model, two, read, draws.observe, probabilities.observe)
        if logits:
            probabilities.check(model, two, seen.result, output)
        if not all(bool(torch.isfinite(t).all()) for t in seen.outputs):
            check_weights(model)
        check.finish(seen.outputs, draws, drawn=drawn())
        seen = told_apart(model, seen, read)
    n_outputs = 0
    if logits:
        n_outputs = int(seen.outputs[0].shape[1])
    graph = seen.graph
    graph.mark_gates()
    # Not from features that the network returns beside: what makes them would be no layer by default.
    graph.mark_output(seen.origins)
    graph.mark_parts(seen.results)
    sites = _sites(graph, seen.batch)
    if not sites:
        raise ModelError(
            "the model ran without a single convolution, linear map, activation or pooling that the engine "
            "could see; a model that runs outside of torch functions (ONNX, scripted, custom kernels) "
            "cannot be audited"
        )
    # Weak: a trace that is kept must not keep the network.
    modules = WeakKeyDictionary({m: n for n, m in model.named_modules()})
    return Trace(sites, tuple(images.shape[1:]), n_outputs, modules, doubts(graph))


def _sites(graph: Graph, images: Tensor) -> tuple[Site, ...]:
    """Return the sites of a graph, and decide which are taken by default."""
    # What a network makes of its own numbers alone is no map of an image.
    named = [n for n in graph.nodes if n.kind and not n.free]
    inner = [n for n in named if not n.gate and not n.output and not n.part]
    active = [n for n in inner if active_site(n)]
    # A network without activations: its convolutions and linear maps themselves.
    default = active or [n for n in inner if n.weighted]
    chosen = {id(n) for n in default}
    found = []
    for node in named:
        for heads in (False, True)[: 1 + (node.kind == "attention")]:
            seen = _seen(node, images, heads=heads)
            # Attention with one head has no channels by head.
            if seen is not None or not heads:
                found.append(_site(node, images, seen, default=id(node) in chosen, heads=heads))
    return tuple(found)


def _seen(node: Node, images: Tensor, *, heads: bool) -> Seen | None:
    """Return how a node's output is read; ``None`` for as it is, with nothing known but its layout."""
    if node.factors is None or not node.tensor:
        return None
    joined = node.kind == "attention" and not heads
    # Elsewhere a channel axis that is lost stays lost.
    if node.layout.axis is None and node.kind not in {"attention", "product", "softmax"}:
        return None
    return seen_as(node.factors, node.layout.axis, spatial=images.dim() - 2, heads=heads, joined=joined)


def _site(node: Node, images: Tensor, seen: Seen | None, *, default: bool, heads: bool) -> Site:
    axis = node.layout.axis
    shape = node.shape[1:]
    why = ""
    if seen is not None:
        axis = seen.axis
        shape = seen.shape
    if seen is None or seen.view is None:
        why = _why_unusable(node, images.shape[0])
    fields: list[tuple[int, Field] | None] = [None] * (images.dim() - 2)
    if seen is None or seen.view is None:
        for a, f in node.layout.fields.items():
            if a != axis and f.axis < len(fields):
                fields[f.axis] = (a, f)
    return Site(
        name=site_names(node.call.name, "product")[heads],
        module=node.call.module,
        op=node.call.op,
        kind=node.kind,
        shape=shape,
        axis=axis,
        channels=0 if axis is None or why else shape[axis - 1],
        family=node.family,
        fields=tuple(fields),
        gate=node.gate,
        output=node.output,
        default=default,
        why=why,
        grid=() if seen is None else seen.grid,
        lead=0 if seen is None else seen.lead,
        view=None if seen is None else seen.view,
    )


def _why_unusable(node: Node, batch: int) -> str:
    """Return why a node's channels cannot be read, ``""`` where they can."""
    if not node.tensor:
        return f"{node.call.op!r} returns several tensors"
    if len(node.shape) < 2 or node.shape[0] != batch:
        return f"its output {node.shape} has no batch axis in front (the batch has {batch} images)"
    if node.layout.axis is None:
        return f"its channel axis is not known: {node.layout.why or 'no operator set it'}"
    if node.layout.axis == 0:
        return "its channel axis is the batch axis"
    return ""
