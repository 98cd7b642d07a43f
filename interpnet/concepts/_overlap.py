"""Counting, for every channel of a layer, the pixels above its threshold and those of each concept among them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK = 1 << 24  # pixels of maps enlarged at once


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

    def add(self, maps: Tensor, limits: Tensor, shows: Tensor, groups: Tensor, grid: list[int]) -> None:
        """Add B images: maps (B, C, h, w), what their pixels show, see :func:`shown`, and the groups (B,) they are in.

        ``grid`` is H and W of the masks' grid.
        """
        n = len(maps)
        # What is enlarged lies between the values around it, so that other channels have nothing above.
        image, channel = torch.nonzero(maps.amax((2, 3)) > limits, as_tuple=True)
        counts = torch.bincount(image, minlength=n)
        most = max(1, _CHUNK // (grid[0] * grid[1]))
        for i, channels in _split(channel, counts, most):
            above = _enlarged(maps[i, channels], grid) > limits[channels, None, None]
            # Few pixels are: adding up what these show takes a fifth of a product with all.
            row, pixel = torch.nonzero(above.flatten(1), as_tuple=True)
            area = torch.bincount(row, minlength=len(channels))
            here = shows[i].to(maps.device).float()
            if len(here) == 1:
                found = area[:, None] * here
            else:
                found = functional.embedding_bag(pixel, here, area.cumsum(0) - area, mode="sum")
            # Whole numbers below 2^24, which float32 holds as they are.
            whole = found.round().long().cpu().view(len(channels), -1, self.shared.shape[2])
            where = channels.cpu()
            group = int(groups[i])
            self.active[group, where] += area.cpu()
            self.shared[group, where] += whole[:, 0]
            self.borrowed[:, where] += whole[:, 1:].transpose(0, 1)


def shown(masks: Tensor, others: Tensor) -> Tensor:
    """Return (B, P, (1 + D) K) bool: what each pixel of the grid shows in the image's masks, then in the borrowed ones.

    Of masks (B, K, H, W) and others (B, D, K, H, W); P is 1 where concepts are of the whole image.
    """
    return torch.cat([masks[:, None], others], 1).flatten(1, 2).flatten(2).transpose(1, 2).contiguous()


def _split(channel: Tensor, counts: Tensor, most: int) -> list[tuple[int, Tensor]]:
    """Return (image, channels) of at most ``most`` channels each, of channels listed image after image."""
    found = []
    for i, own in enumerate(torch.split(channel, counts.tolist())):
        found += [(i, part) for part in torch.split(own, most) if len(part)]
    return found


def _enlarged(maps: Tensor, grid: list[int]) -> Tensor:
    """Return maps (n, h, w) enlarged to a grid (n, H, W), between the values around."""
    return functional.interpolate(maps[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0]
