"""Reading contributions: at every site the map times the gradient that comes back to it, summed over positions.

Each gradient is used up by a hook as soon as the backward pass has made it, so that no gradient map is kept. The graph
begins at the first sites: neither the images nor the weights take a gradient. docs/method.md, section 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from interpnet.engine import ChannelIndex, Site, channel_index, nodes_before, times_written
from interpnet.errors import LayerError, ModelError
from interpnet.scores import channel_products
from interpnet.support.types import Float64

# Gradients are made this much larger on their way, a power of two, which changes no digit of them: where a network runs
# in float16, those below 6e-8 would be lost.
_SCALE = 256.0


class Products(NamedTuple):
    """Numbers of every channel for every image of a batch, both (B, m)."""

    # The sum over positions of activation times gradient, and of the gradient alone: less the reference times the
    # latter, the former is the contribution.
    activation: Tensor
    gradient: Tensor | None


class ContributionReader:
    """Read what the channels at given sites contribute to one number per image, in one forward and one backward pass.

    Run the network under ``Instrument(reads=reader.reads, edits=reader.edits)`` while gradients are recorded and its
    parameters take none, then call :meth:`take`. ``gradients`` asks for the sums of the gradient too, and ``maps`` for
    the gradient at every position, in :attr:`maps` by site.

    Examples
    --------
    >>> from torch import nn
    >>> from interpnet.engine import Instrument, evaluating, find_sites, instrument
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    >>> image = torch.ones(1, 1, 1, 1)
    >>> reader = ContributionReader(find_sites(net, image).select())
    >>> with evaluating(net, frozen=True), instrument(net, Instrument(reads=reader.reads, edits=reader.edits)):
    ...     logit = net(image)[:, 0]
    >>> bool(torch.isclose(reader.take(logit).activation.sum(), logit.sum()))
    True
    """

    def __init__(self, sites: Sequence[Site], *, gradients: bool = False, maps: bool = False) -> None:
        self.sites = tuple(sites)
        self.channels = channel_index(self.sites)
        self.reads = {site.name: site.reading(partial(self._read, site, _axis(site))) for site in self.sites}
        # At every site until the first pass has shown where the graph begins: an edit costs a copy where a network
        # works in place.
        self.edits = {site.name: site.editing(partial(self._edit, site.name, _axis(site))) for site in self.sites}
        # Sites whose maps a later operator overwrites, and those whose maps are views, written in place: the network
        # may go on with the whole, which no gradient of the view tells of.
        self.copies: set[str] = set()
        self._views = {site.name for site in self.sites if site.view is not None}
        self._gradients = gradients
        self._keeps_maps = maps
        self._starts: set[str] = set()
        self.clear()

    def clear(self) -> None:
        """Forget what a pass left behind, before another one."""
        self._anchor = torch.zeros((), requires_grad=True)
        self._seen: set[str] = set()
        self._products: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self.maps: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        # By site the node of the backward graph that made its map, and which output of it the map is.
        self._made: dict[str, GradientEdge] = {}
        self.overwritten: set[str] = set()
        self.views: set[str] = set()

    def _edit(self, name: str, axis: int, out: Tensor) -> Tensor:
        """Let the graph begin at a map that takes no gradient yet, and read views here."""
        if out._is_view() and (not out.requires_grad or name in self._views):  # noqa: SLF001
            out = out.clone()
        if not out.requires_grad:
            self._starts.add(name)
            begun: Tensor = _Begin.apply(out, self._anchor)
            out = begun
        if name in self._views and out.requires_grad:
            self._follow(name, axis, out)
        return out

    def _read(self, site: Site, axis: int, out: Tensor) -> None:
        if out.dim() <= axis or out.shape[axis] != site.channels:
            raise ModelError(
                f"layer {site.name!r} had {site.channels} channels when it was traced and has shape "
                f"{tuple(out.shape)} now; a network whose shape depends on its input cannot be read"
            )
        self._seen.add(site.name)
        # Where the network runs under no_grad, nothing comes back: silent() tells.
        if not out.requires_grad or site.name in self._views:
            return
        if out._is_view():  # noqa: SLF001
            self.views.add(site.name)
        self._follow(site.name, axis, out)

    def _follow(self, name: str, axis: int, out: Tensor) -> None:
        """Multiply a map with its gradient once that comes back."""
        # Without a graph of its own: the hook below would keep itself alive.
        kept = out.detach()
        if name in self.copies:
            kept = kept.clone()
        hook = partial(self._multiply, name, axis, kept, times_written(kept))
        self._handles.append(out.register_hook(hook))  # type: ignore[no-untyped-call]
        self._made[name] = get_gradient_edge(out)

    def _multiply(self, name: str, axis: int, kept: Tensor, version: int, gradient: Tensor) -> None:
        if times_written(kept) != version:
            self.overwritten.add(name)
        gradient = gradient.detach()
        self._products[name] = channel_products(kept, gradient, axis) / _SCALE
        if self._keeps_maps:
            self.maps[name] = gradient / _SCALE
        if self._gradients:
            axes = [a for a in range(1, gradient.dim()) if a != axis]
            sums = gradient.to(self._products[name].dtype) / _SCALE
            if axes:
                sums = sums.sum(axes)
            self._sums[name] = sums

    def settle(self) -> bool:
        """After a first pass and back: take the network as it ran then. Whether that needs another pass to be right."""
        again = bool(self.overwritten or self.views)
        self.copies |= self.overwritten
        self._views |= self.views
        self.edits = {name: edit for name, edit in self.edits.items() if name in self._starts | self._views}
        return again

    def send_back(self, values: Tensor, *, keep: bool = False, to: Tensor | None = None) -> Tensor | None:
        """Run the backward pass of ``values`` (B,); ``keep`` its graph for another one.

        Returns the gradient that comes ``to`` the images, which then take one; ``None`` where none does.
        """
        if not values.requires_grad:
            return None
        # A backward pass works in the types of its forward pass.
        with torch.autocast(values.device.type, enabled=False):
            return self._send_back(_SCALE * values.sum(), keep=keep, to=to)

    def _send_back(self, total: Tensor, *, keep: bool, to: Tensor | None) -> Tensor | None:
        ends = self._ends()
        if to is not None:
            ends = [*ends, to]
        try:
            gradients = torch.autograd.grad(total, ends, retain_graph=keep, allow_unused=True)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            what = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the network overwrites a map that its backward pass needs, so that no gradient exists ({what}); use "
                "operators that do not work in place"
            ) from error
        if to is None or gradients[-1] is None:
            return None
        return gradients[-1] / _SCALE

    def _ends(self) -> list[Any]:
        """Return where the backward pass may stop: at the first sites, behind which nothing is read."""
        if self._starts or not self._made:
            return [self._anchor]
        # The graph goes on to the images. The sites ran in this order, so that those before one are known.
        ends = []
        behind: set[Any] = set()
        for edge in self._made.values():
            if not any(node in behind for node in nodes_before(edge.node)):
                ends.append(edge)
                behind.add(edge.node)
        return ends

    def release(self) -> None:
        """Listen no longer: the graph may send other signals than the gradient."""
        for handle in self._handles:
            handle.remove()

    def silent(self) -> list[str]:
        """Return the sites that ran and that no gradient came back to."""
        return [name for name in self.reads if name in self._seen and name not in self._products]

    def take(self, values: Tensor | None = None, *, keep: bool = False) -> Products:
        """Return the products of the pass that just ran, after the backward pass of ``values`` (B,), if given.

        A site that no gradient comes back to has products of zero.
        """
        if values is not None:
            self.send_back(values, keep=keep)
        missing = [name for name in self.reads if name not in self._seen]
        if missing:
            raise ModelError(
                f"layers {missing[:4]} did not run in this forward pass; a network whose path depends on its input "
                "cannot be read"
            )
        parts = [self._products.get(site.name) for site in self.sites]
        known = next((p for p in parts if p is not None), None)
        if known is None:
            raise ModelError("no gradient came back to any of the layers")
        activation = self._joined(self._products, known)
        gradient = None
        if self._gradients:
            gradient = self._joined(self._sums, known)
        if keep:
            self._products = {}
            self._sums = {}
        else:
            self.clear()
        return Products(activation, gradient)

    def _joined(self, parts: dict[str, Tensor], like: Tensor) -> Tensor:
        zeros = [like.new_zeros(len(like), site.channels) for site in self.sites if site.name not in parts]
        missing = iter(zeros)
        return torch.cat([parts[s.name] if s.name in parts else next(missing) for s in self.sites], 1)


class _Begin(torch.autograd.Function):
    """The map itself, as the beginning of a graph: its gradient goes no further."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, _anchor: Tensor) -> Tensor:
        # So that it needs no copy, also where the network goes on to work in place.
        ctx.mark_dirty(out)
        return out

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> tuple[None, None]:
        return None, None


def _axis(site: Site) -> int:
    if site.axis is None:
        raise LayerError(f"layer {site.name!r} cannot be read: {site.why}")
    return site.axis


def not_finite(values: Float64, channels: ChannelIndex) -> tuple[int, str] | None:
    """Return the first row of values (B, m) that are not all finite, and the layer to look at; None where all are."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return None
    row = int(bad.any(1).argmax())
    # Gradients come from behind, so the last channel is the nearest to where they went wrong.
    return row, channels[int(np.flatnonzero(bad[row])[-1])].layer


def as_rows(values: Tensor) -> Float64:
    """Return numbers (B, m) of any device as float64."""
    rows: Float64 = values.detach().cpu().double().numpy()
    return rows
