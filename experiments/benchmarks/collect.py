"""Collection against the bare forward pass: images per second, alternated in one process, same batches and layout.

    python -m experiments.benchmarks.collect [--device cuda] [--repeats 7] [--out results.json]

For each network and memory format the bare forward and the forward with scores run in turn on the same batches; the
table gives the median of the paired ratios. A second part gives the peak memory of collecting many random images.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.measuring import peak_of, seconds
from experiments.common.networks import cifar_resnet
from experiments.common.runner import command
from interpnet.engine import Instrument, evaluating, find_sites, instrument, placed
from interpnet.scores import ScoreReader
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "resnet20 (32x32)": (lambda: cifar_resnet(20), (3, 32, 32), 256),
    "resnet56 (32x32)": (lambda: cifar_resnet(56), (3, 32, 32), 128),
    "resnet50 (224x224)": (lambda: torchvision.models.resnet50(weights=None), (3, 224, 224), 16),
}


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call, the device's queue included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else int  # a GPU's calls return before they are done
    wait()
    return seconds(lambda: (run(), wait()))[0]


def compare(name: str, memory_format: str, device: torch.device, repeats: int, scale: int) -> dict[str, Any]:
    """Time bare and scored forward passes in turn; return medians and the median of the paired ratios."""
    build, shape, batch = NETWORKS[name]
    torch.manual_seed(0)
    model = build()
    batch *= scale
    with placed(model, device, memory_format) as put, evaluating(model), torch.inference_mode():
        images = put(torch.randn(batch, *shape, device=device))
        reader = ScoreReader(find_sites(model, images).select())
        what = Instrument(reads=reader.reads)
        # The engine is attached once for a whole pass over a data set, so it stays attached here while
        # several batches run; several batches also make one measurement long against a timer's noise.
        rounds = max(1, round(2.0 / max(timed(lambda: model(images), device), 1e-3)))

        def bare() -> None:
            for _ in range(rounds):
                model(images)

        def scored() -> None:
            with instrument(model, what):
                for _ in range(rounds):
                    model(images)
                    reader.take()

        scored()  # the first pass pays for what is made once
        pairs = [(timed(bare, device), timed(scored, device)) for _ in range(repeats)]
    images_per_s = [batch * rounds / statistics.median(column) for column in zip(*pairs, strict=True)]
    ratios = [bare_s / scored_s for bare_s, scored_s in pairs]
    return {
        "network": name,
        "format": ("contiguous", "channels_last")[images.is_contiguous(memory_format=torch.channels_last)],
        "channels": len(reader.channels),
        "batch": batch,
        "bare_images_per_s": images_per_s[0],
        "scored_images_per_s": images_per_s[1],
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def random_batches(n: int, batch: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``n`` random images of 3x32x32 in batches."""
    generator = torch.Generator().manual_seed(0)
    for at in range(0, n, batch):
        size = min(batch, n - at)
        yield torch.randn(size, 3, 32, 32, generator=generator), torch.zeros(size, dtype=torch.long)


def peak_memory(n: int) -> float:
    """Collect ``n`` images with ResNet-20 in a fresh process; return its peak resident memory in MiB."""
    code = (
        "import tempfile\n"
        "from experiments.benchmarks.collect import random_batches\n"
        "from experiments.common.networks import cifar_resnet\n"
        "from interpnet.support.allocator import keep_freed_memory\n"
        "from interpnet.scores import collect_scores\n"
        "keep_freed_memory()\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        f"    table = collect_scores(cifar_resnet(20), random_batches({n}), out=folder, progress=False)\n"
        f"    assert len(table) == {n}\n"
    )
    return peak_of(code)


@command(networks=NETWORKS)
def main(
    *,
    device: str = "cpu",
    repeats: int = 7,
    networks: tuple[str, ...] = tuple(NETWORKS),
    no_memory: bool = False,
    out: Path | None = None,
) -> None:
    """Run both parts, print tables, and write JSON if asked to."""
    keep_freed_memory()  # as the command line does; it speeds up both sides alike
    on = torch.device(device)
    scale = 1
    machine = platform.processor() or platform.machine()
    if on.type == "cuda":
        scale = 8
        machine = torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {machine}, {torch.get_num_threads()} threads, {repeats} pairs")
    rows = []
    for name in networks:
        for memory_format in ("contiguous", "channels_last"):
            rows.append(compare(name, memory_format, on, repeats, scale))
            print(json.dumps(rows[-1]), flush=True)
    memory = {}
    if not no_memory:
        for n in (1_000, 10_000, 50_000):
            memory[str(n)] = peak_memory(n)
            print(f"peak memory of collecting {n:>6} images (ResNet-20): {memory[str(n)]:.0f} MiB", flush=True)
    if out:
        write_json(out, {"rows": rows, "memory_mib": memory})
