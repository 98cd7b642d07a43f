"""M1: choose how maps of channels are made on one half of networks and images, and report it on the other.

    python -m experiments.maps.run [--kinds single-6c ...] [--device cuda] [--quick]

Resumes from results.json, a line per network and half; where another setting is chosen than before, a line of the
report gets what it lacks. Photographs need the shared folder and, for EfficientNet-Lite0, its weights (see
experiments/README.md). --quick takes one small network on few small images.
"""

from __future__ import annotations

from pathlib import Path

from experiments.common.runner import Results, commit, study
from experiments.common.subjects import default_device
from experiments.maps.measure import counted, lacking, reported, tried
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
        subject = load(line, work, device, images, quick=quick)
        chosen = PAPER if quick else chosen_setting(results.lines)
        if line["half"] == "development":
            line |= tried(subject, [PAPER] if quick else None)
        elif line["half"] == "report":
            line |= reported(subject, chosen, line)
        else:
            line |= counted(subject, chosen)
    chosen = PAPER if quick else chosen_setting(results.lines)
    for line in results.lines:
        keys = {key: line[key] for key in ("half", "kind", "seed")}
        if line["half"] == "report" and keys in wanted and lacking(line, chosen):
            line |= reported(load(line, work, device, line["images"], quick=quick), chosen, line)
            line["commit"] = f"{line['commit']}, {commit()}"
            results.add(line)
            print("more of", *keys.values(), flush=True)
