"""The picture of S4: cut-out animals with snow and grass around, dogs in snow, and how sure each answer is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from torch import Tensor

from experiments.common.pages import figure_file
from experiments.husky_wolf.photographs import HUSKY, WOLF
from interpnet.plotting.style import INK, VERMILLION
from interpnet.support.types import Float64, Int64

#: What is laid around the animals, from left to right.
SHOWN = ("grass", "colour of snow", "grass in the colour of snow", "snow in the colour of grass", "snow")
_OF_CLASS = 2  # animals


class Shown(NamedTuple):
    """Pictures (n, 3, H, W) of values 0 to 1, and the log-odds (n,) of a wolf by the head and by the network itself."""

    pictures: Tensor
    head: Float64
    own: Float64


def chosen(change: Float64, labels: Int64) -> Int64:
    """Return the animals to show, of each class the one with the median change and the one with the largest."""
    rows = []
    for c in (HUSKY, WOLF):
        order = np.flatnonzero(labels == c)
        order = order[np.argsort(change[order], kind="stable")]
        rows += [order[len(order) // 2], order[-1]]
    return np.array(rows)


def draw(path: Path, columns: Mapping[str, Shown], dogs: Shown) -> None:
    """Draw a row for each animal, and one of dogs in snow; below each picture the probability of a wolf."""
    n = len(next(iter(columns.values())).pictures)
    with figure_file(path, 1.6 * len(columns), 1.95 * (n + 1), 120) as drawn:
        places = drawn.subplots(n + 1, len(columns), squeeze=False)
        for (title, shown), column in zip(columns.items(), places.T, strict=True):
            column[0].set_title(title.replace(" in the", "\nin the"), fontsize=8)
            for i, place in enumerate(column[:n]):
                _one(place, shown, i, wolf=i >= _OF_CLASS)
        for i, place in enumerate(places[n]):
            if i < len(dogs.pictures):
                _one(place, dogs, i, wolf=False)
            else:
                place.set_axis_off()
        names = ["husky"] * _OF_CLASS + ["wolf"] * _OF_CLASS + ["other photographs:\ndogs in snow"]
        for place, name in zip(places[:, 0], names, strict=True):
            place.set_ylabel(name, fontsize=8)


def _one(place: Any, shown: Shown, i: int, *, wolf: bool) -> None:
    place.imshow(shown.pictures[i].clamp(0, 1).movedim(0, -1).numpy())
    place.set(xticks=[], yticks=[])
    right = (shown.head[i] > 0) == wolf
    words = f"wolf: head {expit(shown.head[i]):.3f}\nits own outputs {expit(shown.own[i]):.2f}"
    place.set_xlabel(words, fontsize=7, color=INK if right else VERMILLION)
