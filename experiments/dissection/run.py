"""C2: which concepts the channels of a trained network detect, and which a network with random weights does.

    pip install -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.dissection.run [--every 1] [--quick]

Resumes from results.json, a line per network. --every 2 takes every second image; --quick every 60th, and writes no
page.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.imagenet import networks
from experiments.common.runner import Results, rounded, study
from experiments.dissection.data import CONCEPTS, Archive, groups, loaders
from experiments.dissection.sheet import sheet
from experiments.dissection.table import PAGE
from interpnet.concepts import Dissection, dissect
from interpnet.evaluate import randomised
from interpnet.support.types import Float64

HERE = Path(__file__).parent
TRAINED, RANDOM = "trained", "random weights"
_OTHER_SEED = 1  # the random weights that are judged by those of seed 0
_FOR_NORMS = 64  # images on which batch norms settle
_BEST = 10  # detectors kept of each concept


def summary(found: Dissection) -> dict[str, Any]:
    """Return what a results file keeps of a dissection."""
    best = np.nan_to_num(found.iou, nan=0.0).max(1)
    paper = best > found.least
    layers = []
    for one in found.layers():
        own = found.channels.slice(one.layer)
        layers.append(
            {
                "layer": one.layer,
                "channels": one.channels,
                "named": one.named,
                "above 0.04": int(paper[own].sum()),
                "beyond other masks": int(
                    ((found.low > found.null[:, None]) & (found.iou > found.least))[own].any(1).sum()
                ),
                "concepts": one.concepts,
                "categories": one.categories,
                "median IoU": float(np.median(best[own])),
                "floors": one.floors,
            }
        )
    detectors = {}
    for concept in found.concepts:
        c = found.concepts.index(concept)
        rows = [(found.channels.position(channel), channel) for channel, _ in found.detectors(concept)[:_BEST]]
        detectors[concept] = [
            [
                channel.layer,
                channel.index,
                *(float(part[row, c]) for part in (found.iou, found.low, found.high)),
                float(found.thresholds[row]),
                found.top[row].tolist(),
            ]
            for row, channel in rows
        ]
    counts = {concept: len(found.detectors(concept)) for concept in found.concepts}
    return {"images": found.images, "layers": layers, "detectors": detectors, "counts": counts}


def with_floor(found: Dissection, layers: list[dict[str, Any]]) -> Dissection:
    """Return a dissection judged by the floors of another one's layers."""
    return replace(found, floor=floors(found, layers))


def floors(found: Dissection, layers: list[dict[str, Any]]) -> Float64:
    """Return (m, K): the floor of each channel's layer for each concept's category."""
    by_layer = {one["layer"]: [one["floors"][category] for category in found.categories] for one in layers}
    return np.array([by_layer[channel.layer] for channel in found.channels])


def settling(every: dict[str, Archive]) -> torch.Tensor:
    """Return images of both categories, on which batch norms of random networks settle."""
    batches = [next(iter(loader))[0] for loader in every.values()]
    return torch.cat(batches)[:_FOR_NORMS]


@study(PAGE, "experiments/dissection/runs", every="of the images every so-many-th")
def main(results: Results, work: Path, *, quick: bool, every: int = 1, device: str = "cpu") -> None:
    """Dissect the trained network and one with random weights, judged by another one with random weights."""
    model, prepare = networks("efficientnet")
    sources = loaders(prepare, every=60 if quick else every)
    together = groups(sources)
    for line in results.missing([{"network": TRAINED}, {"network": RANDOM}]):
        clock, processor = time.perf_counter(), time.process_time()
        if line["network"] == TRAINED:
            found = dissect(model, sources, concepts=CONCEPTS, groups=together, device=device)
        else:
            other = randomised(model, settling(sources), seed=_OTHER_SEED)
            known = next(one for one in results.lines if one["network"] == TRAINED)
            found = dissect(other, sources, concepts=CONCEPTS, groups=together, untrained=False, device=device)
            found = with_floor(found, known["layers"])
        line.update(rounded(summary(found)))
        if line["network"] == TRAINED:
            sheet(model, sources, line, work / "detectors.png" if quick else HERE / "detectors.png")
        line["minutes"] = round((time.perf_counter() - clock) / 60, 1)
        line["processor minutes"] = round((time.process_time() - processor) / 60, 1)
        line["threads"] = torch.get_num_threads()
        line["peak MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
