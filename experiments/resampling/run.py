"""Q3 and Q4: what is due to the channels, and what to the stride-1 resampling.

    python -m experiments.resampling.run [--subjects single-6c double-12c resnet20] [--architectures smallcnn] [--quick]

Resumes from results.json, a line per network: E3's (trained where its working folder, --work, lacks them) and, for Q4,
the shared ResNet-20. --quick takes one small network, few small images and one rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from experiments.common.flower_networks import ARCHITECTURES
from experiments.common.maps import RULES
from experiments.common.runner import Results, study
from experiments.common.tables import Line
from experiments.resampling.measure import cells
from experiments.resampling.table import PAGE
from experiments.sanity.subjects import Subject, flowers, resnet20

SUBJECTS = ("single-6c", "double-12c", "resnet20")


def wanted(subjects: tuple[str, ...], architectures: tuple[str, ...], networks: int) -> Iterator[Line]:
    """Yield data set, architecture and seed of every network."""
    for name in subjects:
        if name == "resnet20":
            yield {"data": "cifar10", "architecture": "resnet20", "seed": 0}
            continue
        for architecture, seed in itertools.product(architectures, range(networks)):
            yield {"data": name, "architecture": architecture, "seed": seed}


def measured(line: Line, work: Path, *, n_images: int, quick: bool) -> Line:
    """Return a network's scores."""
    make: Callable[..., Subject] = resnet20
    if line["data"] != "cifar10":
        make = partial(flowers, line["data"], architecture=line["architecture"])
    subject = make(line["seed"], work, n_images=n_images, quick=quick)
    return {"images": len(subject.images), "scores": cells(subject, ("guided",) if quick else RULES)}


@study(PAGE, "runs/localisation", subjects=SUBJECTS, architectures=ARCHITECTURES, work="weights and images of E3")
def main(
    results: Results,
    work: Path,
    *,
    quick: bool,
    subjects: tuple[str, ...] = SUBJECTS,
    architectures: tuple[str, ...] = ("smallcnn",),
    networks: int = 5,
    images: int = 60,
) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    if quick:
        networks = 1
        images = 6
    for line in results.missing(wanted(subjects, architectures, networks)):
        line |= measured(line, work, n_images=images, quick=quick)
