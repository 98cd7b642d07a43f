"""Q1: recall against the number of removed channels, for the mu-lasso and other rankings.

    python -m experiments.rankings.run [--networks single-6c ...] [--quick]

Channels are ranked on training images and removed on test images. Resumes from results.json, a line per network.
--quick takes one network of few small images.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.common.runner import Results, study
from experiments.common.subjects import NAMES, Subject, load, planned
from experiments.common.tables import Line
from experiments.rankings.contributions import contributions
from experiments.rankings.orders import GREEDY, rankings
from experiments.rankings.removal import greedy, recalls, steps
from experiments.rankings.table import PAGE

#: The oracle tries every channel at every step: up to how many it goes, on how many images of a class.
GREEDY_STEPS = {"mnist": (20, 10), "trial": (2, 3)}
#: Test images that lose channels, where there are more.
SHOWN = {"single-6c": 180, "double-12c": 180, "mnist": 1000, "cifar10": 200}


def measured(subject: Subject, oracle: tuple[int, int] | None) -> Line:
    """Return one network's curves of every ranking, and how deep the first channels lie."""
    found = contributions(subject)
    channels = found.table.channels
    ks = steps(len(channels))
    orders = rankings(found, subject.train_labels, subject.mu, ks[-1], subject.seed)
    curves = recalls(subject, channels, orders, ks)  # docs/method.md, section 6: the removal of E1
    if oracle is not None:
        length = min(oracle[0], ks[-1])
        best = {GREEDY: greedy(subject, len(channels), length, oracle[1])}
        orders |= best
        curves |= recalls(subject, channels, best, [k for k in ks if k <= length])
    return {
        "channels": len(channels),
        "images": {"ranking": len(subject.train), "removal": len(subject.test)},
        "ks": ks,
        "curves": curves,
        "depth": {name: depth_of(order[:, :5], list(channels.sizes)) for name, order in orders.items()},
    }


def depth_of(columns: Any, sizes: list[tuple[str, int]]) -> float:
    """Return the mean depth of some columns: 0 in the first layer, 1 in the last.

    Examples
    --------
    >>> import numpy as np
    >>> depth_of(np.array([[0, 3]]), [("a", 1), ("b", 1), ("c", 2)])
    0.5
    """
    layer_of = [i for i, (_, n) in enumerate(sizes) for _ in range(n)]
    flat = [layer_of[int(c)] / max(len(sizes) - 1, 1) for c in columns.ravel()]
    return round(sum(flat) / len(flat), 4)


@study(PAGE, "runs/rankings", networks=NAMES)
def main(results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NAMES) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    for line in results.missing(planned(networks, quick=quick)):
        subject = load(line, work, quick=quick)
        n = SHOWN[line["network"]]  # the classes come in turn
        subject = replace(subject, test=subject.test[:n], test_labels=subject.test_labels[:n])
        oracle = "trial" if quick else line["network"]
        line |= measured(subject, GREEDY_STEPS.get(oracle))
