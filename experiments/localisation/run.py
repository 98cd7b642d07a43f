"""E3: overlap of every map with the pixels that tell the class, over independently trained networks.

    python -m experiments.localisation.run [--variants single-6c ...] [--architectures smallcnn ...] [--quick]

A network at a time: trained (or read from the working folder), its channels identified, its maps measured, its line
written to results.json. What is there is not done again. --quick takes one small network on few small images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.flower_networks import ARCHITECTURES, trained
from experiments.common.maps import all_maps
from experiments.common.pages import measured_before
from experiments.localisation.table import write_readme
from interpnet.datasets import load_dataset, make_loader, stack_images
from interpnet.engine import find_sites
from interpnet.evaluate import iou_auc, pointing_game
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
VARIANTS = ("single-6c", "double-12c")
MU = 5.0
_BATCH = 15


def measured(
    variant: str,
    architecture: str,
    seed: int,
    work: Path,
    *,
    n_images: int,
    options: str = "",
    epochs: int | None = None,
) -> dict[str, Any]:
    """Return one network's line: accuracy, channels a class, and for each map its scores."""
    spec = f"an8flower-{variant}{options}"
    train_on, test_on = (load_dataset(spec, split=s, root=work) for s in ("train", "test"))
    file = work / f"{variant}-{architecture}-{seed}.safetensors"
    model, reached = trained(architecture, train_on, test_on, seed, file, epochs)
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    found = interpret(table, mu=MU, classes=train_on.classes)
    chosen = list(range(min(n_images, len(test_on))))  # the classes come in turn
    masks = test_on.masks
    if masks is None:
        raise RuntimeError("an8Flower has masks")
    rows: dict[str, dict[str, list[float]]] = {}
    began = time.perf_counter()
    for start in range(0, len(chosen), _BATCH):
        which = chosen[start : start + _BATCH]
        images, labels = stack_images(test_on, which), torch.as_tensor(test_on.labels[which])
        trace = find_sites(model, images[:1])
        inside = {name: torch.from_numpy(masks[name][which]) for name in ("discriminative", "plant")}
        for name, maps in all_maps(model, images, labels, found, trace):
            row = rows.setdefault(name, {"iou": [], "iou_abs": [], "iou_plant": [], "pointing": []})
            positive = maps.detach().clamp(min=0)
            row["iou"] += iou_auc(positive, inside["discriminative"], constant="zero").values.tolist()
            row["iou_abs"] += iou_auc(maps.detach().abs(), inside["discriminative"], constant="zero").values.tolist()
            row["iou_plant"] += iou_auc(positive, inside["plant"], constant="zero").values.tolist()
            row["pointing"] += pointing_game(positive, inside["discriminative"], constant="zero").values.tolist()
    return {
        "variant": variant,
        "architecture": architecture,
        "seed": seed,
        "accuracy": reached,
        "channels_a_class": float((found.coef != 0).sum(1).mean()),
        "n_images": len(chosen),
        "seconds": round(time.perf_counter() - began, 1),
        "mask_share": float(masks["discriminative"][chosen].mean()),
        "maps": {name: {k: round(float(np.mean(v)), 5) for k, v in row.items()} for name, row in rows.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write results.json and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/localisation"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    words: dict[str, Any] = {"n_images": options.images}
    if options.quick:
        options.networks, words = 1, {"n_images": 12, "options": "?size=48&n=120", "epochs": 2}
    keep_freed_memory()  # thousands of passes of the same sizes
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {(x["variant"], x["architecture"], x["seed"]) for x in lines}
    for architecture in options.architectures:
        for variant in options.variants:
            for seed in range(options.networks):
                if (variant, architecture, seed) in done:
                    continue
                line = measured(variant, architecture, seed, options.work, **words)
                lines.append(line)
                write_text(options.out, json.dumps(lines, indent=1) + "\n")
                best = sorted(line["maps"].items(), key=lambda m: -m[1]["iou"])[:3]
                print(f"{variant} {architecture} {seed}: accuracy {line['accuracy']:.3f},", best, flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines, HERE / "iou.png")


if __name__ == "__main__":
    main()
