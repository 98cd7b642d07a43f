"""A1: which rules of relevance through attention order the pixels of small vision transformers best.

    python -m experiments.attention.run [--seeds 0 1 2] [--images 40] [--quick]

Trains a transformer on generated flowers for every seed, and measures maps of its test images. Resumes from
results.json, a line per seed; the first one is what the gamma at linear maps is chosen on. --quick hardly trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from experiments.attention.table import PAGE, WAYS
from experiments.common.flower_networks import masks_of
from experiments.common.runner import Results, rounded, study
from experiments.common.tables import Line
from interpnet import evaluate
from interpnet.attribution import attribute_full
from interpnet.datasets import ImageData, load_dataset, make_loader, stack_images
from interpnet.models import accuracy, train
from interpnet.support.io import atomic_path

_SIZE = 32
_EPOCHS = 12
_STEPS = 16  # of the curves whose area is measured


def network(seed: int, train_on: ImageData, file: Path, epochs: int) -> nn.Module:
    """Return a vision transformer: patches of 4 pixels, 3 blocks of 4 heads and 32 channels; weights from ``file``."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: Any = torchvision.models.VisionTransformer(_SIZE, 4, 3, 4, 32, 64, num_classes=len(train_on.classes))
        nn.init.normal_(model.heads.head.weight, std=0.02)  # zero as it comes
    if file.exists():
        model.load_state_dict(load_file(str(file)))
    else:
        loader = make_loader(train_on, batch_size=64, shuffle=True, seed=seed)
        train(model, loader, epochs=epochs, lr=2e-3, max_shift=2, seed=seed)
        with atomic_path(file) as part:
            save_file(model.state_dict(), part)
    trained: nn.Module = model.eval()
    return trained


def measured(model: nn.Module, data: ImageData, n: int) -> Line:
    """Return what the maps of the first ``n`` images are worth, by way."""
    rows = range(n)
    images = stack_images(data, rows)
    labels = torch.as_tensor(data.labels[:n])
    masks = masks_of(data, rows)
    found: dict[str, Any] = {}
    for name, (method, options) in WAYS.items():
        maps = attribute_full(model, images, labels, method, **options)
        gain = evaluate.symmetric_relevance_gain(model, images, maps.maps, labels, steps=_STEPS, controls=())
        inside = evaluate.energy_pointing(maps.maps, masks, constant="zero")
        found[name] = {"gain": gain.values.tolist(), "inside": inside.mean}
        if maps.residual is not None:
            found[name]["residual"] = float(maps.residual.median())
    return {"ways": found}


@study(PAGE, "runs/attention")
def main(results: Results, work: Path, *, quick: bool, seeds: tuple[int, ...] = (0, 1, 2), images: int = 40) -> None:
    """Measure what is missing and write results.json and the README's table."""
    for line in results.missing({"seed": seed} for seed in (seeds[:1] if quick else seeds)):
        seed = line["seed"]
        counts = (60, 24) if quick else (1200, 300)
        splits = [
            load_dataset(f"an8flower-single-6c?size={_SIZE}&seed={seed}&n={n}", split=split, root=work)
            for n, split in zip(counts, ("train", "test"), strict=True)
        ]
        file = work / f"transformer-{seed}{'-quick' if quick else ''}.safetensors"
        model = network(seed, splits[0], file, 1 if quick else _EPOCHS)
        line |= {"images": 3 if quick else images, "accuracy": accuracy(model, make_loader(splits[1], batch_size=64))}
        line |= rounded(measured(model, splits[1], line["images"]))
