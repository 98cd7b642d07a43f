"""Drawing simple concepts on varied backgrounds: colours, edges, gratings and shapes, each with its mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from interpnet.support.types import Bools, Float64

_COLOURS = {
    "red": (0.85, 0.1, 0.1),
    "orange": (0.95, 0.55, 0.1),
    "yellow": (0.95, 0.9, 0.15),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.3, 0.85),
    "purple": (0.55, 0.2, 0.7),
    "white": (0.97, 0.97, 0.97),
    "black": (0.03, 0.03, 0.03),
}
# The angle across the lines, with y pointing down.
_ACROSS = {"vertical": 0.0, "rising": 45.0, "horizontal": 90.0, "falling": 135.0}
_WAVES = {"fine": (3.0, 40.0), "coarse": (7.0, 14.0)}  # pixels at least, and parts of the side
_SHAPES = ("disc", "square", "triangle", "star")
_JITTER = 7.0  # degrees
_STAR = 0.4  # radius of a star's inner corners, of its outer ones
_RADII = (0.12, 0.22)  # of what is drawn, of the shorter side
_TRIES = 50  # to find a free place
_SPOTS = 3  # in an image at most


class Spot(NamedTuple):
    """A place in an image, in pixels."""

    x: Float64  # (H, W) from its middle
    y: Float64
    radius: float


Draw = Callable[[Float64, Spot, int, np.random.Generator], Bools]


class Kind(NamedTuple):
    """A kind of concept: its names, and what draws the one of a number into an image (H, W, 3) and tells where."""

    concepts: tuple[str, ...]
    draw: Draw


def draw(kind: Kind, number: int, size: tuple[int, int], random: np.random.Generator) -> tuple[Float64, Bools]:
    """Return an image (H, W, 3) in [0, 1] and masks (H, W, K): of concept ``number`` mod K, and of up to two more."""
    image = background(size, random)
    masks = np.zeros((*size, len(kind.concepts)), dtype=bool)
    taken: list[tuple[float, float, float]] = []
    for at in range(_SPOTS):
        spot = _free(size, taken, random)
        if spot is None:
            break
        concept = number % len(kind.concepts) if at == 0 else int(random.integers(len(kind.concepts)))
        masks[..., concept] |= kind.draw(image, spot, concept, random)
    return np.clip(image, 0.0, 1.0), masks


def background(size: tuple[int, int], random: np.random.Generator) -> Float64:
    """Return a background (H, W, 3) without strong colours: flat, noisy, or with soft blobs."""
    image = np.broadcast_to(_muted(random), (*size, 3)).copy()
    kind = random.integers(3)
    if kind == 1:
        image += random.normal(0.0, 0.05, (*size, 1))
    if kind == 2:
        image += 0.12 * _blobs(size, random)[..., None]
    return np.clip(image, 0.0, 1.0)


def _muted(random: np.random.Generator) -> Float64:
    """Return a colour (3,) near some grey."""
    found: Float64 = random.uniform(0.25, 0.75) + random.uniform(-0.05, 0.05, 3)
    return found


def _blobs(size: tuple[int, int], random: np.random.Generator) -> Float64:
    """Return smooth noise (H, W) of about unit size: a few waves of all directions."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size)
    waves = random.normal(0.0, 2.0, (6, 2))
    phases = random.uniform(0.0, 2 * math.pi, 6)
    turned = 2 * math.pi * (waves[:, 0, None, None] * x + waves[:, 1, None, None] * y)
    found: Float64 = np.sin(turned + phases[:, None, None]).mean(0) * math.sqrt(6)
    return found


def _free(size: tuple[int, int], taken: list[tuple[float, float, float]], random: np.random.Generator) -> Spot | None:
    """Return a place that no other is near to; ``None`` where none was found."""
    side = min(size)
    for _ in range(_TRIES):
        radius = side * random.uniform(*_RADII)
        row, column = (random.uniform(radius, max(radius, n - radius)) for n in size)
        if all(math.hypot(row - r, column - c) > radius + other for r, c, other in taken):
            taken.append((row, column, radius))
            y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
            return Spot(x + 0.5 - column, y + 0.5 - row, radius)
    return None


def _across(spot: Spot, direction: str, random: np.random.Generator) -> tuple[Float64, Float64]:
    """Return how far pixels lie across lines of a direction, and along them."""
    angle = math.radians(_ACROSS[direction] + random.uniform(-_JITTER, _JITTER))
    return (
        spot.x * math.cos(angle) + spot.y * math.sin(angle),
        spot.y * math.cos(angle) - spot.x * math.sin(angle),
    )


def _colour(image: Float64, spot: Spot, concept: int, random: np.random.Generator) -> Bools:
    colour = np.array(list(_COLOURS.values())[concept])
    inside = shape(_SHAPES[random.integers(2)], spot, random)
    image[inside] = colour + random.uniform(-0.05, 0.05, 3)
    return inside


def _edge(image: Float64, spot: Spot, concept: int, random: np.random.Generator) -> Bools:
    """Add a step whose contrast fades with the distance from the middle, so that it has no other edge."""
    across, along = _across(spot, list(_ACROSS)[concept], random)
    contrast = random.uniform(0.25, 0.4) * random.choice([-1.0, 1.0])
    fading = np.exp(-2 * (across**2 + along**2) / spot.radius**2)
    image += (contrast * np.tanh(across) * fading)[..., None]
    wide = max(1.5, spot.radius / 10)
    found: Bools = (np.abs(across) <= wide) & (np.abs(along) <= 0.8 * spot.radius)
    return found


def _grating(image: Float64, spot: Spot, concept: int, random: np.random.Generator) -> Bools:
    wave = list(_WAVES)[concept // len(_ACROSS)]
    least, parts = _WAVES[wave]
    across, _ = _across(spot, list(_ACROSS)[concept % len(_ACROSS)], random)
    length = max(least, min(image.shape[:2]) / parts) * random.uniform(0.85, 1.15)
    inside = shape("disc", spot, random)
    waves = random.uniform(0.2, 0.35) * np.sin(2 * math.pi * across / length + random.uniform(0, 2 * math.pi))
    image[inside] += waves[inside, None]
    return inside


def _shape(image: Float64, spot: Spot, concept: int, random: np.random.Generator) -> Bools:
    inside = shape(_SHAPES[concept], spot, random)
    contrast = random.uniform(0.25, 0.4)
    dark = image[inside].mean() > 0.5
    image[inside] = _muted(random) * 0.2 + image[inside].mean() * 0.8 + (-contrast if dark else contrast)
    return inside


def shape(name: str, spot: Spot, random: np.random.Generator) -> Bools:
    """Return the pixels (H, W) of a shape of a spot's radius, turned at random."""
    distance = np.hypot(spot.x, spot.y) / spot.radius
    if name == "disc":
        return np.array(distance <= 1, dtype=bool)
    corners = {"triangle": 3, "square": 4, "star": 5}[name]
    part = math.pi / corners
    turned = (np.arctan2(spot.y, spot.x) + random.uniform(0, 2 * math.pi)) % (2 * part) - part
    if name == "star":
        # Below the line from an inner corner to an outer one.
        x = distance * np.cos(turned)
        y = distance * np.abs(np.sin(turned))
        tip = (math.cos(part), math.sin(part))
        return np.array((tip[0] - _STAR) * y - tip[1] * (x - _STAR) >= 0, dtype=bool)
    return np.array(distance * np.cos(turned) <= math.cos(part), dtype=bool)


#: By name, in the order of the categories.
KINDS = {
    "colours": Kind(tuple(_COLOURS), _colour),
    "edges": Kind(tuple(f"{direction} edge" for direction in _ACROSS), _edge),
    "gratings": Kind(tuple(f"{wave} {direction} grating" for wave in _WAVES for direction in _ACROSS), _grating),
    "shapes": Kind(_SHAPES, _shape),
}
