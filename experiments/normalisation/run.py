"""Q2: the paper's normalisation of scores against others, at equal numbers of channels a class.

    python -m experiments.normalisation.run [--networks single-6c ...] [--quick]

A network at a time, its line written to results.json. What is there is not done again. --quick takes one network of few
small images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from experiments.common.pages import commit, measured_before
from experiments.common.subjects import NAMES, NETWORKS, Subject, trial
from experiments.normalisation.explained import overlap
from experiments.normalisation.fit import cross_validated
from experiments.normalisation.scales import COUNTS, PAPER, SCALES, Scores, late, scores, solutions
from experiments.normalisation.table import write_readme
from experiments.rankings.removal import passes, recall
from experiments.rankings.run import written
from interpnet.engine import evaluating
from interpnet.gram import one_hot
from interpnet.support.allocator import keep_freed_memory

HERE = Path(__file__).parent
#: Numbers of channels a class at which explanations are made.
EXPLAINED = (3, 10)
#: Where, and for which scalings, the choice among late layers alone is measured as well.
LATE = {"single-6c": (PAPER, "size", "layer L1, standardised"), "mnist": (PAPER, "size", "layer L1, standardised")}


def measured(subject: Subject, n_explained: int, names: Sequence[str]) -> dict[str, Any]:
    """Return every measure under every scaling."""
    found: dict[str, Any] = {}
    for name in names:
        by_image = scores(subject, name)
        found[name], coefs = under(subject, by_image)
        if subject.masks is not None:
            shift, scale = by_image.scaled()
            X = (by_image.test - shift) / scale
            found[name]["overlap"] = {
                str(k): overlap(subject, X, coefs[k], by_image.channels, n_explained) for k in EXPLAINED
            }  # fmt: skip
    return found


def measured_late(subject: Subject, names: Sequence[str]) -> dict[str, Any]:
    """Return fit and removal under every scaling where only the last third of the layers may be chosen from.

    What the scalings have chosen there cannot differ in depth, which tells how much of their difference is that.
    """
    return {name: under(subject, late(scores(subject, name)))[0] for name in names}


def under(subject: Subject, found: Scores) -> tuple[dict[str, Any], dict[int, npt.NDArray[np.float64]]]:
    """Return fit, removal and depth of the channels chosen from some scores, and the weights by number of channels."""
    target = one_hot(subject.train_labels, len(subject.classes)).astype(np.float64)
    shift, scale = found.scaled()
    coefs, gap = solutions((found.train - shift) / scale, target)
    row = {
        "gap": float(f"{gap:.2g}"),
        "fit": cross_validated(found, subject.train_labels, target),
        "channels": {str(k): round(float((w != 0).sum(1).mean()), 3) for k, w in coefs.items()},
        "layers": {str(k): by_layer(w, found) for k, w in coefs.items()},
        "removal": removal(subject, found, coefs),
    }
    return row, coefs


def by_layer(w: npt.NDArray[np.float64], found: Scores) -> list[float]:
    """Return the share of the chosen channels that lies in each layer."""
    chosen = (w != 0).sum(0)
    counts = [chosen[found.channels.slice(layer)].sum() for layer in found.channels.layers]
    return [round(float(n) / max(int(chosen.sum()), 1), 4) for n in counts]


def removal(subject: Subject, found: Scores, coefs: dict[int, npt.NDArray[np.float64]]) -> dict[str, list[float]]:
    """Return the recall of the class and of the others without the chosen channels, intact first."""
    with torch.inference_mode(), evaluating(subject.model):
        run = passes(subject, found.channels)
        whole = recall(run, None)[0]
        pairs = [recall(run, [np.flatnonzero(one) for one in coefs[k]]) for k in COUNTS]
    return {"own": [whole, *(a for a, _ in pairs)], "others": [whole, *(b for _, b in pairs)]}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--images", type=int, default=60, help="test images that are explained")
    parser.add_argument("--work", type=Path, default=Path("runs/rankings"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    plan = [(name, seed) for name in options.networks for seed in range(NETWORKS[name][1])]
    scales = (PAPER, "standardised") if options.quick else tuple(SCALES)
    for name, seed in [("single-6c", 0)] if options.quick else plan:
        line = next((x for x in lines if (x["network"], x["seed"]) == (name, seed)), None)
        if line is None:
            line = {"network": name, "seed": seed, "scales": {}, "late": {}, "seconds": 0.0}
        wanted = {"scales": scales, "late": (PAPER,) if options.quick else LATE.get(name, ())}
        missing = {part: [s for s in names if s not in line[part]] for part, names in wanted.items()}
        if not any(missing.values()):
            continue
        began = time.perf_counter()
        subject = trial(seed, options.work) if options.quick else NETWORKS[name][0](seed, options.work)
        line["scales"] |= measured(subject, options.images, missing["scales"])
        line["late"] = line["late"] | measured_late(subject, missing["late"])
        line |= {"seconds": round(line["seconds"] + time.perf_counter() - began, 1), "commit": commit()}
        if line not in lines:
            lines.append(line)
        written(options.out, lines)
        print(f"{name} {seed}: {line['seconds']} s", flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines, HERE / "fit.png")


if __name__ == "__main__":
    main()
