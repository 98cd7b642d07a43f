"""The networks of the experiment, with the images that rank their channels and others that measure the removal."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.common.flower_networks import trained
from experiments.common.networks import resnet20
from experiments.common.shared_data import shared_data
from interpnet.datasets import ImageData, load_dataset, stack_images
from interpnet.support.types import Int64

Batches = list[tuple[Tensor, Tensor]]
_MNIST_TRAIN, _MNIST_RANK, _MNIST_TEST, _MNIST_EPOCHS = 10_000, 2_000, 1_000, 4
_CIFAR_RANK, _CIFAR_TEST = 1_500, 400


@dataclass(frozen=True)
class Subject:
    """One network: channels are ranked on ``train`` and removed on ``test``.

    Attributes
    ----------
    train, test : Tensor (N, C, H, W)
        As the network wants them.
    mu : float
        The radius that the method takes for these images (METHOD section 2).
    masks : Tensor (N, H, W) bool, optional
        The pixels that tell each test image's class.
    """

    network: str
    seed: int
    model: nn.Module
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Int64
    test: Tensor
    test_labels: Int64
    mu: float
    masks: Tensor | None = None


def batches(images: Tensor, labels: Int64, size: int = 100) -> Batches:
    """Return the images as a list of (images, labels), which can be read again and again."""
    return [
        (images[i : i + size], torch.from_numpy(labels[i : i + size].astype(np.int64)))
        for i in range(0, len(images), size)
    ]


def flower(
    variant: str, seed: int, work: Path, *, options: str = "", epochs: int | None = None, n_train: int = 900,
    n_test: int = 300,
) -> Subject:  # fmt: skip
    """Return a small strided CNN trained on an8Flower; the weights lie in ``work`` afterwards."""
    spec = f"an8flower-{variant}{options}"
    train_on, test_on = (load_dataset(spec, split=s, root=work) for s in ("train", "test"))
    model, _ = trained("smallcnn", train_on, test_on, seed, work / f"{variant}-smallcnn-{seed}.safetensors", epochs)
    first, shown = (range(min(n, len(data))) for n, data in ((n_train, train_on), (n_test, test_on)))
    masks = test_on.masks
    if masks is None:
        raise RuntimeError("an8Flower has masks")
    return Subject(
        variant, seed, model, train_on.classes,
        stack_images(train_on, first), train_on.labels[list(first)],  # the classes come in turn
        stack_images(test_on, shown), test_on.labels[list(shown)],
        5.0, torch.from_numpy(masks["discriminative"][list(shown)]),
    )  # fmt: skip


def mnist(seed: int, work: Path) -> Subject:
    """Return a small CNN trained on 10,000 MNIST images of its own, ranked on 2,000 of these."""
    data, held = (
        load_dataset("mnist", split=s, root=shared_data() / "mnist", channels=3, download=False)  # as `trained` builds
        for s in ("train", "test")
    )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(data))[:_MNIST_TRAIN]
    shown = rng.permutation(len(held))[:_MNIST_TEST]
    train_on, test_on = _subset(data, chosen), _subset(held, shown)
    file = work / f"mnist-smallcnn-{seed}.safetensors"
    model, _ = trained("smallcnn", train_on, test_on, seed, file, _MNIST_EPOCHS)
    first = range(_MNIST_RANK)
    return Subject(
        "mnist", seed, model, data.classes, stack_images(train_on, first), data.labels[chosen[:_MNIST_RANK]],
        stack_images(test_on, range(len(shown))), held.labels[shown], 10.0,
    )  # fmt: skip


def _subset(data: ImageData, rows: Int64) -> ImageData:
    images, labels = stack_images(data, rows), data.labels[rows]
    pairs = TensorDataset(images, torch.from_numpy(labels))
    return ImageData.from_dataset(pairs, data.classes, labels=labels)


def cifar10(resample: int, work: Path) -> Subject:
    """Return the one ResNet-20 with the ``resample``-th part of the CIFAR-10 images, disjoint from the others'."""
    model = resnet20()
    model.load_state_dict(load_file(str(shared_data() / "cifar10" / "resnet20.safetensors")))
    parts: list[Any] = []
    for split, n in (("train", _CIFAR_RANK), ("test", _CIFAR_TEST)):
        folder = work / "cifar10" / split
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            with tarfile.open(shared_data() / "cifar10" / f"{split}.tar") as archive:
                archive.extractall(part, filter="data")
            part.rename(folder)
        data = load_dataset(f"imagefolder:{folder}")
        rows = disjoint(data.labels, resample, n // len(data.classes))
        parts.append((data.classes, stack_images(data, rows), data.labels[rows]))
    (classes, train, train_labels), (_, test, test_labels) = parts
    return Subject("cifar10", resample, model.eval(), classes, train, train_labels, test, test_labels, 10.0)


def disjoint(labels: Int64, part: int, each: int) -> Int64:
    """Return the rows of a part: ``each`` of every class, none in another part, the classes in turn.

    Examples
    --------
    >>> a, b = (disjoint(np.array([0, 0, 0, 0, 1, 1, 1, 1]), p, 2) for p in (0, 1))
    >>> sorted([*a, *b]), (a % 8 < 4).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [True, False, True, False])
    """
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    return np.stack([rows[part * each : (part + 1) * each] for rows in shuffled], 1).ravel()


#: Networks by name: how each is got, and how many there are.
NETWORKS: dict[str, tuple[Callable[[int, Path], Subject], int]] = {
    "single-6c": (lambda seed, work: flower("single-6c", seed, work), 5),
    "double-12c": (lambda seed, work: flower("double-12c", seed, work), 5),
    "mnist": (mnist, 5),
    "cifar10": (cifar10, 3),
}
NAMES: Sequence[str] = tuple(NETWORKS)


def trial(seed: int, work: Path) -> Subject:
    """Return a network of few small images, for ``--quick``."""
    return flower("single-6c", seed, work, options="?size=32&n=60", epochs=2, n_train=60, n_test=18)
