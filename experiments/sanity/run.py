"""E4: class sensitivity, parameter randomisation, deletion and insertion for every method, on trained networks.

    python -m experiments.sanity.run [--subjects resnet20 single-6c double-12c] [--quick]

A method on a network at a time, each written to results.json; what is there is not done again. --quick takes few
images and three methods. ResNet-20 needs the shared folder (see experiments/README.md); the small networks on flowers
are E3's, trained on the spot where its working folder (--work) lacks them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.maps import RULES
from experiments.common.pages import commit, measured_before
from experiments.sanity.subjects import SUBJECTS, Subject
from experiments.sanity.table import write_readme
from interpnet.attribution import AttributionWarning, attribute, methods
from interpnet.errors import ModelError
from interpnet.evaluate import class_sensitivity, deletion, insertion, parameter_randomisation
from interpnet.explanation import explain
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
STEPS = 16

Maps = Callable[[nn.Module, Tensor, Tensor], Tensor]


def maps_of(method: str, **options: Any) -> Maps:
    """Return a method as a function of model, images and classes; signed maps keep their sign."""

    def run(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttributionWarning)
            return attribute(model, images, target, method, **options)

    return run


def maps_of_channels(subject: Subject, *, rectifier: str, resample: bool, reduction: str) -> Maps:
    """Return the combined map of each class's identified channels, which stay those of the trained network."""

    def run(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return explain(
            model, images, subject.found, classes=target, rectifier=rectifier, resample=resample, reduction=reduction
        ).combined

    return run


def names(*, quick: bool) -> list[str]:
    """Return every map's name: the registry's methods, the channels under each rule, logits under resampled rules."""
    if quick:
        return ["gradient", "channels guided resampled", "edge"]
    channels = [f"channels {rule} {how}" for rule in RULES for how in ("plain", "resampled")]
    channels += [f"channels guided {how}, absolute" for how in ("plain", "resampled")]
    return [*(m.name for m in methods()), *channels, "logit deconvnet resampled", "logit guided resampled"]


def made(name: str, subject: Subject) -> Maps:
    """Return the map of that name."""
    start, *words = name.removesuffix(", absolute").split()
    if start == "channels":
        reduction = "abs" if name.endswith(", absolute") else "positive"
        return maps_of_channels(subject, rectifier=words[0], resample=words[1] == "resampled", reduction=reduction)
    if start == "logit":
        return maps_of(words[0], resample=True)
    return maps_of(name, **subject.options.get(name, {}))


def examine(method: str, explained: Maps, subject: Subject) -> dict[str, Any]:
    """Return one method's scores, each the mean over the images."""
    began = time.perf_counter()
    model, images = subject.model, subject.images
    with torch.no_grad():
        target = model(images).argmax(1)
    maps = explained(model, images, target)
    removed = deletion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    put_in = insertion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    by_class = class_sensitivity(explained, model, images, subject.classes, constant="zero")
    cascade = parameter_randomisation(
        model, images, lambda m, x: explained(m, x, target[: len(x)]), stages=subject.stages, constant="zero"
    )
    if cascade.spearman.curve is None:
        raise RuntimeError("a cascade has a curve")
    scores = {
        "deletion": removed.mean,
        "insertion": put_in.mean,
        "class_rank": by_class.spearman.mean,
        "class_structure": by_class.ssim.mean,
        "weights_rank": cascade.spearman.mean,
        "weights_rank_absolute": cascade.spearman_abs.mean,
        "weights_structure": cascade.ssim.mean,
        "weights_rank_after_the_top": float(cascade.spearman.curve[:, 0].mean()),
    }
    return {
        "method": method,
        **{name: round(value, 5) for name, value in scores.items()},
        "blank": int(removed.flagged.sum()) if removed.flagged is not None else 0,
        "images": len(images),
        "seconds": round(time.perf_counter() - began, 1),
        "commit": commit(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Examine what is missing and write results.json and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--images", type=int, help="of each network; by default 32 (CIFAR-10) and 12")
    parser.add_argument("--networks", type=int, help="of each data set of flowers; by default 2 and 1")
    parser.add_argument("--work", type=Path, default=Path("runs/localisation"), help="weights and images of E3")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {(x["subject"], x["seed"], x["method"]) for x in lines}
    for name in options.subjects:
        make, networks, n_images = SUBJECTS[name]
        if name != "resnet20":  # of which there is one
            networks = options.networks or networks
        n_images = 4 if options.quick else options.images or n_images
        for seed in range(1 if options.quick else networks):
            wanted = [m for m in names(quick=options.quick) if (name, seed, m) not in done]
            if not wanted:
                continue
            subject = make(seed, options.work, n_images=n_images, quick=options.quick)
            for method in wanted:
                try:
                    line = {"subject": name, "seed": seed, **examine(method, made(method, subject), subject)}
                except ModelError as error:  # CAM where the network does not average
                    print(f"{name} {seed} {method}: {error}", flush=True)
                    continue
                lines.append(line)
                write_text(options.out, json.dumps(lines, indent=1) + "\n")
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}, flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines)


if __name__ == "__main__":
    main()
