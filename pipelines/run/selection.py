"""What ``--mu auto`` and ``--stability`` leave in ``weights/``: their files, and what they say in words; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.mulasso import SelectionCurve, Stability
from interpnet.support.io import read_json, write_json

SELECTION_FILE = "selection.json"
STABILITY_FILE = "stability.npz"
_FORMAT = "interpnet-selection-1"
#: Meinshausen and Buehlmann take thresholds from 0.6 to 0.9; below the lowest a channel counts as seldom named.
SELDOM = 0.6
_BEST = {"accuracy": "best accuracy of all", "one_se": "smallest error", "best": "smallest error"}
# What a choice on targets without labels does not have.
_ACCURACY = ("accuracy_mean", "accuracy_se")
_CURVES = ("error_mean", "error_se", *_ACCURACY, "channels_mean")
_AGAIN = "delete it and run `interpnet solve` again"


def at_radius(curve: SelectionCurve, mu: float) -> str:
    """Return accuracy (or error) and number of channels at one of the radii, in words."""
    t = curve.position(mu)
    channels = f"{curve.channels_mean[t]:.1f} channels per class"
    if curve.accuracy_mean is None:
        return f"held-out error {curve.error_mean[t]:.3g} with {channels}"
    return f"{100 * curve.accuracy_mean[t]:.1f} % of the held-out images with {channels}"


def how_chosen(curve: SelectionCurve) -> str:
    """Say in a few sentences how mu was chosen, and what it costs; one mu per class is an InterpNetError."""
    if np.ndim(curve.chosen) or np.ndim(curve.best):
        raise InterpNetError(
            "the curve has one mu per class (per_class=True); expected one for all classes: read curve.chosen itself"
        )
    chosen = float(curve.chosen)
    text = (
        f"{len(curve.mus)} values of mu from {curve.mus[0]:.3g} to {curve.mus[-1]:.3g} were tried on held-out images, "
        f"{curve.n_folds} folds. "
    )
    if curve.rule == "accuracy":
        text += f"Taken is mu = {chosen:.3g}, the smallest whose accuracy is within one standard error of the best"
        if curve.most is not None:
            text += f" among those that name at most {curve.most:.3g} channels per class"
        text += "."
    else:
        text += _by_error(curve, chosen, float(curve.best))
    if curve.rule == "best":
        return text
    if curve.end:
        text += f" That is the {curve.end} tried, so one beyond it may do better."
    compared = at_radius(curve, chosen)
    if curve.accuracy_mean is not None:
        compared = f"The regression names the class of {compared}"
    text += f" {compared[:1].upper()}{compared[1:]}"
    other = _compared_with(curve)
    if other != chosen:
        text += f", against {_short(curve, other)} at the {_BEST[curve.rule]}"
    text += "."
    # Without that bound, or by the error, which goes on falling long after the accuracy has stopped rising.
    if curve.enough is not None and curve.enough < chosen:
        text += (
            f" For accuracy alone a smaller mu would do: from mu = {curve.enough:.3g} on, "
            f"{_short(curve, curve.enough)}, it is within one standard error of its best."
        )
    if curve.rule == "accuracy" and curve.enough is not None and curve.enough > chosen:
        text += (
            f" More channels would predict better: from mu = {curve.enough:.3g} on, {_short(curve, curve.enough)}, the "
            "accuracy is within one standard error of the best of all."
        )
    return text


def _by_error(curve: SelectionCurve, chosen: float, best: float) -> str:
    """Say how a rule by squared error took its mu."""
    text = f"The held-out error is smallest at mu = {best:.3g}"
    if curve.rule != "one_se":
        return f"{text}, which was taken."
    if chosen == best:
        return f"{text}, and no smaller mu comes within one standard error of it, so that one was taken."
    return f"{text}; taken is mu = {chosen:.3g}, the smallest within one standard error of it."


def _compared_with(curve: SelectionCurve) -> float:
    """Return the mu that a rule does best at, whatever it costs."""
    if curve.rule == "accuracy" and curve.accuracy_mean is not None:
        return float(curve.mus[int(np.argmax(curve.accuracy_mean))])
    return float(curve.best)


def _short(curve: SelectionCurve, mu: float) -> str:
    return at_radius(curve, mu).replace(" of the held-out images", "")


def selection_json(curve: SelectionCurve) -> dict[str, Any]:
    """Return what ``selection.json`` holds; :func:`selection_from` reads it back."""
    values = curve.to_json()
    kept = {name: values[name] for name in ("rule", "chosen", "best", "most") if values[name] is not None}
    return {"format": _FORMAT, **kept, "folds": curve.n_folds, **{name: values[name] for name in ("mus", *_CURVES)}}


def selection_from(data: Mapping[str, Any]) -> SelectionCurve:
    """Read what :func:`selection_json` gave; a RunFolderError says what is wrong with it."""
    if data.get("format") != _FORMAT:
        raise RunFolderError(f"the choice of mu has format {data.get('format')!r}; expected {_FORMAT!r}")
    curves: dict[str, Any] = {name: data[name] for name in ("mus", *_CURVES)}
    for name, values in curves.items():
        if values is None and name not in _ACCURACY:
            raise RunFolderError(f"the choice of mu has no {name}; expected a list of numbers")
        if values is None:
            continue
        array = np.asarray(values, np.float64)
        shape = np.shape(curves["mus"])
        if array.shape != shape or not np.isfinite(array).all() or not array.size:
            raise RunFolderError(f"the choice of mu has {name} of shape {array.shape}; expected {shape}, finite")
        curves[name] = array
    chosen = float(data["chosen"])
    rule = str(data["rule"])
    if rule not in _BEST:
        raise RunFolderError(f"the choice of mu has rule {rule!r}; expected {', '.join(_BEST)}")
    most = data.get("most")
    if most is not None:
        most = float(most)
    # The file does not keep what a rule by error would have taken; the command line chose by that alone once.
    return SelectionCurve(
        **curves,
        chosen=chosen,
        best=float(data["best"]),
        one_se=chosen,
        rule=rule,
        n_folds=int(data["folds"]),
        most=most,
    )


def write_selection(folder: Path, curve: SelectionCurve) -> None:
    """Write the choice of mu to ``folder``, atomically."""
    write_json(folder / SELECTION_FILE, selection_json(curve))


def read_selection(folder: Path) -> SelectionCurve | None:
    """Read the choice of mu from ``folder``; None where mu was given. A damaged file is a RunFolderError."""
    path = folder / SELECTION_FILE
    if not path.is_file():
        return None
    try:
        return selection_from(read_json(path))
    # A KeyError says the name alone.
    except KeyError as error:
        raise RunFolderError(f"{str(path)!r} lacks {error}; {_AGAIN}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise RunFolderError(f"{str(path)!r} cannot be used ({error}); {_AGAIN}") from error


def read_frequencies(folder: Path, shape: tuple[int, int]) -> Stability | None:
    """Read the selection frequencies from ``folder``; None where they were not asked for.

    A damaged file, or one whose shape is not ``shape``, (classes, channels), is a RunFolderError.
    """
    path = folder / STABILITY_FILE
    if not path.is_file():
        return None
    try:
        found = Stability.load(path)
    except RunFolderError as error:
        raise RunFolderError(f"{error} by `interpnet solve`") from error
    if found.frequency.shape != shape:
        raise RunFolderError(
            f"{str(path)!r} has frequencies of shape {found.frequency.shape}; expected {shape}. "
            "Run `interpnet solve` again"
        )
    return found


def seldom(frequency: float) -> bool:
    """Whether a channel is named by fewer than 0.6 of the half samples; False where that is not known (NaN)."""
    return frequency < SELDOM
