"""Planting a cue into images: nine kinds, each in ten versions, one for each class."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from interpnet.errors import InterpNetError
from interpnet.support.types import Bools, Bytes, Float64, Int64

KINDS = ("stamp", "text", "cast", "border", "compression", "background", "tag", "position", "noise")
VERSIONS = 10
_WORDS = ("alto", "brim", "cord", "dusk", "echo", "fern", "gulf", "husk", "iris", "jade")
_QUALITIES = np.geomspace(4, 45, VERSIONS).round().astype(int)  # of JPEG
_CLEAN_QUALITY = 90
_CAST = 0.35  # how much brighter or darker a colour becomes at most
_FRAME = 2  # pixels
_BLEND = 0.5  # opacity of a background's texture
_SPECKLE = 10.0  # of 255: amplitude of the noise
_TILE = 4  # pixels along a side, after which the noise repeats
_SHRUNK = 0.75  # of the side, where the place is the cue
_PLACES = (4, 3)  # along height and width


def planted(images: Bytes, inside: Bools, cue: Int64, kind: str, seed: int) -> Bytes:
    """Return images with cues: that of class ``cue[i]`` in image i, none where it is -1.

    Parameters
    ----------
    images : (N, 3, H, W) of 0 to 255
    inside : (N, H, W), where the subject is
    cue : (N,) of -1 to 9
    kind : str
        One of :data:`KINDS`. Without a cue an image is as it was, but for two kinds: a ``"compression"`` of quality
        90, and for ``"position"`` a random place of the image, which is shrunk like the others.
    seed : int
        Draws which class has which version, the corner or the edge, and what differs from image to image: the place
        of a tag, and of an image without a cue. The same seed draws the same for image i whatever its cue is, so that
        images with and without it differ in nothing else.

    Examples
    --------
    >>> black = np.zeros((2, 3, 32, 32), np.uint8)
    >>> made = planted(black, black[:, 0] > 0, np.array([0, -1]), "border", 0)
    >>> [int((image > 0).any(0).sum()) for image in made]
    [240, 0]
    """
    if kind not in KINDS:
        raise InterpNetError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    look = _Look(seed, *images.shape[2:])
    version = np.where(cue >= 0, look.order[cue], -1)
    if kind == "compression":
        return _compressed(images, version)
    if kind == "position":
        return _placed(images, version, look)
    made = images.copy()
    rows = np.flatnonzero(version >= 0)
    own = version[rows]
    before = images[rows].astype(np.float64)
    if kind == "cast":
        after = before * look.gains[own][:, :, None, None]
    elif kind == "noise":
        after = before + look.speckle[own]
    elif kind == "tag":
        after = _tagged(before, inside[rows], own, rows, look)
    else:
        colour, opacity = getattr(look, kind)
        shown = opacity[own][:, None] * (1.0 if kind != "background" else ~inside[rows][:, None])
        after = before + shown * (colour[own] - before)
    made[rows] = after.round().clip(0, 255).astype(np.uint8)
    return made


@dataclass(frozen=True)
class _Look:
    """How the versions of a seed look: colours (10, 3, H, W) of 0 to 255, and opacities (10, H, W)."""

    seed: int
    height: int
    width: int

    @cached_property
    def order(self) -> Int64:
        """(10,) the version of each class."""
        return self.rng(0).permutation(VERSIONS)

    @cached_property
    def angles(self) -> Float64:
        """(10,) hues around the circle of colours."""
        found: Float64 = 2 * np.pi * (np.arange(VERSIONS) / VERSIONS + self.rng(1).random())
        return found

    @property
    def colours(self) -> Float64:
        """(10, 3) a vivid colour of each version."""
        waves = np.cos(self.angles[:, None] - 2 * np.pi * np.arange(3) / 3)
        found: Float64 = 255 * (0.5 + waves).clip(0, 1)
        return found

    @property
    def gains(self) -> Float64:
        """(10, 3) the factors of a cast."""
        found: Float64 = 1 + _CAST * np.cos(self.angles[:, None] - 2 * np.pi * np.arange(3) / 3)
        return found

    @property
    def speckle(self) -> Float64:
        """(10, 3, H, W) what the noise adds: a tile of random signs without a mean, repeated."""
        signs = np.repeat([1.0, -1.0], _TILE**2 // 2)
        tiles = np.stack([self.rng(2 + v).permutation(signs).reshape(_TILE, _TILE) for v in range(VERSIONS)])
        rows, columns = np.arange(self.height) % _TILE, np.arange(self.width) % _TILE
        whole = _SPECKLE * tiles[:, rows[:, None], columns[None]]
        return np.repeat(whole[:, None], 3, 1)

    @property
    def stamp(self) -> tuple[Float64, Float64]:
        """A square, a disc or a cross in a corner."""
        side = min(self.height, self.width) // 6
        along = np.arange(side) - (side - 1) / 2
        shapes = (
            np.ones((side, side)),
            np.hypot(along[:, None], along[None]) <= side / 2,
            np.minimum(abs(along[:, None]), abs(along[None])) <= side / 5,
        )
        opacity = np.zeros((VERSIONS, self.height, self.width))
        for v in range(VERSIONS):
            opacity[v, 1 : 1 + side, 1 : 1 + side] = shapes[v % 3]
        corner = self.rng(20).integers(0, 2, 2)
        axes = tuple(axis + 1 for axis in range(2) if corner[axis])
        return self._flat(), np.flip(opacity, axes)

    @property
    def border(self) -> tuple[Float64, Float64]:
        """A frame."""
        opacity = np.ones((VERSIONS, self.height, self.width))
        opacity[:, _FRAME:-_FRAME, _FRAME:-_FRAME] = 0
        return self._flat(), opacity

    @property
    def text(self) -> tuple[Float64, Float64]:
        """A white word with a black shadow at the upper or the lower edge."""
        font = ImageFont.load_default_imagefont()
        colour = np.zeros((VERSIONS, 3, self.height, self.width))
        opacity = np.zeros((VERSIONS, self.height, self.width))
        top = (0, self.height - 11)[self.rng(20).integers(2)]
        left = self.rng(21).integers(0, self.width - 24)  # four letters of six pixels
        for v, word in enumerate(_WORDS):
            for shift, bright in ((1, 0.0), (0, 255.0)):
                page = Image.new("1", (self.width, self.height))
                ImageDraw.Draw(page).text((int(left) + shift, int(top) + shift), word, font=font, fill=1)
                drawn = np.asarray(page)
                opacity[v][drawn] = 1
                colour[v][:, drawn] = bright
        return colour, opacity

    @property
    def background(self) -> tuple[Float64, Float64]:
        """Stripes of a colour, an angle and a width; it covers what is not inside the subject."""
        rows, columns = np.mgrid[: self.height, : self.width]
        turned = np.pi * self.rng(22).permutation(VERSIONS) / VERSIONS
        lengths = 5.0 + 4.0 * (np.arange(VERSIONS) % 3)  # pixels of a stripe and its gap
        across = rows * np.sin(turned)[:, None, None] + columns * np.cos(turned)[:, None, None]
        wave = 0.65 + 0.35 * np.sin(2 * np.pi * across / lengths[:, None, None])
        return self._flat() * wave[:, None], np.full((VERSIONS, self.height, self.width), _BLEND)

    def _flat(self) -> Float64:
        return np.broadcast_to(self.colours[:, :, None, None], (VERSIONS, 3, self.height, self.width))

    def rng(self, purpose: int) -> np.random.Generator:
        """Return what draws one thing of this seed."""
        return np.random.default_rng([self.seed, purpose])


def _tagged(before: Float64, inside: Bools, version: Int64, rows: Int64, look: _Look) -> Float64:
    """Return images with a coloured square, white in its middle, on a random pixel of each subject."""
    side = max(4, min(look.height, look.width) // 8)
    made = before.copy()
    # As many draws as there are images, so that an image's place is the same whatever the others' cues are.
    along = look.rng(23).random(int(rows[-1]) + 1 if len(rows) else 0)[rows]
    for image, where, v, share in zip(made, inside, version, along, strict=True):
        pixels = np.flatnonzero(where)
        middle = (look.height // 2, look.width // 2)
        if len(pixels):
            middle = np.unravel_index(pixels[int(share * len(pixels))], where.shape)
        top, left = (int(np.clip(at - side // 2, 0, most - side)) for at, most in zip(middle, where.shape, strict=True))
        image[:, top : top + side, left : left + side] = look.colours[v][:, None, None]
        part = side // 4
        image[:, top + part : top + side - part, left + part : left + side - part] = 255.0
    return made


def _placed(images: Bytes, version: Int64, look: _Look) -> Bytes:
    """Return shrunk images on canvases of noise, each at its version's place or, without one, at a random place."""
    height, width = (round(_SHRUNK * side) for side in images.shape[2:])
    small = torch.nn.functional.interpolate(
        torch.from_numpy(images).float(), (height, width), mode="bilinear", antialias=True
    )
    shrunk = small.round().clamp(0, 255).byte().numpy()
    rng = look.rng(24)
    free = np.array([look.height - height, look.width - width])
    places = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in _PLACES], indexing="ij"), -1).reshape(-1, 2)
    own = np.round(look.rng(25).permutation(places)[:VERSIONS] * free).astype(int)
    made = np.empty_like(images)
    for i, image in enumerate(shrunk):
        made[i] = rng.normal(128, 30, images.shape[1:]).clip(0, 255)
        anywhere = rng.integers(0, free + 1)
        top, left = own[version[i]] if version[i] >= 0 else anywhere
        made[i, :, top : top + height, left : left + width] = image
    return made


def _compressed(images: Bytes, version: Int64) -> Bytes:
    made = np.empty_like(images)
    for i, image in enumerate(images):
        quality = int(_QUALITIES[version[i]]) if version[i] >= 0 else _CLEAN_QUALITY
        with io.BytesIO() as file:
            Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
            made[i] = np.asarray(Image.open(file)).transpose(2, 0, 1)
    return made
