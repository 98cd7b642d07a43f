"""The networks and images of M1: flowers with exact masks, photographs with boxes, street photographs, samples.

What is chosen is chosen on the first half (``development``), and reported on the second: other networks of the flowers,
other classes of the photographs. Street photographs and ImageNet samples play no part in the choice.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from experiments.common.flower_networks import MU, flower_network, masks_of
from experiments.common.imagenet import Prepared, files_of, networks, opened, tiny_classes
from experiments.common.shared_data import shared_data
from interpnet.datasets import stack_images
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import collect_contributions
from interpnet.scores import collect_scores

Loaded = tuple[list[Tensor], list[int], list[Tensor]]
_RANKED = 600  # images of a flower network that name its channels
_RANKED_OF_A_CLASS = 20  # photographs that name the channels of a class; the images explained are others
_BATCH = 50
_CAR = 8  # CamVid's number
_WHOLE = 0.5  # boxes and masks that cover more of a picture tell little
_LEAST = 0.03


@dataclass(frozen=True)
class Subject:
    """A network, images that name its channels, and images that are explained for their classes."""

    model: nn.Module
    classes: tuple[str, ...]
    ranked: Tensor  # (N, 3, H, W); none where no channel is named
    ranked_labels: Tensor
    images: Tensor  # (n, 3, H, W)
    labels: Tensor
    masks: Tensor | None  # (n, H, W)
    mu: float
    measure: str  # what counts: "iou" on exact masks, "energy" in boxes, "gain" where there is neither

    def to(self, device: str) -> Subject:
        """Return the subject with network and images there."""
        masks = None if self.masks is None else self.masks.to(device)
        moved = {name: getattr(self, name).to(device) for name in ("images", "labels")}
        return replace(self, model=self.model.to(device), masks=masks, **moved)

    @property
    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(torch.split(self.ranked, _BATCH), torch.split(self.ranked_labels, _BATCH), strict=True))

    @cached_property
    def by_weight(self) -> Interpretation:
        """The channels that predict the classes."""
        device = self.images.device
        table = collect_scores(self.model, self._batches, device=device, progress=False)
        return interpret(table, mu=self.mu, classes=self.classes)

    @cached_property
    def by_reliance(self) -> Interpretation:
        """The channels that the classes rely on; none where no image names them."""
        if not len(self.ranked):
            return self._nameless()
        device = self.images.device
        found = collect_contributions(self.model, self._batches, device=device, progress=False, classes=self.classes)
        return interpret(found, by="reliance")

    def _nameless(self) -> Interpretation:
        own = [(self.images[:2].cpu(), torch.zeros(2, dtype=torch.int64))]
        channels = collect_scores(self.model, own, device=self.images.device, progress=False).channels
        return Interpretation(channels, np.zeros((len(self.classes), len(channels))), self.classes)


def flower(variant: str, architecture: str, seed: int, work: Path, device: str, n: int) -> Subject:
    """Return a network of an8Flower with the first test images."""
    found = flower_network(variant, seed, work, architecture=architecture, device=device)
    rows = found.first(n)
    ranked = list(range(min(_RANKED, len(found.train_on))))
    labels = torch.as_tensor(found.train_on.labels[ranked])
    images, target = found.tested(rows)
    train = stack_images(found.train_on, ranked)
    masks = masks_of(found.test_on, rows)
    return Subject(found.model, found.train_on.classes, train, labels, images, target, masks, MU, "iou")


def trial(seed: int, work: Path) -> Subject:
    """Return a network of few small images, for ``--quick``."""
    found = flower_network("single-6c", seed, work, options="?size=32&n=60", epochs=2)
    rows = found.first(6)
    train = (stack_images(found.train_on, range(60)), torch.as_tensor(found.train_on.labels))
    return Subject(
        found.model, found.train_on.classes, *train, *found.tested(rows), masks_of(found.test_on, rows), MU, "iou"
    )


def asked_about(network: nn.Module, outputs: Sequence[int]) -> nn.Module:
    """Return a network whose last layer has only some of its outputs, so that it tells these classes apart."""
    keep = torch.tensor(list(outputs))
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    smaller: nn.Module = (
        nn.Linear(last.in_features, len(keep))
        if isinstance(last, nn.Linear)
        else nn.Conv2d(last.in_channels, len(keep), 1)
    )
    smaller.load_state_dict({key: value[keep] for key, value in last.state_dict().items()})
    network.set_submodule(name, smaller)
    return network.eval()


def _photographs(prepared: Prepared, part: slice, first: int, last: int) -> Loaded:
    """Return photographs of some classes of Tiny-ImageNet, their classes, and the subjects' boxes as masks."""
    folder = shared_data() / "tiny_imagenet"
    boxes = {row["file"]: row for row in csv.DictReader((folder / "boxes.csv").open(encoding="utf-8"))}
    images, labels, masks = [], [], []
    with tarfile.open(folder / "train.tar") as archive:
        own = files_of(archive, tiny_classes()[part])
        for place in range(first, last):
            for label, names in enumerate(own):
                picture = opened(archive, names[place]).convert("RGB")
                box = {side: int(boxes[names[place]][side]) for side in ("left", "top", "right", "bottom")}
                mask = torch.zeros(1, picture.height, picture.width, dtype=torch.uint8)
                mask[:, box["top"] : box["bottom"] + 1, box["left"] : box["right"] + 1] = 1
                image, inside = prepared.prepare(picture, tv_tensors.Mask(mask))
                images.append(image)
                labels.append(label)
                masks.append(inside[0].bool())
    return images, labels, masks


def _telling(loaded: Loaded, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first n images whose masks tell something: neither nearly all of a picture nor nothing."""
    images, labels, masks = loaded
    shares = [float(mask.float().mean()) for mask in masks]
    kept = [i for i, share in enumerate(shares) if _LEAST <= share <= _WHOLE][:n]
    return (
        torch.stack([images[i] for i in kept]),
        torch.tensor([labels[i] for i in kept]),
        torch.stack([masks[i] for i in kept]),
    )


def boxes(network: str, seed: int, work: Path, device: str, n: int) -> Subject:
    """Return a network of one half of Tiny-ImageNet's classes, with boxes of at most half of a picture."""
    del work, device
    prepared = networks(network)
    part = (slice(0, 12), slice(12, 24))[seed]
    rows = tiny_classes()[part]
    model = asked_about(prepared.model, [int(row["imagenet_index"]) for row in rows])
    images, labels, _ = _photographs(prepared, part, 20, 20 + _RANKED_OF_A_CLASS)
    tested = _telling(_photographs(prepared, part, 0, 12), n)
    names = tuple(row["name"] for row in rows)
    return Subject(model, names, torch.stack(images), torch.tensor(labels), *tested, 10.0, "energy")


def street(network: str, seed: int, work: Path, device: str, n: int) -> Subject:
    """Return a network of all 24 classes, explained for "sports car" on street photographs with masks of the cars."""
    del seed, work, device
    prepared = networks(network)
    rows = tiny_classes()
    model = asked_about(prepared.model, [int(row["imagenet_index"]) for row in rows])
    images, labels, _ = _photographs(prepared, slice(0, 24), 20, 20 + _RANKED_OF_A_CLASS)
    car = [row["name"] for row in rows].index("sports_car")
    found: Loaded = ([], [], [])
    with tarfile.open(shared_data() / "concepts" / "camvid.tar") as archive:
        names = sorted(m.name for m in archive.getmembers() if m.isfile() and "/images/" in m.name)
        for name in names:
            mask = opened(archive, name.replace("images", "masks").replace(".jpg", ".png"))
            inside = torch.from_numpy(np.asarray(mask) == _CAR)[None].to(torch.uint8)
            image, cut = prepared.prepare(opened(archive, name).convert("RGB"), tv_tensors.Mask(inside))
            found[0].append(image)
            found[1].append(car)
            found[2].append(cut[0].bool())
    every, target, masks = _telling(found, len(found[0]))
    apart = torch.linspace(0, len(every) - 1, n).long()  # neighbouring pictures are alike
    tested = (every[apart], target[apart], masks[apart])
    return Subject(
        model, tuple(row["name"] for row in rows), torch.stack(images), torch.tensor(labels), *tested, 10.0, "energy"
    )


def samples(network: str, seed: int, work: Path, device: str, n: int) -> Subject:
    """Return a network of 1,000 classes with ImageNet samples, one of a class: no image is left to name channels."""
    del seed, work, device
    prepared = networks(network)
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(m.name for m in archive.getmembers() if m.isfile())
        chosen = range(0, len(files), len(files) // n)[:n]
        images = torch.stack([prepared.prepare(opened(archive, files[i]).convert("RGB")) for i in chosen])
    labels = torch.tensor([2 * i for i in chosen])
    none = (images[:0], labels[:0])
    return Subject(prepared.model, tuple(map(str, range(1000))), *none, images, labels, None, 10.0, "gain")


@dataclass(frozen=True)
class Kind:
    """A kind of network and data: how one is got, and which serve the choice and the report."""

    title: str
    load: Callable[[int, Path, str, int], Subject]
    development: tuple[int, ...]
    report: tuple[int, ...]


def _flowers(variant: str, architecture: str, *halves: tuple[int, ...]) -> Kind:
    title = {"smallcnn": "small CNN", "resnet18": "ResNet-18"}[architecture]
    return Kind(f"{variant}, {title}", partial(flower, variant, architecture), *halves)


KINDS: dict[str, Kind] = {
    "single-6c": _flowers("single-6c", "smallcnn", (0, 1), (2, 3, 4)),
    "double-12c": _flowers("double-12c", "smallcnn", (0, 1), (2, 3, 4)),
    "single-6c-resnet18": _flowers("single-6c", "resnet18", (0,), (1, 2)),
    "double-12c-resnet18": _flowers("double-12c", "resnet18", (0,), (1, 2)),
    "boxes-efficientnet": Kind("boxes, EfficientNet-Lite0", partial(boxes, "efficientnet"), (0,), (1,)),
    "boxes-squeezenet": Kind("boxes, SqueezeNet", partial(boxes, "squeezenet"), (0,), (1,)),
    "street-efficientnet": Kind("street, EfficientNet-Lite0", partial(street, "efficientnet"), (), (0,)),
    "street-squeezenet": Kind("street, SqueezeNet", partial(street, "squeezenet"), (), (0,)),
    "samples-efficientnet": Kind("samples, EfficientNet-Lite0", partial(samples, "efficientnet"), (), (0,)),
    "samples-squeezenet": Kind("samples, SqueezeNet", partial(samples, "squeezenet"), (), (0,)),
}


def load(line: dict[str, Any], work: Path, device: str, n: int, *, quick: bool) -> Subject:
    """Return the subject of a line of the results, on a device."""
    if quick:
        return trial(line["seed"], work)
    return KINDS[line["kind"]].load(line["seed"], work, device, n).to(device)
