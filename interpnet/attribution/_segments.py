"""An image cut into segments, for methods that hide parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpnet.errors import InterpNetError
from interpnet.support.checks import whole_number
from interpnet.support.extras import require


@dataclass(frozen=True)
class Segments:
    """The segments of a batch of images."""

    cells: Tensor  # (B, H, W): each pixel's segment
    counts: tuple[int, ...]  # how many segments each image has


def image_segments(images: Tensor, kind: str | Tensor, cells: int) -> Segments:
    """Cut images (B, C, H, W) into segments numbered from 0 without gaps.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
    kind : {"grid", "superpixels"} or Tensor (H, W)
    cells : int
        Segments along each axis of a grid; its square is the number of superpixels asked for. An image that SLIC
        cannot cut gets the grid.

    Raises
    ------
    InterpNetError
        An unknown kind, a tensor of another shape, fewer than two segments, or scikit-image is missing.

    Examples
    --------
    >>> image_segments(torch.zeros(1, 3, 2, 4), "grid", 2).cells
    tensor([[[0, 0, 1, 1],
             [2, 2, 3, 3]]])
    """
    cells = whole_number(cells, "cells", least=1)
    if isinstance(kind, Tensor):
        found = _given(images, kind)
    elif kind == "grid":
        found = _grid(images, cells)
    elif kind == "superpixels":
        found = torch.stack([_superpixels(image, cells) for image in images])
        # Pure noise may leave SLIC with a single piece, which explains nothing; a grid then.
        single = found.amax((1, 2), keepdim=True) == 0
        found = torch.where(single, _grid(images, cells), found)
    else:
        raise InterpNetError(f"segments={kind!r}; expected 'grid', 'superpixels' or a tensor (H, W)")
    counts = tuple(int(c.max()) + 1 for c in found)
    if min(counts) < 2:
        raise InterpNetError("an image has a single segment; these methods compare two at least: ask for more cells")
    return Segments(found.to(images.device), counts)


def _grid(images: Tensor, cells: int) -> Tensor:
    height, width = images.shape[2:]
    rows, columns = (torch.arange(n) * min(cells, n) // n for n in (height, width))
    return (rows[:, None] * min(cells, width) + columns).expand(len(images), -1, -1)


def _given(images: Tensor, kind: Tensor) -> Tensor:
    if tuple(kind.shape) != tuple(images.shape[2:]) or kind.is_floating_point():
        raise InterpNetError(
            f"segments: shape {tuple(kind.shape)}, {kind.dtype} came; expected whole numbers of shape "
            f"{tuple(images.shape[2:])}"
        )
    # The user's numbers may have gaps and start anywhere.
    numbered: Tensor = torch.unique(kind.cpu(), return_inverse=True)[1]
    return numbered.expand(len(images), -1, -1)


def _superpixels(image: Tensor, cells: int) -> Tensor:
    """Return SLIC's segments (H, W) of one image, its values stretched to [0, 1]."""
    slic = require("skimage.segmentation", "method='lime'").slic
    low = image.amin()
    span = image.amax() - low
    picture = ((image - low) / torch.where(span > 0, span, torch.ones_like(span))).movedim(0, -1)
    # Lab colours reach 100, others 1; the weight of distances follows.
    colours: dict[str, Any] = {"convert2lab": False, "compactness": 0.3}
    if picture.shape[-1] == 3:
        colours = {"convert2lab": True, "compactness": 10}
    labels = slic(picture.cpu().double().numpy(), n_segments=cells**2, start_label=0, channel_axis=-1, **colours)
    numbered: Tensor = torch.unique(torch.as_tensor(labels).long(), return_inverse=True)[1]
    return numbered
