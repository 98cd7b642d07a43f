"""What an ablation study found, with its intervals, as plain arrays that go to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from interpnet.engine import Channel
from interpnet.errors import RunFolderError
from interpnet.support.types import Float64

_FORMAT = "interpnet-ablation-1"


class SingleEffect(NamedTuple):
    """What removing one channel alone does: the class's own recall lost, and the others' change."""

    channel: Channel
    weight: float
    own_drop: float
    others_change: float


def interval(values: Float64, level: float = 0.95) -> tuple[float, float]:
    """Return the Student-t interval of the mean of ``values`` (R,); the value itself for R = 1.

    ``mean +- t_{R-1} * sd / sqrt(R)``: it speaks of the draws of the control, not of the choice of images.

    Examples
    --------
    >>> tuple(round(v, 3) for v in interval(np.array([1.0, 2.0, 3.0])))
    (-0.484, 4.484)
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, mean
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def _mean(values: Float64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Condition:
    """One way to choose channels, on all layers or on convolutional layers only.

    Attributes
    ----------
    name : str
        ``relevant``, ``relevant-positive``, ``random``, ``random-per-layer`` or ``highest-activation``.
    layers : str
        ``all`` or ``conv``.
    removed : array (C,)
        Channels removed for each class.
    own : array (R, C)
        Recall of each class on its images with its channels removed, for each repeat; NaN without images.
    others : array (R, C)
        Mean recall of the other classes with this class's channels removed.
    """

    name: str
    layers: str
    removed: Float64
    own: Float64
    others: Float64

    def mean_own(self) -> float:
        """Return the mean over classes and repeats of the own recall: mean class accuracy."""
        return _mean(self._by_repeat(self.own))

    def mean_others(self) -> float:
        """Return the mean over classes and repeats of the others' recall."""
        return _mean(self._by_repeat(self.others))

    def interval_own(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_own` over the repeats."""
        return interval(self._by_repeat(self.own))

    def interval_others(self) -> tuple[float, float]:
        """Return the 95 % interval of :meth:`mean_others` over the repeats."""
        return interval(self._by_repeat(self.others))

    @staticmethod
    def _by_repeat(values: Float64) -> Float64:
        return np.array([_mean(row) for row in values])


@dataclass(frozen=True)
class Curve:
    """Own recall against the number of channels removed: k (K,), own (K, C), random (K, R, C)."""

    k: npt.NDArray[np.int64]
    own: Float64
    random: Float64


@dataclass(frozen=True)
class AblationResult:
    """All conditions of one study.

    Attributes
    ----------
    classes : tuple of str
    support : array (C,)
        Images of each class.
    intact : array (C,)
        Recall of the untouched network.
    fill : str
        What removed maps were overwritten with.
    n_images, repeats, seed : int
    conditions : tuple of Condition
    curve : Curve or None
    single : dict of class number to list of SingleEffect
    """

    classes: tuple[str, ...]
    support: npt.NDArray[np.int64]
    intact: Float64
    fill: str
    n_images: int
    repeats: int
    seed: int
    conditions: tuple[Condition, ...]
    curve: Curve | None = None
    single: Mapping[int, list[SingleEffect]] = field(default_factory=dict)

    @property
    def mean_intact(self) -> float:
        """Mean class accuracy of the untouched network."""
        return _mean(self.intact)

    def condition(self, name: str, layers: str = "all") -> Condition:
        """Return one condition by name."""
        for c in self.conditions:
            if (c.name, c.layers) == (name, layers):
                return c
        raise KeyError(
            f"no condition {name!r} on {layers!r}; there are {[(c.name, c.layers) for c in self.conditions]}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers; NaN becomes ``None``."""
        return {
            "format": _FORMAT,
            "classes": list(self.classes),
            "support": self.support.tolist(),
            "intact": _plain(self.intact),
            "mean_intact": _plain(self.mean_intact),
            "fill": self.fill,
            "n_images": self.n_images,
            "repeats": self.repeats,
            "seed": self.seed,
            "conditions": [
                {
                    "name": c.name,
                    "layers": c.layers,
                    "removed": _plain(c.removed),
                    "own": _plain(c.own),
                    "others": _plain(c.others),
                    "mean_own": _plain(c.mean_own()),
                    "interval_own": _plain(np.array(c.interval_own())),
                    "mean_others": _plain(c.mean_others()),
                    "interval_others": _plain(np.array(c.interval_others())),
                }
                for c in self.conditions
            ],
            "curve": None
            if self.curve is None
            else {"k": self.curve.k.tolist(), "own": _plain(self.curve.own), "random": _plain(self.curve.random)},
            "single": {
                str(c): [
                    {
                        "layer": e.channel.layer,
                        "index": e.channel.index,
                        "weight": e.weight,
                        "own_drop": _plain(e.own_drop),
                        "others_change": _plain(e.others_change),
                    }
                    for e in effects
                ]
                for c, effects in self.single.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AblationResult:
        """Read what :meth:`to_json` gave."""
        if value.get("format") != _FORMAT:
            raise RunFolderError(f"format {value.get('format')!r} is no ablation result; expected {_FORMAT!r}")
        curve = value["curve"]
        return cls(
            tuple(value["classes"]),
            np.array(value["support"], dtype=np.int64),
            _array(value["intact"]),
            value["fill"],
            value["n_images"],
            value["repeats"],
            value["seed"],
            tuple(
                Condition(c["name"], c["layers"], _array(c["removed"]), _array(c["own"]), _array(c["others"]))
                for c in value["conditions"]
            ),
            None
            if curve is None
            else Curve(np.array(curve["k"], dtype=np.int64), _array(curve["own"]), _array(curve["random"])),
            {
                int(c): [
                    SingleEffect(
                        Channel(e["layer"], e["index"]),
                        e["weight"],
                        _number(e["own_drop"]),
                        _number(e["others_change"]),
                    )
                    for e in effects
                ]
                for c, effects in value["single"].items()
            },
        )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value]
    number = float(value)
    return None if math.isnan(number) else number


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _array(value: Any) -> Float64:
    return np.array(value, dtype=np.float64)
