"""Pictures as data URIs: scaled to what a page shows, in whichever of PNG and WebP is smaller."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from interpnet.plotting import tile

_GAP_GREY = 140  # between patches: visible on a white page and on a dark one
_PHOTOGRAPH = 0.3  # of its values are those of the pixel beside it, at most
_BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises for damaged files

Picture = npt.NDArray[np.uint8]


def strip(pictures: Sequence[Picture], columns: int | None = None) -> Picture:
    """Return pictures side by side, or in rows of ``columns``."""
    return tile(pictures, columns or len(pictures), pad=2, background=_GAP_GREY)


class Strip(NamedTuple):
    """Several pictures side by side."""

    source: str | None  # a data URI; None where none could be read
    n: int  # pictures in it


class Pictures:
    """Embeds the pictures of one folder, and remembers which were missing, damaged, or outside of it."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.missing: list[str] = []
        self._made: dict[tuple[object, ...], Strip] = {}

    def embed(self, name: str | None, size: int) -> str | None:
        """Return a data URI of a picture, its longer side at most ``size``; ``None`` where it cannot be read."""
        return self._once((name, size), [name], size, 1, grow=False).source

    def strip(self, names: Sequence[str], size: int, columns: int) -> Strip:
        """Return those of several pictures that can be read, side by side."""
        return self._once((*names, size, columns), names, size, columns, grow=True)

    def _once(
        self, key: tuple[object, ...], names: Sequence[str | None], size: int, columns: int, *, grow: bool
    ) -> Strip:
        """Return pictures as one data URI, made once: many channels are relevant to several classes."""
        if key not in self._made:
            read = [picture for name in names if (picture := self._read(name, size, grow=grow)) is not None]
            made = None
            if read:
                made = data_uri(strip(read, columns) if len(read) > 1 else read[0])
            self._made[key] = Strip(made, len(read))
        return self._made[key]

    def _read(self, name: str | None, size: int, *, grow: bool) -> Picture | None:
        from PIL import Image

        path = (self.base / str(name).replace("\0", "")).resolve()
        try:
            if name is None or not path.is_relative_to(self.base):
                raise FileNotFoundError
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except _BROKEN:
            self.missing.append(str(name))
            return None
        scale = size / max(image.size)
        if scale < 1 or (grow and scale > 1):
            shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            # Small pictures are enlarged pixel by pixel: nothing is shown that is not there.
            image = image.resize(shape, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
        return np.asarray(image, np.uint8)


def data_uri(picture: Picture) -> str:
    """Return a picture (h, w, 3) uint8 as a data URI, in whichever of PNG and WebP is smaller; with alpha as PNG.

    A picture whose neighbouring pixels hardly ever are equal is a photograph, of which a PNG is not tried. Where Pillow
    cannot write WebP it is JPEG.
    """
    from PIL import Image, features

    image = Image.fromarray(picture)
    options: dict[str, dict[str, Any]] = {"png": {}}
    if image.mode != "RGBA":
        lossy, how = (
            ("webp", {"quality": 80}) if features.check("webp") else ("jpeg", {"quality": 88, "subsampling": 0})
        )
        options[lossy] = how
        if picture.shape[1] > 1 and np.mean(picture[:, 1:] == picture[:, :-1]) < _PHOTOGRAPH:
            del options["png"]
    encoded = {}
    for kind, how in options.items():
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **how)
        encoded[kind] = buffer.getvalue()
    kind, data = min(encoded.items(), key=lambda entry: len(entry[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
