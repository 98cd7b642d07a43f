"""V, first half: measure every variant on single-6c and keep the best; see run.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from experiments.common.flower_networks import FlowerNetwork, flower_network, masks_of
from experiments.common.tables import Line
from interpnet.engine import ChannelIndex, Trace, find_sites
from interpnet.evaluate import iou_auc
from interpnet.explanation import COMBINATIONS, combine, explain, normalise, reduce_colours
from interpnet.gram import Gram, one_hot
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable

_BATCH = 20  # images at a time
LAYERS = ("every", "last half")  # that may be chosen from
MUS = (5.0, 20.0)  # radii of the mu-lasso (docs/method.md, section 2)
KS = (1, 2, 3, 5, 8)  # channels per image
REDUCTIONS = ("positive", "abs", "max")  # over colours
SEEDS = ("activation", "maximum")  # where the signal starts (docs/method.md, section 5)


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
            shown = explain(model, images, found, k=max(KS), classes=labels, seed=seed, trace=trace, variant="paper")
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
    return torch.cat(
        [explain(model, x, found, k=setting.k, classes=y, **how, variant="paper").combined for x, y in parts]
    )


def precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the average precision (B,) of pixels ranked by their map: unlike IoU-AUC, it knows no scale.

    ``mean over the mask's pixels of (mask pixels ranked at least as high) / (pixels ranked at least as high)``, ties
    counted as ranked together. Source: Everingham et al., IJCV 2010, without interpolation.
    """
    flat = maps.flatten(1).double()
    values, order = flat.sort(1, descending=True)
    hits = masks.flatten(1).gather(1, order)  # whether the pixel of that rank is in the mask
    # Of equal values the last one's counts hold for all.
    last = flat.shape[1] - 1 - torch.searchsorted(values.flip(1).contiguous(), values, side="left")
    right = hits.cumsum(1).gather(1, last).double()
    share: Tensor = (right / (last + 1) * hits).sum(1) / hits.sum(1)
    return share


@dataclass(frozen=True)
class Tested:
    """A small network of E3 with its scores, and some test images, their labels and masks."""

    network: FlowerNetwork
    table: ScoreTable
    images: Tensor
    labels: Tensor
    masks: Tensor

    @classmethod
    def of(cls, variant: str, seed: int, work: Path, *, n_images: int, **words: Any) -> Tested:
        """Return the network of a seed with up to ``n_images`` test images."""
        network = flower_network(variant, seed, work, **words)
        which = network.first(n_images)
        return cls(network, network.scores(), *network.tested(which), masks_of(network.test_on, which))

    def maps(self, setting: Setting) -> Tensor:
        """Return the maps (B, H, W) of one setting for the true classes."""
        found = channels_of(self.table, setting.layers, setting.mu, self.network.train_on.classes)
        return maps_of(setting, self.network.model, self.images, self.labels, found)


def measured(tested: Tested) -> Line:
    """Return for every setting IoU-AUC and average precision, the means over images."""
    values: dict[Setting, tuple[list[float], list[float]]] = {}
    classes = tested.network.train_on.classes
    for start in range(0, len(tested.images), _BATCH):
        images, labels, inside = (x[start : start + _BATCH] for x in (tested.images, tested.labels, tested.masks))
        trace = find_sites(tested.network.model, images[:1])
        for setting, maps in maps_of_settings(tested.network.model, images, labels, tested.table, classes, trace):
            iou, ranks = values.setdefault(setting, ([], []))
            iou += iou_auc(maps, inside, constant="zero").values.tolist()
            ranks += precision(maps, inside).tolist()
    rows = [
        {**vars(s), "iou": round(float(np.mean(a)), 5), "precision": round(float(np.mean(b)), 5)}
        for s, (a, b) in values.items()
    ]
    return {"accuracy": tested.network.accuracy, "n_images": len(tested.images), "settings": rows}


def by_setting(lines: list[Line], measure: str) -> dict[Setting, list[float]]:
    """Return a measure of every setting, by network."""
    values: dict[Setting, list[float]] = {}
    for line in lines:
        for row in line["settings"]:
            values.setdefault(Setting(**{k: row[k] for k in vars(PAPER)}), []).append(row[measure])
    return values


def ranked(lines: list[Line], measure: str = "iou") -> list[tuple[Setting, float, float]]:
    """Return the settings with mean and standard deviation over networks of a measure, best first."""
    values = by_setting(lines, measure).items()
    # A single network has no deviation to show: 0.
    found = [(s, float(np.mean(v)), float(np.std(v, ddof=min(1, len(v) - 1)))) for s, v in values]
    return sorted(found, key=lambda x: -x[1])


def chosen(lines: list[Line]) -> Setting:
    """Return the setting with the largest mean IoU-AUC on single-6c; of equals the one nearest the paper's."""
    found = ranked(lines)
    best = [s for s, mean, _ in found if mean >= found[0][1] - 1e-4]  # equal to the best within rounding
    return min(best, key=lambda s: sum(v != getattr(PAPER, k) for k, v in vars(s).items()))


def alone(lines: list[Line]) -> list[tuple[str, Any, list[float], list[float]]]:
    """Return what each single change of the paper's variant does: (field, value, IoU-AUC and precision by network)."""
    measures = [by_setting(lines, measure) for measure in ("iou", "precision")]
    found = []
    for field, setting in itertools.product(vars(PAPER), measures[0]):
        value = getattr(setting, field)
        if setting != PAPER and setting == replace(PAPER, **{field: value}):
            gains = [[a - b for a, b in zip(part[setting], part[PAPER], strict=True)] for part in measures]
            found.append((field, value, gains[0], gains[1]))
    return found


_RING = 7  # pixels


def darker_by(images: Tensor, masks: Tensor) -> Tensor:
    """Return how much darker (B,) the masked pixels are than a ring of 7 pixels around them, the mean over colours.

    Examples
    --------
    >>> import torch
    >>> image = torch.full((1, 3, 20, 20), 0.75)
    >>> mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    >>> mask[:, 8:12, 8:12] = True
    >>> image[:, :, 8:12, 8:12] = 0.5
    >>> darker_by(image, mask)
    tensor([0.2500])
    """
    inside = masks[:, None].to(images)
    grown = F.max_pool2d(inside, 2 * _RING + 1, stride=1, padding=_RING)
    around = grown - inside  # the ring
    grey = images.mean(1, keepdim=True)

    def mean(where: Tensor) -> Tensor:
        return (grey * where).sum((1, 2, 3)) / where.sum((1, 2, 3))

    return mean(around) - mean(inside)


def asked(setting: Setting, tested: Tested) -> Line:
    """Return the chosen variant's gain in IoU-AUC on images with darker and brighter petals, for one network."""
    overlaps = [iou_auc(tested.maps(one), tested.masks, constant="zero").values for one in (setting, PAPER)]
    gain = overlaps[0] - overlaps[1]
    dark = darker_by(tested.images, tested.masks).double()  # above 0: darker than the ring
    return {
        "darker": {"images": int((dark > 0).sum()), "gain": float(gain[dark > 0].mean())},
        "brighter": {"images": int((dark <= 0).sum()), "gain": float(gain[dark <= 0].mean())},
        "spearman": float(stats.spearmanr(dark.numpy(), gain.numpy()).statistic),
    }
