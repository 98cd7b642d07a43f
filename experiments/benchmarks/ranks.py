"""What several processes cost and gain: summing a matrix over them, and collecting scores by two instead of one.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks.ranks --out experiments/benchmarks/ranks.json

Processes are on one machine and talk by gloo, each with one thread. The sum is that of a float64 matrix, as a Gram
matrix is; scores are those of a network with random weights on random images, alternately by all processes and by the
first one alone while the others wait. All values are medians.
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

from experiments.common.networks import resnet20
from interpnet import collect_scores
from interpnet.support.ranks import ranks_of

_ROUNDS = 7


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that all ranks together take for some work."""
    ranks = ranks_of("default")
    ranks.wait()
    begun = time.perf_counter()
    work()
    ranks.wait()
    return time.perf_counter() - begun


def measured(side: int, n_images: int) -> dict[str, Any]:
    """Return what the processes of the group measured together."""
    ranks = ranks_of("default")
    gram = np.ones((side, side))
    sums = [timed(lambda: ranks.sum(gram)) for _ in range(_ROUNDS)]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n_images, 3, 32, 32, generator=generator)
    labels = torch.arange(n_images) % 10
    batches = [(images[start : start + 64], labels[start : start + 64]) for start in range(0, n_images, 64)]
    torch.manual_seed(0)
    model = resnet20().eval()

    def together() -> None:
        collect_scores(model, batches, group="default", progress=False)

    def alone() -> None:
        if ranks.first:
            collect_scores(model, batches, progress=False)

    pairs = [(timed(alone), timed(together)) for _ in range(_ROUNDS)]
    return {
        "seconds of a sum": [round(value, 3) for value in sorted(sums)],
        "images/s alone": round(n_images / statistics.median(one for one, _ in pairs)),
        "images/s together": round(n_images / statistics.median(both for _, both in pairs)),
        "together / alone": [round(one / both, 2) for one, both in sorted(pairs, key=lambda pair: pair[0] / pair[1])],
    }


def run(rank: int, world: int, store: str, given: argparse.Namespace, found: Any) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    result = measured(given.side, given.images)
    if rank == 0:
        found.put(result)


def main() -> None:
    """Measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the matrix")
    parser.add_argument("--images", type=int, default=1280)
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
        result = {"processes": given.processes, "matrix": given.side, "images": given.images, **found.get()}
        for process in started:
            process.join()
    print(json.dumps(result, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
