"""Q1: what is lost without the first k channels of a ranking, for reliance, the mu-lasso and other rankings.

    python -m experiments.rankings.run [--networks single-6c ...] [--device cuda] [--quick]

Channels are ranked on training images and removed on test images. Resumes from results.json, a line per network.
--quick takes one network of few small images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Results, study
from experiments.common.subjects import KINDS, Subject, default_device, load, planned
from experiments.common.tables import Line
from experiments.rankings.contributions import known
from experiments.rankings.oracles import greedy, shapley
from experiments.rankings.orders import GREEDY, OURS, RANDOM, RELIANCES, SHAPLEY, falling, rankings
from experiments.rankings.removal import GRID, Passes, errors, foreign, removed, steps
from experiments.rankings.table import PAGE
from interpnet.errors import DataError
from interpnet.support.types import Int64

NAMES = tuple(KINDS)
#: The oracles remove channels and look: images of a class, and how many orders Neuron Shapley draws.
ORACLES = {"mnist": (10, 100)}
#: With ``--quick``: the oracles, and the most channels removed.
TRIAL = ((3, 2), 2)


def measured(subject: Subject, oracle: tuple[int, int] | None, most: int = GRID[-1]) -> Line:
    """Return what one network loses under every ranking without ``most`` channels, and how deep the first ones lie."""
    found = known(subject)
    run = Passes(subject, subject.test, subject.test_labels)
    ks = [k for k in steps(len(run.channels)) if k <= most]
    orders = rankings(found, ks[-1])
    if oracle is not None:
        orders[GREEDY] = greedy(subject, ks[-1], oracle[0])
        orders[SHAPLEY] = falling(shapley(subject, oracle[1], oracle[0], subject.seed))
    labels = subject.test_labels
    others = foreign(labels, len(subject.classes))
    rows = {name: (order[labels], order[others]) for name, order in orders.items()}
    rows[RANDOM] = drawn(len(labels), len(run.channels), subject.seed)
    intact = run.outcome([[]] * len(labels))
    lost = {name: removed(run, intact, *both, ks) for name, both in rows.items()}
    measures = {name: one.measures() for name, one in lost.items()}
    return {
        "channels": len(run.channels),
        "classes": len(subject.classes),
        "images": {"ranking": len(subject.train), "removal": len(subject.test)},
        "intact": {"recall": round(float(intact.right.mean()), 3), "log-odds": round(float(intact.log_odds.mean()), 4)},
        "ks": ks,
        "curves": {name: one.curves(labels) for name, one in lost.items()},
        "errors": errors(measures, labels, (OURS, *RELIANCES)),
        "depth": {name: depth_of(order[:, :5], list(run.channels.sizes)) for name, order in orders.items()},
    }


def drawn(n: int, n_channels: int, seed: int) -> tuple[Int64, Int64]:
    """Return two random orders for every image (n, channels), so that one pass averages over as many draws."""
    rng = np.random.default_rng([seed, 7])
    first, second = rng.random((2, n, n_channels)).argsort(2)
    return first, second


def depth_of(columns: Any, sizes: list[tuple[str, int]]) -> float:
    """Return the mean depth of some columns: 0 in the first layer, 1 in the last.

    Examples
    --------
    >>> depth_of(np.array([[0, 3]]), [("a", 1), ("b", 1), ("c", 2)])
    0.5
    """
    layer_of = [i for i, (_, n) in enumerate(sizes) for _ in range(n)]
    flat = [layer_of[int(c)] / max(len(sizes) - 1, 1) for c in columns.ravel()]
    return round(sum(flat) / len(flat), 4)


@study(PAGE, "runs/rankings", networks=NAMES, device=("cpu", "cuda"))
def main(
    results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NAMES, device: str | None = None
) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    there = device or default_device()
    for line in results.missing(planned(networks, quick=quick)):
        try:
            subject = load(line, work, quick=quick, device=there)
        except DataError as error:
            print(f"{line['network']} is left out: {error}")
            continue
        how: tuple[Any, ...] = (ORACLES.get(line["network"]),)
        if quick:
            how = TRIAL
        line |= {"device": there, **measured(subject, *how)}
