"""The time of a call, and the peak memory of a piece of code in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of one call: by the clock, and of all of this process's processors together."""
    clock = time.perf_counter()
    processor = time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def peak_mib() -> float:
    """Return this process's peak resident memory in MiB (Linux).

    Not ``ru_maxrss``: a child inherits that of the process that started it, however large it was.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM line; this measurement needs Linux")


def peak_of(code: str) -> float:
    """Run Python code in a fresh process; return its peak resident memory in MiB."""
    whole = f"{code}\nfrom experiments.benchmarks.memory import peak_mib\nprint(peak_mib())\n"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", whole], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])
