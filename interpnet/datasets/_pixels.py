"""Decode any image file or array to a tensor (C, H, W) of 1 or 3 channels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from interpnet.errors import DataError

# Pillow's decoders raise all of these on damaged files; a bomb is an image too large to be honest.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_INTEGER_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
_LARGEST_16_BIT = 65535
# ITU-R 601-2, the weights Pillow and torchvision make a grey image with.
_LUMA = (0.299, 0.587, 0.114)


class BadImageError(DataError):
    """One image that cannot be read: its ``index`` and ``name`` in the data set, and the ``reason``."""

    def __init__(self, index: int, name: str, reason: str) -> None:
        super().__init__(
            f"image {name!r} cannot be read: {reason}. Repair or remove it, "
            "or use on_bad_image='skip' (--on-bad-image skip) to leave such images out and have them listed"
        )
        self.index = index
        self.name = name
        self.reason = reason


def reason_of(error: Exception) -> str:
    """Say in a few words why an image could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError | ValueError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def image_to_tensor(image: Image.Image, channels: int) -> Tensor:
    """Convert a Pillow image of any mode to (channels, H, W), of 1 or 3 channels: uint8, or float32 in [0, 1].

    The EXIF orientation is applied. Transparency is dropped, as torchvision's loader does. Integer modes of
    more than 8 bits are divided by 65535 instead of being clipped at 255 as Pillow's own conversion does.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in _INTEGER_MODES or image.mode == "F":
        top = 1 if image.mode == "F" else _LARGEST_16_BIT
        deep = np.asarray(image).astype(np.float32) / np.float32(top)
        # Written so that NaN is refused too.
        if not (deep.min() >= 0 and deep.max() <= 1):
            raise ValueError(f"values outside [0, {top}] in an image of mode {image.mode}")
        return match_channels(torch.from_numpy(deep).unsqueeze(0), channels)
    if image.mode in {"P", "PA"} and "transparency" in image.info:
        # Straight to RGB, Pillow warns about a palette whose transparency is a table.
        image = image.convert("RGBA")
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return array_to_tensor(pixels).contiguous()


def match_channels(pixels: Tensor, channels: int) -> Tensor:
    """Return ``pixels`` (C, H, W) with ``channels`` channels: grey repeated, colours mixed, alpha dropped."""
    have = pixels.shape[0]
    if have == channels:
        return pixels
    # Two channels are grey and alpha, four are colours and alpha.
    if channels in {1, 3} and have in {2, 4}:
        return match_channels(pixels[: have - 1], channels)
    if have == 1:
        return pixels.expand(channels, -1, -1)
    if have == 3 and channels == 1:
        weights = torch.tensor(_LUMA).view(3, 1, 1)
        grey = (pixels.float() * weights).sum(0, keepdim=True)
        return grey if pixels.is_floating_point() else grey.round().to(pixels.dtype)
    raise ValueError(f"it has {have} channels, expected {channels}")


def array_to_tensor(pixels: np.ndarray | Tensor) -> Tensor:
    """Return raw pixels as (C, H, W): an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W)."""
    if isinstance(pixels, Tensor):
        tensor = pixels
    else:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels))
        if tensor.dim() != 2:
            tensor = tensor.movedim(-1, 0)
    if tensor.dim() == 2:
        return tensor.unsqueeze(0)
    if tensor.dim() != 3:
        raise ValueError(f"it has shape {tuple(pixels.shape)}, expected two or three axes")
    return tensor
