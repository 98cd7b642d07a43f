"""R1: what a channel contributes to a class's log-odds, against what the class loses when it is removed, by depth.

    python -m experiments.first_order.run [--networks cifar10 ...] [--device cuda] [--quick]

Resumes from results.json, a line per network. --quick takes one network of few small images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import stats

from experiments.common.runner import Results, study
from experiments.common.subjects import Subject, batches, default_device, load
from experiments.common.tables import Line
from experiments.first_order.table import PAGE
from experiments.rankings.removal import Passes, class_means
from interpnet.errors import DataError
from interpnet.reliance import collect_contributions
from interpnet.support.types import Float64, Int64

#: The networks, and of each class so many test images: contributions and removals are of the same ones.
NETWORKS = {("cifar10", 1): 10, ("single-6c", 2): 10, ("mnist", 1): 20, ("tiny-imagenet-last", 1): 4}
NAMES = tuple(name for name, _ in NETWORKS)
#: With ``--quick``: images of a class, and channels removed.
TRIAL = (2, 30)
_MOST = 800  # channels that are removed one by one, spread evenly over the layers
_POINTS = 300  # of a network in the figure


def measured(subject: Subject, each: int, most: int = _MOST) -> Line:
    """Return how removal agrees with contribution in all layers, in thirds of them, and in each."""
    n_classes = len(subject.classes)
    rows = np.concatenate([np.flatnonzero(subject.test_labels == c)[:each] for c in range(n_classes)])
    images = subject.test[torch.from_numpy(rows)]
    labels = subject.test_labels[rows]
    loader = batches(images.cpu(), labels)
    found = collect_contributions(subject.model, loader, layers=subject.layers, images=None, progress=False)
    run = Passes(subject, images, labels)
    columns = np.unique(np.linspace(0, len(run.channels) - 1, min(most, len(run.channels))).astype(int))
    intact = run.outcome([[]] * len(labels)).log_odds
    effects = [class_means(intact - run.outcome([[c]] * len(labels)).log_odds, labels) for c in columns.tolist()]
    contribution = found.mean[:, columns]
    effect = np.stack(effects, 1)
    sizes = [n for _, n in run.channels.sizes]
    layer = np.repeat(np.arange(len(sizes)), sizes)[columns]
    third = 3 * layer // len(sizes)
    shown = np.random.default_rng(0).permutation(effect.size)[:_POINTS]
    by_class = np.broadcast_to(third, effect.shape).ravel()
    points = zip(contribution.ravel()[shown], effect.ravel()[shown], by_class[shown], strict=True)
    return {
        "channels": len(run.channels),
        "removed": len(columns),
        "images": len(labels),
        "classes": n_classes,
        "all": agreement(contribution, effect, np.ones(len(columns), dtype=bool)),
        "thirds": [agreement(contribution, effect, third == i) for i in range(3)],
        "layers": [
            {"layer": name, **agreement(contribution, effect, layer == i)}
            for i, (name, _) in enumerate(run.channels.sizes)
        ],
        "points": [[round(float(x), 4), round(float(y), 4), int(t)] for x, y, t in points],
    }


def agreement(contribution: Float64, effect: Float64, where: Int64) -> Line:
    """Return rank correlation and slope of effects (C, m) on contributions in some of the channels.

    The rank correlation (Spearman's) is over the channels of a class, the mean over classes; the slope that of least
    squares through the origin over all. Both are None where fewer than three channels are there or none does anything.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0, 3.0, 9.0]])
    >>> agreement(x, 2 * x, np.array([True, True, True, False]))
    {'channels': 3, 'rank': 1.0, 'slope': 2.0}
    """
    x, y = contribution[:, where], effect[:, where]
    line: Line = {"channels": x.shape[1], "rank": None, "slope": None}
    ranks = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    if x.shape[1] >= 3 and ranks:
        line["rank"] = round(float(np.mean(ranks)), 4)
        line["slope"] = round(float((x * y).sum() / (x * x).sum()), 4)
    return line


@study(PAGE, "runs/rankings", networks=NAMES, device=("cpu", "cuda"))
def main(
    results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NAMES, device: str | None = None
) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    there = device or default_device()
    chosen = [{"network": name, "seed": seed} for name, seed in NETWORKS if name in networks]
    if quick:
        chosen = [{"network": "single-6c", "seed": 0}]
    for line in results.missing(chosen):
        try:
            subject = load(line, work, quick=quick, device=there)
        except DataError as error:
            print(f"{line['network']} is left out: {error}")
            continue
        how: tuple[int, ...] = (NETWORKS.get((line["network"], line["seed"]), 0),)
        if quick:
            how = TRIAL
        line |= {"device": there, **measured(subject, *how)}
