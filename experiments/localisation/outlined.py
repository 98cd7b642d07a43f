"""What E3's outlines are of: flowers with exact masks, street photographs with masks, photographs with boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.boats.networks import as_input, enlarged
from experiments.boats.photographs import SIDE, Photographs, photographs
from experiments.common.flower_networks import flower_network, masks_of
from experiments.common.imagenet import networks, tiny_classes
from experiments.dissection.data import STREET, Archive, loaders
from interpnet.interpretation import Interpretation
from interpnet.support.types import Float64, Int64

FLOWERS, BOXED = "flowers", "photographs with boxes"
#: By CamVid's class, ImageNet's outputs for it: vehicles on four wheels; bicycles; street signs and traffic lights.
ON_STREETS = {"car": (436, 468, 511, 609, 627, 656, 817), "bicyclist": (444, 671), "sign": (919, 920)}
_LARGEST = 0.9  # of a photograph: a box that holds more is no place
_SMALLEST = 0.01  # of a street photograph
_STREETS = 40  # photographs of a class


@dataclass(frozen=True)
class Outlined:
    """Images of one kind and what is to be outlined in them."""

    model: nn.Module
    images: Tensor
    target: Tensor  # (N,)
    pictures: Float64  # (N, H, W, 3), from 0 to 1
    region: dict[str, Any]  # ``masks=`` or ``boxes=``
    folds: Any = 5
    found: Interpretation | None = None  # the channels of the paper's method


def flowers(work: Path, *, n: int = 60, **words: Any) -> Outlined:
    """Return test images of six flowers, the petals' masks, and a small network trained on others."""
    network = flower_network("single-6c", 0, work, **words)
    rows = network.first(n)
    images, labels = network.tested(rows)
    pictures = network.test_on.displayed(images)
    return Outlined(
        network.model, images, labels, _pictures(pictures), {"masks": masks_of(network.test_on, rows)},
        found=network.interpretation(),
    )  # fmt: skip


def chosen(given: Photographs, each: int) -> Int64:
    """Return rows of held-out photographs, the first of each class whose box is neither tiny nor nearly all."""
    return np.concatenate([given.rows((name,), most=_LARGEST)[:each] for name in given.classes])


def boxes_of(given: Photographs, rows: Int64, side: int) -> Float64:
    """Return boxes (N, 4) in pixels of photographs enlarged to ``side``; the files name the last pixel inside."""
    ends: Float64 = (given.boxes[rows] + np.array([0, 0, 1, 1])) * (side / SIDE)
    return ends


def boxed(*, n: int = 240) -> Outlined:
    """Return photographs of Tiny-ImageNet's 24 classes with the subject's box, and EfficientNet-Lite0."""
    given = photographs()
    rows = chosen(given, n // len(given.classes))
    images = enlarged(as_input(given.images[rows]))
    outputs = torch.tensor([int(row["imagenet_index"]) for row in tiny_classes()])
    model = networks("efficientnet").model
    boxes = boxes_of(given, rows, images.shape[2])
    return Outlined(
        model, images, outputs[torch.from_numpy(given.labels[rows])], _pictures((images + 1) / 2), {"boxes": boxes}
    )


def streets(name: str, *, n: int = _STREETS) -> Outlined:
    """Return CamVid's photographs with a class, evenly over its films, each asked about the class's highest output."""
    network = networks("efficientnet")
    street = loaders(network.prepare)["street"]
    shown = [i for i, share in enumerate(_shares(street, STREET.index(name))) if share >= _SMALLEST]
    rows = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, min(n, len(shown)))]
    files = tuple(street.files[i] for i in rows)
    images, marks = (
        torch.cat(parts) for parts in zip(*Archive(street.path, files, street.prepare, street.read, 16), strict=True)
    )
    outputs = torch.tensor(ON_STREETS[name])
    with torch.inference_mode():
        logits = torch.cat([network.model(part) for part in torch.split(images, 16)])[:, outputs]
    films = np.unique([Path(file).name[:6] for file in files], return_inverse=True)[1]
    return Outlined(
        network.model, images, outputs[logits.argmax(1)], _pictures((images + 1) / 2),
        {"masks": marks == STREET.index(name)}, folds=films.tolist(),
    )  # fmt: skip


def _shares(street: Archive, number: int) -> list[float]:
    """Return the share of each photograph that a class covers."""
    return [float((mark == number).float().mean()) for _, marks in street for mark in marks]


def _pictures(images: Tensor) -> Float64:
    pictures: Float64 = images.double().clamp(0, 1).movedim(1, -1).numpy()
    return pictures


#: By name, what makes them of a working folder and options.
KINDS: dict[str, Callable[..., Outlined]] = {
    FLOWERS: flowers,
    **{f"CamVid, {name}": lambda _work, name=name, **words: streets(name, **words) for name in ON_STREETS},
    BOXED: lambda _work, **words: boxed(**words),
}
