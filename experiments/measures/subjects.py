"""The networks of M2 and the images that are explained, all of which the network classifies right."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from experiments.common.flower_networks import flower_network, masks_of
from experiments.common.imagenet import MEAN, STD, files_of, networks, opened, tiny_classes
from experiments.common.shared_data import shared_data, trained_resnet
from experiments.maps.subjects import asked_about
from interpnet.attribution import logits_in_parts

SAMPLES, TINY, CIFAR = "imagenet/samples.tar", "tiny_imagenet/train.tar", "cifar10/test.tar"
_SAMPLES = 96  # of 500
_OF_A_CLASS = {TINY: 6, CIFAR: 10}
_FLOWERS = 80
_LEAST, _MOST = 0.03, 0.5  # boxes that cover less or more of a picture tell little
_SIZE = 32  # of CIFAR-10


@dataclass(frozen=True)
class Subject:
    """A network with images of which it names the class, and where the class is, as far as anybody knows."""

    model: nn.Module
    images: Tensor  # (n, 3, H, W)
    labels: Tensor
    inside: Tensor | None  # (n, H, W) of bool: a mask or a box

    def chosen(self, rows: Tensor) -> Subject:
        """Return the subject with some of its images."""
        inside = None if self.inside is None else self.inside[rows]
        return replace(self, images=self.images[rows], labels=self.labels[rows], inside=inside)

    def to(self, device: str) -> Subject:
        """Return the subject with network and images there."""
        inside = None if self.inside is None else self.inside.to(device)
        return replace(
            self,
            model=self.model.to(device),
            images=self.images.to(device),
            labels=self.labels.to(device),
            inside=inside,
        )


def names_in(tar: str) -> list[tuple[str, int]]:
    """Return the files of an archive of the shared folder that the subjects read, with their class numbers."""
    with tarfile.open(shared_data() / tar) as archive:
        files = sorted(m.name for m in archive.getmembers() if m.isfile())
        if tar == SAMPLES:  # one of every second class
            return [(files[i], 2 * i) for i in range(0, len(files), len(files) // _SAMPLES)][:_SAMPLES]
        if tar == TINY:
            own = files_of(archive, tiny_classes())
        else:
            folders = sorted({name.split("/")[0] for name in files})
            own = [[name for name in files if name.startswith(f"{folder}/")] for folder in folders]
    return [(row[place], label) for place in range(_OF_A_CLASS[tar]) for label, row in enumerate(own)]


def samples(network: str, work: Path) -> Subject:
    """Return a network of 1,000 classes with ImageNet samples."""
    del work
    prepared = networks(network)
    chosen = names_in(SAMPLES)
    with tarfile.open(shared_data() / SAMPLES) as archive:
        images = torch.stack([prepared.prepare(opened(archive, name).convert("RGB")) for name, _ in chosen])
    return Subject(prepared.model, images, torch.tensor([label for _, label in chosen]), None)


def boxes(network: str, work: Path) -> Subject:
    """Return a network of the classes of Tiny-ImageNet, with photographs and the subjects' boxes."""
    del work
    prepared = networks(network)
    model = asked_about(prepared.model, [int(row["imagenet_index"]) for row in tiny_classes()])
    known = csv.DictReader((shared_data() / "tiny_imagenet" / "boxes.csv").open(encoding="utf-8"))
    ends = {row["file"]: [int(row[side]) for side in ("left", "top", "right", "bottom")] for row in known}
    images, labels, inside = [], [], []
    chosen = names_in(TINY)
    with tarfile.open(shared_data() / TINY) as archive:
        for name, label in chosen:
            picture = opened(archive, name).convert("RGB")
            left, top, right, bottom = ends[name]
            mask = torch.zeros(1, picture.height, picture.width, dtype=torch.uint8)
            mask[:, top : bottom + 1, left : right + 1] = 1
            image, cut = prepared.prepare(picture, tv_tensors.Mask(mask))
            if _LEAST <= float(cut.float().mean()) <= _MOST:
                images.append(image)
                labels.append(label)
                inside.append(cut[0].bool())
    return Subject(model, torch.stack(images), torch.tensor(labels), torch.stack(inside))


def cifar(depth: int, work: Path) -> Subject:
    """Return the ResNet of a depth with images of CIFAR-10."""
    del work
    prepare = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    chosen = names_in(CIFAR)
    with tarfile.open(shared_data() / CIFAR) as archive:
        images = torch.stack([prepare(opened(archive, name).convert("RGB")) for name, _ in chosen])
    return Subject(trained_resnet(depth), images, torch.tensor([label for _, label in chosen]), None)


def flowers(variant: str, architecture: str, work: Path) -> Subject:
    """Return a network of an8Flower with test images and masks of what tells their class."""
    found = flower_network(variant, 0, work, architecture=architecture)
    rows = found.first(_FLOWERS)
    images, labels = found.tested(rows)
    return Subject(found.model, images, labels, masks_of(found.test_on, rows))


@dataclass(frozen=True)
class Kind:
    """A network by name: how it is got, how many images are explained, and whether it takes images of other sizes."""

    title: str
    load: Callable[[Path], Subject]
    images: int


KINDS: dict[str, Kind] = {
    "squeezenet": Kind("SqueezeNet, ImageNet", partial(samples, "squeezenet"), 32),
    "efficientnet": Kind("EfficientNet-Lite0, ImageNet", partial(samples, "efficientnet"), 32),
    "efficientnet-boxes": Kind("EfficientNet-Lite0, Tiny-ImageNet with boxes", partial(boxes, "efficientnet"), 32),
    "resnet20": Kind("ResNet-20, CIFAR-10", partial(cifar, 20), 48),
    "resnet56": Kind("ResNet-56, CIFAR-10", partial(cifar, 56), 48),
    "resnet18": Kind("ResNet-18, an8Flower double-12c", partial(flowers, "double-12c", "resnet18"), 48),
    "smallcnn": Kind("small CNN, an8Flower single-6c", partial(flowers, "single-6c", "smallcnn"), 48),
}


def load(name: str, work: Path, device: str, images: int = 0) -> Subject:
    """Return a network with the first images that it classifies right."""
    kind = KINDS[name]
    subject = kind.load(work).to(device)
    subject.model.eval()
    right = logits_in_parts(subject.model, subject.images, 64).argmax(1) == subject.labels
    return subject.chosen(right.nonzero()[: images or kind.images, 0])


def titles(names: Sequence[str]) -> list[str]:
    """Return the networks' titles."""
    return [KINDS[name].title for name in names]
