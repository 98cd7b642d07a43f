"""The shared CIFAR-10 networks and images."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file

from experiments.common.networks import CifarResNet, cifar_resnet
from experiments.common.shared_data import shared_data


def trained_resnet(depth: int = 20) -> CifarResNet:
    """Return the shared ResNet of a depth, in evaluation mode."""
    model = cifar_resnet(depth)
    model.load_state_dict(load_file(str(shared_data() / "cifar10" / f"resnet{depth}.safetensors")))
    return model.eval()


def unpack(split: str, folder: Path | str, every: int = 1) -> None:
    """Unpack every ``every``-th image of a split, by name, into a folder with a folder per class."""
    with tarfile.open(shared_data() / "cifar10" / f"{split}.tar") as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
        archive.extractall(folder, members=members[::every], filter="data")


@contextmanager
def unpacked(split: str, every: int = 1) -> Iterator[str]:
    """Yield a folder with the images of a split, which is removed afterwards; see :func:`unpack`."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(split, folder, every)
        yield folder
