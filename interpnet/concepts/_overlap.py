"""Counting, for every channel of a layer, the pixels above its threshold and those of each concept among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from interpnet.concepts._cells import cells

_HELD = 1 << 22  # pixels above a threshold, listed at once
#: Whole numbers below it float32 holds as they are.
EXACT = 1 << 24


@dataclass(frozen=True)
class Shown:
    """What each of P pixels of B images shows; P is 1 where concepts are of the whole image.

    B P is at most :data:`EXACT`.
    """

    own: Tensor  # (B, P, K) float32 of 0 and 1
    borrowed: Tensor  # (B, P, D K): in the masks of D other images
    groups: Tensor  # (B,): the groups that the images are in

    @classmethod
    def of(cls, masks: Tensor, others: Tensor, groups: Tensor) -> Shown:
        """Return it of masks (B, K, H, W) and others (B, D, K, H, W)."""
        own, borrowed = (
            part.transpose(1, 2).float().contiguous() for part in (masks.flatten(2), others.flatten(3).flatten(1, 2))
        )
        return cls(own, borrowed, groups)


class Overlap:
    """Counts of one layer's C channels in one category of K concepts; images are in G groups, by turns.

    With channel k above its threshold T_k after its map was enlarged to the grid of the masks, of every image:
    ``active`` (G, C) pixels above; ``shared`` (G, C, K) of them where the concept is; ``borrowed`` (D, C, K) of them
    where it is in another image, with D draws. A concept of the whole image is everywhere on the grid or nowhere.
    """

    def __init__(self, channels: int, concepts: int, groups: int, draws: int) -> None:
        self.active = torch.zeros(groups, channels, dtype=torch.int64)
        self.shared = torch.zeros(groups, channels, concepts, dtype=torch.int64)
        self.borrowed = torch.zeros(draws, channels, concepts, dtype=torch.int64)

    def add(self, maps: Tensor, limits: Tensor, shows: Shown, grid: tuple[int, int]) -> None:
        """Add B images: maps (B, C, h, w), and what their pixels show; ``grid`` is H and W of the masks' grid."""
        images, channels = maps.shape[:2]
        areas = torch.zeros(channels * images, dtype=torch.int64, device=maps.device)
        for of, pixel in _held(cells((maps.shape[2], maps.shape[3]), grid).above(maps, limits)):
            areas += torch.bincount(of, minlength=len(areas))
            if shows.own.shape[1] > 1:
                self._count(of, pixel, shows, channels)
        area = areas.view(channels, images).cpu()
        self.active.index_add_(0, shows.groups, area.T)
        if shows.own.shape[1] == 1:
            self.shared.index_add_(0, shows.groups, area.T[:, :, None] * shows.own.cpu().long())
            found = area.double() @ shows.borrowed[:, 0].cpu().double()
            self.borrowed += found.round().long().view(channels, *self.borrowed.shape[::2]).transpose(0, 1)

    def _count(self, of: Tensor, pixel: Tensor, shows: Shown, channels: int) -> None:
        """Add what listed pixels show, each of a channel's number times B and an image's."""
        images, pixels, concepts = shows.own.shape
        # Few pixels are above: adding up what these show takes a fifth of a product with all.
        pixel = pixel + (of % images).int() * pixels
        own, some = torch.unique_consecutive(of, return_counts=True)
        channel, image = own.div(images, rounding_mode="floor"), own % images
        found = _added(pixel, shows.own, some).round().long().cpu()
        groups = shows.groups[image.cpu()]
        self.shared.view(-1, concepts).index_add_(0, groups * channels + channel.cpu(), found)
        channel, which = torch.unique_consecutive(channel, return_inverse=True)
        some = torch.zeros_like(channel).index_add_(0, which, some)
        found = _added(pixel, shows.borrowed, some).round().long().cpu()
        self.borrowed[:, channel.cpu()] += found.view(len(channel), *self.borrowed.shape[::2]).transpose(0, 1)


def _added(pixel: Tensor, table: Tensor, counts: Tensor) -> Tensor:
    """Return sums (n, ...) of rows of a table (B, P, ...), of as many listed pixels each as the counts (n,) say."""
    starts = (counts.cumsum(0) - counts).int()
    return functional.embedding_bag(pixel, table.flatten(0, 1).to(pixel.device), starts, mode="sum")


def _held(parts: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield several parts in one."""
    held: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        held.append(part)
        if sum(len(of) for of, _ in held) > _HELD:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    of, pixel = zip(*parts, strict=True)
    return torch.cat(of), torch.cat(pixel)
