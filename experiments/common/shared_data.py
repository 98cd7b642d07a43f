"""Where the shared networks and images are that some experiments need."""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file

from experiments.common.networks import CifarResNet, cifar_resnet


def shared_data() -> Path:
    """Return the folder in INTERPNET_SHARED_DATA, else ../shared/data; exit with a line where there is none."""
    folder = Path(os.environ.get("INTERPNET_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        sys.exit(f"{folder} is not here: set INTERPNET_SHARED_DATA to the folder of shared networks and images")
    return folder


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
