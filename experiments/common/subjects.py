"""The networks of the experiment, with the images that rank their channels and others that measure the removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.common.flower_networks import MU, FlowerNetwork, flower_network, masks_of, trained
from experiments.common.shared_data import shared_data, trained_resnet, unpack
from experiments.common.tables import Line
from interpnet.datasets import ImageData, load_dataset, stack_images
from interpnet.support.types import Int64

Batches = list[tuple[Tensor, Tensor]]
_MNIST_TRAIN = 10_000  # of 60,000, others for each network
_MNIST_RANK = 2_000  # of these
_MNIST_TEST = 1_000  # of 10,000
_MNIST_EPOCHS = 4
_CIFAR_RANK = 1_500  # of all classes together, in one part; the parts of several resamples do not overlap
_CIFAR_TEST = 400


@dataclass(frozen=True)
class Subject:
    """One network: channels are ranked on ``train`` and removed on ``test``."""

    network: str
    seed: int
    model: nn.Module
    classes: tuple[str, ...]
    train: Tensor  # (N, C, H, W): As the network wants them
    train_labels: Int64
    test: Tensor
    test_labels: Int64
    mu: float  # The radius that the method takes for these images (docs/method.md, section 2)
    masks: Tensor | None = None  # (N, H, W): The pixels that tell each test image's class


def batches(images: Tensor, labels: Int64, size: int = 100) -> Batches:
    """Return the images as a list of (images, labels), which can be read again and again."""
    targets = torch.from_numpy(labels.astype(np.int64))
    return list(zip(torch.split(images, size), torch.split(targets, size), strict=True))


def _of(network: FlowerNetwork, name: str, seed: int, mu: float, n_train: int, n_test: int) -> Subject:
    """Return the subject with the first images of either split; the classes come in turn."""
    ranked = list(range(min(n_train, len(network.train_on))))
    shown = network.first(n_test)
    train = (stack_images(network.train_on, ranked), network.train_on.labels[ranked])
    test = (stack_images(network.test_on, shown), network.test_on.labels[shown])
    masks = masks_of(network.test_on, shown) if network.test_on.masks is not None else None
    return Subject(name, seed, network.model, network.train_on.classes, *train, *test, mu, masks)


def flower(variant: str, seed: int, work: Path) -> Subject:
    """Return a small strided CNN trained on an8Flower."""
    return _of(flower_network(variant, seed, work), variant, seed, MU, 900, 300)


def trial(seed: int, work: Path) -> Subject:
    """Return a network of few small images, for ``--quick``."""
    network = flower_network("single-6c", seed, work, options="?size=32&n=60", epochs=2)
    return _of(network, "single-6c", seed, MU, 60, 18)


def mnist(seed: int, work: Path) -> Subject:
    """Return a small CNN trained on 10,000 MNIST images of its own, ranked on 2,000 of these."""
    rng = np.random.default_rng(seed)
    splits = []
    for split, n in (("train", _MNIST_TRAIN), ("test", _MNIST_TEST)):
        # Three channels, as `trained` builds its networks.
        data = load_dataset("mnist", split=split, root=shared_data() / "mnist", channels=3, download=False)
        splits.append(_subset(data, rng.permutation(len(data))[:n]))
    file = work / f"mnist-smallcnn-{seed}.safetensors"
    model, reached = trained("smallcnn", splits[0], splits[1], seed, file, _MNIST_EPOCHS)
    return _of(FlowerNetwork(model, reached, *splits), "mnist", seed, 10.0, _MNIST_RANK, _MNIST_TEST)


def _subset(data: ImageData, rows: Int64) -> ImageData:
    labels = data.labels[rows]
    pairs = TensorDataset(stack_images(data, rows), torch.from_numpy(labels))
    return ImageData.from_dataset(pairs, data.classes, labels=labels)


def cifar10(resample: int, work: Path) -> Subject:
    """Return the one ResNet-20 with the ``resample``-th part of the CIFAR-10 images, disjoint from the others'."""
    images: dict[str, Any] = {}
    for split, n in (("train", _CIFAR_RANK), ("test", _CIFAR_TEST)):
        folder = work / "cifar10" / split
        if not folder.is_dir():
            # Renamed when it is whole: an interrupted run leaves nothing that looks finished.
            part = folder.with_suffix(".part")
            unpack(split, part)
            part.rename(folder)
        data = load_dataset(f"imagefolder:{folder}")
        rows = disjoint(data.labels, resample, n // len(data.classes))
        images |= {split: stack_images(data, rows), f"{split}_labels": data.labels[rows], "classes": data.classes}
    return Subject(network="cifar10", seed=resample, model=trained_resnet(), mu=10.0, **images)


def disjoint(labels: Int64, part: int, each: int) -> Int64:
    """Return the rows of a part: ``each`` of every class, none in another part, the classes in turn.

    Examples
    --------
    >>> a, b = (disjoint(np.array([0, 0, 0, 0, 1, 1, 1, 1]), p, 2) for p in (0, 1))
    >>> sorted([*a.tolist(), *b.tolist()]), (a % 8 < 4).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [True, False, True, False])
    """
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]  # the same for every part
    return np.stack([rows[part * each : (part + 1) * each] for rows in shuffled], 1).ravel()


#: Networks by name: how each is got, and how many there are.
NETWORKS: dict[str, tuple[Callable[[int, Path], Subject], int]] = {
    "single-6c": (partial(flower, "single-6c"), 5),
    "double-12c": (partial(flower, "double-12c"), 5),
    "mnist": (mnist, 5),
    "cifar10": (cifar10, 3),
}
NAMES = tuple(NETWORKS)


def planned(names: Iterable[str], *, quick: bool) -> list[Line]:
    """Return the networks of some kinds as keys of results; one where it is a trial."""
    if quick:
        return [{"network": "single-6c", "seed": 0}]
    return [{"network": name, "seed": seed} for name in names for seed in range(NETWORKS[name][1])]


def load(line: Line, work: Path, *, quick: bool) -> Subject:
    """Return the network of a key."""
    if quick:
        return trial(line["seed"], work)
    return NETWORKS[line["network"]][0](line["seed"], work)
