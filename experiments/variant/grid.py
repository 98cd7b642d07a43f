"""The variants: which layers may be chosen, how many channels, how colours and maps are put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import ChannelIndex, Trace
from interpnet.explanation import COMBINATIONS, combine, explain, normalise, reduce_colours
from interpnet.gram import Gram, one_hot
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable

LAYERS = ("every", "last half")  # that may be chosen from
MUS = (5.0, 20.0)  # radii of the mu-lasso (docs/method.md, section 2)
KS = (1, 2, 3, 5, 8)  # channels per image
REDUCTIONS = ("positive", "abs", "max")  # over colours
SEEDS = ("activation", "maximum")  # where the signal starts (docs/method.md, section 5)

_BATCH = 20  # images at a time


@dataclass(frozen=True)
class Setting:
    """One variant; the defaults are the paper's."""

    layers: str = "every"
    mu: float = 5.0
    seed: str = "activation"
    k: int = 3
    reduction: str = "positive"
    combination: str = "max"

    def __str__(self) -> str:
        layers = {"every": "every layer", "last half": "last half of the layers"}[self.layers]
        parts = [layers, f"mu {self.mu:g}", f"k {self.k}", self.reduction, self.combination]
        if self.seed != "activation":
            parts.append(f"from the {self.seed}")
        return ", ".join(parts)


PAPER = Setting()  # its defaults


def channels_of(table: ScoreTable, layers: str, mu: float, classes: tuple[str, ...]) -> Interpretation:
    """Return the weights of the channels of every layer, or with only the last half of the layers to choose from."""
    kept = table.channels.layers[len(table.channels.layers) // 2 :] if layers == "last half" else table.channels.layers
    columns = np.concatenate([np.arange(len(table.channels))[table.channels.slice(n)] for n in kept])
    sizes = dict(table.channels.sizes)
    gram = Gram.from_scores(table.X[:, columns], one_hot(table.labels, len(classes)))
    index = ChannelIndex(tuple((n, sizes[n]) for n in kept))
    return interpret(gram, channels=index, mu=mu, classes=classes)


def maps_of_settings(
    model: nn.Module, images: Tensor, labels: Tensor, table: ScoreTable, classes: tuple[str, ...], trace: Trace
) -> Iterator[tuple[Setting, Tensor]]:
    """Yield every setting with its maps (B, H, W); signals are sent back once for all that share them."""
    for layers, mu in itertools.product(LAYERS, MUS):
        found = channels_of(table, layers, mu, classes)
        for seed in SEEDS:
            shown = explain(model, images, found, k=max(KS), classes=labels, seed=seed, trace=trace)
            responses = torch.zeros(shown.signals.shape[:2])
            for i, row in enumerate(shown.responses):
                responses[i, : len(row)] = torch.tensor(row)
            for reduction in REDUCTIONS:
                each = normalise(reduce_colours(shown.signals, reduction)).cpu()  # one map per channel
                for k, combination in itertools.product(KS, COMBINATIONS):
                    setting = Setting(layers, mu, seed, k, reduction, combination)
                    yield setting, combine(each[:, :k], responses[:, :k], combination)


def maps_of(setting: Setting, model: nn.Module, images: Tensor, labels: Tensor, found: Interpretation) -> Tensor:
    """Return the maps (B, H, W) of one setting."""
    how: dict[str, Any] = {"seed": setting.seed, "reduction": setting.reduction, "combination": setting.combination}
    # A batch at a time: signals take k times the memory of the images.
    parts = zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)
    return torch.cat([explain(model, x, found, k=setting.k, classes=y, **how).combined for x, y in parts])
