"""E3: overlap of every map with the pixels that tell the class, over independently trained networks.

    python -m experiments.localisation.run [--variants single-6c ...] [--architectures smallcnn ...] [--quick]

Resumes from results.json, a line per network. --quick takes one small network on few small images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.flower_networks import ARCHITECTURES, QUICK, flower_network, masks_of
from experiments.common.maps import all_maps
from experiments.common.runner import Results, study
from experiments.common.tables import Line
from experiments.localisation.table import PAGE
from interpnet.engine import find_sites
from interpnet.evaluate import iou_auc, pointing_game

VARIANTS = ("single-6c", "double-12c")
_BATCH = 15  # images at a time; maps of all methods are kept for one batch


def measured(line: Line, work: Path, *, n_images: int, **words: Any) -> Line:
    """Return a network's accuracy, its channels per class, and for each map its scores."""
    network = flower_network(line["variant"], line["seed"], work, architecture=line["architecture"], **words)
    found = network.interpretation()
    chosen = network.first(n_images)
    rows: dict[str, dict[str, list[float]]] = {}
    began = time.perf_counter()  # training is not counted: its weights may lie in the working folder already
    for start_at in range(0, len(chosen), _BATCH):
        which = chosen[start_at : start_at + _BATCH]
        images, labels = network.tested(which)
        trace = find_sites(network.model, images[:1])
        inside = masks_of(network.test_on, which)
        plant = masks_of(network.test_on, which, "plant")
        for name, maps in all_maps(network.model, images, labels, found, trace):
            row = rows.setdefault(name, {"iou": [], "iou_abs": [], "iou_plant": [], "pointing": []})
            positive = maps.detach().clamp(min=0)  # what speaks for the class
            row["iou"] += iou_auc(positive, inside, constant="zero").values.tolist()
            row["iou_abs"] += iou_auc(maps.detach().abs(), inside, constant="zero").values.tolist()
            row["iou_plant"] += iou_auc(positive, plant, constant="zero").values.tolist()
            row["pointing"] += pointing_game(positive, inside, constant="zero").values.tolist()
    return {
        "accuracy": network.accuracy,
        "channels_a_class": float((found.coef != 0).sum(1).mean()),
        "n_images": len(chosen),
        "seconds": round(time.perf_counter() - began, 1),
        "mask_share": float(masks_of(network.test_on, chosen).numpy().mean()),
        "maps": {name: {k: round(float(np.mean(v)), 5) for k, v in row.items()} for name, row in rows.items()},
    }


@study(PAGE, "runs/localisation", variants=VARIANTS, architectures=ARCHITECTURES)
def main(
    results: Results,
    work: Path,
    *,
    quick: bool,
    variants: tuple[str, ...] = VARIANTS,
    architectures: tuple[str, ...] = ARCHITECTURES,
    networks: int = 5,
    images: int = 60,
) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    words: dict[str, Any] = {"n_images": images}
    if quick:
        words = {"n_images": 6, **QUICK}
        networks = 1
    wanted = [
        {"variant": variant, "architecture": architecture, "seed": seed}
        for architecture in architectures
        for variant in variants
        for seed in range(networks)
    ]
    for line in results.missing(wanted):
        line |= measured(line, work, **words)
