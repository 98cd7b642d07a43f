"""What can be asked of the generated an8Flower, checked: options, splits, and their spelling in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from interpnet.datasets._an8flower.exact import Draws
from interpnet.errors import DataError, did_you_mean
from interpnet.support.checks import is_number, is_whole, one_of, whole_number

# A part of every seed and of every cached folder's name: pictures of two versions are never mixed.
GENERATOR = "an8flower-1"
COLOURS = ("red", "orange", "yellow", "blue", "violet", "pink")
VARIANTS = ("single-6c", "double-12c")
SHORTCUTS = ("background", "pot", "watermark", "texture", "position")
SPLITS = ("train", "validation", "test")
CUE_SPLITS = ("test-agree", "test-disagree")
_PER_CLASS = {"train": 150, "validation": 25, "test": 50}
_CONTRASTS = {"vivid": 1.0, "pale": 0.2}
# Below 32 pixels the petals of a plant can vanish.
_WHOLE = {"size": (32, 1024), "seed": (0, 2**63 - 1), "individuals": (1, 10_000)}
_RANGES = {"contrast": (0.0, 1.0), "strength": (0.0, 1.0), "flower": (0.3, 1.2), "noise": (0.0, 0.5)}

# Twelfths of the circle would leave test views no neighbourhood; six arcs of each split see the plant from all around.
_PERIOD = 60.0
_ARCS = {"train": (0.0, 31.0), "validation": (36.0, 43.0), "test": (48.0, 55.0)}


@dataclass(frozen=True)
class FlowerOptions:
    """Everything but the split and the number of images; see :func:`interpnet.datasets.an8flower`."""

    variant: str = "single-6c"
    size: int = 112
    seed: int = 0
    contrast: float = 1.0
    flower: float = 1.0
    noise: float = 0.02
    individuals: int = 12
    shortcut: str | None = None
    strength: float = 1.0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        if self.variant == "single-6c":
            return COLOURS
        return tuple(f"{colour}-{part}" for part in ("flower", "stem") for colour in COLOURS)


def make_options(variant: str, **given: Any) -> FlowerOptions:
    """Check a user's options: an unknown name, or a value of the wrong kind or range, is a DataError."""
    one_of(variant, "variant", VARIANTS, error=DataError)
    known = [field.name for field in dataclasses.fields(FlowerOptions) if field.name != "variant"]
    for name in given:
        if name not in known:
            raise DataError(f"an8flower has no option {name!r}, expected {', '.join(known)}{did_you_mean(name, known)}")
    shortcut = given.get("shortcut")
    if shortcut is not None:
        one_of(shortcut, "shortcut", SHORTCUTS, error=DataError)
    elif "strength" in given and given["strength"] != 1.0:
        raise DataError(
            f"strength is {given['strength']!r} without a shortcut; give shortcut= too, one of {', '.join(SHORTCUTS)}"
        )
    if isinstance(given.get("contrast"), str):
        given["contrast"] = _CONTRASTS[one_of(given["contrast"], "contrast", _CONTRASTS, error=DataError)]
    for name, (least, most) in _WHOLE.items():
        if name in given:
            given[name] = whole_number(given[name], name, least=least, most=most, error=DataError)
    for name, (low, high) in _RANGES.items():
        if name in given:
            if not (is_number(given[name]) and low <= given[name] <= high):
                raise DataError(f"{name} is {given[name]!r}; expected a number from {low:g} to {high:g}")
            given[name] = float(given[name])
    return FlowerOptions(variant, **given)


def check_split(split: str, shortcut: str | None) -> None:
    """Refuse a split there is not."""
    known: tuple[str, ...] = SPLITS
    if shortcut is not None:
        known += CUE_SPLITS
    elif split in CUE_SPLITS:
        raise DataError(f"split is {split!r}, which only a data set with a shortcut has; give shortcut=")
    one_of(split, "split", known, error=DataError)


def count_of(n: int | None, split: str, classes: Sequence[str]) -> int:
    """Return how many images to make: ``n``, or the split's own number."""
    if n is None:
        return _PER_CLASS[base_split(split)] * len(classes)
    if is_whole(n) and n >= len(classes):
        return int(n)
    raise DataError(f"n is {n!r}; expected a whole number of at least {len(classes)}, one image for each class")


def base_split(split: str) -> str:
    """Return the split whose plants a split shows: the tests differ in their cues only."""
    return split.removesuffix("-agree").removesuffix("-disagree")


def azimuth_of(split: str, draws: Draws) -> float:
    """Draw a viewing angle in degrees from the split's arcs."""
    low, high = _ARCS[base_split(split)]
    return _PERIOD * draws.below(6) + draws.uniform(low, high)


def draw_cue(options: FlowerOptions, split: str, index: int, label: int) -> int:
    """Draw the value of an image's cue, 0 to C - 1.

    It is the label's with probability ``strength``, else uniformly another's, in training and validation; uniform over
    all in ``test``; the label's in ``test-agree``; uniformly another's in ``test-disagree``.
    """
    draws = Draws(GENERATOR, "cue", options.seed, options.variant, options.shortcut, split, index)
    n = len(options.classes)
    if split == "test":
        return draws.below(n)
    chance = {"test-agree": 1.0, "test-disagree": 0.0}.get(split, options.strength)
    agrees = draws.uniform(0.0, 1.0) < chance
    other = draws.below(n - 1)
    if agrees:
        return label
    return (label + 1 + other) % n


def folder_name(options: FlowerOptions, split: str, n: int) -> str:
    """Return the name of the folder that keeps these images: readable, and unique by a hash."""
    text = json.dumps([GENERATOR, dataclasses.asdict(options), split, n], sort_keys=True)
    return f"{options.variant}-{split}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``"an8flower-single-6c?shortcut=pot&size=64"`` into the variant and its options.

    Numbers become numbers; their range is checked later.

    Examples
    --------
    >>> parse_spec("an8flower-single-6c?shortcut=pot&strength=0.9&n=60")
    ('single-6c', {'shortcut': 'pot', 'strength': 0.9, 'n': 60})
    """
    name, _, query = spec.partition("?")
    options: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not key or not equals or not value:
            raise DataError(f"data set {spec!r}: {part!r} is no option, expected name=value, joined by '&'")
        if key in options:
            raise DataError(f"data set {spec!r}: option {key!r} stands there twice")
        options[key] = _value(value)
    return name.removeprefix("an8flower-"), options


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
