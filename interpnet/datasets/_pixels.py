"""Convert any decoded image or array to a tensor (C, H, W) of the channels that a network takes."""

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
INTEGER_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
LARGEST_8_BIT = 255
_LARGEST_16_BIT = 65535
_COLOUR_MODES = {1: "L", 3: "RGB"}
# Modes whose bands are inks or coordinates of colours.
_NO_BANDS = {"CMYK", "LAB", "HSV"}
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


def image_to_tensor(image: Image.Image, channels: int, max_value: float | None = None) -> Tensor:
    """Convert a Pillow image of any mode to (channels, H, W): uint8, or float32 in [0, 1].

    The EXIF orientation is applied. With 1 or 3 channels colours are mixed or grey is repeated, and transparency is
    dropped, as torchvision's loader does; with any other number the image must have so many bands, transparency
    included. ``max_value`` is the value of white: by default 255, in integer modes of more than 8 bits 65535 (Pillow's
    own conversion clips these at 255), and 1 for floats. A value above it is a ValueError.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in INTEGER_MODES or image.mode == "F":
        return fit_channels(scaled(np.asarray(image)[None], max_value, f"mode {image.mode}"), channels)
    if image.mode in {"P", "PA"} and "transparency" in image.info:
        # Straight to RGB, Pillow warns about a palette whose transparency is a table.
        image = image.convert("RGBA")
    pixels = array_to_tensor(np.array(_in_bands(image, channels))).contiguous()
    if max_value is None or max_value == LARGEST_8_BIT:
        return pixels
    if max_value > LARGEST_8_BIT:
        raise ValueError(
            f"it has 8 bits per channel, which end at 255; max_value {max_value:g} (--max-value) is for deeper images"
        )
    return scaled(pixels.numpy(), max_value, f"mode {image.mode}")


def _in_bands(image: Image.Image, channels: int) -> Image.Image:
    """Return the image in a mode of ``channels`` bands of 8 bits."""
    if channels in _COLOUR_MODES:
        return image.convert(_COLOUR_MODES[channels])
    plain = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB"}.get(image.mode)
    if plain is not None:
        image = image.convert(plain)
    if image.mode in _NO_BANDS:
        raise ValueError(f"it is of mode {image.mode}, expected {channels} bands")
    if len(image.getbands()) != channels:
        raise wrong_bands(len(image.getbands()), channels)
    return image


def scaled(pixels: np.ndarray, max_value: float | None, what: str) -> Tensor:
    """Return pixels (C, H, W) divided by the value of white, float32; a value outside [0, white] is a ValueError."""
    top = max_value
    if top is None:
        top = 1
        if np.issubdtype(pixels.dtype, np.integer):
            top = LARGEST_8_BIT if pixels.dtype.itemsize == 1 else _LARGEST_16_BIT
    unit = pixels.astype(np.float32) / np.float32(top)
    # Written so that NaN is refused too.
    if not (unit.min() >= 0 and unit.max() <= 1):
        raise ValueError(
            f"values outside [0, {top:g}] in an image of {what}; max_value (--max-value) says which value is white"
        )
    return torch.from_numpy(unit)


def fit_channels(pixels: Tensor, channels: int) -> Tensor:
    """Return the bands of a file (C, H, W) as a network wants them: only grey and colour are made of others."""
    if channels not in _COLOUR_MODES and pixels.shape[0] != channels:
        raise wrong_bands(pixels.shape[0], channels)
    return match_channels(pixels, channels)


def wrong_bands(have: int, channels: int) -> ValueError:
    return ValueError(f"it has {have} channels, expected {channels}; channels=N (--channels N) says how many to read")


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
    raise wrong_bands(have, channels)


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
