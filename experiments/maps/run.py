"""M1: choose how maps of channels are made on one half of networks and images, and report it on the other.

    python -m experiments.maps.run [--kinds single-6c ...] [--device cuda] [--quick]

Resumes from results.json, a line per network and half. Photographs need the shared folder and, for
EfficientNet-Lite0, its weights (see experiments/README.md). --quick takes one small network on few small images.
"""

from __future__ import annotations

from pathlib import Path

from experiments.common.runner import Results, study
from experiments.common.subjects import default_device
from experiments.maps.measure import counted, reported, tried
from experiments.maps.settings import PAPER
from experiments.maps.subjects import KINDS, load
from experiments.maps.table import PAGE, chosen_setting

#: The networks and images that the setting is chosen on, those it is reported on, and a look at its number of channels.
HALVES = ("development", "report", "channels")


def _seeds(half: str, kind: str) -> tuple[int, ...]:
    if half == "development":
        return KINDS[kind].development
    if half == "channels" and not kind.startswith("boxes"):
        return ()
    return KINDS[kind].report


@study(PAGE, "runs/maps", kinds=tuple(KINDS), halves=HALVES)
def main(
    results: Results,
    work: Path,
    *,
    quick: bool,
    kinds: tuple[str, ...] = tuple(KINDS),
    halves: tuple[str, ...] = HALVES,
    images: int = 24,
    device: str = "",
) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    device = device or default_device()
    wanted = [
        {"half": half, "kind": kind, "seed": seed} for half in halves for kind in kinds for seed in _seeds(half, kind)
    ]
    if quick:
        wanted = [{"half": half, "kind": "single-6c", "seed": 0} for half in halves]
    for line in results.missing(wanted):
        # Half as many images are enough to choose by.
        n = images // (1 + (line["half"] == "development"))
        subject = load(line, work, device, n, quick=quick)
        chosen = PAPER if quick else chosen_setting(results.lines)
        if line["half"] == "development":
            line |= tried(subject, [PAPER] if quick else None)
        elif line["half"] == "report":
            line |= reported(subject, chosen)
        else:
            line |= counted(subject, chosen)
