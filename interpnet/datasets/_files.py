"""Image files: which formats are read, what counts as an image, and how one is opened."""

from __future__ import annotations

import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

# Pillow logs what it cannot read, as well as raising it; with no handler at all that goes to stderr, per image.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Pillow knows forty formats; those that nobody keeps photographs in have old parsers, and some start programs.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in text.split())


ENDINGS = _endings(
    "png apng jpg jpeg jpe jfif jif mpo gif bmp dib tif tiff webp ppm pgm pbm pnm pfm jp2 j2k jpx j2c avif"
)
# Beside images by right: labels, descriptions, code.
DOCUMENTS = _endings("txt csv tsv json jsonl xml yaml yml toml md rst html htm log ini cfg py ipynb sh pdf db")
# Other files are looked into, because images from the web have endings of all kinds; these cannot be read.
_UNREAD = _endings(
    "mat npy npz pkl pt pth h5 hdf5 zip tar gz tgz rar 7z doc docx xls xlsx mp4 avi mov mkv mp3 wav sqlite svg heic "
    "heif psd eps dcm nii raw cr2 nef arw dng"
)
# The first bytes of the formats above.
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_LONGEST_START = 16
SEVERAL = "it holds several frames or pages, expected one image; save the one that is meant as a file of its own"
REDUCED_OR_MASK = 0b101  # bits of a TIFF page's NewSubfileType
# Tags of TIFF 6.0.
_NEW_SUBFILE_TYPE = 254
_BITS_PER_SAMPLE = 258
_SAMPLES_PER_PIXEL = 277
_PLANAR_CONFIGURATION = 284
_KINDS = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISDIR: "a folder",
}


class UnknownTiffError(ValueError):
    """A TIFF whose kind of pixels Pillow does not know, such as five bands."""


#: An image as a file holds it: where the file is, or its bytes.
Encoded = Path | bytes


def opened(encoded: Encoded) -> Path | io.BytesIO:
    """Return an encoded image as what decoders open."""
    if isinstance(encoded, bytes):
        return io.BytesIO(encoded)
    return encoded


@contextmanager
def open_image(encoded: Encoded) -> Iterator[Image.Image]:
    """Open an image of a known format that holds one image; a ValueError or OSError says what else it is.

    Pages of a TIFF that are smaller copies or masks of the first do not count, nor do the further pictures of a
    camera's MPO file.
    """
    if _size(encoded) == 0:
        raise ValueError("the file is empty (0 bytes)")
    try:
        image = Image.open(opened(encoded), formats=_known_formats())
    except UnidentifiedImageError as error:
        raise _named(encoded) from error
    with image:
        require_one_image(image)
        yield image


@cache
def _known_formats() -> tuple[str, ...]:
    # Pillow refuses a name that this build of it does not know.
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _size(encoded: Encoded) -> int:
    """Return how many bytes there are; a ValueError for a path that is no file."""
    if isinstance(encoded, bytes):
        return len(encoded)
    status = encoded.stat()
    # Opening a pipe would wait for somebody to write to it.
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"it is no file but {_kind(status.st_mode)}")
    return status.st_size


def _kind(mode: int) -> str:
    for test, words in _KINDS.items():
        if test(mode):
            return words
    return "something else"


def _named(encoded: Encoded) -> UnidentifiedImageError | ValueError:
    """Return the error for a file that Pillow cannot identify, with the kind that its first bytes show."""
    start = _start_of(encoded)
    if start[4:8] == b"ftyp":
        return ValueError("it is a HEIC, AVIF or video file that Pillow cannot read; convert it to JPEG or PNG")
    if start.startswith(b"PK"):
        return ValueError("it is a ZIP archive")
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return UnknownTiffError("it is a TIFF of a kind that Pillow cannot read")
    return UnidentifiedImageError("it is no image of a known format")


def require_one_image(image: Image.Image) -> None:
    """Raise a ValueError for an animation or a file of several pages: which of them is meant, nobody has said."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF" and _full_pages(image) == 1:
        return
    raise ValueError(SEVERAL)


def _full_pages(image: Any) -> int:
    """Count the pages of a TIFF that are no smaller copies or masks, up to two."""
    full = 0
    for page in range(image.n_frames):
        image.seek(page)
        full += not int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & REDUCED_OR_MASK
        if full > 1:
            break
    image.seek(0)
    return full


def n_bands(image: Image.Image) -> int:
    """Return how many bands the file has; Pillow drops those of a TIFF that it has no name for."""
    tags = getattr(image, "tag_v2", {})
    return max(len(image.getbands()), int(tags.get(_SAMPLES_PER_PIXEL, 1)))


def is_narrowed(image: Image.Image) -> bool:
    """Whether a freshly opened file has 16 bits per colour, of which Pillow keeps the upper 8."""
    if image.mode in {"I", "F"} or "16" in image.mode:
        return False
    tags = getattr(image, "tag_v2", {})
    return max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8 or any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def is_planar(image: Image.Image) -> bool:
    """Whether a TIFF stores its bands one after another."""
    return int(getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION, 1)) > 1


def is_image(path: str, name: str) -> bool:
    """Whether a file counts as an image: by its ending, or else by its first bytes."""
    ending = ending_of(name)
    if ending in ENDINGS:
        return True
    if ending in DOCUMENTS or ending in _UNREAD:
        return False
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        start = _start_of(Path(path))
        if start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
            return True
        # Two letters are too few to tell a bitmap from a text.
        if not start.startswith((b"BM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")):
            return False
        with Image.open(path, formats=["BMP", "PPM"]):
            return True
    except (OSError, ValueError, SyntaxError):
        return False


def ending_of(name: str) -> str:
    """Return the ending of a file's name in small letters, with its dot; empty without one."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path takes longer, and there may be millions


def _start_of(encoded: Encoded) -> bytes:
    if isinstance(encoded, bytes):
        return encoded[:_LONGEST_START]
    with encoded.open("rb") as handle:
        return handle.read(_LONGEST_START)
