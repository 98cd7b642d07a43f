"""Collecting scores in two processes of one thread each, against one process of one thread.

``python -m experiments.benchmarks.ranks_collect`` writes ``ranks_collect.json``: images per second of both, measured in
turn in the same two processes, and their ratio. Rank 1 waits while rank 0 works alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from interpnet.gram import GramAccumulator
from interpnet.scores import collect_scores
from interpnet.support.io import write_json
from interpnet.support.ranks import ranks_of

OUT = Path(__file__).with_suffix(".json")
_SIZE = 112
_BATCH = 16
_CHANNELS = 3904  # of the default layers


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        receive, send = context.Pipe(duplex=False)
        arguments = (folder, options.images, options.rounds, send)
        workers = [context.Process(target=_work, args=(rank, *arguments)) for rank in range(2)]
        for worker in workers:
            worker.start()
        seconds = receive.recv()
        for worker in workers:
            worker.join()
    speeds = {name: [options.images / second for second in times] for name, times in seconds.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    found = {
        "network": "resnet18",
        "image": [3, _SIZE, _SIZE],
        "batch_size": _BATCH,
        "images": options.images,
        "threads_of_a_process": 1,
        "cpus": os.cpu_count(),
        "images_per_second": {name: round(value, 2) for name, value in medians.items()},
        "rounds": {name: [round(value, 2) for value in values] for name, values in speeds.items()},
        "ratio": round(medians["two processes"] / medians["one process"], 3),
        "ratio_of_the_fastest": round(max(speeds["two processes"]) / max(speeds["one process"]), 3),
    }
    write_json(OUT, found)
    print(found)


def _work(rank: int, folder: str, n: int, rounds: int, send: Any) -> None:
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
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
    if ranks.first:
        send.send(seconds)


if __name__ == "__main__":
    main()
