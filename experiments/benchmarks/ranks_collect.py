"""Collecting scores in two processes of one thread each, against one process of one thread.

``python -m experiments.benchmarks.ranks_collect`` writes ``ranks_collect.json``: images per second of both, measured in
turn in the same two processes, and their ratio. Rank 1 waits while rank 0 works alone.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from experiments.benchmarks.measuring import by_processes
from experiments.common.runner import command
from interpnet.gram import GramAccumulator
from interpnet.scores import collect_scores
from interpnet.support.io import write_json
from interpnet.support.ranks import ranks_of

OUT = Path(__file__).with_suffix(".json")
_SIZE = 112
_BATCH = 16
_CHANNELS = 3904  # of the default layers


def _work(folder: str, n: int, rounds: int) -> dict[str, list[float]]:
    """Return what a process and both together take for each round."""
    ranks = ranks_of("default")
    torch.manual_seed(0)
    model = resnet18().eval()
    images = torch.rand(n, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(images, torch.arange(n) % 1000), batch_size=_BATCH)
    seconds: dict[str, list[float]] = {"one process": [], "two processes": []}
    for turn in range(-1, rounds):
        for name, group in (("one process", None), ("two processes", "default")):
            ranks.wait()
            start = time.perf_counter()
            if group is not None or ranks.first:
                gram = GramAccumulator(_CHANNELS, 1000)
                out = Path(folder) / f"{name} {turn}"
                collect_scores(model, loader, out=out, gram=gram, progress=False, group=group)
            ranks.wait()
            # The first turn warms up.
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@command(images="that are scored")
def main(*, images: int = 2048, rounds: int = 3) -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = by_processes(2, _work, folder, images, rounds)
    speeds = {name: [images / second for second in times] for name, times in seconds.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    found = {
        "network": "resnet18",
        "image": [3, _SIZE, _SIZE],
        "batch_size": _BATCH,
        "images": images,
        "threads_of_a_process": 1,
        "cpus": os.cpu_count(),
        "images_per_second": {name: round(value, 2) for name, value in medians.items()},
        "rounds": {name: [round(value, 2) for value in values] for name, values in speeds.items()},
        "ratio": round(medians["two processes"] / medians["one process"], 3),
        "ratio_of_the_fastest": round(max(speeds["two processes"]) / max(speeds["one process"]), 3),
    }
    write_json(OUT, found)
    print(found)
