"""The networks of the experiment with their images: which, how they are trained or loaded, what is measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from experiments.common import subjects
from experiments.common.flower_networks import MU, flower_network
from experiments.common.imagenet import CATS, photographs
from experiments.common.shared_data import shared_data, trained_resnet, unpacked
from interpnet.datasets import ImageData, load_dataset, make_loader
from interpnet.models import SmallCNN, fit_smallcnn, load_smallcnn, save_smallcnn, train

Batches = list[Any]
_TRAIN_ON = 20_000  # images
_EPOCHS = 5  # of MNIST
_CATS = (50, 25)  # photographs of each cat, for the scores and for the test


class Loaded(NamedTuple):
    """A network, batches of training images for the scores and of test images, and the classes."""

    model: nn.Module
    train_on: Batches
    test_on: Batches
    classes: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """One kind of network on one data set."""

    key: str  # In results.json, and in tables and figures
    title: str
    mu: float  # Of the mu-lasso
    seeds: tuple[int, ...]  # One network each; a network that cannot be trained again here has a single one
    # From a seed, the working folder, and options of the data ("" but for a trial)
    load: Callable[[int, Path, str], Loaded]
    reasons: bool = True  # Whether the settings that ask for reasons are run too; the largest network goes without


def _mnist(hidden: int, seed: int, work: Path, options: str) -> Loaded:
    del options
    root = shared_data() / "mnist"
    train_on, test_on = (load_dataset("mnist", split=s, root=root, download=False) for s in ("train", "test"))
    some = range(0, len(train_on), len(train_on) // _TRAIN_ON)  # every third image
    file = work / f"mnist-{hidden}-{seed}.safetensors"
    if not file.exists():
        save_smallcnn(_fitted(train_on, some, hidden, seed), file)
    test = make_loader(test_on, batch_size=250, indices=range(0, len(test_on), 2))  # every other test image
    ranked = make_loader(train_on, batch_size=250, indices=some)
    return Loaded(load_smallcnn(file), list(ranked), list(test), train_on.classes)


def _fitted(data: ImageData, some: range, hidden: int, seed: int) -> SmallCNN:
    device = subjects.default_device()
    if not hidden:
        return fit_smallcnn(data, indices=some, epochs=_EPOCHS, seed=seed, device=device, progress=False)[0]
    # The same training, of a network with a fully connected layer.
    model = SmallCNN(data.shape[0], len(data.classes), data.shape[1], hidden=hidden, seed=seed)
    loader = make_loader(data, batch_size=128, indices=some, shuffle=True, seed=seed)
    train(model, loader, epochs=_EPOCHS, max_shift=2, seed=seed, device=device, progress=False)
    return model


def _flower(variant: str, seed: int, work: Path, options: str) -> Loaded:
    epochs = 30 if options else None
    network = flower_network(variant, seed, work, options=options, epochs=epochs)
    fitted_on, asked_on = (list(make_loader(data, batch_size=64)) for data in (network.train_on, network.test_on))
    return Loaded(network.model, fitted_on, asked_on, network.train_on.classes)


def _cifar(depth: int, seed: int, work: Path, options: str) -> Loaded:
    del seed, work, options
    train_on, classes = every_fifth("train")
    return Loaded(trained_resnet(depth), train_on, every_fifth("test")[0], classes)


def _subject(found: subjects.Subject) -> Loaded:
    train_on = subjects.batches(found.train, found.train_labels)
    return Loaded(found.model, train_on, subjects.batches(found.test, found.test_labels), found.classes)


def _fashion(seed: int, work: Path, options: str) -> Loaded:
    del options
    return _subject(subjects.grey("fashion", seed, work, subjects.default_device()))


def _imagenet(seed: int, work: Path, options: str) -> Loaded:
    del options
    return _subject(subjects.imagenet_groups("efficientnet", seed, work))


def _cats(seed: int, work: Path, options: str) -> Loaded:
    del seed, work, options
    found = photographs("efficientnet", CATS, *_CATS)
    return Loaded(found.model, subjects.batches(*found.train), subjects.batches(*found.test), found.classes)


def every_fifth(split: str) -> tuple[Batches, Sequence[str]]:
    """Return every fifth image of a CIFAR-10 split in batches, as many of each class, and the classes."""
    with unpacked(split, 5) as folder:
        data = load_dataset(f"imagefolder:{folder}")
        return list(make_loader(data, batch_size=125)), data.classes


# The radii of docs/method.md, section 6; CIFAR-10 has the 10 of experiments/audits.
SUBJECTS = (
    Subject("mnist", "MNIST", 10.0, (0, 1, 2), partial(_mnist, 0)),
    Subject("mnist-fc", "MNIST, with FC layer", 10.0, (0, 1, 2), partial(_mnist, 64)),
    Subject("single-6c", "an8Flower single-6c", MU, (0, 1, 2, 3, 4), partial(_flower, "single-6c")),
    Subject("double-12c", "an8Flower double-12c", MU, (0, 1, 2, 3, 4), partial(_flower, "double-12c")),
    Subject("cifar10-resnet20", "CIFAR-10 ResNet-20", 10.0, (0,), partial(_cifar, 20)),
    Subject("fashion", "Fashion-MNIST", 10.0, (0, 1, 2), _fashion, reasons=False),
    Subject("imagenet", "ImageNet, EfficientNet-Lite0", 10.0, (0,), _imagenet, reasons=False),
    Subject("imagenet-cats", "ImageNet-cats, EfficientNet-Lite0", 10.0, (0,), _cats, reasons=False),
    Subject("cifar10-resnet56", "CIFAR-10 ResNet-56", 10.0, (0,), partial(_cifar, 56), reasons=False),
)
