"""Q1: recall against the number of removed channels, for the mu-lasso and other rankings.

    python -m experiments.rankings.run [--networks single-6c ...] [--quick]

A network at a time: its channels ranked on training images, removed on test images, its line written to results.json.
What is there is not done again. --quick takes one network of few small images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.common.pages import commit, measured_before
from experiments.common.subjects import NAMES, NETWORKS, Subject, trial
from experiments.rankings.contributions import contributions
from experiments.rankings.orders import GREEDY, rankings
from experiments.rankings.removal import greedy, recalls, steps
from experiments.rankings.table import write_readme
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
#: The oracle tries every channel at every step: up to how many it goes, on how many images of a class.
GREEDY_STEPS = {"mnist": (20, 10), "trial": (2, 3)}
#: Test images that lose channels, where there are more.
SHOWN = {"single-6c": 180, "double-12c": 180, "mnist": 1000, "cifar10": 200}


def written(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write results, a line of the file for each network."""
    write_text(path, "[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]\n")


def measured(subject: Subject, oracle: tuple[int, int] | None) -> dict[str, Any]:
    """Return one network's line: the curves of every ranking, and how deep the first channels lie."""
    began = time.perf_counter()
    found = contributions(subject)
    channels = found.table.channels
    ks = steps(len(channels))
    orders = rankings(found, subject.train_labels, subject.mu, ks[-1], subject.seed)
    curves = recalls(subject, channels, orders, ks)
    if oracle is not None:
        length, each = min(oracle[0], ks[-1]), oracle[1]
        best = {GREEDY: greedy(subject, len(channels), length, each)}
        orders |= best
        curves |= recalls(subject, channels, best, [k for k in ks if k <= length])
    depth = {name: depth_of(order[:, :5], list(channels.sizes)) for name, order in orders.items()}
    return {
        "network": subject.network,
        "seed": subject.seed,
        "channels": len(channels),
        "images": {"ranking": len(subject.train), "removal": len(subject.test)},
        "ks": ks,
        "curves": curves,
        "depth": depth,
        "seconds": round(time.perf_counter() - began, 1),
        "commit": commit(),
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
    last = max(len(sizes) - 1, 1)
    flat = [layer_of[int(c)] / last for c in columns.ravel()]
    return round(sum(flat) / len(flat), 4)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--work", type=Path, default=Path("runs/rankings"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # thousands of passes of the same sizes
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {(line["network"], line["seed"]) for line in lines}
    plan = [(name, seed) for name in options.networks for seed in range(NETWORKS[name][1])]
    for name, seed in [("single-6c", 0)] if options.quick else plan:
        if (name, seed) in done:
            continue
        subject = trial(seed, options.work) if options.quick else NETWORKS[name][0](seed, options.work)
        n = SHOWN[name]  # the classes come in turn
        subject = replace(subject, test=subject.test[:n], test_labels=subject.test_labels[:n])
        line = measured(subject, GREEDY_STEPS.get("trial" if options.quick else name))
        lines.append(line)
        written(options.out, lines)
        print(f"{name} {seed}: {line['seconds']} s", flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines, HERE / "curves.png")


if __name__ == "__main__":
    main()
