"""Three trained networks, the channels identified in them, images to show and images to measure on.

What is shown may be shown: three photographs in the public domain that ship with scikit-image, and generated flowers.
The shared ImageNet and CIFAR-10 images are measured on and not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from experiments.ablation.subjects import every_fifth
from experiments.common.flower_networks import MU, flower_network, masks_of
from experiments.common.imagenet import SIZE, preparation, squeezenet
from experiments.common.shared_data import trained_resnet
from experiments.methods.subject import batch, class_name, unnormalised
from interpnet.datasets import load_dataset, stack_images
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable, collect_scores

PHOTOGRAPHS = ("chelsea", "coffee", "rocket")  # by their names in skimage.data; all CC0 or NASA's


@dataclass(frozen=True)
class Subject:
    """A network, what was identified in it, and its images."""

    model: nn.Module
    found: Interpretation
    table: ScoreTable  # What it was solved on
    shown: Tensor  # (B, 3, H, W): Images of the sheet, and of the numbers
    measured: Tensor
    pixels: Tensor  # (B, 3, H, W): `shown` in [0, 1]
    masks: Tensor | None = None  # (B, H, W): What tells the class, of the shown images and then of the measured ones


def _photographed(
    model: nn.Module, table: ScoreTable, classes: Sequence[str], shown: Tensor, measured: Tensor
) -> Subject:
    """Return the subject of which photographs are shown."""
    found = interpret(table, mu=10.0, classes=classes)
    pixels = torch.stack([unnormalised(image) for image in shown])
    return Subject(model, found, table, shown, measured, pixels)


def photographs(size: int) -> Tensor:
    """Return the photographs (3, 3, size, size), shorter side reduced to ``size``, centre cropped, normalised."""
    import skimage.data

    prepare = preparation(256 if size == SIZE else size, size)
    return torch.stack([prepare(Image.fromarray(getattr(skimage.data, name)())) for name in PHOTOGRAPHS])


def imagenet(work: Path, options: str) -> Subject:
    """Return SqueezeNet 1.0, solved on its predictions for 500 samples and the photographs: one or two per class."""
    del work, options
    model = squeezenet()
    shown = photographs(SIZE)
    batches = [batch(list(range(i, i + 50))) for i in range(0, 500, 50)]
    table = collect_scores(model, [*batches, (shown, torch.zeros(len(shown)).long())], progress=False)
    table = replace(table, labels=table.predictions)  # a class is what the network says
    measured = torch.cat([images for images, _ in batches])[::20]  # 25 of the 500
    return _photographed(model, table, [class_name(i) for i in range(1000)], shown, measured)


def cifar(work: Path, options: str) -> Subject:
    """Return ResNet-20, solved on every fifth training image of CIFAR-10; measured on 100 test images."""
    del work, options
    model = trained_resnet()
    train_on, classes = every_fifth("train")
    table = collect_scores(model, train_on, progress=False)
    measured = torch.cat([b.images for b in every_fifth("test")[0]])[::20]
    return _photographed(model, table, classes, photographs(32), measured)


def flowers(work: Path, options: str) -> Subject:
    """Return the small network of E3 with seed 0, solved on single-6c; a third of the classes shown, 60 test images."""
    epochs = 10 if options else None
    network = flower_network("single-6c", 0, work, options=options, epochs=epochs)
    table = network.scores()
    which = network.first(63)
    images, _ = network.tested(which)
    plain = load_dataset(f"an8flower-single-6c{options}", split="test", root=work, mean=0.0, std=1.0)
    found = interpret(table, mu=MU, classes=network.train_on.classes)
    pixels = stack_images(plain, which[:3])
    return Subject(network.model, found, table, images[:3], images[3:], pixels, masks_of(network.test_on, which))


SUBJECTS: dict[str, tuple[str, Callable[[Path, str], Subject]]] = {
    "squeezenet": ("SqueezeNet 1.0", imagenet),
    "resnet20": ("CIFAR-10 ResNet-20", cifar),
    "flowers": ("an8Flower single-6c, small network", flowers),
}
