"""The renderer against closed forms worked by hand and against points scattered over the surfaces."""

from __future__ import annotations

import math

import numpy as np
import pytest

from interpnet.datasets import GENERATOR
from interpnet.datasets._an8flower.exact import Draws, cross, dot, sincos, unit
from interpnet.datasets._an8flower.options import azimuth_of, make_options
from interpnet.datasets._an8flower.plant import PETALS, STEM, plant
from interpnet.datasets._an8flower.render import BAND, DISC, LEAF, PETAL, WHOLE, Camera, Surface, draw, make_thing
from interpnet.datasets._an8flower.scene import IN_PETALS, IN_PLANT, IN_STEM, TOUCHES_PLANT, _camera, picture

X = (1.0, 0.0, 0.0)
Y = (0.0, 1.0, 0.0)
Z = (0.0, 0.0, 1.0)
FRONT = Camera((0.0, 0.0, 5.0), X, Y, (0.0, 0.0, -1.0), 0.4, (0.0, 0.0), Z, 0.25, 0.5)
SIDE = 200


def _rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    steps = (np.arange(SIDE) + 0.5) * 2 / SIDE - 1
    return steps[None, :] * camera.zoom - camera.shift[0], -steps[:, None] * camera.zoom - camera.shift[1]


def test_sines_are_those_of_the_library():
    for turns in np.linspace(-2.0, 2.0, 997):
        s, c = sincos(float(turns))
        assert abs(s - math.sin(2 * math.pi * turns)) < 4e-15
        assert abs(c - math.cos(2 * math.pi * turns)) < 4e-15


def test_draws_are_the_generators_raw_words():
    """Numpy guarantees the words of PCG64; what is made of them here is written out."""
    import hashlib

    digest = hashlib.sha256(b"a\0" + b"1").digest()
    words = np.random.PCG64(int.from_bytes(digest[:16], "little")).random_raw(2)
    draws = Draws("a", 1)
    assert draws.uniform(0.0, 1.0) == int(words[0] >> np.uint64(11)) / 2**53
    assert draws.below(10) == int(words[1]) * 10 // 2**64
    values = [draws.below(3) for _ in range(300)]
    assert set(values) == {0, 1, 2}


def test_a_sphere_is_a_disc_of_the_right_size_depth_and_brightness():
    radius = 1.0
    sphere = Surface((0.0, 0.0, 0.0), X, Y, Z, (1.0, 1.0, 1.0, 0.0, -1.0), WHOLE, (0, 0), ((-1, 1),) * 3, 1)
    buffers, (top, bottom, left, right) = draw(make_thing([sphere]), FRONT, SIDE)
    x, y = _rays(FRONT)
    square = x * x + y * y
    # The tangent cone of a sphere at distance 5: tan^2 = r^2 / (25 - r^2).
    limit = radius / (25 - radius)
    clear = np.abs(square - limit) > 1e-5
    np.testing.assert_array_equal((buffers.surface == 1)[clear], (square < limit)[clear])
    t = (5 - np.sqrt(np.maximum(25 - 24 * (1 + square), 0))) / (1 + square)
    inside = square < limit - 1e-4
    np.testing.assert_allclose(buffers.depth[inside], t[inside], rtol=2e-5)
    # Light from the front: brightness is ambient + diffuse times the normal's z = 5 - t.
    np.testing.assert_allclose(buffers.shade[inside], 0.25 + 0.5 * (5 - t[inside]), rtol=1e-3, atol=1e-3)
    rows, columns = np.nonzero(buffers.surface)
    assert top <= rows.min() < rows.max() < bottom
    assert left <= columns.min() < columns.max() < right
    assert not {top % 2, bottom % 2, left % 2, right % 2} & {1}


def _blade(kind: int, bend: float, *, tilt: float) -> Surface:
    s = math.sin(tilt)
    c = math.cos(tilt)
    u = (c, 0.0, -s)
    v = Y
    w = (s, 0.0, c)
    length = 1.2
    half = 0.5
    form = (bend / length**2, 0.2 / half**2, 0.0, -1.0, 0.0)
    box = ((0.0, length), (-half, half), (min(bend, 0.0), max(bend, 0.0) + 0.2))
    return Surface((-0.5, 0.1, 0.2), u, v, w, form, kind, (length, half), box, 1, both=True)


def _points(surface: Surface, n: int = 900) -> np.ndarray:
    """Return points on the surface by its description in words: outlines, bands and discs, in float64."""
    grid = (np.arange(n) + 0.5) / n
    a, b, _, g, k = surface.form
    if surface.trim in {PETAL, LEAF}:
        length, half = surface.extent
        s = grid[:, None]
        width = half * (2 * s * np.sqrt(1 - s * s) if surface.trim == PETAL else 4 * s * (1 - s))
        u = np.broadcast_to(s * length, (n, n))
        v = (2 * grid - 1)[None, :] * width
        w = a * u * u + b * v * v
    else:
        angle = 2 * np.pi * grid[:, None]
        if surface.trim == BAND:
            low, high = surface.extent
            w = np.broadcast_to(low + (high - low) * grid[None, :], (n, n))
            slope = math.sqrt(-surface.form[2])
            radius = math.sqrt(-k) + math.copysign(slope, -g) * w
        else:
            w = np.zeros((n, n))
            radius = surface.extent[0] * grid[None, :]
        u = radius * np.cos(angle)
        v = radius * np.sin(angle)
    axes = np.array([surface.u, surface.v, surface.w])
    return np.array(surface.origin) + np.stack([u, v, w], -1) @ axes


def _covered(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the samples that points project into."""
    relative = points.reshape(-1, 3) - np.array(camera.eye)
    depth = relative @ np.array(camera.forward)
    x = relative @ np.array(camera.right) / depth + camera.shift[0]
    y = relative @ np.array(camera.up) / depth + camera.shift[1]
    column = np.floor((x / camera.zoom + 1) / 2 * SIDE).astype(int)
    row = np.floor((1 - y / camera.zoom) / 2 * SIDE).astype(int)
    good = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
    image = np.zeros((SIDE, SIDE), dtype=bool)
    image[row[good], column[good]] = True
    return image


def _shrunk(image: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        image = image & np.roll(image, 1, axis) & np.roll(image, -1, axis)
    return image


CONE = Surface(
    (0.1, -0.4, 0.0), Z, X, Y, (1.0, 1.0, -0.01, -0.1, -0.25), BAND, (0, 1), ((-0.6, 0.6),) * 2 + ((0, 1),), 1
)
DISC_TILTED = Surface(
    (0, 0, 0),
    X,
    unit((0, 0.6, 0.8)),
    cross(X, unit((0, 0.6, 0.8))),
    (0, 0, 0, 1, 0),
    DISC,
    (0.9, 0),
    ((-1, 1),) * 2 + ((0, 0),),
    1,
)


@pytest.mark.parametrize(
    "surface",
    [
        *(
            _blade(kind, bend, tilt=tilt)
            for kind in (PETAL, LEAF)
            for bend in (0.0, 0.5, -0.7)
            for tilt in (0.3, 1.3, 2.5)
        ),
        CONE._replace(both=True),
        DISC_TILTED,
    ],
)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.05, -0.08)])
def test_what_is_covered_is_what_points_on_the_surface_cover(surface: Surface, shift: tuple[float, float]):
    camera = FRONT._replace(shift=shift)
    drawn = draw(make_thing([surface]), camera, SIDE)[0].surface == 1
    scattered = _covered(_points(surface), camera)
    assert scattered.sum() > 150
    # Points fill samples that the surface only grazes: the two agree but for the outermost ones.
    assert not (drawn & ~scattered).sum() > 0.004 * drawn.sum()
    assert not (_shrunk(scattered) & ~drawn).any()


def test_the_nearer_surface_hides_the_other_whatever_the_order():
    near = DISC_TILTED._replace(origin=(0.0, 0.0, 1.5), extent=(0.3, 0.0))
    for order in ((near, DISC_TILTED), (DISC_TILTED, near)):
        buffers, _ = draw(make_thing(order), FRONT, SIDE)
        number = order.index(near) + 1
        alone = draw(make_thing([near]), FRONT, SIDE)[0].surface == 1
        np.testing.assert_array_equal(buffers.surface == number, alone)


def test_light_from_behind_shines_through_by_the_translucency():
    blade = _blade(PETAL, 0.0, tilt=0.0)._replace(form=(0.0, 0.0, 0.0, -1.0, 0.0))
    for behind, expected in ((Z, 0.25 + 0.5), ((0.0, 0.0, -1.0), 0.25 + 0.5 * 0.4)):
        buffers, _ = draw(make_thing([blade._replace(translucency=0.4)]), FRONT._replace(light=behind), SIDE)
        np.testing.assert_allclose(buffers.shade[buffers.surface == 1], expected, rtol=1e-6)


def test_a_plant_outside_the_image_draws_nothing():
    camera = FRONT._replace(shift=(9.0, 0.0))
    buffers, box = draw(make_thing([DISC_TILTED]), camera, SIDE)
    assert not buffers.surface.any()
    assert box == (0, 0, 0, 0)


def test_masks_count_samples():
    """Half of a pixel's four samples make it part of the plant: counted here one by one."""
    options = make_options("single-6c", size=40)
    made = picture(options, "train", 11, 2)
    draws = Draws(GENERATOR, 0, "single-6c", "train", 11)
    thing = plant(0, draws.below(options.individuals), 1.0)
    camera, _ = _camera(draws, azimuth_of("train", draws) / 360.0)
    numbers = draw(thing, camera, 80)[0].surface
    parts = np.array([0, *(surface.part for surface in thing.surfaces)])[numbers]
    for row in range(40):
        for column in range(40):
            four = parts[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
            plants = sum(part >= STEM for part in four)
            expected = (
                IN_PETALS * (four.count(PETALS) >= 2)
                + IN_STEM * (four.count(STEM) >= 2)
                + IN_PLANT * (plants >= 2)
                + TOUCHES_PLANT * (plants > 0)
            )
            assert made.regions[row, column] == expected


def test_cameras_axes_are_orthonormal():
    for i in range(20):
        camera, foot = _camera(Draws("camera", i), i / 20)
        axes = np.array([camera.right, camera.up, camera.forward])
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert abs(dot(camera.light, camera.light) - 1) < 1e-12
        # The foot's place by projecting (0, -POT_DEPTH, 0) with matrices.
        relative = axes @ (np.array([0.0, -0.56, 0.0]) - np.array(camera.eye))
        x, y = relative[:2] / relative[2] + np.array(camera.shift)
        np.testing.assert_allclose([foot.x, foot.y], [0.5 + x / camera.zoom / 2, 0.5 - y / camera.zoom / 2], atol=1e-12)
