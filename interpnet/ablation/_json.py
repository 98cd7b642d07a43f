"""What a study's numbers are in JSON: plain lists, with as many digits as they deserve, and None for NaN; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.ablation._changes import MEASURES, Changes
from interpnet.ablation._clusters import Clusters
from interpnet.ablation._effect import Draws, Effect
from interpnet.errors import RunFolderError
from interpnet.support.types import Float64, Int64

_DIGITS = 5  # of what is not a recall
# Rows of so many classes, of which one in so many at most has a number, are written by these alone.
_LONG = 1024
_LONGEST = 2**26
_SELDOM = 4


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
            draws = Draws(whole(draws), array(numbers["draw_variance"]), numbers["passes"])
        clusters = None
        if numbers.get("shared") is not None:
            clusters = Clusters(array(numbers["shared"]), int(numbers["images"]))
        found[name] = Effect(
            mean=array(numbers["mean"]),
            variance=array(numbers["variance"]),
            count=whole(numbers["count"]),
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


def rounded(values: Float64 | None) -> Float64 | None:
    """Return numbers with as many digits as they deserve, so that files of many classes stay small."""
    if values is None:
        return None
    found = values.astype(np.float64)
    # Of many classes most have no images, and no number.
    there = ~np.isnan(found)
    found[there] = [float(f"{value:.{_DIGITS}g}") for value in found[there].tolist()]
    return found


def known(value: Any) -> Float64 | None:
    if value is None:
        return None
    return array(value)


def plain(value: Any) -> Any:
    """Return what JSON takes: arrays and tuples as lists, and NaN, which JSON has not, as ``None``."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            return [plain(row) for row in value]
        few = _few(value)
        if few is not None:
            return few
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


def _few(row: npt.NDArray[Any]) -> dict[str, Any] | None:
    """Return a long row that is NaN or 0 nearly everywhere by its other entries; None for any other row."""
    if len(row) < _LONG:
        return None
    for usual in (math.nan, 0):
        there = np.flatnonzero(row != usual)
        if math.isnan(usual):
            there = np.flatnonzero(row == row)  # NaN alone differs from itself
        if len(there) <= len(row) // _SELDOM:
            return {"length": len(row), "usual": plain(usual), "at": there.tolist(), "values": row[there].tolist()}
    return None


def array(value: Any) -> Float64:
    """Read what :func:`plain` gave of numbers; None, which stands for NaN, becomes NaN again."""
    return _read(value, np.dtype(np.float64))


def whole(value: Any) -> Int64:
    """Read what :func:`plain` gave of whole numbers."""
    return _read(value, np.dtype(np.int64))


def _read(value: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if isinstance(value, Mapping):
        length = int(value["length"])
        if not 0 <= length <= _LONGEST:
            raise ValueError(f"a row has {length} numbers")
        row = np.full(length, np.array(value["usual"], dtype=dtype))
        row[np.array(value["at"], dtype=np.int64)] = np.array(value["values"], dtype=dtype)
        return row
    if isinstance(value, list) and any(isinstance(row, list | Mapping) for row in value):
        return np.stack([_read(row, dtype) for row in value])
    return np.array(value, dtype=dtype)
