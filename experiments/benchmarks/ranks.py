"""What it takes to sum a matrix over several processes, as a Gram matrix is summed.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks.ranks --out experiments/benchmarks/ranks.json

The processes are on one machine and talk by gloo, each with one thread; the matrix is float64. What collecting scores
gains from several processes is measured by ``ranks_collect.py``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.measuring import by_processes
from experiments.common.runner import command
from interpnet.support.io import write_json
from interpnet.support.ranks import ranks_of

_ROUNDS = 15


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that all ranks together take for some work."""
    ranks = ranks_of("default")
    ranks.wait()
    begun = time.perf_counter()
    work()
    ranks.wait()
    return time.perf_counter() - begun


def measured(side: int) -> dict[str, Any]:
    """Return what the processes of the group measured together."""
    ranks = ranks_of("default")
    gram = np.ones((side, side))
    sums = [timed(lambda: ranks.sum(gram)) for _ in range(_ROUNDS)]
    return {"median, s": round(statistics.median(sums), 3), "seconds": [round(value, 3) for value in sorted(sums)]}


@command(processes="that share the sum", side="rows and columns of the matrix")
def main(*, processes: int = 2, side: int = 4096, out: Path | None = None) -> None:
    """Measure, print and keep the numbers."""
    result = {"processes": processes, "rows and columns": side, **by_processes(processes, measured, side)}
    print(json.dumps(result, indent=1))
    if out is not None:
        write_json(out, result)
