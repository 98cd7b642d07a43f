"""E1: mean class accuracy with the channels of each class removed, against controls, on four data sets.

    python -m experiments.ablation.run [--subjects mnist single-6c ...] [--work runs/ablation] [--quick]

A network and setting at a time, each a line of results.json; what is there is not done again. MNIST and CIFAR-10 need
the shared folder (see experiments/README.md). --quick takes one network of tiny flowers and two draws.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from experiments.ablation.subjects import SUBJECTS, Batches, Subject
from experiments.ablation.table import write_readme
from experiments.common.pages import commit, measured_before
from interpnet.ablation import CONTROLS, Condition, ablation_study
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent


class Setting(NamedTuple):
    """What differs from the paper's study: ``mu`` times, what removed maps are filled with, controls, draws."""

    times: float
    fill: str
    controls: Sequence[str]
    draws: int


_DRAWN = ("random", "random-per-layer")
#: The study itself, and three that ask why a control is not beaten.
SETTINGS = {
    "paper": Setting(1, "zero", CONTROLS, 10),
    "mean": Setting(1, "mean", _DRAWN, 5),
    "5 mu": Setting(5, "zero", _DRAWN, 5),
    "5 mu, mean": Setting(5, "mean", _DRAWN, 5),
}


def thirds(layers: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Return the shares of channels in the first, middle and last third of the layers.

    Parameters
    ----------
    layers : sequence of int
        The layer of each channel, counted from the image.
    sizes : sequence of int
        Channels of each layer.

    Examples
    --------
    >>> thirds([0, 1, 2, 2], [16, 32, 64])
    [0.25, 0.25, 0.5]
    """
    at = [3 * layer // len(sizes) for layer in layers]
    return [round(at.count(i) / max(len(at), 1), 4) for i in range(3)]


def depth(found: Interpretation, table: ScoreTable) -> dict[str, list[float]]:
    """Return in which third of the layers the relevant channels lie, those with the highest scores, and all."""
    sizes = [n for _, n in found.channels.sizes]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    relevant: list[int] = []
    highest: list[int] = []
    for c in range(len(found.classes)):
        columns = found.columns(c)
        means = table.channel_means(np.flatnonzero(table.labels == c))
        relevant += layer[columns].tolist()
        highest += layer[np.argsort(-means, kind="stable")[: len(columns)]].tolist()
    every = [int(x) for x in layer]
    return {n: thirds(x, sizes) for n, x in (("relevant", relevant), ("highest", highest), ("all", every))}


def kept(condition: Condition) -> dict[str, Any]:
    """Return what is kept of a condition: recalls by draw, own recall by class, channels removed a class."""

    def rounded(values: npt.NDArray[np.float64]) -> list[float]:
        return [round(float(v), 5) for v in values]

    return {
        "name": condition.name,
        "layers": condition.layers,
        "removed": round(float(condition.removed.mean()), 2),
        "own": rounded(condition.own.mean(1)),
        "others": rounded(condition.others.mean(1)),
        "by_class": rounded(condition.own.mean(0)),
    }


def measured(
    subject: Subject, seed: int, name: str, setting: Setting, model: nn.Module, test: Batches, table: ScoreTable,
    classes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Return one line: a network under one setting."""
    began = time.perf_counter()
    mu = subject.mu * setting.times
    found = interpret(table, mu=mu, classes=classes)
    result = ablation_study(
        model, test, found, table=table, controls=setting.controls, repeats=setting.draws, seed=seed,
        fill=setting.fill, curve=False, single=False, progress=False,
    )  # fmt: skip
    return {
        "subject": subject.key,
        "seed": seed,
        "setting": name,
        "mu": mu,
        "fill": setting.fill,
        "train_images": len(table),
        "images": result.n_images,
        "classes": len(classes),
        "channels": len(found.channels),
        "channels_a_class": round(float((found.coef != 0).sum(1).mean()), 2),
        "thirds": depth(found, table),
        "intact": round(result.mean_intact, 5),
        "conditions": [kept(c) for c in result.conditions],
        "seconds": round(time.perf_counter() - began, 1),
        "commit": commit(),
    }


def as_text(lines: list[dict[str, Any]]) -> str:
    """Return JSON with a line a network and setting."""
    return "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n"


def _network(
    subject: Subject, seed: int, work: Path, options: str
) -> tuple[nn.Module, Batches, ScoreTable, Sequence[str]]:
    model, train_on, test_on, classes = subject.load(seed, work, options)
    return model, test_on, collect_scores(model, train_on, progress=False), classes


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = [s.key for s in SUBJECTS]
    parser.add_argument("--subjects", nargs="+", default=keys, choices=keys)
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    subjects = [s for s in SUBJECTS if s.key in options.subjects]
    settings, data = dict(SETTINGS), ""
    if options.quick:
        subjects = [s for s in SUBJECTS if s.key == "single-6c"]
        settings = {n: SETTINGS[n]._replace(draws=2) for n in ("paper", "mean")}
        data = "?size=48&n=120"
    keep_freed_memory()  # hundreds of passes of the same sizes
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {(x["subject"], x["seed"], x["setting"]) for x in lines}
    for subject in subjects:
        for seed in subject.seeds[:1] if options.quick else subject.seeds:
            mine = settings if subject.reasons else ["paper"]
            todo = [n for n in mine if (subject.key, seed, n) not in done]
            if not todo:
                continue
            model, test, table, classes = _network(subject, seed, options.work, data)
            for name in todo:
                lines.append(measured(subject, seed, name, settings[name], model, test, table, classes))
                write_text(options.out, as_text(lines))
                means = {c["name"]: round(float(np.mean(c["own"])), 3) for c in lines[-1]["conditions"]}
                print(subject.key, seed, name, f"intact {lines[-1]['intact']:.3f}", means, flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines, HERE / "ablation.png")


if __name__ == "__main__":
    main()
