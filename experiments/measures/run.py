"""M2: every method beside every measure on seven networks, and how far the measures agree.

    python -m experiments.measures.run [--networks resnet20 ...] [--methods ...] [--device cuda] [--part 1 --parts 2]
    python -m experiments.measures.run --merge a.json b.json

Resumes from results.json, a row per network and method. Several processes may share the work, each with its
own --out and --part; --merge takes their files in. --minutes stops before a method that would begin later.
The shared folder is needed, and EfficientNet-Lite0's weights (see experiments/README.md).
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from experiments.common.runner import Results, command
from experiments.common.subjects import default_device
from experiments.measures.measure import MEASURES, ON_MASKS, Maps, measured
from experiments.measures.packed import Packed, unpacked
from experiments.measures.settings import method_names
from experiments.measures.subjects import KINDS, load

HERE = Path(__file__).parent
OUT = HERE / "results.json"
_WITH_MASKS = ("efficientnet-boxes", "resnet18", "smallcnn")


def planned(network: str, method: str) -> list[dict[str, str]]:
    """Return the cells of a method on a network, as keys of the results."""
    names = [name for name in MEASURES if network in _WITH_MASKS or name not in ON_MASKS]
    return [{"network": network, "method": method, "measure": name} for name in names]


def _key(line: dict[str, object]) -> dict[str, object]:
    return {name: line[name] for name in ("network", "method", "measure")}


def _measure(
    results: Results,
    networks: tuple[str, ...],
    methods: tuple[str, ...],
    work: Path,
    device: str,
    images: int,
    until: float,
) -> None:
    for network in networks:
        wanted = {method: planned(network, method) for method in methods}
        if not any(results.todo(cells) for cells in wanted.values()):
            continue
        subject = load(network, work, device, images)
        for method, cells in wanted.items():
            if time.monotonic() > until or not results.todo(cells):
                continue
            if device == "cuda":
                torch.cuda.empty_cache()  # other processes share the card
            maps = Maps(subject, method)
            for line in results.missing(cells):
                began = time.perf_counter()
                found = measured(maps, line["measure"])
                if not found:
                    print(network, method, line["measure"], "memory is short: left out", flush=True)
                    continue
                line |= found
                if device == "cuda":
                    torch.cuda.synchronize()
                line["device"] = device
                line["seconds"] = round(time.perf_counter() - began, 3)


@command(networks=tuple(KINDS), merge="files of other processes to take in", minutes="no method begins later")
def main(
    *,
    networks: tuple[str, ...] = tuple(KINDS),
    methods: tuple[str, ...] = method_names(),
    images: int = 0,
    device: str = "",
    part: int = 1,
    parts: int = 1,
    minutes: float = 1e9,
    merge: tuple[Path, ...] = (),
    work: Path = Path("runs/measures"),
    out: Path = OUT,
) -> None:
    """Measure what is missing; with the committed results, write the page."""
    results = Packed(out)
    for file in merge:
        results.lines += [line for line in unpacked(file) if results.todo([_key(line)])]
    if merge:
        results.write()
    elif parts > 0:
        began = time.monotonic()
        work.mkdir(parents=True, exist_ok=True)
        _measure(
            results,
            networks,
            methods[part - 1 :: parts],
            work,
            device or default_device(),
            images,
            began + 60 * minutes,
        )
    if out == OUT:
        from experiments.measures.table import write_page

        write_page(results.lines)
