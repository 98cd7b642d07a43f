"""A whole audit of ResNet-20 by two installations of InterpNet, taking turns: what a change costs in time and memory.

    python -m experiments.benchmarks.audit --other OLD/.venv/bin/python [--every 10] [--rounds 5] [--out audit.json]

Each audit is a process of its own with an empty run folder: ``python -m interpnet audit`` on every ``--every``-th
image of CIFAR-10 (10: 5,000 and 1,000 images). A figure is the median over the rounds of the ratio this/other within a
round; processor time is disturbed less by other work on the machine than the clock is. Peak memory is the kernel's
``ru_maxrss`` of the process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.common.runner import command
from experiments.common.shared_data import shared_data, unpack
from interpnet.support.io import write_json

FIGURES = ("clock, s", "processor, s", "peak memory, MiB")


def audit(python: str, data: Path, out: Path) -> list[float]:
    """Run one audit; return its ``FIGURES``."""
    network = Path(__file__).parents[1] / "common" / "networks.py"
    weights = shared_data() / "cifar10" / "resnet20.safetensors"
    norm = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    words = ["audit", f"{network}:resnet20", f"imagefolder:{data}", "--weights", str(weights), *norm, "--out", str(out)]
    clock = time.perf_counter()
    # In the folder of the run, so that no checkout in the current folder takes the place of the installation.
    with subprocess.Popen([python, "-m", "interpnet", *words], cwd=out.parent, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the audit by {python} ended with exit status {process.returncode}")
    return [time.perf_counter() - clock, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]


@command(other="the Python of the other installation", every="of how many images one is used", rounds="pairs of audits")
def main(other: str, every: int = 10, rounds: int = 5, out: Path | None = None) -> None:
    """Print the medians of both and of their ratio, and write every round to ``out``."""
    records: list[dict[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        data = work / "images"
        for split in ("train", "test"):
            unpack(split, data / split, every)
        pythons = {"this": sys.executable, "other": other}
        for number in range(rounds):
            # Each goes first in every second round: what warms up serves both.
            order = sorted(pythons, reverse=number % 2 == 0)
            records.append({side: audit(pythons[side], data, work / f"{side}-{number}") for side in order})
            print(f"round {number + 1} of {rounds}: {records[-1]}", flush=True)
    for i, figure in enumerate(FIGURES):
        this = statistics.median(record["this"][i] for record in records)
        that = statistics.median(record["other"][i] for record in records)
        ratios = [record["this"][i] / record["other"][i] for record in records]
        print(
            f"{figure:>17}: this {this:8.1f}, other {that:8.1f}, ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )
    if out is not None:
        write_json(out, {"every": every, "figures": FIGURES, "rounds": records})
