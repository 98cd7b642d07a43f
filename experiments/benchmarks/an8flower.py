"""How fast an8Flower is made: images a second, with one process and with one for each core.

    python -m experiments.benchmarks.an8flower [--repeats 5] [--images 1200] [--jobs 2] [--out results.json]

A round makes the same images in turn with one process and with several, their start included only in the first round.
By the clock, and by processor time of one process, which other work on the machine disturbs less; the load average
before and after stands beside the figures. --out adds to what the file holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets import GENERATOR, an8flower
from interpnet.support.io import write_text

CASES: tuple[dict[str, Any], ...] = (
    {"variant": "single-6c", "size": 112},
    {"variant": "double-12c", "size": 112},
    {"variant": "single-6c", "size": 112, "shortcut": "texture"},
    {"variant": "single-6c", "size": 128},
    {"variant": "single-6c", "size": 64},
)


def seconds(case: dict[str, Any], images: int, jobs: int) -> tuple[float, float]:
    """Return the seconds of one call by the clock, and of this process's processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    an8flower(n=images, jobs=jobs, **case)
    return time.perf_counter() - clock, time.process_time() - processor


def compare(case: dict[str, Any], images: int, jobs: int, repeats: int) -> dict[str, Any]:
    """Time a case in rounds; return medians of images a second, and the slowest and fastest round."""
    started = images / seconds(case, images, jobs)[0]
    rounds = [(seconds(case, images, 1), seconds(case, images, jobs)) for _ in range(repeats)]
    columns = {
        "one process": [images / one[0] for one, _ in rounds],
        "one process, by processor time": [images / one[1] for one, _ in rounds],
        f"{jobs} processes": [images / several[0] for _, several in rounds],
    }
    spread = {name: [round(statistics.median(v)), round(min(v)), round(max(v))] for name, v in columns.items()}
    return {**case, f"{jobs} processes, first call": round(started), **spread}


def main() -> None:
    """Run all cases, print them, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    machine = {
        "generator": GENERATOR,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load before": [round(x, 1) for x in os.getloadavg()],
    }
    rows = []
    for case in CASES:
        rows.append(compare(case, options.images, options.jobs, options.repeats))
        print(json.dumps(rows[-1]), flush=True)
    machine["load after"] = [round(x, 1) for x in os.getloadavg()]
    print(json.dumps(machine))
    if options.out:
        unit = "images a second: median, slowest and fastest round"
        before = json.loads(options.out.read_text()) if options.out.exists() else []
        found = {"unit": unit, **machine, "images": options.images, "rows": rows}
        write_text(options.out, json.dumps([*before, found], indent=2) + "\n")


if __name__ == "__main__":
    main()
