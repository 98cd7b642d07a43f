"""The time of a call, and the peak memory of a piece of code in a process of its own."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of one call: by the clock, and of all of this process's processors together."""
    clock = time.perf_counter()
    processor = time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def kibibytes(key: str) -> int:
    """Return this process's resident memory (``VmRSS``) or its peak (``VmHWM``) in KiB (Linux).

    Not ``ru_maxrss``: a child inherits that of the process that started it, however large it was.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key} line; this measurement needs Linux")


def printed(code: str) -> float:
    """Run Python code in a fresh process; return the number that it prints last."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def by_processes(world: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``work(*arguments)`` gives in the first of ``world`` processes of one thread that talk by gloo."""
    spawn = multiprocessing.get_context("spawn")
    found = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        words = [(rank, world, str(Path(folder) / "store"), found, work, arguments) for rank in range(world)]
        started = [spawn.Process(target=_member, args=one) for one in words]
        for process in started:
            process.start()
        result = found.get()
        for process in started:
            process.join()
    return result


def _member(rank: int, world: int, store: str, found: Any, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    result = work(*arguments)
    if rank == 0:
        found.put(result)


def peak_of(code: str) -> float:
    """Run Python code in a fresh process; return its peak resident memory in MiB."""
    return printed(f"{code}\nfrom experiments.benchmarks.measuring import kibibytes\nprint(kibibytes('VmHWM') / 1024)")
