"""What becomes of the carton over many random splits into training and field images, from logits alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from experiments.watermark.photographs import CONTROL, IN_PLACE, MARK, PLAIN
from experiments.watermark.run import CARTON
from interpnet.engine import all_log_odds
from interpnet.shortcuts import Leaning, leaning
from interpnet.support.types import Float64, Int64

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the field images that bear the watermark
LEVEL = 0.05  # of the adjusted p-value, as the search has it
_NAMED = 10


def log_odds(logits: Float64) -> Float64:
    """Return the log-odds (N, C) of every class.

    Examples
    --------
    >>> log_odds(np.log([[0.5, 0.25, 0.25]])).round(3).tolist()
    [[0.0, -1.099, -1.099]]
    """
    odds: Float64 = all_log_odds(torch.from_numpy(logits)).numpy()
    return odds


def splits(logits: dict[str, Float64], labels: Int64, most: int) -> dict[str, Any]:
    """Return what becomes of the carton when two fifths of the photographs are training images and two are the field.

    Drawn at random many times; of the field images a share bears the watermark, or its control.
    """
    odds = {name: log_odds(rows) for name, rows in logits.items()}
    draws = np.random.default_rng(0)
    runs: dict[tuple[str, float], list[Leaning]] = {}
    for _ in range(most):
        order = draws.permutation(len(labels))
        half = 2 * len(order) // 5
        known, field = order[:half], order[half : 2 * half]
        for version, share in [(PLAIN, 0.0), (CONTROL, 0.25), (IN_PLACE, 0.25), *((MARK, share) for share in SHARES)]:
            with_it = np.arange(half) < round(share * half)
            rows = np.where(with_it[:, None], odds[version][field], odds[PLAIN][field])
            runs.setdefault((version, share), []).append(leaning(odds[PLAIN][known], labels[known], rows))
    return {f"{version}, {share:.0%}": _summed_up(found) for (version, share), found in runs.items()}


def place_of(found: Leaning, k: int) -> int:
    """Return the place of class k, 1 for the most surprising."""
    return int(np.flatnonzero(found.order == k)[0]) + 1


def _summed_up(found: Sequence[Leaning]) -> dict[str, Any]:
    places = np.array([place_of(one, CARTON) for one in found])
    return {
        "splits": len(found),
        "first": float((places == 1).mean()),
        "first ten": float((places <= _NAMED).mean()),
        "median place": float(np.median(places)),
        "named": float(np.mean([one.p[CARTON] < LEVEL for one in found])),
        "any class": float(np.mean([(one.p < LEVEL).any() for one in found])),
        "classes": float(np.mean([(one.p < LEVEL).sum() for one in found])),
    }
