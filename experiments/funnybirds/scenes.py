"""Scenes of FunnyBirds: which classes there are, and what stands where in each picture, drawn by number.

The numbers mean what the renderer of the data set's authors makes of them, and are drawn from the ranges of their set
(Hesse, Schaub-Meyer and Roth, ICCV 2023; visinf/funnybirds, Apache-2.0).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from interpnet.errors import DataError

Parts = dict[str, list[dict[str, str]]]  # the forms of each part
Scene = dict[str, Any]

ABSENT = "placeholder"  # the form of a part that a training bird lacks
_MOST_OBJECTS = 34
_KINDS_OF_OBJECTS = 5
_COLOURS = ("red", "green", "blue", "yellow")
_TURN = 2 * math.pi
_CAMERA = (200, 400)
_LIGHT = 300
_RADIUS = (100, 200)
_SCALE = (5, 20)
_TURNS = ("pitch", "roll", "rot_x", "rot_y", "rot_z")
_SCALES = ("scale_x", "scale_y", "scale_z")
_OF_OBJECTS = ("objects", "radius", *_SCALES, *_TURNS, "color")


def draw_classes(parts: Parts, n: int, seed: int) -> list[dict[str, Any]]:
    """Return ``n`` different choices of one form for each part; more than there are is a DataError."""
    most = math.prod(len(forms) for forms in parts.values())
    if n > most:
        raise DataError(f"classes is {n}, and {len(parts)} parts have {most} combinations of forms; give fewer")
    chosen = np.random.default_rng(seed).permutation(most)[:n]
    counts = [len(forms) for forms in parts.values()]
    forms = np.stack(np.unravel_index(chosen, counts), 1).tolist()
    return [{"class_idx": i, "parts": dict(zip(parts, one, strict=True))} for i, one in enumerate(forms)]


def draw_scenes(parts: Parts, classes: list[dict[str, Any]], n: int, seed: int, *, lacking: bool) -> list[Scene]:
    """Return ``n`` scenes of each class, a class after the other.

    With ``lacking``, as the authors' training images: in half of the scenes a random number of parts is left out, so
    that a network has seen birds without a part.
    """
    rng = np.random.default_rng([seed, lacking])
    return [_scene(parts, one, rng, lacking=lacking) for one in classes for _ in range(n)]


def _scene(parts: Parts, one: dict[str, Any], rng: np.random.Generator, *, lacking: bool) -> Scene:
    scene: Scene = {"class_idx": one["class_idx"], "camera_distance": _whole(rng, _CAMERA)}
    for name in ("camera_pitch", "camera_roll"):
        scene[name] = _angle(rng)
    scene["light_distance"] = _LIGHT
    for name in ("light_pitch", "light_roll"):
        scene[name] = _angle(rng)
    left_out: set[str] = set()
    if lacking and rng.integers(2):
        left_out = set(rng.permutation(list(parts))[: rng.integers(len(parts) + 1)].tolist())
    for part, forms in parts.items():
        for key, value in forms[one["parts"][part]].items():
            scene[f"{part}_{key}"] = ABSENT if part in left_out else value
    objects = [_object(rng) for _ in range(rng.integers(_MOST_OBJECTS + 1))]
    for key in _OF_OBJECTS:
        scene[f"bg_{key}"] = "".join(f"{values[key]}," for values in objects)
    return scene


def _object(rng: np.random.Generator) -> dict[str, Any]:
    """Return one thing of the background, as strings and numbers of the renderer."""
    return {
        "objects": int(rng.integers(_KINDS_OF_OBJECTS)),
        "radius": _whole(rng, _RADIUS),
        **{name: _whole(rng, _SCALE) for name in _SCALES},
        **{name: _angle(rng) for name in _TURNS},
        "color": str(rng.choice(_COLOURS)),
    }


def _whole(rng: np.random.Generator, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1], endpoint=True))


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(0, _TURN))
