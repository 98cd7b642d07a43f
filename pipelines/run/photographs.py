"""Image files that a user names on the command line, read as the images of a run are."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from interpnet.datasets import ImageData
from interpnet.errors import DataError, did_you_mean

from .field import as_trained


def photographs(names: Sequence[str], like: ImageData) -> ImageData:
    """Return image files prepared as the images ``like`` are; where these were not resized, to their size.

    A file that does not exist is a :class:`DataError` that names close matches; one that is no image is said when it is
    read.
    """
    for name in names:
        _require_file(Path(name))
    return ImageData.from_files(names, spec="your images", **as_trained(like))


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(f"--image {str(path)!r} is a folder; name image files, --image once for each")
    if path.exists():
        raise DataError(f"--image {str(path)!r} is a pipe or device, expected an image file")
    siblings = [entry.name for entry in path.parent.glob("*")]
    raise DataError(f"--image {str(path)!r} does not exist{did_you_mean(path.name, siblings)}")


def stem(name: str) -> str:
    """Return a file name for an image's results: readable, safe, and different for every path."""
    path = Path(name)
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:40].strip("-") or "image"
    return f"{readable}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:6]}"
