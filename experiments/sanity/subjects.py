"""What the methods are examined on: trained networks with test images and the channels of their classes."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.common.flower_networks import trained
from experiments.common.maps import OPTIONS
from experiments.common.shared_data import shared_data
from experiments.methods.checkerboard import cifar
from interpnet.datasets import load_dataset, make_loader, stack_images
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import collect_scores


class Subject(NamedTuple):
    """A network and what it is asked.

    Attributes
    ----------
    model : nn.Module
    images : Tensor (B, C, H, W)
        Test images of all classes, as the network wants them.
    found : Interpretation
        The channels of its classes.
    classes : tuple of int
        For which maps are compared.
    stages : int
        Of the cascade that makes weights random.
    options : dict
        Options of methods for images of this size.
    """

    model: nn.Module
    images: Tensor
    found: Interpretation
    classes: tuple[int, ...]
    stages: int
    options: dict[str, dict[str, Any]]


def resnet20(seed: int, work: Path, *, n_images: int, quick: bool) -> Subject:
    """Return the shared ResNet-20 on CIFAR-10: one network, whatever the seed."""
    del seed, work
    model, images = cifar()
    images = images[:: len(images) // n_images]
    found = _tried(model, images) if quick else _identified(model)
    options = {**OPTIONS, "occlusion": {"patch": 6, "stride": 4}, "scorecam": {}}
    return Subject(model, images, found, (0, 3, 8), 5, options)


def flowers(
    variant: str, seed: int, work: Path, *, n_images: int, quick: bool, architecture: str = "smallcnn"
) -> Subject:
    """Return E3's network of a seed on an8Flower."""
    spec = f"an8flower-{variant}{'?size=48&n=120' if quick else ''}"
    train_on, test_on = (load_dataset(spec, split=s, root=work) for s in ("train", "test"))
    file = work / f"{variant}-{architecture}-{seed}.safetensors"
    model, _ = trained(architecture, train_on, test_on, seed, file, 2 if quick else None)
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    found = interpret(table, mu=5.0, classes=train_on.classes)
    images = stack_images(test_on, range(n_images))  # the classes come in turn
    n = len(train_on.classes)
    return Subject(model, images, found, (0, n // 3, 2 * n // 3), 4, OPTIONS)


#: By name: subject, how many independently trained networks are taken, and how many images.
SUBJECTS: dict[str, tuple[Callable[..., Subject], int, int]] = {
    "resnet20": (resnet20, 1, 32),
    "single-6c": (partial(flowers, "single-6c"), 2, 12),
    "double-12c": (partial(flowers, "double-12c"), 1, 12),
}


def _identified(model: nn.Module) -> Interpretation:
    """Return the channels of ResNet-20's classes, from the 50,000 training images."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(shared_data() / "cifar10" / "train.tar") as archive:
        archive.extractall(folder, filter="data")
        data = load_dataset(f"imagefolder:{folder}")
        loader = make_loader(data, batch_size=250)
        return interpret(collect_scores(model, loader, progress=False), mu=10.0, classes=data.classes)


def _tried(model: nn.Module, images: Tensor) -> Interpretation:
    """Return channels from the given images and the classes they are taken for: enough to run with."""
    with torch.no_grad():
        table = collect_scores(model, [(images, model(images).argmax(1))], progress=False)
    return interpret(table, mu=10.0, classes=[str(c) for c in range(10)])
