"""What is behind the plant: a wall, a table with a shadow, and the cues that can be painted on them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from interpnet.datasets._an8flower.exact import Draws, Vector, clamped, sincos, vectors
from interpnet.support.types import Bools, Float32

_GRID = 6
# Twelve values of a cue, light ones first: a data set of six classes uses the first six.
CUE_COLOURS = vectors(
    "0.76 0.40 0.36, 0.82 0.66 0.36, 0.50 0.66 0.38, 0.34 0.62 0.64, 0.42 0.50 0.76, 0.66 0.48 0.70,"
    "0.45 0.20 0.18, 0.50 0.37 0.16, 0.24 0.38 0.18, 0.12 0.34 0.37, 0.19 0.24 0.46, 0.36 0.21 0.40"
)
# The twelve signs of a watermark, side by side.
_SIGNS = """
..#.. .###. #...# ##### ..#.. #.#.# ##### #.... ##### .#.#. #...# ..#..
.##.. #...# .#.#. #...# .###. #.#.# ....# #.... ...#. ##### ##.## .#.#.
..#.. ..##. ..#.. #...# ##### ##### ..### #..#. ..#.. .#.#. #.#.# #...#
..#.. .#... .#.#. #...# ..#.. ..#.. ....# ##### .#... ##### #...# .#.#.
.###. ##### #...# ##### ..#.. ..#.. ##### ...#. #.... .#.#. #...# ..#..
"""
_PLATE = 0.19
_BALL = 0.07
# The twelve places of the ball, round the frame, where the plant hardly ever is.
_BALL_X = (0.09, 0.09, 0.91, 0.91, 0.09, 0.91, 0.09, 0.91, 0.09, 0.91, 0.25, 0.75)
_BALL_Y = (0.12, 0.55, 0.12, 0.55, 0.90, 0.90, 0.33, 0.33, 0.72, 0.72, 0.08, 0.08)


class Backdrop(NamedTuple):
    """A picture without its plant (3, H, W) in [0, 1], and where its cue is (H, W)."""

    pixels: Float32
    cue: Bools


class Place(NamedTuple):
    """Where the pot stands, in shares of the image's side: its foot's middle, and the foot's radius."""

    x: float
    y: float
    radius: float


def paint(draws: Draws, side: int, foot: Place, shortcut: str | None, value: int) -> Backdrop:
    """Paint wall, table and shadow from the image's own draws, and a cue of the given value on them."""
    # The order of the draws is part of the generator: another order would make other images.
    grey = draws.uniform(0.5, 0.86)
    wall: Vector = (grey + draws.uniform(-0.1, 0.1), grey + draws.uniform(-0.1, 0.1), grey + draws.uniform(-0.1, 0.1))
    slope = draws.uniform(-0.14, 0.14)
    ramp = draws.uniform(-0.14, 0.14)
    grey = draws.uniform(0.34, 0.72)
    warm = draws.uniform(-0.06, 0.12)
    table: Vector = (grey + warm, grey, grey - warm)
    horizon = foot.y - draws.uniform(0.05, 0.15)
    cloudy = draws.uniform(0.08, 0.2)
    grid = np.array([[draws.uniform(-1.0, 1.0) for _ in range(_GRID)] for _ in range(_GRID)], dtype=np.float32)
    # Drawn with or without a cue, so that the rest of the picture does not depend on it.
    jitter = [draws.uniform(-0.03, 0.03) for _ in range(3)]
    phase = draws.uniform(0.0, 1.0)
    if shortcut == "background":
        r, g, b = CUE_COLOURS[value]
        wall = (r + jitter[0], g + jitter[1], b + jitter[2])
    at = _steps(side)
    # How much of a row is table: a soft edge of two pixels.
    below = clamped((at - horizon) * (0.5 * side) + 0.5, 0.0, 1.0)
    rows = np.empty((3, side), dtype=np.float32)
    for channel in range(3):
        rows[channel] = (wall[channel] + slope * (at - 0.5)) * (1.0 - below) + table[channel] * below
    light = _smooth(grid, side) * cloudy + (1.0 + ramp * (at - 0.5))[None, :]
    light *= 1.0 - _shadow(at, foot)
    if shortcut == "texture":
        light += _stripes(at, value, phase) * (1.0 - below[:, None])
    pixels = rows[:, :, None] * light
    cue = np.zeros((side, side), dtype=np.bool_)
    # The wall carries these cues, not the table.
    if shortcut in {"background", "texture"}:
        cue[below < 0.5] = True
    elif shortcut == "watermark":
        _stamp(pixels, cue, value)
    elif shortcut == "position":
        _ball(pixels, cue, at, value, jitter)
    return Backdrop(pixels, cue)


# Cached, because every image of a data set has the same side.
@lru_cache(maxsize=8)
def _steps(side: int) -> Float32:
    """Return the pixels' middles in shares of the side."""
    return ((np.arange(side, dtype=np.float64) + 0.5) / side).astype(np.float32)


@lru_cache(maxsize=8)
def _between(side: int) -> tuple[np.ndarray, Float32]:
    """Return for each pixel the grid point before it, and how far it is towards the next, smoothed."""
    at = _steps(side) * (_GRID - 1.0)
    before = np.minimum(np.floor(at), _GRID - 2).astype(np.int64)
    part = at - before.astype(np.float32)
    return before, part * part * (3.0 - 2.0 * part)


def _smooth(grid: Float32, side: int) -> Float32:
    """Return the grid's values at all pixels (side, side), with smooth steps between."""
    before, part = _between(side)
    rows = grid[before] * (1.0 - part)[:, None] + grid[before + 1] * part[:, None]
    field: Float32 = rows[:, before] * (1.0 - part) + rows[:, before + 1] * part
    return field


def _shadow(at: Float32, foot: Place) -> Float32:
    """Return how dark the pot's shadow is, a soft ellipse."""
    x = (at - foot.x) * (1.0 / (1.55 * foot.radius))
    y = (at - foot.y) * (1.0 / (0.5 * foot.radius))
    return clamped(0.5 - ((x * x)[None, :] + (y * y)[:, None]) * 0.5, 0.0, 0.5)


def _stripes(at: Float32, value: int, phase: float) -> Float32:
    """Return stripes between -0.13 and 0.13: six directions, then the same at twice the width."""
    s, c = sincos((value % 6) / 12.0)
    stripes_per_side = (14.0, 7.0)[value // 6]
    wave = ((at * c)[None, :] + (at * s)[:, None]) * stripes_per_side + phase
    wave -= np.floor(wave)
    # A triangle wave: a sine may differ in its last bit between machines.
    stripes: Float32 = np.abs(wave - 0.5)
    stripes *= 0.52
    stripes -= 0.13
    return stripes


def _stamp(pixels: Float32, cue: Bools, value: int) -> None:
    """Paint a coloured plate with a pale sign in the lower right corner."""
    side = len(cue)
    # Seven dots per side, five of the sign and a rim; each dot has whole pixels, so that the sign stays sharp.
    dot = max(math.floor(side * _PLATE / 7.0 + 0.5), 1)
    low = side - 7 * dot - max(dot // 2, 1)
    plate = slice(low, low + 7 * dot)
    sign = np.zeros((7, 7), dtype=np.float32)
    sign[1:6, 1:6] = [[mark == "#" for mark in row.split()[value]] for row in _SIGNS.split("\n")[1:6]]
    large = sign.repeat(dot, 0).repeat(dot, 1)
    for channel, ink in zip(pixels[:, plate, plate], CUE_COLOURS[value], strict=True):
        channel[...] = channel * 0.2 + (ink + large * (0.95 - ink)) * 0.8
    cue[plate, plate] = True


def _ball(pixels: Float32, cue: Bools, at: Float32, value: int, jitter: list[float]) -> None:
    """Paint a grey ball at one of twelve places near the frame."""
    dx = (at - (_BALL_X[value] + 0.4 * jitter[0]))[None, :]
    dy = (at - (_BALL_Y[value] + 0.4 * jitter[1]))[:, None]
    square = dx * dx + dy * dy
    cover = clamped((_BALL - np.sqrt(square)) * len(at) + 0.5, 0.0, 1.0)
    # Lit from the upper left: a slope of brightness, and darker towards the rim.
    bright = (0.72 - (dx + dy) * 3.0) - square * 60.0
    pixels += (bright - pixels) * cover
    cue |= cover >= 0.5
