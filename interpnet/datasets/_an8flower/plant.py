"""A flowering plant in a pot, as trimmed quadrics: every individual differs, none knows its class.

Lengths are in units of about a tenth of a metre; y points up, the soil is at y = 0, and the plant is turned round the
y axis by turning the camera the other way.
"""

from __future__ import annotations

import math
from functools import lru_cache

from interpnet.datasets._an8flower.exact import Draws, Vector, cross, dot, mix, sincos, unit
from interpnet.datasets._an8flower.options import GENERATOR
from interpnet.datasets._an8flower.render import BAND, DISC, LEAF, PETAL, WHOLE, Surface, Thing, make_thing

# The parts of a scene; the numbers order nothing.
POT, SOIL, STEM, LEAVES, PETALS, CENTRE = range(1, 7)
_UP: Vector = (0.0, 1.0, 0.0)
_STEM_PIECES = 7
_STEM_RADII = (0.062, 0.046)
POT_RADIUS = 0.42
POT_FOOT = 0.30
POT_DEPTH = 0.56


@lru_cache(maxsize=512)
def plant(seed: int, individual: int, flower: float) -> Thing:
    """Return one individual of the seed's plants, with petals ``flower`` times as large as they would be."""
    # Here and below the order of the draws is part of the generator: another order would make other plants.
    draws = Draws(GENERATOR, "plant", seed, individual)
    stem = _curve(draws)
    surfaces = [*_pot(), *_stem(stem), *_leaves(draws, stem), *_flower(draws, stem, flower)]
    return make_thing(surfaces)


def _curve(draws: Draws) -> tuple[Vector, Vector, Vector]:
    """Draw the three points of the stem's quadratic Bezier curve."""
    height = draws.uniform(1.0, 1.2)
    lean = draws.uniform(0.0, 0.2)
    bow = draws.uniform(0.0, 0.2)
    s, c = sincos(draws.uniform(0.0, 1.0))
    s2, c2 = sincos(draws.uniform(0.0, 1.0))
    middle = (0.5 * lean * s + bow * s2, 0.5 * height, 0.5 * lean * c + bow * c2)
    # It starts a little below the soil, or a leaning stem would show its cut.
    return (0.0, -0.08, 0.0), middle, (lean * s, height, lean * c)


def _at(curve: tuple[Vector, Vector, Vector], t: float) -> Vector:
    return mix(((1 - t) * (1 - t), curve[0]), (2 * t * (1 - t), curve[1]), (t * t, curve[2]))


def _frame(w: Vector) -> tuple[Vector, Vector, Vector]:
    """Return orthonormal axes of which the third is w."""
    # Far from parallel to w, so that the vector product keeps its digits.
    aside = (1.0, 0.0, 0.0) if w[0] * w[0] < 0.5 else (0.0, 0.0, 1.0)
    u = unit(cross(aside, w))
    return u, cross(w, u), w


def _cone(origin: Vector, axis: Vector, radii: tuple[float, float], band: tuple[float, float], part: int) -> Surface:
    """Return the side of a cone whose radius goes from one to the other of ``radii`` between the heights ``band``."""
    slope = (radii[1] - radii[0]) / (band[1] - band[0])
    r0 = radii[0] - slope * band[0]
    widest = max(radii)
    u, v, w = _frame(axis)
    # u^2 + v^2 = (r0 + slope w)^2
    form = (1.0, 1.0, -slope * slope, -2.0 * r0 * slope, -r0 * r0)
    return Surface(origin, u, v, w, form, BAND, band, ((-widest, widest), (-widest, widest), band), part)


def _pot() -> list[Surface]:
    rim = 0.14
    body = _cone((0.0, 0.0, 0.0), _UP, (POT_FOOT, POT_RADIUS - 0.03), (-POT_DEPTH, -rim + 0.06), POT)
    ring = _cone((0.0, 0.0, 0.0), _UP, (POT_RADIUS - 0.01, POT_RADIUS), (-rim, 0.06), POT)
    radius = POT_RADIUS - 0.005
    u, v, w = _frame(_UP)
    box = ((-radius, radius), (-radius, radius), (-0.001, 0.001))
    soil = Surface((0.0, 0.0, 0.0), u, v, w, (0.0, 0.0, 0.0, 1.0, 0.0), DISC, (radius, 0.0), box, SOIL)
    return [body, ring._replace(both=True), soil]


def _stem(curve: tuple[Vector, Vector, Vector]) -> list[Surface]:
    pieces = []
    first, last = _STEM_RADII
    for i in range(_STEM_PIECES):
        start = _at(curve, i / _STEM_PIECES)
        end = _at(curve, (i + 1) / _STEM_PIECES)
        axis = mix((1.0, end), (-1.0, start))
        length = math.sqrt(dot(axis, axis))
        lower = first + (last - first) * (i / _STEM_PIECES)
        upper = first + (last - first) * ((i + 1) / _STEM_PIECES)
        # Pieces overlap a little, or the bends would show gaps.
        pieces.append(_cone(start, unit(axis), (lower, upper), (-0.015, length + 0.015), STEM))
    return pieces


def _blade(
    origin: Vector, axes: tuple[Vector, Vector, Vector], length: float, half: float, bend: float, cup: float
) -> Surface:
    """Return a leaf: a paraboloid that has risen by ``bend`` at its tip and by ``cup`` at its sides."""
    a = bend / (length * length)
    b = cup / (half * half)
    low = min(bend, 0.0) + min(cup, 0.0)
    high = max(bend, 0.0) + max(cup, 0.0)
    form = (a, b, 0.0, -1.0, 0.0)
    box = ((0.0, length), (-half, half), (low - 0.001, high + 0.001))
    tone = (0.82, 0.12 / length, 0.3 / (half * half))
    return Surface(origin, *axes, form, LEAF, (length, half), box, LEAVES, tone, 0.3, both=True)


def _leaves(draws: Draws, curve: tuple[Vector, Vector, Vector]) -> list[Surface]:
    leaves = []
    turn = draws.uniform(0.0, 1.0)
    for i in range(2 + draws.below(3)):
        turn += draws.uniform(0.36, 0.5)
        s, c = sincos(turn)
        rise_s, rise_c = sincos(draws.uniform(0.05, 0.13))
        out = (s, 0.0, c)
        axes = mix((rise_c, out), (rise_s, _UP)), (c, 0.0, -s), mix((-rise_s, out), (rise_c, _UP))
        length = draws.uniform(0.6, 0.82)
        half = draws.uniform(0.15, 0.22)
        origin = _at(curve, 0.14 + 0.13 * i + draws.uniform(0.0, 0.06))
        bend = -length * draws.uniform(0.15, 0.45)
        leaves.append(_blade(origin, axes, length, half, bend, half * draws.uniform(0.1, 0.4)))
    return leaves


def _flower(draws: Draws, curve: tuple[Vector, Vector, Vector], scale: float) -> list[Surface]:
    s, c = sincos(draws.uniform(0.0, 1.0))
    tilt_s, tilt_c = sincos(draws.uniform(0.07, 0.2))
    axis = (tilt_s * s, tilt_c, tilt_s * c)
    e1, e2, _ = _frame(axis)
    head = mix((1.0, curve[2]), (0.03, axis))
    n = 5 + draws.below(4)
    turn = draws.uniform(0.0, 1.0)
    length = draws.uniform(0.56, 0.64) * scale
    rise = draws.uniform(0.01, 0.08)
    # Neighbours overlap a little; nothing wider than long.
    if n > 5:
        half = length * draws.uniform(2.0, 2.35) / n
    else:
        half = length * draws.uniform(0.36, 0.42)
    bend = draws.uniform(-0.3, 0.12)
    cup = draws.uniform(0.05, 0.35)
    petals = []
    for i in range(n):
        s, c = sincos(turn + (i + draws.uniform(-0.08, 0.08)) / n)
        # Every other petal lies a little higher, so that neighbours do not cut through each other.
        rise_s, rise_c = sincos(rise + 0.012 * (i % 2) + draws.uniform(-0.008, 0.008))
        out = mix((c, e1), (s, e2))
        axes = mix((rise_c, out), (rise_s, axis)), mix((-s, e1), (c, e2)), mix((-rise_s, out), (rise_c, axis))
        own = length * draws.uniform(0.93, 1.07)
        blade = _blade(mix((1.0, head), (0.03 * scale, out)), axes, own, half, bend * own, cup * half)
        petals.append(blade._replace(trim=PETAL, part=PETALS, tone=(0.78, 0.3 / own, 0.0), translucency=0.65))
    radius = 0.16 * scale
    # An ellipsoid, flatter along the flower's axis.
    form = (1.0 / (radius * radius), 1.0 / (radius * radius), 1.0 / (0.36 * radius * radius), 0.0, -1.0)
    box = ((-radius, radius), (-radius, radius), (-0.6 * radius, 0.6 * radius))
    centre = Surface(mix((1.0, head), (0.03, axis)), e1, e2, axis, form, WHOLE, (0.0, 0.0), box, CENTRE)
    return [*petals, centre]
