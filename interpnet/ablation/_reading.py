"""Reading an ablation's result: from the dictionary that is stored, and what happens to other classes; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from interpnet.ablation._averages import finite_mean, interval, means
from interpnet.ablation._result import AblationResult, Condition
from interpnet.errors import InterpNetError
from interpnet.support.types import Float64


def as_result(result: Any) -> AblationResult:
    """Return an ``AblationResult`` from one, or from the dictionary its ``to_json`` gives, once its shapes fit."""
    if isinstance(result, AblationResult):
        return result
    if not isinstance(result, Mapping):
        raise InterpNetError(f"expected an AblationResult or its to_json() dictionary, got {type(result).__name__}")
    try:
        read = AblationResult.from_json(result)
    except InterpNetError:  # a ValueError too, but it has said what is wrong
        raise
    except KeyError as error:
        raise InterpNetError(f"the ablation result lacks {error}; run the ablation again") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InterpNetError(f"the ablation result cannot be read ({error}); run the ablation again") from error
    _check(read)
    return read


def _check(result: AblationResult) -> None:
    size = len(result.classes)
    parts: list[tuple[str, Any, int]] = [("support", result.support, 1), ("intact", result.intact, 1)]
    parts += [("log_odds", result.log_odds, 1), ("log_probability", result.log_probability, 1)]
    parts += [("false_alarms", result.false_alarms, 1), ("false_alarms_removed", result.false_alarms_removed, 1)]
    parts.append(("intact_of_all", result.intact_of_all, 1))
    for c in result.conditions:
        parts += [(f"removed of {c.name!r}", c.removed, 1), (f"own of {c.name!r}", c.own, 2)]
        parts.append((f"others of {c.name!r}", c.others, 2))
        for changes in c.changes.values():
            for name, effect in vars(changes).items():
                if effect is not None:
                    arrays = {"mean": effect.mean, "variance": effect.variance, "count": effect.count}
                    if effect.draws is not None:
                        arrays |= {"draws": effect.draws.number, "draw_variance": effect.draws.variance}
                    parts += [(f"{part} of {name!r} of {c.name!r}", array, 1) for part, array in arrays.items()]
    for what, array, axes in parts:
        if array is not None and (array.ndim != axes or array.shape[-1] != size):
            expected = {1: f"({size},)", 2: f"(repeats, {size})"}[axes]
            raise InterpNetError(f"{what} has shape {array.shape}; expected {expected}. Run the ablation again")


def curve_intervals(result: AblationResult) -> tuple[Float64, Float64]:
    """Return the 95 % intervals (K, 2) of the curve's mean recalls: of the named channels, and of random ones.

    They are over images and draws. A result of format 1 has them over the draws of the random curve, and none of the
    other (NaN).
    """
    curve = result.curve
    if curve is None:
        raise InterpNetError("the ablation result holds no curve; run the study with curve=True")
    if curve.own_ends is not None and curve.random_ends is not None:
        return curve.own_ends, curve.random_ends
    random = [interval(means(draws)) for draws in curve.random]
    return np.full((len(curve.k), 2), np.nan), np.array(random).reshape(-1, 2)


def others_change(result: AblationResult, condition: Condition) -> Float64:
    """Return (R, C): how the mean recall of the other classes changes; negative is a loss.

    Paired by image, as one row, where the result has it (format 2).
    """
    changes = condition.changes.get("recall")
    if changes is not None:
        return changes.by_removed.mean[None]
    intact = result.intact
    if result.intact_of_all is not None:
        intact = result.intact_of_all
    # The mean recall of the other classes; it is the same for all classes without images, which have none to leave out.
    without = np.full(len(intact), finite_mean(intact))
    finite = np.isfinite(intact)
    known = intact[finite]
    without[finite] = means(np.delete(known, i) for i in range(len(known)))
    return np.asarray(condition.others - without, np.float64)


def mean_change(result: AblationResult, condition: Condition) -> tuple[float, tuple[float, float]]:
    """Return how the others' recall changes, mean over classes, and its 95 % interval over images and draws.

    The classes are those of the images. In a result of format 1 they are those whose channels are removed, and the
    interval is over the repeats.
    """
    changes = condition.changes.get("recall")
    if changes is not None:
        return changes.others.overall(), changes.others.interval()
    rows = means(others_change(result, condition))  # the repeats are the draws that the interval speaks of
    return finite_mean(rows), interval(rows)
