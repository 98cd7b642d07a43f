"""The picture of S3's swaps: photographs on other surroundings, and what a network takes each for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.boats.effects import log_odds_of
from experiments.common.pages import figure_file
from interpnet.plotting.style import INK, VERMILLION
from interpnet.support.types import Float64

#: The classes that are shown, one without water last.
SHOWN = ("lifeboat", "gondola", "goose", "dugong", "tabby")
_COLUMNS = {
    "original": "as it is",
    "own on own": "on its own class's\nsurroundings",
    "own on water": "on sea or lake",
    "own on land": "on land",
    "own on street": "on a street",
    "alone": "surroundings alone",
}


def typical(logits: Mapping[str, Float64], c: int, among: list[int]) -> int:
    """Return the photograph whose change from water to street is the median, of those recognised as they are."""
    odds = {name: log_odds_of(logits[name], c, among) for name in ("original", "own on water", "own on street")}
    change = odds["own on street"] - odds["own on water"]
    seen = np.flatnonzero(logits["original"][:, among].argmax(1) == among.index(c))
    order = seen[np.argsort(change[seen], kind="stable")]
    return int(order[len(order) // 2])


def draw(
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, Tensor], Mapping[str, Float64]]],
    classes: Sequence[str],
    among: list[int],
) -> None:
    """Draw a row for each (class, its pictures, their logits of the 24 classes), its typical photograph.

    Below each picture stand the likeliest of the classes that name a subject, and the probability of the photograph's
    own among them.
    """
    with figure_file(path, 1.55 * len(_COLUMNS), 1.95 * len(rows), 130) as drawn:
        places = drawn.subplots(len(rows), len(_COLUMNS), squeeze=False)
        for place, title in zip(places[0], _COLUMNS.values(), strict=True):
            place.set_title(title, fontsize=8)
        for line, (c, pictures, logits) in zip(places, rows, strict=True):
            chosen = typical(logits, c, among)
            for place, name in zip(line, _COLUMNS, strict=True):
                place.imshow(pictures[name][chosen].movedim(0, -1).numpy(), interpolation="nearest")
                place.set(xticks=[], yticks=[])
                x = logits[name][chosen, among]
                p = np.exp(x - np.logaddexp.reduce(x))
                answer = among[int(p.argmax())]
                words = f"{classes[answer].replace('_', ' ')} {p.max():.2f}"
                if answer != c:
                    words += f"\n({classes[c].replace('_', ' ')} {p[among.index(c)]:.2f})"
                place.set_xlabel(words, fontsize=7, color=INK if answer == c else VERMILLION)
            line[0].set_ylabel(classes[c].replace("_", " "), fontsize=8)
