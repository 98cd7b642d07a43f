"""How fast an8Flower is made: images per second, with one process and with one for each core.

    python -m experiments.benchmarks.an8flower [--repeats 5] [--images 1200] [--jobs 2] [--out results.json]

A round makes the same images in turn with one process and with several, by the clock and by one process's time, which
other work on the machine disturbs less; the load average stands beside the figures. --out adds to what the file holds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.measuring import seconds
from experiments.common.runner import command
from interpnet.datasets import GENERATOR, an8flower
from interpnet.support.io import write_json

CASES: tuple[dict[str, Any], ...] = (
    {"variant": "single-6c", "size": 112},
    {"variant": "double-12c", "size": 112},
    {"variant": "single-6c", "size": 112, "shortcut": "texture"},
    {"variant": "single-6c", "size": 128},
    {"variant": "single-6c", "size": 64},
)


def compare(case: dict[str, Any], images: int, jobs: int, repeats: int) -> dict[str, Any]:
    """Time a case in rounds; return medians of images per second, and the slowest and fastest round."""

    def made(jobs: int) -> tuple[float, float]:
        return seconds(lambda: an8flower(n=images, jobs=jobs, **case))

    started = images / made(jobs)[0]  # the workers' start included
    rounds = [(made(1), made(jobs)) for _ in range(repeats)]
    columns = {
        "one process": [images / one[0] for one, _ in rounds],
        "one process, by processor time": [images / one[1] for one, _ in rounds],
        f"{jobs} processes": [images / several[0] for _, several in rounds],
    }
    spread = {name: [round(statistics.median(v)), round(min(v)), round(max(v))] for name, v in columns.items()}
    return {**case, f"{jobs} processes, first call": round(started), **spread}


@command(images="of every case", jobs="processes", out="a JSON file that the figures are added to")
def main(*, repeats: int = 5, images: int = 1200, jobs: int = 2, out: Path | None = None) -> None:
    """Run all cases, print them, and write JSON if asked to."""
    machine = {
        "generator": GENERATOR,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load before": [round(x, 1) for x in os.getloadavg()],
    }
    rows = []
    for case in CASES:
        rows.append(compare(case, images, jobs, repeats))
        print(json.dumps(rows[-1]), flush=True)
    machine["load after"] = [round(x, 1) for x in os.getloadavg()]
    print(json.dumps(machine))
    if out:
        unit = "images per second: median, slowest and fastest round"
        before = json.loads(out.read_text()) if out.exists() else []
        found = {"unit": unit, **machine, "images": images, "rows": rows}
        write_json(out, [*before, found])
