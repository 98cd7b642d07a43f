"""Networks trained on an8Flower, of two architectures; their weights are kept in a working folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interpnet.datasets import ImageData, load_dataset, make_loader, stack_images
from interpnet.errors import DataError
from interpnet.interpretation import Interpretation, interpret
from interpnet.models import SmallCNN, accuracy, train
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.io import atomic_path

ARCHITECTURES = ("smallcnn", "resnet18")
# With fewer some small networks confuse two colours (75 to 83 % of the test images right after half as many).
_EPOCHS = {"smallcnn": 14, "resnet18": 4}
_RATE = {"smallcnn": 3e-3, "resnet18": 1e-3}  # learning rate
MU = 5.0  # the mu-lasso's radius on an8Flower (docs/method.md, section 6)
#: What ``--quick`` takes where no measure needs more: few small images, hardly trained.
QUICK: dict[str, Any] = {"options": "?size=48&n=120", "epochs": 2}


def build(architecture: str, n_classes: int, size: int, seed: int) -> nn.Module:
    """Return an untrained network."""
    if architecture == "smallcnn":
        return SmallCNN(3, n_classes, size, 8, seed=seed)  # width 8
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.default_generator.manual_seed(seed)
        model: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=n_classes)
    return model


def trained(
    architecture: str,
    train_on: ImageData,
    test_on: ImageData,
    seed: int,
    file: Path,
    epochs: int | None = None,
    device: str = "cpu",
) -> tuple[nn.Module, float]:
    """Return a trained network and its accuracy on the test split; weights come from ``file`` where it is there."""
    model = build(architecture, len(train_on.classes), train_on.shape[1], seed)
    if file.exists():
        model.load_state_dict(load_file(str(file)))
        model.eval()
    else:
        loader = make_loader(train_on, batch_size=64, shuffle=True, seed=seed)
        epochs = epochs or _EPOCHS[architecture]
        shift = train_on.shape[1] // 14  # 8 of 112 pixels
        train(model, loader, epochs=epochs, lr=_RATE[architecture], max_shift=shift, seed=seed, device=device)
        with atomic_path(file) as part:  # another run may read the file meanwhile
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
    return model, accuracy(model, make_loader(test_on, batch_size=64), device)


def masks_of(data: ImageData, rows: Sequence[int] | None = None, name: str = "discriminative") -> Tensor:
    """Return a mask (B, H, W) of some images, or of all: by default the pixels that tell the class."""
    if data.masks is None:
        raise DataError("the data has no masks; expected an8flower")
    masks = data.masks[name][list(rows)] if rows is not None else data.masks[name]
    return torch.from_numpy(masks)


@dataclass(frozen=True)
class FlowerNetwork:
    """A network trained on a variant of an8Flower, its accuracy on the test images, and both splits."""

    model: nn.Module
    accuracy: float
    train_on: ImageData
    test_on: ImageData

    def scores(self) -> ScoreTable:
        """Return the scores of the training images."""
        return collect_scores(self.model, make_loader(self.train_on, batch_size=64), progress=False)

    def interpretation(self) -> Interpretation:
        """Return the channels of the classes."""
        return interpret(self.scores(), mu=MU, classes=self.train_on.classes)

    def first(self, n: int) -> list[int]:
        """Return the first ``n`` test images, or all where there are fewer; the classes come in turn."""
        return list(range(min(n, len(self.test_on))))

    def tested(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return test images and their labels."""
        return stack_images(self.test_on, rows), torch.as_tensor(self.test_on.labels[list(rows)])


def flower_network(
    variant: str,
    seed: int,
    work: Path,
    *,
    architecture: str = "smallcnn",
    options: str = "",
    epochs: int | None = None,
    device: str = "cpu",
) -> FlowerNetwork:
    """Return a network trained on a variant of an8Flower (``options``: ``?size=48``); its weights stay in ``work``."""
    splits = [load_dataset(f"an8flower-{variant}{options}", split=s, root=work) for s in ("train", "test")]
    file = work / f"{variant}-{architecture}-{seed}.safetensors"
    return FlowerNetwork(*trained(architecture, splits[0], splits[1], seed, file, epochs, device), *splits)
