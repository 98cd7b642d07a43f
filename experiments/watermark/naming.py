"""Which channels draw field images to the carton, and whether the watermark moves these."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.tables import Line
from experiments.watermark.photographs import CONTROL, MARK, PLAIN, Answers, Roles, sites
from interpnet.engine import channel_index
from interpnet.reliance import image_contributions
from interpnet.support.types import Float64, Int64

_TOP = 10
_STRONGEST = 64
_BATCH = 16
#: By what a channel's change is divided before channels are compared.
SPREADS = ("over photographs", "of the change")


class Named(NamedTuple):
    """The channels named, as columns of the scores and by name."""

    columns: Int64
    channels: list[list[Any]]


def named(model: nn.Module, drawn: Tensor, k: int, scores: Float64, known: Float64) -> Named:
    """Return the ten channels that draw images to class k, as the search names them.

    ``drawn`` (n, 3, H, W), the strongest first, have the scores (n, m), training images ``known`` (N, m).
    """
    layers = sites(model, drawn)
    parts = torch.split(drawn[:_STRONGEST], _BATCH)
    found = [image_contributions(model, part, layers, lambda out: [k] * len(out)) for part in parts]
    speaks = np.concatenate(found).mean(0) > 0
    rise = scores.mean(0) - known.mean(0)
    pooled = np.sqrt((scores.var(0) + known.var(0)) / 2)
    far = np.where(speaks & (pooled > 0), rise / np.where(pooled > 0, pooled, 1.0), -np.inf)
    columns = np.argsort(-far, kind="stable")[:_TOP]
    index = channel_index(layers)
    return Named(columns, [[index[int(j)].layer, index[int(j)].index] for j in columns])


def precision(found: Named, answers: dict[str, Answers], own: Roles) -> Line:
    """Return how many of the channels named the watermark moves most beyond its control, on photographs held out."""
    change = answers[MARK].scores[own.held] - answers[CONTROL].scores[own.held]
    spreads = dict(zip(SPREADS, (answers[PLAIN].scores[own.training].std(0), change.std(0)), strict=True))
    line: Line = {"channels": found.channels}
    for name, spread in spreads.items():
        effect = np.divide(change.mean(0), spread, out=np.zeros(len(spread)), where=spread > 1e-6)
        places = np.argsort(np.argsort(-effect, kind="stable"))[found.columns]
        line[name] = {
            "of the first ten": int((places < _TOP).sum()),
            "of the first twenty": int((places < 2 * _TOP).sum()),
            "worst place": int(places.max()) + 1,
            "of": len(spread),
        }
    return line


def first(values: Float64, rows: Int64) -> Int64:
    """Return rows by their values, the largest first."""
    order: Int64 = rows[np.argsort(-values[rows], kind="stable")]
    return order
