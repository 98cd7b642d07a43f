"""What keeping freed memory is worth on this machine: images per second of the bare network with and without it.

    python -m experiments.benchmarks.allocator

Each measurement is a fresh process, because the setting holds for a whole process; the two kinds alternate.
"""

from __future__ import annotations

import statistics

from experiments.benchmarks.measuring import printed

_CODE = """
import time, torch
from experiments.common.networks import cifar_resnet
from interpnet.support.allocator import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
batch = {batch}
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


def main() -> None:
    """Print a table."""
    print("ResNet-20, 32x32, channels_last, images/s (median of 3 processes, alternated)")
    for batch in (64, 256, 1024):
        codes = [_CODE.format(kept=kept, batch=batch) for kept in (False, True)]
        pairs = [(printed(codes[0]), printed(codes[1])) for _ in range(3)]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(q / p for p, q in pairs)
        print(f"batch {batch:>5}: default {a:8.0f}  kept {b:8.0f}  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
