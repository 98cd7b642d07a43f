"""E1: mean class accuracy with the channels of each class removed, against controls, on four data sets.

    python -m experiments.ablation.run [--subjects mnist single-6c ...] [--work runs/ablation] [--quick]

Resumes from results.json, a line per network and setting. MNIST and CIFAR-10 need the shared folder (see
experiments/README.md). --quick takes one network of tiny flowers and two draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.subjects import SUBJECTS, Loaded
from experiments.ablation.table import PAGE
from experiments.common.runner import Results, study
from experiments.common.tables import Line
from interpnet.ablation import CONTROLS, Condition, ablation_study
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float64

KEYS = tuple(s.key for s in SUBJECTS)


@dataclass(frozen=True)
class Setting:
    """What differs from the paper's study: ``times`` mu, what removed maps are filled with, controls, draws."""

    times: float = 1
    fill: str = "zero"
    controls: Sequence[str] = ("random", "random-per-layer")
    draws: int = 5


#: The study itself, and three that ask why a control is not beaten.
SETTINGS = {
    "paper": Setting(controls=CONTROLS, draws=10),
    "mean": Setting(fill="mean"),
    "5 mu": Setting(times=5),
    "5 mu, mean": Setting(times=5, fill="mean"),
}


def thirds(layers: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Return the shares of channels in each third of the layers, from the layer of each and the sizes of all."""
    at = [3 * layer // len(sizes) for layer in layers]  # 0, 1, 2: the third
    return [round(at.count(i) / max(len(at), 1), 4) for i in range(3)]


def depth(found: Interpretation, table: ScoreTable) -> dict[str, list[float]]:
    """Return in which third of the layers the relevant channels lie, those with the highest scores, and all."""
    sizes = [n for _, n in found.channels.sizes]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    layers: dict[str, list[int]] = {"relevant": [], "highest": [], "all": layer.tolist()}
    for c in range(len(found.classes)):
        columns = found.columns(c)
        means = table.channel_means(np.flatnonzero(table.labels == c))  # of the class's own images
        layers["relevant"] += layer[columns].tolist()
        layers["highest"] += layer[np.argsort(-means, kind="stable")[: len(columns)]].tolist()
    return {kind: thirds(found_in, sizes) for kind, found_in in layers.items()}


def kept(condition: Condition) -> Line:
    """Return what is kept of a condition: recalls by draw, own recall by class, channels removed per class."""

    def rounded(values: Float64) -> list[float]:
        return [round(float(v), 5) for v in values]

    return {
        "name": condition.name,
        "layers": condition.layers,
        "removed": round(float(condition.removed.mean()), 2),
        "own": rounded(condition.own.mean(1)),
        "others": rounded(condition.others.mean(1)),
        "by_class": rounded(condition.own.mean(0)),
    }


def measured(loaded: Loaded, table: ScoreTable, mu: float, setting: Setting, seed: int) -> Line:
    """Return what is measured of a network under one setting."""
    found = interpret(table, mu=mu * setting.times, classes=loaded.classes)
    how: dict[str, Any] = {"controls": setting.controls, "repeats": setting.draws, "fill": setting.fill, "seed": seed}
    how |= {"curve": False, "single": False, "progress": False}
    result = ablation_study(loaded.model, loaded.test_on, found, table=table, **how)
    return {
        "mu": mu * setting.times,
        "fill": setting.fill,
        "train_images": len(table),
        "images": result.n_images,
        "classes": len(loaded.classes),
        "channels": len(found.channels),
        "channels_a_class": round(float((found.coef != 0).sum(1).mean()), 2),
        "thirds": depth(found, table),
        "intact": round(result.mean_intact, 5),
        "conditions": [kept(c) for c in result.conditions],
    }


@study(PAGE, "runs/ablation", subjects=KEYS)
def main(results: Results, work: Path, *, quick: bool, subjects: tuple[str, ...] = KEYS) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    chosen = [s for s in SUBJECTS if s.key in subjects]
    settings = SETTINGS
    data = ""
    if quick:
        chosen = [replace(s, seeds=(0,)) for s in SUBJECTS if s.key == "single-6c"]
        settings = {name: replace(SETTINGS[name], draws=2) for name in ("paper", "mean")}
        data = "?size=48&n=120"
    for subject in chosen:
        for seed in subject.seeds:
            asked = [name for name in settings if name == "paper" or subject.reasons]
            wanted = [{"subject": subject.key, "seed": seed, "setting": name} for name in asked]
            if not results.todo(wanted):
                continue
            loaded = subject.load(seed, work, data)
            table = collect_scores(loaded.model, loaded.train_on, progress=False)
            for line in results.missing(wanted):
                line |= measured(loaded, table, subject.mu, settings[line["setting"]], seed)
