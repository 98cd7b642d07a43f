"""The networks of the experiment: five of each architecture, trained on the spot and kept in a working folder."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from interpnet.datasets import ImageData, make_loader
from interpnet.models import SmallCNN, accuracy, train
from interpnet.support.io import atomic_path

ARCHITECTURES = ("smallcnn", "resnet18")
# With fewer some small networks confuse two colours (75 to 83 % of the test images right after half as many).
_EPOCHS = {"smallcnn": 14, "resnet18": 4}
_RATE = {"smallcnn": 3e-3, "resnet18": 1e-3}


def build(architecture: str, n_classes: int, size: int, seed: int) -> nn.Module:
    """Return an untrained network."""
    if architecture == "smallcnn":
        return SmallCNN(3, n_classes, size, 8, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=n_classes)
    return model


def trained(
    architecture: str, train_on: ImageData, test_on: ImageData, seed: int, file: Path, epochs: int | None = None
) -> tuple[nn.Module, float]:
    """Return a trained network and its accuracy on the test split; weights come from ``file`` where it is there."""
    model = build(architecture, len(train_on.classes), train_on.shape[1], seed)
    if file.exists():
        model.load_state_dict(load_file(str(file)))
        model.eval()
    else:
        loader = make_loader(train_on, batch_size=64, shuffle=True, seed=seed)
        shift = train_on.shape[1] // 14
        train(
            model,
            loader,
            epochs=epochs or _EPOCHS[architecture],
            lr=_RATE[architecture],
            max_shift=shift,
            seed=seed,
        )
        with atomic_path(file) as part:
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
    return model, accuracy(model, make_loader(test_on, batch_size=64))
