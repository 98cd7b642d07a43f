"""The images that a search for shortcuts looks at, with their labels and where their subjects are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import DataError
from interpnet.scores import Labels, Prepare, unpack
from interpnet.support.boxes import checked_boxes, inside_boxes
from interpnet.support.types import Float64, Int64

_SMALLEST = 8  # pixels a side


@dataclass(frozen=True)
class Sample:
    """N images of a loader."""

    pixels: Tensor  # (N, C, H, W) on the CPU
    labels: Int64  # (N,)
    indices: Int64  # (N,): their positions in the loader's order, or those that it names

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.pixels.shape[2], self.pixels.shape[3]


def sample_of(
    batches: Iterable[Any],
    known_as: Labels,
    quotas: Int64,
    *,
    inputs: str | None,
    labels: str | None,
    prepare: Prepare | None,
) -> Sample:
    """Return at most ``quotas`` (C,) images of each class, the first that come."""
    left = quotas.copy()
    pixels: list[Tensor] = []
    classes: list[Int64] = []
    indices: list[Int64] = []
    position = 0
    for raw in batches:
        batch = unpack(raw, inputs=inputs, labels=labels, prepare=prepare)
        n = len(batch.images)
        numbers = batch.indices
        if numbers is None:
            numbers = torch.arange(position, position + n)
        position += n + len(batch.skipped)
        if not n:
            continue
        shown = known_as.checked(batch.labels, n, numbers)
        if shown.dim() != 1:
            raise DataError(
                "targets (B, classes) came: an image can have several labels, and parts are exchanged between images "
                "of different classes; expected one class an image"
            )
        if pixels and pixels[0].shape[1:] != batch.images.shape[1:]:
            raise DataError(
                f"images of {tuple(pixels[0].shape[1:])} and of {tuple(batch.images.shape[1:])} came; expected images "
                "of one size, between which parts can be exchanged: resize or crop them in the loader"
            )
        taken = _taken(shown.numpy(), left)
        if len(taken):
            pixels.append(batch.images.detach()[torch.from_numpy(taken)].cpu())
            classes.append(shown.numpy()[taken].astype(np.int64))
            indices.append(numbers.cpu().numpy()[taken].astype(np.int64))
        if not left.any():
            break
    if not pixels:
        raise DataError("the loader yielded no image of any class; expected (images, labels) batches")
    sample = Sample(_joined(pixels), np.concatenate(classes), np.concatenate(indices))
    if sample.pixels.dim() != 4 or min(sample.pixels.shape[2:]) < _SMALLEST:
        raise DataError(
            f"images of shape {tuple(sample.pixels.shape[1:])} came; expected (channels, height, width) of at least "
            f"{_SMALLEST} pixels a side: in smaller ones there are no parts to exchange"
        )
    if len(np.unique(sample.labels)) < 2:
        raise DataError("the images are all of one class; parts are exchanged between images of at least two")
    return sample


def _joined(parts: list[Tensor]) -> Tensor:
    """Return parts as one tensor and empty the list: all images twice would be the most that a search holds."""
    whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _taken(labels: Int64, left: Int64) -> Int64:
    """Return which images of a batch are taken, and count ``left`` down."""
    taken = []
    for i, k in enumerate(labels):
        if left[k] > 0:
            left[k] -= 1
            taken.append(i)
    return np.array(taken, dtype=np.int64)


def subject_masks(boxes: Any, masks: Any, indices: Int64, shape: tuple[int, int]) -> Tensor | None:
    """Return (N, H, W) bool: where the subjects of the sampled images are; ``None`` where nobody says."""
    if boxes is not None and masks is not None:
        raise DataError("boxes and masks came; expected one of them: masks say more")
    if masks is not None:
        return _from_masks(masks, indices, shape)
    if boxes is not None:
        return _from_boxes(checked_boxes(boxes, "images of the loader"), indices, shape)
    return None


def _from_masks(masks: Any, indices: Int64, shape: tuple[int, int]) -> Tensor:
    masks = torch.from_numpy(masks) if isinstance(masks, np.ndarray) and masks.dtype == np.bool_ else masks
    if not isinstance(masks, Tensor):
        raise DataError(f"masks: a {type(masks).__name__} came; expected a Tensor or an array of bool")
    if masks.dtype != torch.bool or masks.dim() != 3 or tuple(masks.shape[1:]) != shape:
        raise DataError(
            f"masks: {masks.dtype} of shape {tuple(masks.shape)} came; expected bool (images of the loader, "
            f"{shape[0]}, {shape[1]}), one a image, of the size that the network sees"
        )
    _enough(len(masks), "masks", indices)
    return _with_both(masks[torch.from_numpy(indices)], "masks", indices)


def _from_boxes(boxes: Float64, indices: Int64, shape: tuple[int, int]) -> Tensor:
    _enough(len(boxes), "boxes", indices)
    return _with_both(torch.from_numpy(inside_boxes(boxes[indices], *shape)), "boxes", indices)


def _enough(n: int, name: str, indices: Int64) -> None:
    if n <= int(indices.max()):
        raise DataError(f"{name}: {n} came, and the loader's images reach number {int(indices.max())}; one for each")


def _with_both(inside: Tensor, name: str, indices: Int64) -> Tensor:
    """Return the masks, or refuse one that leaves no subject; one that leaves nothing around it exchanges nothing."""
    empty = ~inside.flatten(1).any(1)
    if bool(empty.any()):
        raise DataError(
            f"{name}: that of image {int(indices[int(empty.nonzero()[0])])} holds no pixel of the image, which may "
            "have been cropped; expected some"
        )
    return inside
