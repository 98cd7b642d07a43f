"""V: choose the variant of the method on single-6c, then try it untouched on double-12c and on CIFAR-10.

    python -m experiments.variant.run [--quick]

First every setting of grid.py on the five small networks of E3 (selection.json), then the chosen one beside the
paper's on double-12c and, by deletion and insertion, on ResNet-20 (confirmation.json), and whether the petals'
brightness explains its gain (reason.json); what is there is not done again. ResNet-20 needs the shared folder. --quick
takes one network and few images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.flower_networks import trained
from experiments.common.pages import commit, measured_before
from experiments.sanity.subjects import resnet20
from experiments.variant.grid import PAPER, Setting, channels_of, maps_of
from experiments.variant.select import chosen, images_of, mask_of, measured, precision
from experiments.variant.table import write_readme
from experiments.variant.why import asked
from interpnet.attribution import attribute
from interpnet.datasets import make_loader, stack_images
from interpnet.evaluate import deletion, insertion, iou_auc, pointing_game
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
_CONTROLS = ("random", "edge", "center")
_STEPS = 32


def on_masks(
    setting: Setting, seed: int, work: Path, *, n_images: int, options: str = "", epochs: int | None = None
) -> dict[str, Any]:
    """Return the paper's and the chosen variant's scores on double-12c, for one small network."""
    began = time.perf_counter()
    train_on, test_on, which = images_of("double-12c", work, n_images, options)
    file = work / f"double-12c-smallcnn-{seed}.safetensors"
    model, reached = trained("smallcnn", train_on, test_on, seed, file, epochs)
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    images, labels = stack_images(test_on, which), torch.as_tensor(test_on.labels[which])
    inside = mask_of(test_on, which)
    line: dict[str, Any] = {"data": "double-12c", "seed": seed, "accuracy": reached, "n_images": len(which)}
    for name, one in (("paper", PAPER), ("chosen", setting)):
        found = channels_of(table, one.layers, one.mu, train_on.classes)
        maps = torch.cat([maps_of(one, model, *part, found) for part in _batches(images, labels)])
        line[name] = {
            "iou": iou_auc(maps, inside, constant="zero").mean,
            "precision": float(precision(maps, inside).mean()),
            "pointing": pointing_game(maps, inside, constant="zero").mean,
        }
    return {**line, "commit": commit(), "seconds": round(time.perf_counter() - began, 1)}


def on_cifar(setting: Setting, work: Path, *, quick: bool, n_images: int) -> dict[str, Any]:
    """Return deletion and insertion on ResNet-20, image by image, for both variants and the controls."""
    began = time.perf_counter()
    model, images, found, *_ = resnet20(0, work, n_images=n_images, quick=quick)
    with torch.no_grad():
        target = model(images).argmax(1)
    line: dict[str, Any] = {"data": "cifar10", "network": "ResNet-20", "n_images": len(images)}
    for name in ("paper", "chosen", *_CONTROLS):
        maps = _cifar_maps(name, setting, model, images, target, found)
        line[name] = {
            measure.__name__: [
                round(v, 5)
                for v in measure(
                    model, images, maps, target, steps=_STEPS, controls=(), constant="zero"
                ).values.tolist()
            ]
            for measure in (deletion, insertion)
        }
    return {**line, "commit": commit(), "seconds": round(time.perf_counter() - began, 1)}


def _cifar_maps(
    name: str, setting: Setting, model: nn.Module, images: Tensor, target: Tensor, found: Interpretation
) -> Tensor:
    if name in _CONTROLS:
        return attribute(model, images, target, name)
    one = PAPER if name == "paper" else setting
    return torch.cat([maps_of(one, model, *part, found) for part in _batches(images, target)])


def _batches(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(images, 20), torch.split(labels, 20), strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write both files and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/localisation"), help="E3's weights and images")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # thousands of passes of the same sizes
    options.work.mkdir(parents=True, exist_ok=True)
    words: dict[str, Any] = {"n_images": options.images}
    if options.quick:
        options.networks, words = 1, {"n_images": 12, "options": "?size=48&n=120", "epochs": 2}
    first, second = options.out / "selection.json", options.out / "confirmation.json"
    lines = measured_before(first)
    for seed in range(options.networks):
        if seed not in {x["seed"] for x in lines}:
            lines.append(measured(seed, options.work, **words))
            _write(first, lines)
            print(f"single-6c {seed}: {lines[-1]['seconds']} s", flush=True)
    setting = chosen(lines)
    print("chosen:", setting, flush=True)
    confirmed = measured_before(second)
    for seed in range(options.networks):
        if ("double-12c", seed) not in {(x["data"], x.get("seed")) for x in confirmed}:
            confirmed.append(on_masks(setting, seed, options.work, **words))
            _write(second, confirmed)
    reasons = measured_before(options.out / "reason.json")
    for seed in range(options.networks):
        if seed not in {x["seed"] for x in reasons}:
            reasons.append(asked(setting, seed, options.work, **words))
            _write(options.out / "reason.json", reasons)
    if "cifar10" not in {x["data"] for x in confirmed}:
        confirmed.append(on_cifar(setting, options.work, quick=options.quick, n_images=4 if options.quick else 200))
        _write(second, confirmed)
    for x in confirmed:
        means = {k: {m: round(float(np.mean(v)), 4) for m, v in x[k].items()} for k in ("paper", "chosen")}
        print(x["data"], x.get("seed", ""), means)
    if not options.quick:
        write_readme(HERE)


def _write(file: Path, lines: list[dict[str, Any]]) -> None:
    write_text(file, "[\n" + ",\n".join(json.dumps(x) for x in lines) + "\n]\n")


if __name__ == "__main__":
    main()
