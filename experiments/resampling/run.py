"""Q3 and Q4: what is due to the channels, and what to the stride-1 resampling.

    python -m experiments.resampling.run [--subjects single-6c double-12c resnet20] [--architectures smallcnn] [--quick]

A network at a time, each written to results.json; what is there is not done again. The networks are E3's (trained on
the spot where its working folder, --work, lacks them) and, for Q4, the shared ResNet-20. --quick takes one small
network, few small images and one rule.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.common.flower_networks import ARCHITECTURES
from experiments.common.maps import RULES
from experiments.common.pages import commit, measured_before
from experiments.resampling.measure import cells
from experiments.resampling.table import figure, write_readme
from experiments.sanity.subjects import Subject, flowers, resnet20
from interpnet.datasets import load_dataset
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
SUBJECTS = ("single-6c", "double-12c", "resnet20")


def measured(make: Any, spec: str, seed: int, work: Path, *, n_images: int, quick: bool) -> dict[str, Any]:
    """Return a network's line; ``spec`` names the flowers with its masks, and is empty for ResNet-20."""
    began = time.perf_counter()
    subject: Subject = make(seed, work, n_images=n_images, quick=quick)
    labels, masks = _truth(subject, spec, work)
    scores = cells(subject, labels, masks, ("guided",) if quick else RULES)
    return {
        "images": len(subject.images),
        "seconds": round(time.perf_counter() - began, 1),
        "commit": commit(),
        "scores": scores,
    }


def _truth(subject: Subject, spec: str, work: Path) -> tuple[Tensor, Tensor | None]:
    """Return the class each map is for, and what tells it: the true one, or the predicted one without masks."""
    n = len(subject.images)
    if not spec:
        with torch.no_grad():
            return subject.model(subject.images).argmax(1), None
    data = load_dataset(spec, split="test", root=work)
    if data.masks is None:
        raise RuntimeError("an8Flower has masks")
    return torch.as_tensor(data.labels[:n]), torch.from_numpy(data.masks["discriminative"][:n])


def units(options: argparse.Namespace) -> Iterator[tuple[str, str, int, Any, str]]:
    """Yield (data set, architecture, seed, how to make it, specification of its data)."""
    for name in options.subjects:
        if name == "resnet20":
            yield "cifar10", "resnet20", 0, resnet20, ""
            continue
        spec = f"an8flower-{name}{'?size=48&n=120' if options.quick else ''}"
        for architecture in options.architectures:
            for seed in range(1 if options.quick else options.networks):
                yield name, architecture, seed, partial(flowers, name, architecture=architecture), spec


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--architectures", nargs="+", default=["smallcnn"], choices=ARCHITECTURES)
    parser.add_argument("--networks", type=int, default=5, help="of each kind")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/localisation"), help="weights and images of E3")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {(x["data"], x["architecture"], x["seed"]) for x in lines}
    for data, architecture, seed, make, spec in units(options):
        if (data, architecture, seed) in done:
            continue
        n_images = 6 if options.quick else options.images
        line = measured(make, spec, seed, options.work, n_images=n_images, quick=options.quick)
        lines.append({"data": data, "architecture": architecture, "seed": seed, **line})
        write_text(options.out, json.dumps(lines, indent=1) + "\n")
        print(data, architecture, seed, f"{line['seconds']} s", flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines)
        figure(lines, HERE / "factorial.png")


if __name__ == "__main__":
    main()
