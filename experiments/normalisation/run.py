"""Q2: the paper's normalisation of scores against others, at equal numbers of channels per class.

    python -m experiments.normalisation.run [--networks single-6c ...] [--quick]

Resumes from results.json, a line per network. --quick takes one network of few small images.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.common.runner import Results, commit, study
from experiments.common.subjects import Subject, load, planned
from experiments.common.tables import Line
from experiments.normalisation.measures import cross_validated, overlap
from experiments.normalisation.scales import COUNTS, PAPER, SCALES, Scores, late, scores, solutions
from experiments.normalisation.table import PAGE
from experiments.rankings.removal import Passes, class_means, foreign
from interpnet.gram import one_hot
from interpnet.support.types import Float64, Int64

NAMES = ("single-6c", "double-12c", "mnist", "cifar10")
_NETWORKS = 5  # of each kind at most
EXPLAINED = (3, 10)  # numbers of channels per class at which explanations are made
#: Where, and for which scalings, the choice among late layers alone is measured as well.
LATE = dict.fromkeys(("single-6c", "mnist"), (PAPER, "size", "layer L1, standardised"))


def measured(subject: Subject, n_explained: int, names: Iterable[str]) -> Line:
    """Return every measure under every scaling."""
    found: Line = {}
    for name in names:
        by_image = scores(subject, name)
        found[name], coefs = under(subject, by_image)
        if subject.masks is not None:
            shift, scale = by_image.scaled()
            X = (by_image.test - shift) / scale
            rest = (by_image.channels, n_explained)
            found[name]["overlap"] = {str(k): overlap(subject, X, coefs[k], *rest) for k in EXPLAINED}
    return found


def under(subject: Subject, found: Scores) -> tuple[Line, dict[int, Float64]]:
    """Return fit, removal and depth of the channels chosen from some scores, and the weights by number of channels."""
    target = one_hot(subject.train_labels, len(subject.classes)).astype(np.float64)
    shift, scale = found.scaled()
    coefs, gap = solutions((found.train - shift) / scale, target)
    row = {
        "gap": float(f"{gap:.2g}"),
        "fit": cross_validated(found, subject.train_labels, target),
        "channels": {str(k): round(float((w != 0).sum(1).mean()), 3) for k, w in coefs.items()},
        "layers": {str(k): by_layer(w, found) for k, w in coefs.items()},
        "removal": removal(subject, coefs),
    }
    return row, coefs


def by_layer(w: Float64, found: Scores) -> list[float]:
    """Return the share of the chosen channels that lies in each layer."""
    chosen = (w != 0).sum(0)
    counts = [chosen[found.channels.slice(layer)].sum() for layer in found.channels.layers]
    return [round(float(n) / max(int(chosen.sum()), 1), 4) for n in counts]


def removal(subject: Subject, coefs: dict[int, Float64]) -> dict[str, list[float]]:
    """Return the recall of the class and of the others without the chosen channels, intact first."""
    labels = subject.test_labels
    run = Passes(subject, subject.test, labels)

    def recalls(classes: Int64) -> list[float]:
        """Return the mean recall intact, and without the channels of each image's class in ``classes``."""
        found = []
        for w in (np.zeros_like(coefs[COUNTS[0]]), *(coefs[k] for k in COUNTS)):
            right = run.outcome([np.flatnonzero(w[c]) for c in classes]).right
            found.append(round(float(class_means(right, labels).mean()) / 100, 5))
        return found

    return {"own": recalls(labels), "others": recalls(foreign(labels, len(subject.classes)))}


@study(PAGE, "runs/rankings", networks=NAMES, images="test images that are explained")
def main(results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NAMES, images: int = 60) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    for key in planned(networks, quick=quick, most=_NETWORKS):
        wanted = {"scales": tuple(SCALES), "late": LATE.get(key["network"], ())}
        if quick:
            wanted = {"scales": (PAPER, "standardised"), "late": (PAPER,)}
        # A scaling may be missing in a line that is there.
        known = [line for line in results.lines if key.items() <= line.items()]
        (line,) = known or [{**key, "scales": {}, "late": {}, "seconds": 0.0}]
        missing = {part: [s for s in names if s not in line[part]] for part, names in wanted.items()}
        if not any(missing.values()):
            continue
        began = time.perf_counter()
        subject = load(key, work, quick=quick)
        line["scales"] |= measured(subject, images, missing["scales"])
        # Where only late layers may be chosen from, the choices cannot differ in depth: is that their difference?
        line["late"] |= {name: under(subject, late(scores(subject, name)))[0] for name in missing["late"]}
        line |= {"seconds": round(line["seconds"] + time.perf_counter() - began, 1), "commit": commit()}
        results.add(line)
        print(*key.values(), f"{line['seconds']} s", flush=True)
