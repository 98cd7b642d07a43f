"""Where concepts are in images: what loaders give, checked, and brought to one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from interpnet.errors import DataError
from interpnet.support.checks import shown

#: Values of an index mask that name no concept: torch's usual one, and that of 8-bit files.
NO_CONCEPT = (-100, -1, 255)


@dataclass(frozen=True)
class Marks:
    """Of B images and K concepts: where each concept is, on a grid of the images' pixels."""

    masks: Tensor  # (B, K, h, w) bool; (B, K, 1, 1) where a concept is of the whole image

    @property
    def shares(self) -> Tensor:
        """(B, K) float64: the share of each image that each concept covers."""
        return self.masks.double().mean((2, 3))


def marks_of(given: Any, images: Tensor, concepts: tuple[str, ...], *, first: int, step: int) -> Marks:
    """Return where concepts are, of what stands beside ``images`` (B, C, H, W) in a loader.

    ``first`` is the number of the first image, for messages. Masks are taken at every ``step``-th pixel. Four forms:

    - (B, K, H, W) of bool or 0 and 1: a mask for each concept;
    - (B, H, W) of whole numbers: which concept each pixel shows; -100, -1 and 255 are none;
    - (B, K) of bool or 0 and 1: which concepts an image shows as a whole;
    - (B,) of whole numbers: which one concept an image shows; -100, -1 and 255 are none.

    Examples
    --------
    >>> images = torch.zeros(2, 3, 4, 4)
    >>> found = marks_of(torch.tensor([1, -1]), images, ("dots", "lines"), first=0, step=1)
    >>> found.masks[:, :, 0, 0].tolist()
    [[False, True], [False, False]]
    """
    marks = _tensor(given, first)
    n = len(images)
    k = len(concepts)
    size = tuple(images.shape[2:])
    shape = tuple(marks.shape)
    if not shape or shape[0] != n:
        raise DataError(f"masks: shape {shape} came with {n} images (from number {first}); expected one entry an image")
    if shape == (n, k, *size):
        return Marks(_sampled(_yes_or_no(marks, first), step))
    if shape == (n, *size):
        return Marks(_one_hot(_sampled(_indices(marks, concepts, first)[:, None], step)[:, 0], k))
    if shape == (n, k):
        return Marks(_yes_or_no(marks, first)[:, :, None, None])
    if shape == (n,):
        return Marks(_one_hot(_indices(marks, concepts, first), k)[:, :, None, None])
    raise DataError(
        f"masks: shape {shape} came with {n} images of {size[0]} x {size[1]} pixels and {k} concepts; expected "
        f"{(n, k, *size)} (a mask for each concept), {(n, *size)} (the concept's number at each pixel), {(n, k)} or "
        f"{(n,)} (of whole images). Masks of another size: resize and crop them in the loader as the images, with "
        "nearest-neighbour interpolation"
    )


def _tensor(given: Any, first: int) -> Tensor:
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if not isinstance(given, Tensor):
        raise DataError(
            f"masks: {shown(given)} came with the images from number {first}; expected a Tensor or an array beside the "
            "images of each batch"
        )
    return given.detach().cpu()


def _yes_or_no(marks: Tensor, first: int) -> Tensor:
    if marks.dtype == torch.bool:
        return marks
    wrong = (marks != 0) & (marks != 1)
    if bool(wrong.any()):
        at = int(torch.nonzero(wrong)[0, 0])
        raise DataError(
            f"masks: {float(marks[wrong][0]):g} came in image {first + at}; expected 0 and 1, one mask for each concept"
        )
    return marks.bool()


def _indices(marks: Tensor, concepts: tuple[str, ...], first: int) -> Tensor:
    if marks.dtype == torch.bool or marks.is_floating_point() or marks.is_complex():
        raise DataError(
            f"masks: {marks.dtype} of shape {tuple(marks.shape)} came; expected whole numbers, which concept each is, "
            f"or an axis of {len(concepts)} concepts"
        )
    numbers = marks.long()
    none = torch.zeros_like(numbers, dtype=torch.bool)
    for value in NO_CONCEPT:
        # A concept of that number is one.
        if not 0 <= value < len(concepts):
            none |= numbers == value
    wrong = ~none & ((numbers < 0) | (numbers >= len(concepts)))
    if bool(wrong.any()):
        at = int(torch.nonzero(wrong)[0, 0])
        raise DataError(
            f"masks: {int(numbers[wrong][0])} came in image {first + at}; expected 0 to {len(concepts) - 1}, the "
            f"number of a concept, or one of {', '.join(map(str, NO_CONCEPT))} where there is none"
        )
    return numbers.masked_fill(none, -1)


def _one_hot(numbers: Tensor, k: int) -> Tensor:
    """Return (B, K, ...) bool of numbers (B, ...), -1 for none."""
    concepts = torch.arange(k).view(1, k, *(1 for _ in numbers.shape[1:]))
    return numbers[:, None] == concepts


def _sampled(masks: Tensor, step: int) -> Tensor:
    """Return (B, K, h, w): every ``step``-th pixel, the middle one of each square."""
    if step == 1:
        return masks
    height, width = (max(1, n // step) for n in masks.shape[2:])
    kind = masks.dtype
    return functional.interpolate(masks.double(), size=(height, width), mode="nearest-exact").to(kind)
