"""A site as images see it: the batch in front, rows and columns along axes of their own, the channels last.

Transformers fold windows, heads and tokens into other axes; :mod:`interpnet.engine._factors` knows which. What is read
or edited is the same numbers in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from interpnet.engine._factors import Axes, Axis, Factor, size_of


@dataclass(frozen=True)
class View:
    """The order in which a tensor is read."""

    # The sizes of all digits of the tensor's positions, -1 for the batch, and their order in the view.
    digits: tuple[int, ...]
    order: tuple[int, ...]
    # The view's shape without the batch axis, and the axes along which it is rolled back, with by how much.
    shape: tuple[int, ...]
    rolls: tuple[tuple[int, int], ...]

    def of(self, out: Tensor) -> Tensor:
        """Return a site's output as (B, ...)."""
        seen = out.reshape(self.digits).permute(self.order).reshape(-1, *self.shape)
        for axis, by in self.rolls:
            seen = torch.roll(seen, by, axis)
        return seen

    def back(self, seen: Tensor, shape: Sequence[int]) -> Tensor:
        """Return what was (B, ...) in the ``shape`` of the site's output."""
        for axis, by in self.rolls:
            seen = torch.roll(seen, -by, axis)
        folded = seen.reshape([self.digits[i] for i in self.order])
        return folded.permute([self.order.index(i) for i in range(len(self.order))]).reshape(tuple(shape))

    def reading(self, read: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        """Return a function that reads a site's output as ``read`` reads the view."""
        return lambda out: read(self.of(out))

    def editing(self, edit: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return a function that edits a site's output as ``edit`` edits the view."""
        return lambda out: self.back(edit(self.of(out)), out.shape)


@dataclass(frozen=True)
class Seen:
    """What is known of a site by the factors of its axes."""

    # None where it is read as it is.
    view: View | None
    # Of the view: shape, channel axis with the batch axis counted, and number of channels.
    shape: tuple[int, ...]
    axis: int | None
    # The shape of a map over the image, () for none, and how many positions stand before it.
    grid: tuple[int, ...]
    lead: int


def seen_as(axes: Axes, axis: int | None, *, spatial: int, heads: bool = False, joined: bool = False) -> Seen | None:
    """Return how a site with these factors is read; ``None`` where its channels are not known.

    ``axis`` is its channel axis, None where that is lost; ``spatial`` the number of spatial axes of the images. With
    ``heads`` the channels are the heads of attention, with ``joined`` their features one after the other.
    """
    # Of each digit an object of its own: two may be equal.
    digits = [replace(f) for factors in axes for f in factors]
    if not (heads or joined) and axis is not None and _in_front(axes) and not _foldable(axes, axis, spatial):
        shape = tuple(map(size_of, axes[1:]))
        others = [factors for a, factors in enumerate(axes[1:], start=1) if a != axis]
        return Seen(None, shape, axis, *_grid(others, spatial))
    channels = _channels(digits, heads=heads)
    if not channels:
        return None
    places: list[Axis] = [*_rows_and_columns(digits, spatial)]
    placed = {id(f) for factors in (*places, channels) for f in factors}
    places += [(f,) for f in digits if id(f) not in placed and f.what != "batch"]
    batch = next(f for f in digits if f.what == "batch")
    ordered = [batch, *(f for factors in (*places, channels) for f in factors)]
    numbers = {id(f): i for i, f in enumerate(digits)}
    shape = tuple(map(size_of, (*places, channels)))
    view = View(
        digits=tuple(-1 if f is batch else f.size for f in digits),
        order=tuple(numbers[id(f)] for f in ordered),
        shape=shape,
        rolls=tuple(
            (a, p[0].rolled) for a, p in enumerate(places, start=1) if p[0].rolled and size_of(p) == p[0].whole
        ),
    )
    return Seen(view, shape, len(shape), *_grid(places, spatial))


def _in_front(axes: Axes) -> bool:
    return len(axes[0]) == 1 and axes[0][0].what == "batch"


def _foldable(axes: Axes, axis: int, spatial: int) -> bool:
    """Whether rows and columns are all there and share axes, so that a view gives each an axis of its own."""
    others = [factors for a, factors in enumerate(axes) if a not in (0, axis)]
    found = _rows_and_columns([f for factors in others for f in factors], spatial)
    whole_channels = all(f.what == "channel" for f in axes[axis])
    return bool(found) and whole_channels and any(factors not in others or factors[0].rolled for factors in found)


def _rows_and_columns(digits: Sequence[Factor], spatial: int) -> list[Axis]:
    """Return the digits of each spatial axis of the images, the slowest first; nothing where any is missing."""
    found = []
    for along in range(spatial):
        own = sorted((f for f in digits if f.what == "space" and f.along == along), key=lambda f: -f.stride)
        if not own or not _chained(own) or own[-1].stride != 1 or own[0].stride * own[0].size != own[0].whole:
            return []
        found.append(tuple(own))
    return found


def _chained(digits: Sequence[Factor]) -> bool:
    """Whether digits, the slowest first, are neighbours in one number."""
    return all(
        slow.stride == fast.stride * fast.size and (slow.whole, slow.rolled) == (fast.whole, fast.rolled)
        for slow, fast in pairwise(digits)
    )


def _channels(digits: Sequence[Factor], *, heads: bool) -> Axis:
    """Return the digits of the channels, the slowest first; with ``heads`` the slowest of several alone."""
    own = sorted((f for f in digits if f.what == "channel"), key=lambda f: -f.stride)
    if not _chained(own) or (heads and len(own) != 2):
        return ()
    return tuple(own[:1] if heads else own)


def _grid(places: Sequence[Axis], spatial: int) -> tuple[tuple[int, ...], int]:
    """Return the shape of the map over the image that positions make, and how many of them stand before it."""
    lead = 0
    if len(places) == 1 and len(places[0]) == 1 and places[0][0].what == "tokens":
        lead = places[0][0].before
        digits = list(places[0][0].inside)
        inner = _rows_and_columns(digits, spatial)
        # In reading order: what is inside is one number.
        if (
            not inner
            or tuple(f for factors in inner for f in factors) != tuple(digits)
            or any(f.rolled for f in digits)
        ):
            return (), 0
        return tuple(map(size_of, inner)), lead
    inner = _rows_and_columns([f for factors in places for f in factors], spatial)
    if not inner or [factors for factors in places if factors] != inner or len(places) != spatial:
        return (), 0
    return tuple(map(size_of, inner)), 0
