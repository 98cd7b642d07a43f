"""The networks of the experiment with their images: which, how they are trained or loaded, what is measured on."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from experiments.common.flower_networks import trained
from experiments.common.networks import cifar_resnet
from experiments.common.shared_data import shared_data
from interpnet.datasets import ImageData, load_dataset, make_loader
from interpnet.models import SmallCNN, fit_smallcnn, load_smallcnn, save_smallcnn, train

Batches = list[Any]
_TRAIN_ON, _EPOCHS = 20_000, 5


@dataclass(frozen=True)
class Subject:
    """One kind of network on one data set.

    Attributes
    ----------
    key, title : str
        In results.json, and in tables and figures.
    mu : float
        Of the mu-lasso.
    seeds : tuple of int
        One network each; a network that cannot be trained again here has a single one.
    load : function
        ``load(seed, work, data options)`` gives network, training batches for the scores, test batches, classes.
    reasons : bool
        Whether the settings that ask for reasons are run too; the largest network goes without.
    """

    key: str
    title: str
    mu: float
    seeds: tuple[int, ...]
    load: Callable[[int, Path, str], tuple[nn.Module, Batches, Batches, Sequence[str]]]
    reasons: bool = True


def _mnist(hidden: int) -> Callable[[int, Path, str], tuple[nn.Module, Batches, Batches, Sequence[str]]]:
    def load(seed: int, work: Path, options: str) -> tuple[nn.Module, Batches, Batches, Sequence[str]]:
        del options
        root = shared_data() / "mnist"
        train_on, test_on = (load_dataset("mnist", split=s, root=root, download=False) for s in ("train", "test"))
        some = range(0, len(train_on), len(train_on) // _TRAIN_ON)
        file = work / f"mnist-{hidden}-{seed}.safetensors"
        model = load_smallcnn(file) if file.exists() else _fitted(train_on, some, hidden, seed, file)
        test = make_loader(test_on, batch_size=250, indices=range(0, len(test_on), 2))
        return model, list(make_loader(train_on, batch_size=250, indices=some)), list(test), train_on.classes

    return load


def _fitted(data: ImageData, some: range, hidden: int, seed: int, file: Path) -> SmallCNN:
    if not hidden:
        model, _ = fit_smallcnn(data, indices=some, epochs=_EPOCHS, seed=seed, progress=False)
    else:  # the same training, of a network with a fully connected layer
        model = SmallCNN(data.shape[0], len(data.classes), data.shape[1], hidden=hidden, seed=seed)
        loader = make_loader(data, batch_size=128, indices=some, shuffle=True, seed=seed)
        train(model, loader, epochs=_EPOCHS, max_shift=2, seed=seed, progress=False)
    save_smallcnn(model, file)
    return model


def _flower(variant: str) -> Callable[[int, Path, str], tuple[nn.Module, Batches, Batches, Sequence[str]]]:
    def load(seed: int, work: Path, options: str) -> tuple[nn.Module, Batches, Batches, Sequence[str]]:
        spec = f"an8flower-{variant}{options}"
        train_on, test_on = (load_dataset(spec, split=s, root=work) for s in ("train", "test"))
        file = work / f"{variant}-smallcnn-{seed}.safetensors"
        model, _ = trained("smallcnn", train_on, test_on, seed, file, epochs=30 if options else None)
        fitted_on, asked_on = (list(make_loader(data, batch_size=64)) for data in (train_on, test_on))
        return model, fitted_on, asked_on, train_on.classes

    return load


def _cifar(depth: int) -> Callable[[int, Path, str], tuple[nn.Module, Batches, Batches, Sequence[str]]]:
    def load(seed: int, work: Path, options: str) -> tuple[nn.Module, Batches, Batches, Sequence[str]]:
        del seed, work, options
        model = cifar_resnet(depth)
        model.load_state_dict(load_file(str(shared_data() / "cifar10" / f"resnet{depth}.safetensors")))
        train_on, classes = every_fifth("train")
        return model.eval(), train_on, every_fifth("test")[0], classes

    return load


def every_fifth(split: str) -> tuple[Batches, Sequence[str]]:
    """Return every fifth image of a CIFAR-10 split in batches, as many of each class, and the classes."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(shared_data() / "cifar10" / f"{split}.tar") as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
        archive.extractall(folder, members=members[::5], filter="data")
        data = load_dataset(f"imagefolder:{folder}")
        return list(make_loader(data, batch_size=125)), data.classes


#: mu is METHOD's: 10, the demo's; 5 for an8Flower. CIFAR-10 has the 10 of experiments/audits.
SUBJECTS = (
    Subject("mnist", "MNIST", 10.0, (0, 1, 2), _mnist(0)),
    Subject("mnist-fc", "MNIST, with FC layer", 10.0, (0, 1, 2), _mnist(64)),
    Subject("single-6c", "an8Flower single-6c", 5.0, (0, 1, 2, 3, 4), _flower("single-6c")),
    Subject("double-12c", "an8Flower double-12c", 5.0, (0, 1, 2, 3, 4), _flower("double-12c")),
    Subject("cifar10-resnet20", "CIFAR-10 ResNet-20", 10.0, (0,), _cifar(20)),
    Subject("cifar10-resnet56", "CIFAR-10 ResNet-56", 10.0, (0,), _cifar(56), reasons=False),
)
