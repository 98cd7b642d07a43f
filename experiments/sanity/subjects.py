"""What the methods are examined on: trained networks with test images and the channels of their classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.common.flower_networks import QUICK, flower_network, masks_of
from experiments.common.maps import OPTIONS
from experiments.common.shared_data import unpacked
from experiments.methods.checkerboard import cifar
from interpnet.datasets import load_dataset, make_loader
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import collect_scores


class Subject(NamedTuple):
    """A network and what it is asked."""

    model: nn.Module
    images: Tensor  # (B, C, H, W): Test images of all classes, as the network wants them
    labels: Tensor  # (B,): Their true classes, or where there are no masks the predicted ones
    masks: Tensor | None  # (B, H, W) of bool: What tells the class
    found: Interpretation  # The channels of its classes
    classes: tuple[int, ...]  # For which maps are compared
    stages: int  # Of the cascade that makes weights random
    options: dict[str, dict[str, Any]]  # Options of methods for images of this size


def resnet20(seed: int, work: Path, *, n_images: int, quick: bool) -> Subject:
    """Return the shared ResNet-20 on CIFAR-10: one network, whatever the seed; a trial reads no training images."""
    del seed, work
    model, images = cifar()
    images = images[:: len(images) // n_images]  # spread over the classes
    with torch.no_grad():
        predicted = model(images).argmax(1)
    if quick:
        table = collect_scores(model, [(images, predicted)], progress=False)
        found = interpret(table, mu=10.0, classes=[str(c) for c in range(10)])
    else:
        with unpacked("train") as folder:
            data = load_dataset(f"imagefolder:{folder}")
            table = collect_scores(model, make_loader(data, batch_size=250), progress=False)
            found = interpret(table, mu=10.0, classes=data.classes)
    options = {**OPTIONS, "occlusion": {"patch": 6, "stride": 4}, "scorecam": {}}  # of 32x32 images
    return Subject(model, images, predicted, None, found, (0, 3, 8), 5, options)


def flowers(
    variant: str, seed: int, work: Path, *, n_images: int, quick: bool, architecture: str = "smallcnn"
) -> Subject:
    """Return E3's network of a seed on an8Flower."""
    words = dict(QUICK) if quick else {}
    network = flower_network(variant, seed, work, architecture=architecture, **words)
    rows = range(n_images)
    n = len(network.train_on.classes)
    compared = (0, n // 3, 2 * n // 3)  # three classes, far apart in the list
    truth = (*network.tested(rows), masks_of(network.test_on, rows))
    return Subject(network.model, *truth, network.interpretation(), compared, 4, OPTIONS)


#: By name: subject, how many independently trained networks are taken, and how many images.
SUBJECTS: dict[str, tuple[Callable[..., Subject], int, int]] = {
    "resnet20": (resnet20, 1, 32),
    "single-6c": (partial(flowers, "single-6c"), 2, 12),
    "double-12c": (partial(flowers, "double-12c"), 1, 12),
}
