"""From decoded pixels to a network's input and back: size, crop, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets._pixels import match_channels
from interpnet.errors import DataError
from interpnet.support.checks import is_number, is_whole, positive_number, whole_number

Size = tuple[int, int]
# An image one pixel wide, resized by its shorter side, can explode; nothing sensible is larger than this.
_MOST_PIXELS = 2**28
# Of pixels in [0, 1]; in units of 255, mean and std of any photographs are above these.
_LARGEST = {"mean": 2.0, "std": 5.0}


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded image becomes a network's input: ``(pixel - mean) / std`` of pixels in [0, 1]."""

    channels: int
    image_size: int | Size | None  # the shorter side after resizing, the aspect kept; or exactly (height, width)
    crop: Size | None  # height and width of the centre that is cut out after resizing
    mean: tuple[float, ...]  # one per channel, like std
    std: tuple[float, ...]
    max_value: float | None = None  # the value of white in files, where it is not the largest of their type

    def settings(self) -> dict[str, Any]:
        """Return what :func:`make_preprocessing` made it of; ``max_value`` only where it was given."""
        return {name: value for name, value in vars(self).items() if name != "max_value" or value is not None}

    def shape(self, pixels: Tensor) -> Tensor:
        """Channels, size and crop: (C, H, W) of any type to float32 (channels, H', W') in [0, 1].

        Where an image allows none of them, a ValueError says why.
        """
        pixels = match_channels(pixels, self.channels)
        if self.image_size is not None:
            pixels = _resize(pixels, self.image_size)
        if self.crop is not None:
            pixels = _centre(pixels, self.crop)
        unit = pixels.float()
        if pixels.is_floating_point():
            return unit
        return unit.div_(255)

    def place(self, mask: Tensor) -> Tensor:
        """Resize and crop a mask (H, W) of any type as :meth:`shape` its image, each pixel the nearest one's value."""
        from torchvision.transforms import InterpolationMode

        values = mask[None]
        if self.image_size is not None:
            values = _resize(values, self.image_size, InterpolationMode.NEAREST_EXACT)
        if self.crop is not None:
            values = _centre(values, self.crop)
        return values[0]

    def normalise(self, images: Tensor) -> Tensor:
        """(..., C, H, W) in [0, 1] to the network's input."""
        return (images - _column(self.mean, images)) / _column(self.std, images)

    def undo(self, images: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        return images * _column(self.std, images) + _column(self.mean, images)


def _column(values: tuple[float, ...], images: Tensor) -> Tensor:
    return torch.tensor(values, dtype=images.dtype).view(-1, 1, 1)


def make_preprocessing(
    *,
    channels: int,
    image_size: int | Sequence[int] | None,
    crop: int | Sequence[int] | None,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    max_value: float | None = None,
) -> Preprocessing:
    """Check a user's settings and complete them; a value of the wrong kind, count or range is a DataError.

    One number of ``mean`` or ``std`` serves all channels; with a resized shorter side and no ``crop``, the
    square centre is cut out so that images of any aspect make a batch.

    Examples
    --------
    >>> make_preprocessing(channels=3, image_size=32, crop=None, mean=0.5, std=(1, 2, 4)).crop
    (32, 32)
    """
    channels = whole_number(channels, "channels", least=1, error=DataError)
    room = _pair("image_size", image_size)
    cut = _pair("crop", crop)
    size: int | Size | None = room
    if room and is_whole(image_size):
        size = room[0]
        cut = cut or room
    if cut and room and (cut[0] > room[0] or cut[1] > room[1]):
        raise DataError(
            f"crop {crop!r} is larger than image_size {image_size!r}; give a crop that fits, or a larger image_size"
        )
    means = _per_channel("mean", mean, channels)
    stds = _per_channel("std", std, channels)
    if min(stds) <= 0:
        raise DataError(f"std is {stds}, expected positive numbers")
    if max_value is not None:
        max_value = positive_number(max_value, "max_value", error=DataError)
    return Preprocessing(channels, size, cut, means, stds, max_value)


def require_unit_range(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise a DataError where mean or std are those of pixels from 0 to 255: all images would become nearly equal."""
    for name, values in (("mean", mean), ("std", std)):
        if max(abs(value) for value in values) > _LARGEST[name]:
            shown = ",".join(f"{value / 255:.4g}" for value in values)
            raise DataError(
                f"{name} is {','.join(f'{value:g}' for value in values)}, expected values for pixels in [0, 1]; "
                f"divide it by 255, as mean and std of pixels from 0 to 255: {name}={shown} (--{name} {shown})"
            )


def _pair(name: str, value: int | Sequence[int] | None) -> Size | None:
    if value is None:
        return None
    sides: tuple[Any, ...] = (value, value)
    if isinstance(value, Sequence):
        sides = tuple(value)
    if len(sides) != 2 or not all(is_whole(side) and side > 0 for side in sides):
        raise DataError(f"{name} is {value!r}, expected a positive whole number or a pair (height, width)")
    return int(sides[0]), int(sides[1])


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    try:
        # Numbers one by one: a nested list must not be flattened.
        given = list(np.atleast_1d(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} is {value!r}, expected numbers") from error
    if not all(is_number(number) for number in given):
        raise DataError(f"{name} is {value!r}, expected numbers")
    numbers = tuple(map(float, given))
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels or not all(math.isfinite(number) for number in numbers):
        raise DataError(f"{name} is {value!r}, expected one finite number, or one for each of {channels} channels")
    return numbers


def _resize(pixels: Tensor, size: int | tuple[int, ...], mode: Any = None) -> Tensor:
    """Resize, by default bilinear; ``mode`` is torchvision's."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    height, width = pixels.shape[-2:]
    if isinstance(size, int):
        scale = size / min(height, width)
        if height * scale * width * scale > _MOST_PIXELS:
            raise ValueError(f"at {height}x{width} pixels it is too narrow to resize its shorter side to {size}")
        # One number is the shorter side to torchvision, too.
        size = (size,)
    resized: Tensor = functional.resize(pixels, list(size), mode or InterpolationMode.BILINEAR, antialias=mode is None)
    return resized


def _centre(pixels: Tensor, crop: Size) -> Tensor:
    from torchvision.transforms.v2 import functional

    height, width = pixels.shape[-2:]
    if crop[0] > height or crop[1] > width:
        raise ValueError(
            f"at {height}x{width} pixels it is smaller than the crop {crop[0]}x{crop[1]}; "
            "give image_size (--image-size)"
        )
    # Not a crop of our own: networks see what they were trained on, to the pixel.
    cut: Tensor = functional.center_crop(pixels, list(crop))
    return cut
