"""From an image file to a tensor: by Pillow, or where that drops bands or bits, by other decoders."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from interpnet.datasets._files import (
    REDUCED_OR_MASK,
    SEVERAL,
    Encoded,
    UnknownTiffError,
    is_narrowed,
    is_planar,
    n_bands,
    open_image,
    opened,
)
from interpnet.datasets._pixels import LARGEST_8_BIT, fit_channels, image_to_tensor, scaled, wrong_bands

_BANDS_OF_PILLOW = 4
_WITH_ALPHA = {2, 4}
_UPRIGHT = 1
_ORIENTATION = 274


def read_image(encoded: Encoded, channels: int, max_value: float | None = None) -> Tensor:
    """Decode an image as a file holds it to (channels, H, W): uint8, or float32 in [0, 1].

    ``max_value`` is the value of white, see :func:`image_to_tensor`. TIFFs of bands that Pillow has no names for, and
    with ``max_value`` colours of 16 bits, are read otherwise (tifffile). What cannot be read raises one of
    ``READ_ERRORS``.
    """
    try:
        return _read(encoded, channels, max_value)
    except (MemoryError, ArithmeticError, AssertionError, AttributeError, RuntimeError) as error:
        # Decoders raise these, too, on files that were damaged or made to harm.
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read(encoded: Encoded, channels: int, max_value: float | None) -> Tensor:
    try:
        with open_image(encoded) as image:
            bands = n_bands(image)
            dropped = bands > len(image.getbands())
            if dropped and (channels == bands or bands > _BANDS_OF_PILLOW):
                return _from_tiff(encoded, channels, max_value, exactly=True)
            if is_narrowed(image):
                # Pillow takes planes of 16 bits for planes of 8, twice as long.
                if image.format == "TIFF" and (is_planar(image) or channels not in {1, 3} or _beyond_8_bit(max_value)):
                    return _from_tiff(encoded, channels, max_value)
                if image.format == "PNG" and _beyond_8_bit(max_value):
                    return fit_channels(scaled(_png_pixels(encoded), max_value, "16 bits"), channels)
            return image_to_tensor(image, channels, max_value)
    except UnknownTiffError:
        return _from_tiff(encoded, channels, max_value, exactly=True)


def _beyond_8_bit(max_value: float | None) -> bool:
    return max_value is not None and max_value > LARGEST_8_BIT


def _png_pixels(encoded: Encoded) -> np.ndarray:
    """Return the pixels (C, H, W) of a PNG of 16 bits per colour."""
    with open_image(encoded) as image:
        upper = np.array(ImageOps.exif_transpose(image)).astype(np.uint16)
    with open_image(encoded) as image:
        # Read in the other order of bytes, the upper 8 bits that Pillow keeps are the lower ones.
        tiles: Any = image
        tiles.tile = [(*tile[:3], str(tile[3]).replace(";16B", ";16L")) for tile in tiles.tile]
        lower = np.array(ImageOps.exif_transpose(image))
    pixels: np.ndarray = np.moveaxis(upper * 256 + lower, -1, 0)
    return pixels


def _from_tiff(encoded: Encoded, channels: int, max_value: float | None, *, exactly: bool = False) -> Tensor:
    pixels = tiff_pixels(encoded)
    # Bands without names are no transparency that could be dropped.
    if exactly and len(pixels) in _WITH_ALPHA and len(pixels) != channels:
        raise wrong_bands(len(pixels), channels)
    if pixels.dtype == np.uint8 and max_value is None:
        return fit_channels(torch.from_numpy(pixels.copy()), channels)
    return fit_channels(scaled(pixels, max_value, "a TIFF"), channels)


def tiff_pixels(encoded: Encoded) -> np.ndarray:
    """Return the pixels (C, H, W) of a TIFF, as tifffile reads them."""
    try:
        tifffile = importlib.import_module("tifffile")
    except ImportError as error:
        raise ValueError(
            "it is a TIFF of more bands or bits than Pillow reads; install tifffile (pip install tifffile), "
            "or save it with at most 4 bands of 8 bits"
        ) from error
    try:
        with tifffile.TiffFile(opened(encoded)) as file:
            return _page(file)
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def _page(file: Any) -> np.ndarray:
    """Return the pixels (C, H, W) of a TIFF's only page."""
    page = file.pages[0]
    if sum(not int(getattr(other, "subfiletype", 0)) & REDUCED_OR_MASK for other in file.pages) > 1:
        raise ValueError(SEVERAL)
    if page.imagewidth * page.imagelength > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise ValueError(f"it claims {page.imagewidth}x{page.imagelength} pixels, more than can be read")
    turned = page.tags.get(_ORIENTATION)
    if turned is not None and turned.value != _UPRIGHT:
        raise ValueError("it is stored turned; save it upright")
    pixels: np.ndarray = page.asarray()
    if page.axes == "YX":
        return pixels[None]
    if page.axes == "YXS":
        return np.moveaxis(pixels, -1, 0)
    if page.axes == "SYX":
        return pixels
    raise ValueError(f"it is a TIFF of axes {page.axes}, expected rows, columns and bands")
