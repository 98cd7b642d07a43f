"""The networks of the experiments, with the images that rank their channels and others that measure the removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.common.flower_networks import MU, FlowerNetwork, flower_network, masks_of, trained
from experiments.common.imagenet import halves_of_samples, photographs
from experiments.common.shared_data import shared_data, trained_resnet, unpack
from experiments.common.tables import Line
from interpnet.datasets import ImageData, load_dataset, stack_images
from interpnet.support.types import Int64

Batches = list[tuple[Tensor, Tensor]]
_GREY_TRAIN = 10_000  # of 60,000 MNIST or Fashion-MNIST images, others for each network
_GREY_RANK = 2_000  # of these
_GREY_TEST = 1_000  # of 10,000
_CIFAR_RANK = 1_500  # of all classes together, in one part; the parts of several resamples do not overlap
_CIFAR_TEST = 400
_LARGE = 100_000  # numbers of an image
_PHOTOGRAPHS = (50, 25)  # of a class of Tiny-ImageNet, to rank and to measure
#: The last two stages of EfficientNet-Lite0 and the maps before the average.
LAST_BLOCKS = ("network.blocks.5", "network.blocks.6", "network.bn2")


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
    layers: str | tuple[str, ...] = "default"  # Whose channels are asked about

    @property
    def device(self) -> torch.device:
        """Where the network and the test images are."""
        return self.test.device

    def to(self, device: str) -> Subject:
        """Return the subject with the network and the test images there, which run many times."""
        return replace(self, model=self.model.to(device), test=self.test.to(device))


def at_once(images: Tensor) -> int:
    """Return how many images run together: few passes where a pass costs more than its arithmetic."""
    many = {"cpu": 100, "cuda": 500}[images.device.type]
    if images[0].numel() > _LARGE:
        many //= 4
    return many


def batches(images: Tensor, labels: Int64) -> Batches:
    """Return the images as a list of (images, labels), which can be read again and again."""
    targets = torch.from_numpy(labels.astype(np.int64))
    size = at_once(images)
    return list(zip(torch.split(images, size), torch.split(targets, size), strict=True))


def _of(network: FlowerNetwork, name: str, seed: int, mu: float, n_train: int, n_test: int) -> Subject:
    """Return the subject with the first images of either split; the classes come in turn."""
    ranked = list(range(min(n_train, len(network.train_on))))
    shown = network.first(n_test)
    train = (stack_images(network.train_on, ranked), network.train_on.labels[ranked])
    test = (stack_images(network.test_on, shown), network.test_on.labels[shown])
    masks = masks_of(network.test_on, shown) if network.test_on.masks is not None else None
    return Subject(name, seed, network.model, network.train_on.classes, *train, *test, mu, masks)


def flower(variant: str, seed: int, work: Path, device: str = "cpu") -> Subject:
    """Return a small strided CNN trained on an8Flower."""
    return _of(flower_network(variant, seed, work, device=device), variant, seed, MU, 900, 300)


def trial(seed: int, work: Path) -> Subject:
    """Return a network of few small images, for ``--quick``."""
    network = flower_network("single-6c", seed, work, options="?size=32&n=60", epochs=2)
    return _of(network, "single-6c", seed, MU, 60, 18)


@dataclass(frozen=True)
class Grey:
    """A data set of small grey images as torchvision stores it: its class there, its folder, and what normalises it."""

    dataset: Any
    folder: str
    mean: float
    std: float
    epochs: int


GREY = {
    "mnist": Grey(torchvision.datasets.MNIST, "mnist", 0.1307, 0.3081, epochs=4),
    "fashion": Grey(torchvision.datasets.FashionMNIST, "fashion", 0.2860, 0.3530, epochs=8),
}


def grey(name: str, seed: int, work: Path, device: str = "cpu") -> Subject:
    """Return a small CNN trained on 10,000 MNIST or Fashion-MNIST images of its own, ranked on 2,000 of these."""
    rng = np.random.default_rng(seed)
    splits = []
    for split, n in (("train", _GREY_TRAIN), ("test", _GREY_TEST)):
        data = grey_data(name, split)
        splits.append(grey_images(name, data, rng.permutation(len(data))[:n]))
    file = work / f"{name}-smallcnn-{seed}.safetensors"
    model, reached = trained("smallcnn", splits[0], splits[1], seed, file, GREY[name].epochs, device)
    return _of(FlowerNetwork(model, reached, *splits), name, seed, 10.0, _GREY_RANK, _GREY_TEST)


def grey_data(name: str, split: str) -> Any:
    """Return a split as torchvision has it."""
    return GREY[name].dataset(shared_data() / GREY[name].folder, train=split == "train", download=False)


def grey_images(name: str, data: Any, rows: Int64) -> ImageData:
    """Return some images of :func:`grey_data`, normalised, in three equal channels."""
    of = GREY[name]
    chosen = torch.from_numpy(rows)
    # Three channels, as `trained` builds its networks.
    images = ((data.data[chosen] / 255 - of.mean) / of.std)[:, None].repeat(1, 3, 1, 1)
    labels = data.targets[chosen]
    return ImageData.from_dataset(TensorDataset(images, labels), tuple(data.classes), labels=labels.numpy())


def cifar10(depth: int, resample: int, work: Path, device: str = "cpu") -> Subject:
    """Return the one ResNet of a depth with a part of the CIFAR-10 images, disjoint from the others'."""
    del device
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
    name = {20: "cifar10", 56: "cifar10-resnet56"}[depth]
    return Subject(network=name, seed=resample, model=trained_resnet(depth), mu=10.0, **images)


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


def imagenet_groups(network: str, part: int, work: Path, device: str = "cpu") -> Subject:
    """Return a network that tells groups of ImageNet's classes apart, with one sample of every second class."""
    del work, device
    asked = halves_of_samples(network, part)
    return Subject(network, part, asked.model, asked.classes, *asked.train, *asked.test, 10.0)


#: The classes of Tiny-ImageNet that are told apart, by the order of its classes.csv.
PARTS = (slice(0, 8), slice(8, 24))


def tiny_imagenet(layers: str | tuple[str, ...], part: int, work: Path, device: str = "cpu") -> Subject:
    """Return EfficientNet-Lite0 with a part of the classes of Tiny-ImageNet, enlarged."""
    del work, device
    asked = photographs("efficientnet", PARTS[part], *_PHOTOGRAPHS)
    name = "tiny-imagenet"
    if layers != "default":
        name = "tiny-imagenet-last"
    return Subject(name, part, asked.model, asked.classes, *asked.train, *asked.test, 10.0, layers=layers)


@dataclass(frozen=True)
class Kind:
    """A kind of network: how one is got, how many there are, and which served the development of the rankings."""

    title: str
    family: str  # Kinds of one family count as one where families are counted
    load: Callable[[int, Path, str], Subject]
    count: int
    development: tuple[int, ...] = ()
    several: bool = True  # Independent networks; otherwise one, on several samples of images or classes


_PLANTS = "small CNNs on plants"
_RESNETS = "ResNets on CIFAR-10"
_IMAGENET = "ImageNet networks"
KINDS: dict[str, Kind] = {
    "single-6c": Kind("an8Flower single-6c", _PLANTS, partial(flower, "single-6c"), 7, (0, 1)),
    "double-12c": Kind("an8Flower double-12c", _PLANTS, partial(flower, "double-12c"), 5),
    "mnist": Kind("MNIST", "small CNNs on digits", partial(grey, "mnist"), 6, (0,)),
    "fashion": Kind("Fashion-MNIST", "small CNNs on clothes", partial(grey, "fashion"), 3),
    "cifar10": Kind("CIFAR-10, ResNet-20", _RESNETS, partial(cifar10, 20), 3, (0,), several=False),
    "cifar10-resnet56": Kind("CIFAR-10, ResNet-56", _RESNETS, partial(cifar10, 56), 2, several=False),
    "squeezenet": Kind("ImageNet, SqueezeNet", _IMAGENET, partial(imagenet_groups, "squeezenet"), 2, several=False),
    "efficientnet": Kind(
        "ImageNet, EfficientNet-Lite0", _IMAGENET, partial(imagenet_groups, "efficientnet"), 2, several=False
    ),
    "tiny-imagenet": Kind(
        "Tiny-ImageNet, EfficientNet-Lite0", _IMAGENET, partial(tiny_imagenet, "default"), 2, (0,), several=False
    ),
    "tiny-imagenet-last": Kind(
        "the same, last blocks", _IMAGENET, partial(tiny_imagenet, LAST_BLOCKS), 2, (0,), several=False
    ),
}


def planned(names: Iterable[str], *, quick: bool, most: int = 99) -> list[Line]:
    """Return the networks of some kinds, at most so many of each, as keys of results; one where it is a trial."""
    if quick:
        return [{"network": "single-6c", "seed": 0}]
    return [{"network": name, "seed": seed} for name in names for seed in range(min(KINDS[name].count, most))]


def load(line: Line, work: Path, *, quick: bool, device: str = "cpu") -> Subject:
    """Return the network of a key, on a device."""
    if quick:
        return trial(line["seed"], work).to(device)
    return KINDS[line["network"]].load(line["seed"], work, device).to(device)


def default_device() -> str:
    """Return ``"cuda"`` where there is one, else ``"cpu"``."""
    return ("cpu", "cuda")[torch.cuda.is_available()]
