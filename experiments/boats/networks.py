"""The networks of S3: EfficientNet-Lite0's outputs for the 24 classes, and small networks trained on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.boats.photographs import SIDE, Photographs
from experiments.common.imagenet import efficientnet, tiny_classes
from interpnet.models import SmallCNN, load_smallcnn, save_smallcnn, train
from interpnet.support.types import Float64

EFFICIENTNET = "EfficientNet-Lite0"
SMALL = ("small network 1", "small network 2", "small network 3")
NETWORKS = (EFFICIENTNET, *SMALL)
_LARGE = 224  # pixels: EfficientNet-Lite0's
_EPOCHS = 20
_BATCH = 64


class Mirrored:
    """Batches of training images in a new order every epoch, half of them mirrored."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int) -> None:
        self.images = images
        self.labels = labels
        self._draws = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return math.ceil(len(self.labels) / _BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels."""
        order = torch.from_numpy(self._draws.permutation(len(self.labels)))
        for rows in torch.split(order, _BATCH):
            batch = as_input(self.images[rows])
            turned = torch.from_numpy(self._draws.random(len(rows)) < 0.5)
            yield torch.where(turned[:, None, None, None], batch.flip(3), batch), self.labels[rows]


def as_input(images: Tensor) -> Tensor:
    """Return uint8 images as the networks want them: float32 with mean and standard deviation of one half."""
    return images.float() / 127.5 - 1


def enlarged(images: Tensor) -> Tensor:
    """Return images of a network's values at EfficientNet-Lite0's size, nothing of them cut off."""
    large = nn.functional.interpolate(images, (_LARGE, _LARGE), mode="bicubic", align_corners=False)
    return large.clamp(-1, 1)


def small_network(number: int, given: Photographs, work: Path, *, epochs: int = _EPOCHS) -> SmallCNN:
    """Return a network trained on the photographs that are not held out; from the working folder if it is there."""
    file = work / f"small-{number}.safetensors"
    if file.exists():
        return load_smallcnn(file)
    rows = np.flatnonzero(~given.held_out)
    model = SmallCNN(3, len(given.classes), SIDE, 16, seed=number)
    loader = Mirrored(given.images[rows], torch.from_numpy(given.labels[rows]), number)
    train(model, loader, epochs=epochs, max_shift=SIDE // 14, seed=number, progress=False)
    save_smallcnn(model, file)
    return model


class Asked:
    """A network, asked about the 24 classes."""

    def __init__(self, name: str, given: Photographs, work: Path, *, epochs: int | None = None) -> None:
        self.name = name
        if name == EFFICIENTNET:
            self.model: nn.Module = efficientnet().to(memory_format=torch.channels_last)
            self.outputs = [int(row["imagenet_index"]) for row in tiny_classes()]
        else:
            self.model = small_network(SMALL.index(name), given, work, epochs=epochs or _EPOCHS)
            self.outputs = list(range(len(given.classes)))

    def logits(self, images: Tensor, batch: int = 32) -> Float64:
        """Return every logit (N, outputs of the network) of uint8 images (N, 3, 64, 64)."""
        found = []
        with torch.inference_mode():
            for part in torch.split(images, batch):
                x = as_input(part)
                if self.name == EFFICIENTNET:
                    x = enlarged(x).contiguous(memory_format=torch.channels_last)
                found.append(self.model(x))
        return torch.cat(found).double().numpy()
