"""What an ablation study found, as plain arrays that go to JSON and back, and what reports read of it; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from interpnet.engine import Channel
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.checks import number, real_array
from interpnet.support.types import Float64, Int64

_FORMAT = "interpnet-ablation-1"

# The conditions in the order in which they are shown, and what a reader calls them.
CONDITION_LABELS = {
    "relevant": "relevant (named by InterpNet)",
    "relevant-positive": "relevant, positive weights only",
    "random": "random, same number",
    "random-per-layer": "random, same number per layer",
    "highest-activation": "highest mean activation, same number",
}


class SingleEffect(NamedTuple):
    """What removing one channel alone does: the class's own recall lost, and the others' change."""

    channel: Channel
    weight: float
    own_drop: float
    others_change: float


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


def interval(values: Float64, level: float = 0.95) -> tuple[float, float]:
    """Return the Student-t interval of the mean of ``values`` (R,); the value itself for R = 1.

    ``mean +- t_{R-1} * sd / sqrt(R)`` (docs/method.md, section 6.1) speaks of the control's draws, not of the images.

    Examples
    --------
    >>> tuple(round(v, 3) for v in interval(np.array([1.0, 2.0, 3.0])))
    (-0.484, 4.484)
    """
    if not 0 < number(level, "level") < 1:
        raise InterpNetError(f"level is {level}; expected a share between 0 and 1")
    values = real_array(values, "values")
    values = values[~np.isnan(values)]
    mean = finite_mean(values)
    if len(values) < 2:  # one value has no spread, and none has no mean
        return mean, mean
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def _means(rows: Iterable[Float64]) -> Float64:
    return np.array([finite_mean(row) for row in rows], np.float64)


def by_class(values: Float64) -> Float64:
    """Return (C,): the mean over repeats of an (R, C) array, NaN where a class has no value."""
    return _means(values.T)


@dataclass(frozen=True)
class Condition:
    """One way to choose channels, on all layers or on convolutional layers only."""

    name: str  # one of CONDITION_LABELS
    layers: str  # "all" or "conv"
    removed: Float64  # (C,): channels removed for each class
    own: Float64  # (R, C): recall of each class without its channels, for each repeat; NaN without images
    others: Float64  # (R, C): mean recall of the other classes without this class's channels

    def mean_own(self) -> float:
        """Return the mean over classes and repeats of the own recall: mean class accuracy."""
        return finite_mean(_means(self.own))

    def mean_others(self) -> float:
        """Return the mean over classes and repeats of the others' recall."""
        return finite_mean(_means(self.others))

    def interval_own(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_own` over the repeats."""
        return interval(_means(self.own))

    def interval_others(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_others` over the repeats."""
        return interval(_means(self.others))


@dataclass(frozen=True)
class Curve:
    """Own recall against the number of channels removed."""

    k: Int64  # (K,)
    own: Float64  # (K, C)
    random: Float64  # (K, R, C)


@dataclass(frozen=True)
class AblationResult:
    """All conditions of one study."""

    classes: tuple[str, ...]
    support: Int64  # (C,): images of each class
    intact: Float64  # (C,): their recall by the untouched network
    fill: str  # what removed maps were overwritten with
    n_images: int
    repeats: int
    seed: int
    conditions: tuple[Condition, ...]
    curve: Curve | None = None
    single: Mapping[int, list[SingleEffect]] = field(default_factory=dict)  # by class number

    @property
    def mean_intact(self) -> float:
        """Mean class accuracy of the untouched network."""
        return finite_mean(self.intact)

    def condition(self, name: str, layers: str = "all") -> Condition:
        """Return one condition by name."""
        found = find_condition(self, name, layers)
        if found is None:
            there = [(c.name, c.layers) for c in self.conditions]
            raise KeyError(f"no condition {name!r} on {layers!r}; there are {there}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers; NaN becomes ``None``."""
        conditions = [
            {
                **vars(c),
                "mean_own": c.mean_own(),
                "interval_own": c.interval_own(),
                "mean_others": c.mean_others(),
                "interval_others": c.interval_others(),
            }
            for c in self.conditions
        ]
        single = {str(c): [_effect_json(effect) for effect in effects] for c, effects in self.single.items()}
        result: dict[str, Any] = plain(
            {
                "format": _FORMAT,
                **vars(self),
                "mean_intact": self.mean_intact,
                "conditions": conditions,
                "curve": self.curve and vars(self.curve),
                "single": single,
            }
        )
        return result

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AblationResult:
        """Read what :meth:`to_json` gave."""
        if value.get("format") != _FORMAT:
            raise RunFolderError(f"format {value.get('format')!r} is no ablation result; expected {_FORMAT!r}")
        curve = value["curve"]
        if curve is not None:
            curve = Curve(np.array(curve["k"], dtype=np.int64), _array(curve["own"]), _array(curve["random"]))
        return cls(
            classes=tuple(value["classes"]),
            support=np.array(value["support"], dtype=np.int64),
            intact=_array(value["intact"]),
            fill=value["fill"],
            n_images=value["n_images"],
            repeats=value["repeats"],
            seed=value["seed"],
            conditions=tuple(
                Condition(c["name"], c["layers"], _array(c["removed"]), _array(c["own"]), _array(c["others"]))
                for c in value["conditions"]
            ),
            curve=curve,
            single={int(c): [_effect(e) for e in effects] for c, effects in value["single"].items()},
        )


def _effect_json(effect: SingleEffect) -> dict[str, Any]:
    values = effect._asdict()
    return asdict(values.pop("channel")) | values


def _effect(value: Mapping[str, Any]) -> SingleEffect:
    drop, change = _array([value["own_drop"], value["others_change"]]).tolist()
    return SingleEffect(Channel(value["layer"], value["index"]), value["weight"], drop, change)


def plain(value: Any) -> Any:
    """Return what JSON takes: arrays and tuples as lists, and NaN, which JSON has not, as ``None``."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())  # Python's own numbers
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _array(value: Any) -> Float64:
    return np.array(value, dtype=np.float64)  # None, which stands for NaN, becomes NaN again


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
    parts = [("support", result.support, 1), ("intact", result.intact, 1)]
    for c in result.conditions:
        parts += [(f"removed of {c.name!r}", c.removed, 1), (f"own of {c.name!r}", c.own, 2)]
        parts.append((f"others of {c.name!r}", c.others, 2))
    for what, array, axes in parts:
        if array.ndim != axes or array.shape[-1] != size:
            expected = {1: f"({size},)", 2: f"(repeats, {size})"}[axes]
            raise InterpNetError(f"{what} has shape {array.shape}; expected {expected}. Run the ablation again")


def find_condition(result: AblationResult, name: str, layers: str = "all") -> Condition | None:
    """Return a condition, or ``None`` where it was not run."""
    return next((c for c in result.conditions if (c.name, c.layers) == (name, layers)), None)


def others_change(result: AblationResult, condition: Condition) -> Float64:
    """Return (R, C): how the mean recall of the other classes changes; negative is a loss."""
    # The mean recall of the other classes; it is the same for all classes without images, which have none to leave out.
    without = np.full(len(result.intact), finite_mean(result.intact))
    finite = np.isfinite(result.intact)
    known = result.intact[finite]
    without[finite] = _means(np.delete(known, i) for i in range(len(known)))
    return np.asarray(condition.others - without, np.float64)


def mean_change(result: AblationResult, condition: Condition) -> tuple[float, tuple[float, float]]:
    """Return the mean of :func:`others_change` and its 95 % interval over repeats."""
    rows = _means(others_change(result, condition))  # the repeats are the draws that the interval speaks of
    return finite_mean(rows), interval(rows)
