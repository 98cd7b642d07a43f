"""What it takes to sum a matrix over several processes, as a Gram matrix is summed.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks.ranks --out experiments/benchmarks/ranks.json

The processes are on one machine and talk by gloo, each with one thread; the matrix is float64. What collecting scores
gains from several processes is measured by ``ranks_collect.py``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

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


def run(rank: int, world: int, store: str, given: argparse.Namespace, found: Any) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    result = measured(given.side)
    if rank == 0:
        found.put(result)


def main() -> None:
    """Measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the matrix")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    found = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        words = [(rank, given.processes, store, given, found) for rank in range(given.processes)]
        started = [spawn.Process(target=run, args=one) for one in words]
        for process in started:
            process.start()
        result = {"processes": given.processes, "rows and columns": given.side, **found.get()}
        for process in started:
            process.join()
    print(json.dumps(result, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
