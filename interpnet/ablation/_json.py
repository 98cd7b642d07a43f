"""What a study's numbers are in JSON: plain lists, with as many digits as they deserve, and None for NaN; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from interpnet.ablation._changes import MEASURES, Changes
from interpnet.ablation._clusters import Clusters
from interpnet.ablation._effect import Draws, Effect
from interpnet.errors import RunFolderError
from interpnet.support.types import Float64

_DIGITS = 5  # of what is not a recall


def changes_json(changes: Changes) -> dict[str, Any]:
    """Return the effects of one measure, each with what it is and its numbers by class."""
    found: dict[str, Any] = {}
    for name, effect in vars(changes).items():
        if effect is not None:
            numbers = {"mean": rounded(effect.mean), "variance": rounded(effect.variance), "count": effect.count}
            if effect.draws is not None:
                drawn = effect.draws
                numbers |= {"draws": drawn.number, "draw_variance": rounded(drawn.variance), "passes": drawn.passes}
            if effect.clusters is not None:
                numbers |= {"shared": rounded(effect.clusters.shared), "images": effect.clusters.images}
            found[name] = numbers
    return found


def read_changes(value: Mapping[str, Any], measure: str) -> Changes:
    if measure not in MEASURES:
        raise RunFolderError(f"an ablation result measures {measure!r}; expected some of {', '.join(MEASURES)}")
    found: dict[str, Effect | None] = {}
    for name in (part.name for part in fields(Changes)):
        numbers = value.get(name)
        if numbers is None:
            continue
        draws = numbers.get("draws")
        if draws is not None:
            draws = Draws(np.array(draws, dtype=np.int64), array(numbers["draw_variance"]), numbers["passes"])
        clusters = None
        if numbers.get("shared") is not None:
            clusters = Clusters(array(numbers["shared"]), int(numbers["images"]))
        found[name] = Effect(
            mean=array(numbers["mean"]),
            variance=array(numbers["variance"]),
            count=np.array(numbers["count"], dtype=np.int64),
            share=measure == "recall",
            draws=draws,
            clusters=clusters,
        )
    return Changes(**found)  # type: ignore[arg-type]


def read_clusters(value: Any) -> Clusters | None:
    """Read the pair that a tuple of clusters is in JSON; None where there was none."""
    if value is None:
        return None
    shared, images = value
    return Clusters(array(shared), int(images))


def rounded(values: Float64 | None) -> list[Any] | None:
    """Return numbers with as many digits as they deserve, so that files of many classes stay small."""
    if values is None:
        return None
    if values.ndim > 1:
        return [rounded(row) for row in values]
    # Of many classes most have no images, and no number.
    return [value if math.isnan(value) else float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def known(value: Any) -> Float64 | None:
    if value is None:
        return None
    return array(value)


def plain(value: Any) -> Any:
    """Return what JSON takes: arrays and tuples as lists, and NaN, which JSON has not, as ``None``."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f":
            return value.tolist()  # Python's own numbers
        # In one step: there are as many entries as conditions times classes.
        entries = value.astype(object)
        entries[np.isnan(value)] = None
        return entries.tolist()
    if isinstance(value, list | tuple):
        if all(type(entry) is float for entry in value):
            # Most of a study of many classes, for which a call each would take seconds.
            return [None if math.isnan(entry) else entry for entry in value]
        return [plain(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def array(value: Any) -> Float64:
    return np.array(value, dtype=np.float64)  # None, which stands for NaN, becomes NaN again
