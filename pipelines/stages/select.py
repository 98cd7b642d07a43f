"""The solve stage's optional halves: mu chosen on held-out images, and how stable the named channels are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import physical_memory
from interpnet.mulasso import SelectionCurve
from interpnet.scores import ScoreTable

from ..run.config import RunConfig
from ..run.selection import STABILITY_FILE
from ..run.session import Notes

_FOLDS = 5
# One image to fit on and one to hold out.
_FEWEST = 2
# Blocks that halves are made of, as many as fit into memory; 8 make 35 different pairs of halves, 16 make 6435.
_BLOCKS = (16, 14, 12, 10, 8)


def sample_weights(targets: npt.NDArray[Any], config: RunConfig) -> npt.NDArray[np.float64] | None:
    """Return a weight an image (N,) that gives every class the same total; None where images count alike."""
    if config.class_weight == "none":
        return None
    from sklearn.utils.class_weight import compute_sample_weight

    return np.asarray(compute_sample_weight("balanced", targets), np.float64)


def choose_mu(
    table: ScoreTable, fit_on: str, config: RunConfig, classes: Sequence[str], notes: Notes
) -> SelectionCurve:
    """Choose mu by held-out images: the smallest within one standard error of the smallest error.

    Raises
    ------
    InterpNetError
        Fewer than two classes have images, or one has a single image.
    """
    from interpnet.mulasso import MuLassoCV

    targets = np.asarray(table.targets(fit_on))
    folds = _folds(targets, fit_on, classes, notes)
    if not _fits(len(table.channels), folds):
        raise InterpNetError(
            f"--mu auto needs the Gram matrices of {folds} folds, {_gib(len(table.channels), folds)}. "
            "Give --mu a number, or collect fewer layers (--layers)"
        )
    model = MuLassoCV(
        cv=folds,
        rule="one_se",
        positive=config.positive,
        class_weight=_class_weight(config),
        random_state=config.seed,
    )
    with warnings.catch_warnings():
        # Said below in the words of the command line.
        warnings.filterwarnings("ignore", message="the chosen mu is .* at an end", category=UserWarning)
        found: SelectionCurve = model.fit(table.X, targets).curve_
    if found.end:
        notes.add(
            f"The chosen mu = {found.chosen:.3g} is the {found.end} of the {len(found.mus)} values tried; one beyond "
            "it may do better (--mu takes any number)."
        )
    return found


def _folds(targets: npt.NDArray[Any], fit_on: str, classes: Sequence[str], notes: Notes) -> int:
    """Return the number of folds: five, or as many as the smallest class has images."""
    counts = np.bincount(targets, minlength=len(classes))
    there = np.flatnonzero(counts)
    what = "label" if fit_on == "labels" else "prediction"
    if len(there) < 2:
        raise InterpNetError(
            f"--mu auto: all {len(targets)} {what}s are class {classes[int(there[0])]!r}; expected at least two "
            "classes. Give --mu a number, or collect more images"
        )
    least = int(there[np.argmin(counts[there])])
    if counts[least] < _FEWEST:
        other = "labels" if fit_on == "predictions" else "predictions"
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


def _fits(m: int, grams: int) -> bool:
    # The other half of the memory is the solver's.
    memory = physical_memory()
    return memory is None or 8 * m * m * grams <= memory / 2


def _gib(m: int, grams: int) -> str:
    return f"{8 * m * m * grams / 2**30:.1f} GiB for {m:,} channels, more than half of this machine's memory"


def measure_stability(
    table: ScoreTable, fit_on: str, config: RunConfig, mu: float, n_classes: int, folder: Path
) -> npt.NDArray[np.float64]:
    """Write how often half of the images name each channel, and return it (C, m); zeros for an empty class.

    Raises
    ------
    InterpNetError
        Fewer images than blocks, or more pairs than the blocks that fit into memory make.
    """
    from interpnet.mulasso import stability_selection

    targets = np.asarray(table.targets(fit_on))
    blocks = _blocks(len(targets), len(table.channels), config.stability)
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
    frequency = np.zeros((n_classes, len(table.channels)))
    frequency[np.unique(targets)] = found.frequency
    replace(found, frequency=frequency).save(folder / STABILITY_FILE)
    return frequency


def _blocks(images: int, m: int, pairs: int) -> int:
    """Return how many blocks the halves are made of."""
    if images < _BLOCKS[0]:
        raise InterpNetError(
            f"--stability: there are {images} images; expected at least {_BLOCKS[0]}, to make different halves of. "
            "Leave it out, or collect more images"
        )
    blocks = next((blocks for blocks in _BLOCKS if _fits(m, blocks)), None)
    if blocks is None:
        raise InterpNetError(
            f"--stability needs the Gram matrices of {_BLOCKS[-1]} blocks of the images, {_gib(m, _BLOCKS[-1])}. "
            "Leave it out, or collect fewer layers (--layers)"
        )
    most = comb(blocks, blocks // 2) // 2
    if pairs > most:
        raise InterpNetError(
            f"--stability is {pairs}; the {blocks} blocks of images that fit into memory make {most} different pairs "
            f"of halves. Give at most {most}; 20 to 50 are usual"
        )
    return blocks


def _class_weight(config: RunConfig) -> str | None:
    return None if config.class_weight == "none" else config.class_weight
