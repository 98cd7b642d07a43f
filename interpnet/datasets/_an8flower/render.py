"""Draw trimmed quadrics into a depth buffer: the closed form of ray and surface, in numpy, without a display.

A surface is ``a u^2 + b v^2 + c w^2 + g w + k = 0`` in a frame of its own, cut by a rule: a petal is a paraboloid
inside an outline, a piece of stem a cone between two heights. A ray ``o + t d`` meets it where
``A t^2 + 2 B t + C = 0`` with ``A = a du^2 + b dv^2 + c dw^2``, ``B = a ou du + b ov dv + c ow dw + g dw / 2`` and C
the form at o; ``t = C / (-B +- sqrt(B^2 - A C))`` stays right where A vanishes. At the first of the two points the
normal (the form's gradient) faces the viewer, at the second it does not, so no side has to be looked for.

Every operation on pixels is one of + - * / sqrt, a comparison or a copy, so that the bytes are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from interpnet.datasets._an8flower.exact import Vector, dot, mix
from interpnet.support.types import Bools, Bytes, Float32, Float64

# How a surface is cut: not; by an outline of length extent[0] along u and half width extent[1] (petals, leaves);
# to heights w from extent[0] to extent[1]; to a radius extent[0].
WHOLE, PETAL, LEAF, BAND, DISC = range(5)


class Surface(NamedTuple):
    """One trimmed quadric of a thing, in a frame of its own: an origin and three orthonormal axes."""

    origin: Vector
    u: Vector
    v: Vector
    w: Vector
    form: tuple[float, float, float, float, float]  # a, b, c, g, k
    trim: int
    extent: tuple[float, float]  # see the kinds of trim
    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # bounds along u, v, w that hold it
    part: int  # what it is a part of: an index for masks
    tone: Vector = (1.0, 0.0, 0.0)  # brightness tone[0] + tone[1] u + tone[2] v^2
    translucency: float = 0.0  # light that comes through from behind, as a share of what comes from the front
    both: bool = False  # an open surface, not a solid: the far point of a ray can be seen


@dataclass(frozen=True)
class Thing:
    """P surfaces, and the corners of their boxes in the common frame (P, 8, 3)."""

    surfaces: tuple[Surface, ...]
    corners: Float64


def make_thing(surfaces: Sequence[Surface]) -> Thing:
    """Gather surfaces, with the corners of their boxes."""
    corners = [
        [mix((1.0, s.origin), (u, s.u), (v, s.v), (w, s.w)) for u in s.box[0] for v in s.box[1] for w in s.box[2]]
        for s in surfaces
    ]
    return Thing(tuple(surfaces), np.array(corners, dtype=np.float64))


class Camera(NamedTuple):
    """A pinhole camera with its light, in the thing's frame; a ray is ``forward + x right + y up``."""

    eye: Vector
    right: Vector
    up: Vector
    forward: Vector
    zoom: float  # half the image's height, as x or y of a ray
    shift: tuple[float, float]  # what the thing is moved by, right and up, as x and y of a ray
    light: Vector  # unit vector towards the light
    ambient: float  # light from everywhere
    diffuse: float  # light from the light


class Buffers(NamedTuple):
    """What was drawn at each subsample (S, S): depth, the surface's number + 1 (0: nothing) and its brightness."""

    depth: Float32
    surface: Bytes
    shade: Float32


def draw(thing: Thing, camera: Camera, side: int) -> tuple[Buffers, tuple[int, int, int, int]]:
    """Draw a thing into ``side`` x ``side`` samples; return also the (top, bottom, left, right) that hold it all."""
    # An infinite depth would only be compared; a large number never warns.
    buffers = Buffers(
        np.full((side, side), 1e30, dtype=np.float32),
        np.zeros((side, side), dtype=np.uint8),
        np.zeros((side, side), dtype=np.float32),
    )
    steps = (np.arange(side, dtype=np.float64) + 0.5) * (2.0 / side) - 1.0
    x = (steps * camera.zoom - camera.shift[0]).astype(np.float32)
    y = (steps * -camera.zoom - camera.shift[1]).astype(np.float32)
    boxes = _boxes(thing, camera, side)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for number, (surface, (top, bottom, left, right)) in enumerate(zip(thing.surfaces, boxes, strict=True)):
            if top < bottom and left < right:
                at = slice(top, bottom), slice(left, right)
                window = Buffers(buffers.depth[at], buffers.surface[at], buffers.shade[at])
                _draw_surface(surface, number + 1, camera, x[left:right], y[top:bottom, None], window)
    bounds = [box for box in boxes if box[0] < box[1] and box[2] < box[3]]
    if not bounds:
        return buffers, (0, 0, 0, 0)
    # At even bounds, because a pixel has two samples along each axis.
    tops, bottoms, lefts, rights = zip(*bounds, strict=True)
    box = (min(tops) // 2 * 2, (max(bottoms) + 1) // 2 * 2, min(lefts) // 2 * 2, (max(rights) + 1) // 2 * 2)
    return buffers, box


def _boxes(thing: Thing, camera: Camera, side: int) -> list[list[int]]:
    """Return the samples (top, bottom, left, right) that may show each surface."""
    relative = thing.corners - np.array(camera.eye)

    def along(axis: Vector) -> Float64:
        x, y, z = (relative[..., i] * axis[i] for i in range(3))
        total: Float64 = x + y + z
        return total

    depth = along(camera.forward)
    scale = side / (2.0 * camera.zoom)
    columns = (along(camera.right) / depth + (camera.shift[0] + camera.zoom)) * scale
    rows = ((camera.zoom - camera.shift[1]) - along(camera.up) / depth) * scale
    bounds = np.stack([rows.min(1) - 1, rows.max(1) + 1, columns.min(1) - 1, columns.max(1) + 1], axis=1)
    clipped: list[list[int]] = np.clip(np.floor(bounds), 0, side).astype(np.int64).tolist()
    return clipped


def _draw_surface(surface: Surface, number: int, camera: Camera, x: Float32, y: Float32, window: Buffers) -> None:
    """Draw one surface into the window whose rays have these x (n,) and y (m, 1)."""
    a, b, c, g, k = surface.form
    eye = mix((1.0, camera.eye), (-1.0, surface.origin))
    ou, ov, ow = (dot(eye, axis) for axis in (surface.u, surface.v, surface.w))
    # The rays' directions in the surface's frame: linear in x and y. Most surfaces need none along w.
    du = _along(surface.u, camera, x, y)
    dv = _along(surface.v, camera, x, y)
    needs_w = c != 0.0 or surface.trim == BAND
    dw = _along(surface.w, camera, x, y) if needs_w else None
    B = _along(mix((a * ou, surface.u), (b * ov, surface.v), (c * ow + 0.5 * g, surface.w)), camera, x, y)
    A = a * (du * du)
    A += b * (dv * dv)
    if dw is not None:
        A += c * (dw * dw)
    C = a * ou * ou + b * ov * ov + c * ow * ow + g * ow + k
    root = np.sqrt(B * B - C * A)
    light = (dot(camera.light, surface.u), dot(camera.light, surface.v), dot(camera.light, surface.w))
    for sign in _sides(surface, (ou, ov, ow)):
        # The two solutions, without the cancellation of (-B +- root) / A where A is near zero.
        t = C / (root - B) if sign > 0 else -C / (root + B)
        u = t * du + ou
        v = t * dv + ov
        w = None if dw is None else t * dw + ow
        seen = (t < window.depth) & _inside(surface, u, v, w, root)
        at = np.flatnonzero(seen)
        if not at.size:
            continue
        # Half the form's gradient is the normal; only seen samples are shaded.
        u = u.ravel()[at]
        v = v.ravel()[at]
        nu = a * u
        nv = b * v
        nw: Float32 | float = 0.5 * g
        if w is not None:
            nw = c * w.ravel()[at] + 0.5 * g
        lambert = (nu * light[0] + nv * light[1] + nw * light[2]) * sign
        lambert /= np.sqrt(nu * nu + nv * nv + nw * nw)
        bright = np.maximum(lambert, lambert * -surface.translucency) * camera.diffuse + camera.ambient
        if surface.tone != (1.0, 0.0, 0.0):
            bright *= u * surface.tone[1] + (v * v) * surface.tone[2] + surface.tone[0]
        window.depth[seen] = t.ravel()[at]
        window.surface[seen] = number
        window.shade[seen] = bright


def _sides(surface: Surface, eye: Vector) -> tuple[float, ...]:
    """Return which sides of a surface may be seen: 1 the one the form's gradient points from, -1 the other.

    At (u, v) a blade's gradient times the ray from the eye is ``a u (u/2 - ou) + b v (v/2 - ov) + ow / 2``: where its
    sign is the same within the whole outline, only one of a ray's two points can lie there.
    """
    if not surface.both:
        return (1.0,)
    if surface.trim not in {PETAL, LEAF}:
        return (1.0, -1.0)
    low = high = 0.5 * eye[2]
    for factor, at, (first, last) in zip(surface.form, eye, surface.box[:2], strict=False):
        ends = [factor * x * (0.5 * x - at) for x in (first, last, min(max(at, first), last))]
        low += min(ends)
        high += max(ends)
    if high < 0.0:
        return (1.0,)
    if low > 0.0:
        return (-1.0,)
    return (1.0, -1.0)


def _along(axis: Vector, camera: Camera, x: Float32, y: Float32) -> Float32:
    """Return the rays' component along an axis (m, n)."""
    component: Float32 = (x * dot(camera.right, axis) + dot(camera.forward, axis)) + y * dot(camera.up, axis)
    return component


def _inside(surface: Surface, u: Float32, v: Float32, w: Float32 | None, root: Float32) -> Bools:
    """Return where the points of a quadric belong to the surface; a ray that misses (NaN) never does."""
    first, second = surface.extent
    inside: Bools
    if surface.trim in {PETAL, LEAF}:
        s = u * (1.0 / first)
        rest = 1.0 - s
        # Half the width is 2 s sqrt(1 - s^2), round at the tip, or 4 s (1 - s), pointed at both ends, of the largest.
        if surface.trim == PETAL:
            outline = s * s * rest * (1.0 + s) * (4.0 * second * second)
        else:
            outline = s * rest
            outline = outline * outline * (16.0 * second * second)
        inside = (v * v <= outline) & (s >= 0.0) & (rest >= 0.0)
    elif surface.trim == BAND and w is not None:
        inside = (w >= first) & (w <= second)
    elif surface.trim == DISC:
        inside = u * u + v * v <= first * first
    else:
        inside = root >= 0.0
    return inside
