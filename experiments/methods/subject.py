"""The network and the images: SqueezeNet 1.0 on 500 ImageNet samples, and on one photograph that may be shown."""

from __future__ import annotations

import tarfile
import tempfile
from functools import lru_cache

import torch
import torchvision
from PIL import Image
from torch import Tensor

from experiments.common.imagenet import MEAN, STD, preparation
from experiments.common.shared_data import shared_data


@lru_cache(maxsize=1)
def samples() -> torchvision.datasets.ImageFolder:
    """Return the 500 samples, unpacked for as long as this process runs; label i is output 2i."""
    folder = tempfile.TemporaryDirectory(prefix="samples-")  # removed with the process
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        archive.extractall(folder.name, filter="data")
    found = torchvision.datasets.ImageFolder(folder.name, transform=preparation(), target_transform=lambda i: 2 * i)
    found.kept = folder  # the folder goes when its last reader goes
    return found


def batch(numbers: list[int]) -> tuple[Tensor, Tensor]:
    """Return some of the samples (B, 3, 227, 227) and their classes."""
    pairs = [samples()[i] for i in numbers]
    return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def class_name(output: int) -> str:
    """Return the name of one of the 1000 outputs."""
    return str(torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"][output])


def chelsea() -> Tensor:
    """Return scikit-image's picture of the cat Chelsea (CC0, Stefan van der Walt), (1, 3, 227, 227)."""
    import skimage.data

    image: Tensor = preparation()(Image.fromarray(skimage.data.chelsea()))  # type: ignore[no-untyped-call]
    return image[None]


def unnormalised(image: Tensor) -> Tensor:
    """Return a normalised image (3, H, W) as it was, in [0, 1]."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (image * std + mean).clamp(0, 1)
