"""What ``--mu auto`` and ``--stability`` leave in ``weights/``: their files, and what they say in words; no torch."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import RunFolderError
from interpnet.support.io import read_json, write_json
from interpnet.support.types import Float64

SELECTION_FILE, STABILITY_FILE = "selection.json", "stability.npz"
_FORMAT = "interpnet-selection-1"
#: Meinshausen and Buehlmann take thresholds from 0.6 to 0.9; below the lowest a channel counts as seldom named.
SELDOM = 0.6
_CURVES = ("error_mean", "error_se", "accuracy_mean", "accuracy_se", "channels_mean")


@dataclass(frozen=True)
class Selection:
    """How mu was chosen on held-out images.

    Attributes
    ----------
    mus : array (T,) float64
        The radii tried, ascending.
    error_mean, error_se : array (T,) float64
        Held-out squared error per image and class: its mean over the folds and the standard error of that.
    accuracy_mean, accuracy_se : array (T,) float64, or None
        Share of held-out images whose largest decision value is their class's.
    channels_mean : array (T,) float64
        Channels with nonzero weight a class, mean over classes and folds.
    chosen, best : float
        The radius taken, and the one of the smallest error.
    rule : str
        ``"one_se"`` or ``"best"``.
    folds : int

    Examples
    --------
    >>> curve = np.array([1.0, 2.0, 4.0])
    >>> found = Selection(curve, curve / 9, curve / 90, None, None, 3 * curve, 2.0, 1.0, "best", 5)
    >>> Selection.from_json(found.to_json()).position(found.chosen)
    1
    """

    mus: Float64
    error_mean: Float64
    error_se: Float64
    accuracy_mean: Float64 | None
    accuracy_se: Float64 | None
    channels_mean: Float64
    chosen: float
    best: float
    rule: str
    folds: int

    def position(self, mu: float) -> int:
        """Return where ``mu`` stands among the radii tried."""
        return int(np.argmin(np.abs(self.mus - mu)))

    @property
    def end(self) -> str:
        """``"smallest"`` or ``"largest"`` where the radius taken is that of those tried, else empty."""
        return {self.mus[0]: "smallest", self.mus[-1]: "largest"}.get(self.chosen, "")

    @property
    def enough(self) -> float | None:
        """The smallest radius whose accuracy is within one standard error of the best; None where that is not known.

        The squared error goes on falling long after the accuracy has stopped rising: what a reader who wants few
        channels should know.
        """
        if self.accuracy_mean is None or self.accuracy_se is None:
            return None
        best = int(np.argmax(self.accuracy_mean))
        within = self.accuracy_mean >= self.accuracy_mean[best] - self.accuracy_se[best]
        return float(self.mus[np.argmax(within)])

    def at(self, mu: float) -> str:
        """Return accuracy (or error) and number of channels at one of the radii, in words."""
        t = self.position(mu)
        channels = f"{self.channels_mean[t]:.1f} channels a class"
        if self.accuracy_mean is None:
            return f"held-out error {self.error_mean[t]:.3g} with {channels}"
        return f"{100 * self.accuracy_mean[t]:.1f} % of the held-out images with {channels}"

    def sentences(self) -> str:
        """Say how mu was chosen."""
        tried = f"{len(self.mus)} values of mu from {self.mus[0]:.3g} to {self.mus[-1]:.3g}"
        how = f"{tried} were tried on held-out images, {self.folds} folds. The held-out error is smallest at "
        how += f"mu = {self.best:.3g}"
        if self.rule != "one_se":
            return f"{how}, which was taken."
        if self.chosen == self.best:
            how += ", and no smaller mu comes within one standard error of it, so that one was taken"
        else:
            how += f"; taken is mu = {self.chosen:.3g}, the smallest within one standard error of it"
        named = "" if self.accuracy_mean is None else "The regression names the class of "
        compared = f"{named}{self.at(self.chosen)}"
        if self.chosen != self.best:
            compared += f", against {self.at(self.best).replace(' of the held-out images', '')} at the smallest error"
        end = f" That is the {self.end} tried, so one beyond it may do better." if self.end else ""
        fewer = ""
        if self.enough is not None and self.enough < self.chosen:
            share = self.at(self.enough).replace(" of the held-out images", "")
            fewer = f" For accuracy alone a smaller mu would do: from mu = {self.enough:.3g} on, {share}, it is within "
            fewer += "one standard error of its best."
        return f"{how}.{end} {compared[:1].upper()}{compared[1:]}.{fewer}"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form; :meth:`from_json` reads it back."""
        curves = {name: getattr(self, name) for name in _CURVES}
        return {
            "format": _FORMAT, "rule": self.rule, "chosen": self.chosen, "best": self.best, "folds": self.folds,
            "mus": self.mus.tolist(),
            **{name: None if values is None else values.tolist() for name, values in curves.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Selection:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        RunFolderError
            Another format, curves of unequal length, or values that are not finite.
        """
        if data.get("format") != _FORMAT:
            raise RunFolderError(f"the choice of mu has format {data.get('format')!r}; expected {_FORMAT!r}")
        curves = {name: _curve(data[name]) for name in ("mus", *_CURVES)}
        mus = curves["mus"]
        for name, values in curves.items():
            if (values is None and not name.startswith("accuracy")) or mus is None:
                raise RunFolderError(f"the choice of mu has no {name}; expected a list of numbers")
            if values is not None and (values.shape != mus.shape or not np.isfinite(values).all() or not len(mus)):
                raise RunFolderError(
                    f"the choice of mu has {name} of shape {values.shape}; expected {mus.shape}, finite"
                )
        ends = {name: float(data[name]) for name in ("chosen", "best")}
        return cls(**curves, **ends, rule=str(data["rule"]), folds=int(data["folds"]))  # type: ignore[arg-type]


def _curve(values: Sequence[float] | None) -> Float64 | None:
    return None if values is None else np.asarray(values, np.float64)


def write_selection(folder: Path, found: Selection) -> None:
    """Write the choice of mu to ``folder``, atomically."""
    write_json(folder / SELECTION_FILE, found.to_json())


def read_selection(folder: Path) -> Selection | None:
    """Read the choice of mu from ``folder``; None where mu was given.

    Raises
    ------
    RunFolderError
        The file is damaged.
    """
    path = folder / SELECTION_FILE
    if not path.is_file():
        return None
    try:
        return Selection.from_json(read_json(path))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be used ({error})"
        raise RunFolderError(f"{str(path)!r} {what}; delete it and run `interpnet solve` again") from error


@dataclass(frozen=True)
class Frequencies:
    """How often other images name the same channels: ``frequency`` (C, m) in [0, 1] over ``halves`` half samples."""

    frequency: Float64
    halves: int


def read_frequencies(folder: Path, shape: tuple[int, int]) -> Frequencies | None:
    """Read the selection frequencies from ``folder``; None where they were not asked for.

    Raises
    ------
    RunFolderError
        The file is damaged, or its shape is not ``shape``: (classes, channels).
    """
    path = folder / STABILITY_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            frequency, halves = np.asarray(data["frequency"], np.float64), int(data["n_subsamples"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunFolderError(
            f"{str(path)!r} holds no frequencies ({error}); delete it and run `interpnet solve` again"
        ) from error
    if frequency.shape != shape or not np.all((frequency >= 0) & (frequency <= 1)):
        raise RunFolderError(
            f"{str(path)!r} has frequencies of shape {frequency.shape}; expected {shape}, from 0 to 1. "
            "Run `interpnet solve` again"
        )
    return Frequencies(frequency, halves)


def seldom(frequency: float) -> bool:
    """Whether a channel is named by fewer than 0.6 of the half samples; False where that is not known.

    Examples
    --------
    >>> seldom(0.55), seldom(0.6), seldom(float("nan"))
    (True, False, False)
    """
    return not math.isnan(frequency) and frequency < SELDOM
