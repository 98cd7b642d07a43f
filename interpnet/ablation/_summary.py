"""What figures and reports read from an ablation study, given as a result or as its JSON form; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from interpnet.ablation._result import AblationResult, Condition, interval
from interpnet.errors import InterpNetError
from interpnet.support.types import Float64

# The order in which conditions are shown, and what a reader calls them.
CONDITION_LABELS = {
    "relevant": "relevant (named by InterpNet)",
    "relevant-positive": "relevant, positive weights only",
    "random": "random, same number",
    "random-per-layer": "random, same number per layer",
    "highest-activation": "highest mean activation, same number",
}


def finite_mean(values: Any) -> float:
    """Return the mean of the finite entries, NaN without a warning where there is none.

    Examples
    --------
    >>> finite_mean([1.0, float("nan"), 3.0])
    2.0
    """
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if array.size else float("nan")


def as_result(result: Any) -> AblationResult:
    """Return an ``AblationResult`` from one, or from the dictionary its ``to_json`` gives.

    Raises
    ------
    InterpNetError
        Neither of the two, or a dictionary that lacks a key or whose shapes do not fit.
    """
    if isinstance(result, AblationResult):
        return result
    if not isinstance(result, Mapping):
        raise InterpNetError(f"expected an AblationResult or its to_json() dictionary, got {type(result).__name__}")
    try:
        read = AblationResult.from_json(result)
    except InterpNetError:
        raise
    except KeyError as error:
        raise InterpNetError(f"the ablation result lacks {error}; run the ablation again") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InterpNetError(f"the ablation result cannot be read ({error}); run the ablation again") from error
    _check(read)
    return read


def _check(result: AblationResult) -> None:
    size = len(result.classes)
    shapes = {"support": result.support.shape, "intact": result.intact.shape}
    for condition in result.conditions:
        shapes[f"removed of {condition.name!r}"] = condition.removed.shape
        for what, array in (("own", condition.own), ("others", condition.others)):
            if array.ndim != 2 or array.shape[1] != size:
                raise InterpNetError(
                    f"{what} of {condition.name!r} has shape {array.shape}; expected (repeats, {size}). "
                    "Run the ablation again"
                )
    for what, shape in shapes.items():
        if shape != (size,):
            raise InterpNetError(f"{what} has shape {shape}; expected ({size},). Run the ablation again")


def find_condition(result: AblationResult, name: str, layers: str = "all") -> Condition | None:
    """Return a condition, or ``None`` where it was not run."""
    return next((c for c in result.conditions if (c.name, c.layers) == (name, layers)), None)


def others_change(result: AblationResult, condition: Condition) -> Float64:
    """Return (R, C): how the mean recall of the other classes changes; negative is a loss."""
    intact = result.intact
    without = np.array([finite_mean(np.delete(intact, c)) for c in range(len(intact))], np.float64)
    return np.asarray(condition.others - without, np.float64)


def mean_change(result: AblationResult, condition: Condition) -> tuple[float, tuple[float, float]]:
    """Return the mean of :func:`others_change` and its 95 % interval over repeats."""
    rows = np.array([finite_mean(row) for row in others_change(result, condition)], np.float64)
    return finite_mean(rows), interval(rows)


def by_class(values: Float64) -> Float64:
    """Return (C,): the mean over repeats of an (R, C) array, NaN where a class has no value."""
    return np.array([finite_mean(column) for column in values.T], np.float64)
