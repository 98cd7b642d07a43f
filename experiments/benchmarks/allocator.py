"""What keeping freed memory is worth on this machine: images per second of the bare network with and without it.

    python -m experiments.benchmarks.allocator

Each measurement is a fresh process, because the setting holds for a whole process; the two kinds alternate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

_CODE = """
import sys, time, torch
from experiments.common.networks import cifar_resnet
from interpnet.support.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
batch = int(sys.argv[2])
net = cifar_resnet(20).eval().to(memory_format=torch.channels_last)
x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
rates = []
with torch.inference_mode():
    net(x)
    for _ in range(max(3, 4096 // batch)):
        start = time.perf_counter()
        net(x)
        rates.append(batch / (time.perf_counter() - start))
print(sorted(rates)[len(rates) // 2])
"""


def rate(kind: str, batch: int) -> float:
    """Return the median images/s of one process."""
    done = subprocess.run([sys.executable, "-c", _CODE, kind, str(batch)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Print a table."""
    print("ResNet-20, 32x32, channels_last, images/s (median of 3 processes, alternated)")
    for batch in (64, 256, 1024):
        pairs = [(rate("default", batch), rate("kept", batch)) for _ in range(3)]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(q / p for p, q in pairs)
        print(f"batch {batch:>5}: default {a:8.0f}  kept {b:8.0f}  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
