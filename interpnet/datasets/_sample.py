"""A look at a sample of the images: whether they use the range of their bits, and have bands that get dropped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from interpnet.datasets._decode import tiff_pixels
from interpnet.datasets._files import Encoded, UnknownTiffError, is_narrowed, is_planar, n_bands, open_image
from interpnet.datasets._pixels import INTEGER_MODES, READ_ERRORS
from interpnet.datasets._sources import EncodedSource
from interpnet.datasets._wrapped import DatasetSource
from interpnet.errors import DataError

_FILES = 32
_LARGEST = 65535
_SHARE_REFUSED = 1 / 8
_SHARE_NOTED = 1 / 4
_COMMON_WHITES = (255, 1023, 4095, 16383)
_UNREADABLE = (*READ_ERRORS, MemoryError, ArithmeticError, AssertionError, AttributeError, RuntimeError)
_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass
class _Seen:
    """What the sample showed."""

    files: int = 0
    banded: int = 0  # files whose transparency or further bands are dropped
    deep: int = 0  # images of 16 bits
    largest: int = 0  # of their values

    def add(self, largest: int) -> None:
        """Note the largest value of a 16-bit image."""
        self.deep += 1
        self.largest = max(self.largest, largest)


def look_into(source: EncodedSource, spec: str, channels: int) -> None:
    """Look at a sample of the files and add to the source's notes; 12-bit values in 16-bit files are a DataError.

    Files that cannot be read are passed over: whoever reads them gets the error.
    """
    seen = _Seen()
    for i in _spread(len(source.labels)):
        with suppress(*_UNREADABLE):
            _look_at_file(source.encoded(i), channels, seen)
    _check_range(seen, source, spec)
    if seen.banded:
        text = f"Of {seen.files} images looked at, {seen.banded} have transparency or further bands, which are dropped"
        source.notes += (f"{text}; --channels N keeps N bands.",)


def look_into_items(source: DatasetSource, spec: str) -> None:
    """As :func:`look_into`, of the 16-bit Pillow images in a wrapped data set; others are not read."""
    seen = _Seen()
    for i in _spread(len(source.labels)):
        image = None
        with suppress(*_UNREADABLE):
            image = source.image(i)
        if not isinstance(image, Image.Image) or image.mode not in INTEGER_MODES:
            return
        seen.add(int(np.asarray(image).max()))
    _check_range(seen, source, spec)


def _spread(n: int) -> list[int]:
    indices: list[int] = np.unique(np.linspace(0, max(n - 1, 0), min(_FILES, n)).astype(int)).tolist()
    return indices


def _look_at_file(encoded: Encoded, channels: int, seen: _Seen) -> None:
    try:
        with open_image(encoded) as image:
            seen.files += 1
            further = n_bands(image) > len(image.getbands())
            if channels in {1, 3} and (image.mode in _ALPHA or further):
                seen.banded += 1
            narrowed = is_narrowed(image)
            if not narrowed and image.mode not in INTEGER_MODES:
                return
            if not narrowed or not is_planar(image):
                largest = int(np.asarray(image).max())
                if narrowed and largest:
                    # Pillow keeps the upper 8 of 16 bits; the lower may be anything.
                    largest = largest * 256 + 255
                seen.add(largest)
                return
    except UnknownTiffError:
        pass
    pixels = tiff_pixels(encoded)
    if pixels.dtype == np.uint16:
        seen.add(int(pixels.max()))


def _check_range(seen: _Seen, source: EncodedSource | DatasetSource, spec: str) -> None:
    share = seen.largest / _LARGEST
    if source.max_value is not None or seen.largest == 0 or share >= _SHARE_NOTED:
        return
    white = min(value for value in (*_COMMON_WHITES, _LARGEST) if value >= seen.largest)
    text = (
        f"the 16-bit images of {spec!r} use only values up to {seen.largest} of {_LARGEST} ({share:.0%} of the range, "
        f"{seen.deep} images looked at)"
    )
    if share >= _SHARE_REFUSED:
        source.notes += (f"T{text[1:]}; if white is {white}, give --max-value {white}.",)
        return
    raise DataError(
        f"{text}, as those with fewer bits do: they would be nearly black. Give max_value={white} "
        f"(--max-value {white}), or max_value={_LARGEST} if they are as dark as that"
    )
