"""The solve stage's optional halves: mu chosen on held-out images, and how stable the named channels are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import InterpNetError
from interpnet.gram import parts_fit
from interpnet.mulasso import SelectionCurve
from interpnet.scores import ScoreTable
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64

from ..run.config import RunConfig
from ..run.notes import Notes
from ..run.selection import STABILITY_FILE

# docs/method.md, section 2.6.
_FOLDS = 5
# One image to fit on and one to hold out.
_FEWEST = 2
# More channels per class, or a larger share of them all, say little about any of them.
_MOST_NAMED = 32
_MOST_SHARE = 0.1
# Blocks that halves are made of, as many as fit into memory; 8 make 35 different pairs of halves, 16 make 6435.
_BLOCKS = (16, 14, 12, 10, 8)


def sample_weights(targets: Int64, config: RunConfig) -> Float64 | None:
    """Return a weight per image (N,) that gives every class the same total; None where images count alike."""
    if config.class_weight == "none":
        return None
    from sklearn.utils.class_weight import compute_sample_weight

    return np.asarray(compute_sample_weight("balanced", targets), np.float64)


def choose_mu(
    table: ScoreTable, fit_on: str, config: RunConfig, classes: Sequence[str], notes: Notes
) -> SelectionCurve:
    """Choose mu by held-out images: the smallest whose accuracy is within one standard error of the best.

    No mu is taken that names more than :func:`most_channels` per class, unless every one does. By error
    (``--mu-rule error``): the smallest within one standard error of the smallest error, without such a bound.
    Fewer than two classes with images, or one with a single image, are refused.
    """
    from interpnet.mulasso import MuLassoCV

    targets = np.asarray(table.targets(fit_on))
    by_accuracy = config.mu_rule == "accuracy"
    if targets.ndim > 1:
        folds = _folds_of_labels(targets, classes)
        if by_accuracy:
            notes.add(
                "mu was chosen by the held-out squared error (--mu-rule error), which names many channels: where an "
                "image can have several labels, no single class of it is right or wrong."
            )
        by_accuracy = False
    else:
        folds = _folds(targets, fit_on, classes, notes)
    weighting = _class_weight(config)
    # Scikit-learn takes seeds of 32 bits.
    rule: dict[str, Any] = {"rule": "one_se"}
    if by_accuracy:
        rule = {"rule": "accuracy", "most_channels": most_channels(len(table.channels))}
    model = MuLassoCV(
        cv=folds,
        **rule,
        positive=config.positive,
        class_weight=weighting,
        random_state=config.seed % 2**32,
    )
    with warnings.catch_warnings():
        # Said below in the words of the command line.
        warnings.filterwarnings("ignore", message="the chosen mu is .* at an end")
        with progress_bar("Choosing mu", folds, unit="folds"):
            curve: SelectionCurve = model.fit(table.X, targets).curve_
    if curve.end:
        notes.add(
            f"The chosen mu = {curve.chosen:.3g} is the {curve.end} of the {len(curve.mus)} values tried; one beyond "
            "it may do better (--mu takes any number)."
        )
    return curve


def most_channels(m: int) -> float:
    """Return how many of ``m`` channels ``--mu auto`` names for a class at most, on average: 32, or a tenth of them.

    Examples
    --------
    >>> most_channels(1584), most_channels(20)
    (32, 2.0)
    """
    return min(_MOST_NAMED, max(1.0, _MOST_SHARE * m))


def _folds_of_labels(targets: Float64, classes: Sequence[str]) -> int:
    """Return the number of folds for targets (N, C): five, or as many as there are images."""
    counts = (targets > 0.5).sum(0)
    if not (counts >= _FEWEST).any():
        least = int(counts.argmax())
        raise InterpNetError(
            f"--mu auto: no label has more images than {classes[least]!r}, with {counts[least]}; expected at least "
            f"{_FEWEST}, one to fit on and one to hold out. Give --mu a number, or collect more images"
        )
    return min(_FOLDS, len(targets))


def _folds(targets: Int64, fit_on: str, classes: Sequence[str], notes: Notes) -> int:
    """Return the number of folds: five, or as many as the smallest class has images."""
    counts = np.bincount(targets)
    there = np.flatnonzero(counts)
    what = fit_on.removesuffix("s")
    if len(there) < 2:
        raise InterpNetError(
            f"--mu auto: all {len(targets)} {fit_on} are class {classes[int(there[0])]!r}; expected at least two "
            "classes. Give --mu a number, or collect more images"
        )
    least = int(there[np.argmin(counts[there])])
    if counts[least] < _FEWEST:
        other = {"predictions": "labels", "labels": "predictions"}[fit_on]
        raise InterpNetError(
            f"--mu auto: class {classes[least]!r} has {counts[least]} image by its {what}; expected at least {_FEWEST} "
            f"in every class, one to fit on and one to hold out. Give --mu a number, collect more images, or try "
            f"--fit-on {other}"
        )
    folds = min(_FOLDS, int(counts[least]))
    if folds < _FOLDS:
        notes.add(
            f"mu was chosen with {folds} folds rather than {_FOLDS}: class {classes[least]!r} has only "
            f"{counts[least]} images."
        )
    return folds


def measure_stability(
    table: ScoreTable, fit_on: str, config: RunConfig, mu: float, n_classes: int, folder: Path
) -> Float64:
    """Write how often half of the images name each channel, and return it (C, m); zeros for an empty class."""
    from interpnet.mulasso import stability_selection

    targets = np.asarray(table.targets(fit_on))
    blocks = _blocks(table, config.stability)
    # Open from the sums on, which take longest.
    with progress_bar("stability", 2 * config.stability, unit="solutions"):
        found = stability_selection(
            table.X,
            targets,
            mu=mu,
            n_pairs=config.stability,
            n_blocks=blocks,
            positive=config.positive,
            class_weight=_class_weight(config),
            seed=config.seed,
        )
    # Classes without images were not fitted; the file has a row for every output of the network.
    frequency = np.zeros((n_classes, len(table.channels)))
    fitted = np.arange(n_classes)
    if targets.ndim == 1:
        fitted = np.unique(targets)
    frequency[fitted] = found.frequency
    replace(found, frequency=frequency).save(folder / STABILITY_FILE)
    return frequency


def _blocks(table: ScoreTable, pairs: int) -> int:
    """Return how many blocks the halves are made of."""
    if len(table) < _BLOCKS[0]:
        raise InterpNetError(
            f"--stability: there are {len(table)} images; expected at least {_BLOCKS[0]}, to make different halves of. "
            "Leave it out, or collect more images"
        )
    fitting = [blocks for blocks in _BLOCKS if parts_fit(len(table.channels), blocks)]
    # Where no matrices fit, the halves are solved from the scores, whatever the number of blocks.
    fitting += _BLOCKS
    most = comb(fitting[0], fitting[0] // 2) // 2
    if pairs > most:
        raise InterpNetError(
            f"--stability is {pairs}; the {fitting[0]} blocks of images that fit into memory make {most} different "
            f"pairs of halves. Give at most {most}; 20 to 50 are usual"
        )
    return fitting[0]


def _class_weight(config: RunConfig) -> str | None:
    return None if config.class_weight == "none" else config.class_weight
