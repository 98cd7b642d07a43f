"""C1: where class, colour, a cue and a place can be read in ResNet-56 and in a network of flowers.

    python -m experiments.probes.run [--networks NAME ...] [--quick]

Resumes from results.json, a line per network. --quick takes the network of flowers, hardly trained, and few images.
"""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.common.runner import Results, rounded, study
from experiments.common.tables import Line
from experiments.probes.images import NETWORKS, Probed, probed
from experiments.probes.table import PAGE
from interpnet import concepts
from interpnet.engine import find_sites

_MOST = 19  # layers of a network, evenly from the first to the last


def measured(subject: Probed, most: int = _MOST) -> Line:
    """Return what the probes of one network read."""
    names = [site.name for site in find_sites(subject.model, subject.images[:2]).select()]
    n = min(most, len(names))
    chosen = [names[round(i * (len(names) - 1) / (n - 1))] for i in range(n)]
    batches = [(part,) for part in torch.split(subject.images, 100)]
    found = concepts.probe(subject.model, batches, layers=chosen, targets=subject.targets, progress=False)
    line: Line = {name: getattr(found, name).tolist() for name in ("n", "chance", "accuracy", "interval", "control")}
    line |= {"memorised": found.memorised.tolist(), "targets": list(found.targets), "layers": list(found.layers)}
    if subject.reliance is not None:
        line["reliance"] = subject.reliance
    made: Line = rounded(line)
    return made


@study(PAGE, "runs/probes", networks=NETWORKS)
def main(results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NETWORKS) -> None:
    """Measure what is missing and write results.json, the README's table and the figure."""
    chosen = ("flowers",) if quick else networks
    for line in results.missing({"network": name} for name in chosen):
        line |= measured(probed(line["network"], work, quick=quick), 2 if quick else _MOST)
