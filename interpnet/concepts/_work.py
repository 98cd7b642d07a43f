"""The passes of a dissection: thresholds, then overlaps, of as many layers at once as memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.concepts._categories import Category
from interpnet.concepts._counts import GROUPS, Counted, Counts, overlap
from interpnet.concepts._overlap import EXACT, Overlap, Shown
from interpnet.concepts._tops import Tops
from interpnet.engine import Instrument, Output, Site, check_logits, forward_logits, instrument
from interpnet.errors import LayerError, ModelError

_MEMORY = 1 << 30  # bytes of counts, and of the values above the thresholds, held at once
_SHOWN = 1 << 28  # bytes of what the pixels of images show, of as many as run at once

Advance = Callable[[int], None]
Put = Callable[[Tensor], Tensor]


def with_maps(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Return sites whose maps lie over the image, or are one number; others are a :class:`LayerError`."""
    wrong = [site for site in sites if not site.usable or (site.map_shape and len(site.grid) != 2)]
    if wrong:
        reasons = [site.why or f"its map of shape {site.map_shape} does not lie over the image" for site in wrong]
        names = ", ".join(repr(site.name) for site in wrong[:4])
        raise LayerError(
            f"layers: {names} cannot be compared with masks: {reasons[0]}; leave {'it' if len(wrong) == 1 else 'them'} "
            "out of layers"
        )
    return tuple(sites)


def maps_of(out: Tensor, site: Site) -> Tensor:
    """Return a site's output as (B, C, h, w) in float32."""
    axis = site.axis
    if axis is None or out.dim() != len(site.shape) + 1 or out.shape[axis] != site.channels:
        raise ModelError(
            f"layer {site.name!r} had shape {site.shape} when it was traced and {tuple(out.shape[1:])} now; a network "
            "whose shape depends on its input cannot be dissected"
        )
    found = out.detach().float()
    return site.over_image(found) if site.map_shape else found[:, :, None, None]


def _peaks(maps: Tensor, site: Site) -> Tensor:
    """Return the largest value (B, C) of each map, or refuse what is not finite."""
    peaks = maps.amax((2, 3)).cpu()
    if not bool(peaks.isfinite().all()):
        raise ModelError(f"layer {site.name!r} holds NaN or infinity on the images; expected finite activations")
    return peaks


class Work:
    """The passes over all categories, for one network after the other."""

    def __init__(
        self,
        categories: Sequence[Category],
        sites: Sequence[Site],
        how: tuple[float, int, int, int],
        shape: tuple[int, ...],
        seed: int,
        max_batch: int,
        output: Output | None,
    ) -> None:
        self._categories = tuple(categories)
        self._quantile, step, self._draws, self._top = how
        self._grid = (max(1, shape[1] // step), max(1, shape[2] // step))
        self._seed = seed
        pixels = math.prod(self._grid)
        held = 4 * pixels * (1 + self._draws) * max(len(category.concepts) for category in categories)
        self._max_batch = max(1, min(max_batch, EXACT // pixels, _SHOWN // held))
        self._output = output
        self._n = sum(category.images for category in categories)
        self._turns = list(self._in_turns(sites))

    @property
    def images(self) -> int:
        """How many images all passes run."""
        return 2 * self._n * len(self._turns)

    def run(self, model: nn.Module, put: Put, advance: Advance) -> Counts:
        """Return the counts of a network."""
        parts = [self._turn(model, sites, put, advance) for sites in self._turns]
        return Counts(
            thresholds=np.concatenate([part.thresholds for part in parts]),
            top=np.concatenate([part.top for part in parts]),
            categories=tuple(map(Counted.joined, zip(*(part.categories for part in parts), strict=True))),
        )

    def _above(self, site: Site) -> int:
        return math.floor(self._quantile * self._n * math.prod(site.grid))

    def _in_turns(self, sites: Sequence[Site]) -> Iterator[tuple[Site, ...]]:
        """Yield sites in their order, as many at once as memory holds, one at least."""
        turn: list[Site] = []
        held = 0
        concepts = sum(len(category.concepts) for category in self._categories)
        for site in sites:
            size = site.channels * (16 * (self._above(site) + 1) + 8 * concepts * (GROUPS + self._draws))
            if turn and held + size > _MEMORY:
                yield tuple(turn)
                turn = []
                held = 0
            turn.append(site)
            held += size
        yield tuple(turn)

    def _turn(self, model: nn.Module, sites: tuple[Site, ...], put: Put, advance: Advance) -> Counts:
        tops = {site.name: Tops(site.channels, self._above(site)) for site in sites}
        firsts = {site.name: _Firsts(site.channels, self._top) for site in sites}
        past = 0
        for category in self._categories:
            for batch in category:

                def add(site: Site, maps: Tensor, start: int) -> None:
                    firsts[site.name].add(_peaks(maps, site), start)
                    tops[site.name].add(maps)

                self._forward(model, sites, batch.images, partial(_at, add, past + batch.first), put, advance)
            past += category.images
        limits = {name: one.limits() for name, one in tops.items()}
        tops.clear()
        return Counts(
            thresholds=torch.cat([limits[site.name] for site in sites]).numpy(),
            top=torch.cat([firsts[site.name].images for site in sites]).numpy(),
            categories=tuple(
                self._overlaps(number, model, sites, limits, put, advance) for number in range(len(self._categories))
            ),
        )

    def _overlaps(
        self,
        number: int,
        model: nn.Module,
        sites: tuple[Site, ...],
        limits: Mapping[str, Tensor],
        put: Put,
        advance: Advance,
    ) -> Counted:
        """Return the counts of one category."""
        category = self._categories[number]
        k = len(category.concepts)
        found = {site.name: Overlap(site.channels, k, GROUPS, self._draws) for site in sites}
        pixels = math.prod(self._grid)
        covered = torch.zeros(GROUPS, k, dtype=torch.int64)
        lent = torch.zeros(self._draws, k, dtype=torch.int64)
        draws = np.random.default_rng([self._seed, number])
        for batch in category:
            masks = batch.marks.masks
            n = len(masks)
            numbers = torch.arange(batch.first, batch.first + n)
            groups = torch.from_numpy(category.groups)[numbers] % GROUPS
            each = pixels // math.prod(masks.shape[2:])  # of the grid, where a concept is of the whole image
            covered.index_add_(0, groups, each * masks.sum((2, 3)))
            for start in range(0, n, self._max_batch):
                own = slice(start, start + self._max_batch)
                others = torch.stack([category.partners(i, draws, self._draws) for i in numbers[own].tolist()])
                lent += each * others.sum((0, 3, 4))
                shows = Shown.of(masks[own], others, groups[own])

                def add(site: Site, maps: Tensor, _start: int, shows: Shown = shows) -> None:
                    found[site.name].add(maps, limits[site.name].to(maps.device), shows, self._grid)

                self._forward(model, sites, batch.images[own], add, put, advance)
        active = torch.cat([found[site.name].active for site in sites], 1).numpy()
        shared = torch.cat([found[site.name].shared for site in sites], 1).numpy()
        borrowed = torch.cat([found[site.name].borrowed for site in sites], 1).numpy()
        overlaps = overlap(borrowed, active.sum(0)[None, :, None] + lent.numpy()[:, None])
        return Counted(active, shared, covered.numpy(), np.fmax.reduce(overlaps, axis=(0, 2)))

    def _forward(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        images: Tensor,
        add: Callable[[Site, Tensor, int], None],
        put: Put,
        advance: Advance,
    ) -> None:
        """Run images; ``add`` gets each site's maps with the position of the first image."""
        for start in range(0, len(images), self._max_batch):
            some = images[start : start + self._max_batch]
            ran: set[str] = set()

            def read(site: Site, out: Tensor, start: int = start, ran: set[str] = ran) -> None:
                ran.add(site.name)
                add(site, maps_of(out, site), start)

            reads = {site.name: site.reading(partial(read, site)) for site in sites}
            with torch.no_grad(), instrument(model, Instrument(reads=reads)):
                check_logits(forward_logits(model, put(some), self._output))
            missing = [site.name for site in sites if site.name not in ran]
            if missing:
                raise ModelError(f"layers {missing[:4]} did not run in this forward pass, though they did before")
            advance(len(some))


def _at(add: Callable[[Site, Tensor, int], None], offset: int, site: Site, maps: Tensor, start: int) -> None:
    add(site, maps, offset + start)


class _Firsts:
    """The images in which channels are largest, the largest first; of equal ones the earlier."""

    def __init__(self, channels: int, most: int) -> None:
        self._most = most
        self._values = torch.zeros(channels, 0)
        self.images = torch.zeros(channels, 0, dtype=torch.int64)

    def add(self, values: Tensor, start: int) -> None:
        """Take the largest value (B, C) of each image, the first of which has the number ``start``."""
        numbers = torch.arange(start, start + len(values)).expand(values.shape[1], -1)
        every = torch.cat([self._values, values.T], 1)
        images = torch.cat([self.images, numbers], 1)
        order = every.argsort(dim=1, descending=True, stable=True)[:, : self._most]
        self._values = every.gather(1, order)
        self.images = images.gather(1, order)
