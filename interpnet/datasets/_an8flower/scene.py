"""One picture of an8Flower: an individual seen by a camera before a backdrop, and what each pixel shows.

Light, camera, place, backdrop and noise come from the image's own draws, which know neither its class nor its cue; the
class chooses two colours, the cue one more thing outside the plant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from interpnet.datasets._an8flower.backdrop import CUE_COLOURS, Place, paint
from interpnet.datasets._an8flower.exact import Draws, Vector, clamped, cross, mix, sincos, unit, vectors
from interpnet.datasets._an8flower.options import COLOURS, GENERATOR, FlowerOptions, azimuth_of, base_split, draw_cue
from interpnet.datasets._an8flower.plant import CENTRE, LEAVES, PETALS, POT, POT_DEPTH, POT_FOOT, SOIL, STEM, plant
from interpnet.datasets._an8flower.render import Buffers, Camera, Thing, draw
from interpnet.support.types import Bools, Bytes, Float32

# Bits of a pixel's byte of regions.
IN_PETALS = 1
IN_STEM = 2
IN_PLANT = 4
TOUCHES_PLANT = 8
IN_CUE = 16

# In the order of the classes' names.
_VIVID = vectors("0.86 0.10 0.13, 0.97 0.50 0.05, 0.97 0.86 0.14, 0.16 0.32 0.90, 0.50 0.16 0.72, 0.96 0.46 0.70")
_WHITE: Vector = (0.90, 0.90, 0.87)
_STEM_GREEN: Vector = (0.34, 0.56, 0.20)
_JITTER = 0.045
_DISTANCE = 6.5
_MIDDLE = 0.62


class Picture(NamedTuple):
    """An image (H, W, 3), its regions (H, W) as bits, and how it was taken; ``cue`` is -1 where there is none."""

    image: Bytes
    regions: Bytes
    azimuth: float
    individual: int
    cue: int


def picture(options: FlowerOptions, split: str, index: int, label: int) -> Picture:
    """Make one picture; the same arguments give the same bytes on every machine."""
    draws = Draws(GENERATOR, options.seed, options.variant, base_split(split), index)
    # The order of the draws is part of the generator: another order would make other images.
    individual = draws.below(options.individuals)
    azimuth = azimuth_of(split, draws)
    cue = draw_cue(options, split, index, label) if options.shortcut else -1
    thing = plant(options.seed, individual, options.flower)
    camera, foot = _camera(draws, azimuth / 360.0)
    colours = _colours(draws, options, label, cue, thing)
    backdrop = paint(draws, options.size, foot, options.shortcut, cue)
    # Twice as many samples as pixels along each axis: four per pixel smooth the edges.
    buffers, box = draw(thing, camera, 2 * options.size)
    pixels = backdrop.pixels
    _compose(pixels, buffers, box, colours)
    # Centred bytes times 2 noise are uniform within +- 255 noise.
    noise = draws.bytes(pixels.size).reshape(pixels.shape).astype(np.float32)
    noise -= 127.5
    pixels = clamped(pixels * 255.0 + noise * (2.0 * options.noise) + 0.5, 0.0, 255.0)
    image = np.floor(pixels).astype(np.uint8).transpose(1, 2, 0)
    regions = _regions(buffers, box, thing, backdrop.cue, options.shortcut)
    return Picture(image, regions, azimuth, individual, cue)


def _camera(draws: Draws, turns: float) -> tuple[Camera, Place]:
    """Draw the camera and light, and say where the pot's foot comes to stand in the image."""
    s, c = sincos(turns)
    rise_s, rise_c = sincos(draws.uniform(0.022, 0.07))
    right = (c, 0.0, -s)
    back = (s * rise_c, rise_s, c * rise_c)
    up = cross(back, right)
    distance = _DISTANCE * draws.uniform(0.85, 1.15)
    zoom = draws.uniform(0.202, 0.24)
    shift = (draws.uniform(-0.09, 0.09) * zoom, draws.uniform(-0.05, 0.05) * zoom)
    # Farther away, the same field of view would show a smaller plant; half of that is wanted.
    zoom *= 0.5 + 0.5 * _DISTANCE / distance
    eye = mix((1.0, (0.0, _MIDDLE, 0.0)), (distance, back))
    light = unit(mix((draws.uniform(-0.8, 0.8), right), (draws.uniform(0.6, 1.0), up), (draws.uniform(0.6, 1.0), back)))
    ambient = draws.uniform(0.48, 0.56)
    diffuse = draws.uniform(0.5, 0.62)
    camera = Camera(eye, right, up, mix((-1.0, back)), zoom, shift, light, ambient, diffuse)
    # The middle of the pot's foot, at (0, -POT_DEPTH, 0) and therefore below the point looked at.
    drop = POT_DEPTH + _MIDDLE
    depth = distance + drop * rise_s
    y = shift[1] - drop * rise_c / depth
    scale = 0.5 / zoom
    return camera, Place(0.5 + shift[0] * scale, 0.5 - y * scale, POT_FOOT / depth * scale)


def _colours(draws: Draws, options: FlowerOptions, label: int, cue: int, thing: Thing) -> Float32:
    """Return the colour of each surface (3, P + 1), the first one unused."""
    jitter = {part: [draws.uniform(-_JITTER, _JITTER) for _ in range(3)] for part in (PETALS, STEM, LEAVES, CENTRE)}
    terracotta = (draws.uniform(0.5, 0.84), draws.uniform(0.3, 0.56), draws.uniform(0.22, 0.48))
    colour = _class_colour(label % len(COLOURS), options.contrast)
    parts: dict[int, Vector] = {
        POT: terracotta,
        SOIL: (0.24, 0.17, 0.12),
        STEM: _STEM_GREEN,
        LEAVES: (0.24, 0.50, 0.18),
        PETALS: colour,
        CENTRE: (0.62, 0.45, 0.10),
    }
    if options.shortcut == "pot":
        parts[POT] = CUE_COLOURS[cue]
    # The second six classes have the colour in the stem.
    if label >= len(COLOURS):
        parts[STEM] = colour
        parts[PETALS] = _WHITE
    for part, (r, g, b) in jitter.items():
        parts[part] = (parts[part][0] + r, parts[part][1] + g, parts[part][2] + b)
    rows = [(0.0, 0.0, 0.0), *(parts[surface.part] for surface in thing.surfaces)]
    # Never black, whatever the jitter: a part in shade keeps its hue.
    return np.maximum(np.array(rows, dtype=np.float32).T, 0.02)


def _class_colour(number: int, contrast: float) -> Vector:
    """Return a class's colour, moved towards the mean of all six."""
    mean = mix(*((1.0 / len(_VIVID), colour) for colour in _VIVID))
    return mix((1.0 - contrast, mean), (contrast, _VIVID[number]))


def _compose(pixels: Float32, buffers: Buffers, box: tuple[int, int, int, int], colours: Float32) -> None:
    """Put what was drawn before the backdrop: each pixel is the mean of its four samples."""
    top, bottom, left, right = box
    surface = buffers.surface[top:bottom, left:right]
    bright = buffers.shade[top:bottom, left:right]
    uncovered = _sum_of_four((surface == 0).astype(np.float32)) * 0.25
    for plane, colour in zip(pixels, colours, strict=True):
        # Clipped before the mean: a highlight on one sample must not whiten its neighbours.
        samples = np.minimum(colour[surface] * bright, 1.0)
        window = plane[top // 2 : bottom // 2, left // 2 : right // 2]
        window *= uncovered
        window += _sum_of_four(samples) * 0.25


def _sum_of_four(samples: np.ndarray) -> np.ndarray:
    """Return the sum over each pixel's 2x2 samples, in a fixed order."""
    total: np.ndarray = samples[0::2, 0::2] + samples[0::2, 1::2] + samples[1::2, 0::2] + samples[1::2, 1::2]
    return total


def _regions(buffers: Buffers, box: tuple[int, int, int, int], thing: Thing, cue: Bools, shortcut: str | None) -> Bytes:
    """Return the bits of each pixel: a pixel is in a part if at least two of its four samples are."""
    top, bottom, left, right = box
    # Counts of up to four, three bits each: one sum counts all parts.
    weights = {PETALS: 1 + 64, STEM: 8 + 64, LEAVES: 64, CENTRE: 64, POT: 512, SOIL: 512}
    table = np.array([0, *(weights[surface.part] for surface in thing.surfaces)], dtype=np.uint16)
    # The pot's own count, from bit 12 on: as a cue it is a region, otherwise it only hides.
    if shortcut == "pot":
        table[1:] += np.array([4096 * (surface.part == POT) for surface in thing.surfaces], dtype=np.uint16)
    counts = np.zeros(cue.shape, dtype=np.uint16)
    drawn = table[buffers.surface[top:bottom, left:right]]
    counts[top // 2 : bottom // 2, left // 2 : right // 2] = _sum_of_four(drawn)
    in_plant = (counts >> 6) & 7
    if shortcut == "pot":
        seen_cue = (counts >> 12) >= 2
    else:
        # A cue on the backdrop is seen where the pot does not hide it.
        seen_cue = cue & (((counts >> 9) & 7) <= 2)
    regions = np.zeros(cue.shape, dtype=np.uint8)
    for bit, where in (
        (IN_PETALS, (counts & 7) >= 2),
        (IN_STEM, ((counts >> 3) & 7) >= 2),
        (IN_PLANT, in_plant >= 2),
        (TOUCHES_PLANT, in_plant > 0),
        (IN_CUE, seen_cue & (in_plant == 0)),
    ):
        regions[where] |= bit
    return regions
