"""Measure the grid in channel heatmaps before and after resampling, on trained networks.

    python -m experiments.methods.checkerboard

SqueezeNet 1.0 on 32 ImageNet samples (7x7/2 convolution, three 3x3/2 poolings) and ResNet-20 on 200 CIFAR-10 test
images. The signal starts at each image's strongest channel of a layer, guided rule. A figure is the median over images
of the share of spectral energy at the frequencies of a stride: the first layer's, and the product of those below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2

from experiments.common.imagenet import MEAN, STD, squeezenet
from experiments.common.runner import command
from experiments.common.shared_data import trained_resnet, unpacked
from experiments.methods.subject import batch
from interpnet.engine import Channel
from interpnet.evaluate import checkerboard
from interpnet.explanation import channel_signal
from interpnet.scores import collect_scores
from interpnet.support.io import write_text

HERE = Path(__file__).parent
#: Layers, with the product of the strides below each.
LAYERS = {
    "SqueezeNet 1.0": {"features.1": 2, "features.4:cat": 4, "features.9:cat": 8, "features.12:cat": 16},
    "ResNet-20": {"layer2.0:relu:1": 2, "layer2.2:relu:1": 2, "layer3.0:relu:1": 4, "layer3.2:relu:1": 4},
}
RULES: dict[str, dict[str, Any]] = {
    "plain": {"resample": False},
    "resampled": {"resample": True},
    "pooling too": {"resample": True, "resample_pool": True},
}


def cifar() -> tuple[nn.Module, Tensor]:
    """Return ResNet-20 and 200 CIFAR-10 test images, every 50th."""
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    with unpacked("test") as folder:
        data = torchvision.datasets.ImageFolder(folder, transform=transform)
        return trained_resnet(), torch.stack([data[i][0] for i in range(0, len(data), 50)])


def strongest(model: nn.Module, images: Tensor, layer: str) -> list[Channel]:
    """Return for every image the layer's channel of largest norm."""
    labels = torch.zeros(len(images), dtype=torch.long)
    scores = torch.as_tensor(collect_scores(model, [(images, labels)], layers=layer, progress=False).X)
    return [Channel(layer, int(i)) for i in scores.argmax(1)]


@command()
def main(*, out: Path = HERE / "checkerboard.json") -> None:
    """Print the table and write checkerboard.json."""
    subjects: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
        "SqueezeNet 1.0": lambda: (squeezenet(), batch(list(range(0, 500, 16)))[0]),
        "ResNet-20": cifar,
    }
    rows = []
    for name, make in subjects.items():
        model, images = make()
        for layer, stride in LAYERS[name].items():
            channels = strongest(model, images, layer)
            signals = {r: channel_signal(model, images, channels, **o).signals[:, 0] for r, o in RULES.items()}
            for at in sorted({2, stride}):  # the first strided layer's grid, and the whole one's
                shares = {r: round(float(checkerboard(s, at).median()), 4) for r, s in signals.items()}
                rows.append({"network": name, "layer": layer, "stride": at, **shares})
                print(rows[-1], flush=True)
    write_text(out, json.dumps(rows, indent=1) + "\n")
