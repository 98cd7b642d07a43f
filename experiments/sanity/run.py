"""E4: class sensitivity, parameter randomisation, deletion and insertion for every method, on a trained ResNet-20.

    python -m experiments.sanity.run [--images 32] [--quick]

A method at a time, each written to results.json; what is there is not done again. --quick takes four images and three
methods. Needs the shared folder (CIFAR-10 test images and the ResNet-20; see experiments/README.md).
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.localisation.maps import OPTIONS as SAMPLES
from experiments.methods.checkerboard import cifar
from experiments.shared import shared_data
from interpnet._io import write_text
from interpnet.baselines import AttributionWarning, attribute, methods
from interpnet.datasets import load_dataset, make_loader
from interpnet.evaluate import class_sensitivity, deletion, insertion, parameter_randomisation
from interpnet.explanation import explain
from interpnet.relevance import Interpretation, interpret
from interpnet.scores import collect_scores

HERE = Path(__file__).parent
BEGIN, END = "<!-- begin: written by python -m experiments.sanity.run -->", "<!-- end -->"
CLASSES = (0, 3, 8)
STAGES = 5
STEPS = 16
#: For images of 32 pixels.
OPTIONS: dict[str, dict[str, Any]] = {**SAMPLES, "occlusion": {"patch": 6, "stride": 4}, "scorecam": {}}

Maps = Callable[[nn.Module, Tensor, Tensor], Tensor]


def maps_of(method: str, **more: Any) -> Maps:
    """Return a method as a function of model, images and classes; signed maps keep their sign."""

    def run(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttributionWarning)
            return attribute(model, images, target, method, **OPTIONS.get(method, {}), **more)

    return run


def maps_of_channels(found: Interpretation, *, rectifier: str, resample: bool) -> Maps:
    """Return the combined map of each class's identified channels, which stay those of the trained network."""

    def run(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return explain(model, images, found, classes=target, rectifier=rectifier, resample=resample).combined

    return run


def identified(model: nn.Module) -> Interpretation:
    """Return the channels of ResNet-20's classes, from the 50,000 training images."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(shared_data() / "cifar10" / "train.tar") as archive:
        archive.extractall(folder, filter="data")
        data = load_dataset(f"imagefolder:{folder}")
        loader = make_loader(data, batch_size=250)
        return interpret(collect_scores(model, loader, progress=False), mu=10.0, classes=data.classes)


def tried(model: nn.Module, images: Tensor) -> Interpretation:
    """Return channels from the given images and the classes they are taken for: enough to run with."""
    with torch.no_grad():
        table = collect_scores(model, [(images, model(images).argmax(1))], progress=False)
    return interpret(table, mu=10.0, classes=[str(c) for c in range(10)])


def examine(method: str, explain: Maps, model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Return one method's scores, each the mean over the images."""
    began = time.perf_counter()
    with torch.no_grad():
        target = model(images).argmax(1)
    maps = explain(model, images, target)
    removed = deletion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    put_in = insertion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    by_class = class_sensitivity(explain, model, images, CLASSES, constant="zero")
    cascade = parameter_randomisation(
        model, images, lambda m, x: explain(m, x, target[: len(x)]), stages=STAGES, constant="zero"
    )
    if cascade.spearman.curve is None:
        raise RuntimeError("a cascade has a curve")
    return {
        "method": method,
        "deletion": removed.mean,
        "insertion": put_in.mean,
        "class_rank": by_class.spearman.mean,
        "class_structure": by_class.ssim.mean,
        "weights_rank": cascade.spearman.mean,
        "weights_rank_absolute": cascade.spearman_abs.mean,
        "weights_structure": cascade.ssim.mean,
        "weights_rank_after_the_top": float(cascade.spearman.curve[:, 0].mean()),
        "blank": int(removed.flagged.sum()) if removed.flagged is not None else 0,
        "images": len(images),
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """Return the README's table, the least class-sensitive method last."""
    head = ["method", "class: rank ↓", "class: structure ↓", "weights: rank ↓", "of absolute values ↓", "structure ↓",
            "rank after the top fifth", "deletion ↓", "insertion ↑", "zero maps"]  # fmt: skip
    keys = ("class_rank", "class_structure", "weights_rank", "weights_rank_absolute", "weights_structure",
            "weights_rank_after_the_top", "deletion", "insertion")  # fmt: skip
    rows = []
    for line in sorted(lines, key=lambda x: x["class_rank"]):
        name = f"*{line['method']}*" if line["method"] in {"random", "edge", "center"} else line["method"]
        rows.append([name, *(f"{line[k]:.2f}".replace("-", "−") for k in keys), str(line["blank"])])
    text = ["| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows)]
    seconds = sum(x["seconds"] for x in lines)
    return "\n".join(["", f"{lines[0]['images']} images; {seconds / 60:.0f} minutes.", "", *text, ""])


def main(arguments: list[str] | None = None) -> None:
    """Examine what is missing and write results.json and the README's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    model, images = cifar()
    images = images[:: len(images) // (4 if options.quick else options.images)]
    lines: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {line["method"] for line in lines}
    every = {m.name: maps_of(m.name) for m in methods()}
    found = tried(model, images) if options.quick else identified(model)
    for rule in ("gradient", "deconvnet", "guided"):
        for resample in (False, True):
            name = f"channels {rule} {'resampled' if resample else 'plain'}"
            every[name] = maps_of_channels(found, rectifier=rule, resample=resample)
    every["logit deconvnet resampled"] = maps_of("deconvnet", resample=True)
    every["logit guided resampled"] = maps_of("guided", resample=True)
    for name in ("gradient", "channels guided resampled", "edge") if options.quick else every:
        if name in done:
            continue
        lines.append(examine(name, every[name], model, images))
        write_text(options.out, json.dumps(lines, indent=1) + "\n")
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in lines[-1].items()}, flush=True)
    if not options.quick:
        page = (HERE / "README.md").read_text()
        write_text(
            HERE / "README.md", page[: page.index(BEGIN) + len(BEGIN)] + "\n" + table(lines) + page[page.index(END) :]
        )


if __name__ == "__main__":
    main()
