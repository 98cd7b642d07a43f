"""E1: mean class accuracy with the channels of each class removed, against controls, on the data sets of the paper.

    python -m experiments.ablation.run [--subjects mnist single-6c ...] [--settings paper reliance ...] [--quick]

Resumes from results.json, a line per network and setting. All but the flowers need the shared folder (see
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
from experiments.common.subjects import default_device
from experiments.common.tables import Line
from interpnet.ablation import CONTROLS, Condition, ablation_study
from interpnet.errors import DataError
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import Contributions, collect_contributions
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float64

KEYS = tuple(s.key for s in SUBJECTS)


@dataclass(frozen=True)
class Setting:
    """What differs from the paper's study: the identification, ``times`` mu, the fill, controls, draws."""

    by: str = "mu-lasso"
    times: float = 1
    fill: str = "zero"
    controls: Sequence[str] = ("random", "random-per-layer")
    draws: int = 5


#: The study itself, three that ask why a control is not beaten, and the study of the channels that a class relies on.
SETTINGS = {
    "paper": Setting(controls=CONTROLS, draws=10),
    "mean": Setting(fill="mean"),
    "5 mu": Setting(times=5),
    "5 mu, mean": Setting(times=5, fill="mean"),
    "reliance": Setting(by="reliance", controls=CONTROLS, draws=10),
}
#: Of every network: E1 by either identification.
ALWAYS = ("paper", "reliance")


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


def contributions(loaded: Loaded) -> Contributions:
    """Return the contributions of the training images."""
    return collect_contributions(loaded.model, loaded.train_on, progress=False)


def measured(loaded: Loaded, table: ScoreTable, mu: float, setting: Setting, seed: int) -> Line:
    """Return what is measured of a network under one setting."""
    if setting.by == "reliance":
        found = interpret(contributions(loaded), by="reliance", classes=loaded.classes)
    else:
        found = interpret(table, mu=mu * setting.times, classes=loaded.classes)
    how: dict[str, Any] = {"controls": setting.controls, "repeats": setting.draws, "fill": setting.fill, "seed": seed}
    how |= {"curve": False, "single": False, "progress": False}
    result = ablation_study(loaded.model, loaded.test_on, found, table=table, **how)
    return {
        "by": setting.by,
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


@study(PAGE, "runs/ablation", subjects=KEYS, settings=tuple(SETTINGS), device=("cpu", "cuda"))
def main(
    results: Results,
    work: Path,
    *,
    quick: bool,
    subjects: tuple[str, ...] = KEYS,
    settings: tuple[str, ...] = tuple(SETTINGS),
    device: str | None = None,
) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    chosen = [s for s in SUBJECTS if s.key in subjects]
    how = {name: SETTINGS[name] for name in settings}
    data = ""
    there = device or default_device()
    if quick:
        chosen = [replace(s, seeds=(0,)) for s in SUBJECTS if s.key == "single-6c"]
        how = {name: replace(SETTINGS[name], draws=2) for name in ALWAYS}
        data = "?size=48&n=120"
    for subject in chosen:
        for seed in subject.seeds:
            asked = [name for name in how if name in ALWAYS or subject.reasons]
            wanted = [{"subject": subject.key, "seed": seed, "setting": name} for name in asked]
            if not results.todo(wanted):
                continue
            try:
                loaded = subject.load(seed, work, data)
            except DataError as error:
                print(f"{subject.key} is left out: {error}")
                continue
            loaded.model.to(there)
            table = collect_scores(loaded.model, loaded.train_on, progress=False)
            for line in results.missing(wanted):
                line |= measured(loaded, table, subject.mu, how[line["setting"]], seed)
