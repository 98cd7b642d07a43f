"""Networks trained on ImageNet, asked about some of its classes, alone or in groups, and images of these."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from experiments.common.shared_data import shared_data
from interpnet.errors import DataError, ModelError
from interpnet.models import load_model
from interpnet.support.types import Int64

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images, as most networks want them
STD = (0.229, 0.224, 0.225)
SIZE = 227  # SqueezeNet 1.0's
#: Groups of ImageNet's classes, whose order follows WordNet: ranges of outputs, both ends included.
GROUPS = {
    "fish": ((0, 6), (389, 397)),
    "birds": ((7, 24), (80, 100), (127, 146)),
    "reptiles and amphibians": ((25, 68),),
    "arthropods": ((69, 79), (300, 326)),
    "dogs": ((151, 268),),
    "other carnivores": ((269, 299),),
    "hoofed animals": ((339, 355),),
    "primates": ((365, 384),),
    "food": ((924, 969),),
    "artefacts": ((398, 517),),
}
#: The paper's ImageNet-cats.
CATS = ("tabby", "Persian_cat", "Egyptian_cat", "cougar", "lion")


class Images(NamedTuple):
    """Images (N, 3, H, W) as a network wants them, and their class numbers."""

    images: Tensor
    labels: Int64


class Prepared(NamedTuple):
    """A network trained on ImageNet, and what makes a picture its input."""

    model: nn.Module
    prepare: v2.Compose


class Asked(NamedTuple):
    """A network asked to tell some classes apart, their names, and two sets of images of them."""

    model: nn.Module
    classes: tuple[str, ...]
    train: Images
    test: Images


class Grouped(nn.Module):
    """A network asked about groups of its outputs: a group's logit is the logsumexp of its members' logits.

    Examples
    --------
    >>> asked = Grouped(nn.Identity(), [[0, 1], [2]])
    >>> asked(torch.tensor([[0.0, 0.0, 1.0, 9.0]])).exp().round(decimals=3)
    tensor([[2.0000, 2.7180]])
    """

    def __init__(self, network: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network = network
        longest = max(map(len, groups))
        # Groups of different sizes are one table of outputs; what a group lacks counts exp(-inf) = 0.
        outputs = torch.zeros(len(groups), longest, dtype=torch.int64)
        absent = torch.full((len(groups), longest), -torch.inf)
        for i, group in enumerate(groups):
            outputs[i, : len(group)] = torch.tensor(group)
            absent[i, : len(group)] = 0.0
        self.register_buffer("outputs", outputs, persistent=False)
        self.register_buffer("absent", absent, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the groups' logits (B, groups)."""
        logits: Tensor = self.network(x)[:, self.outputs] + self.absent
        return logits.logsumexp(2)


def preparation(
    shorter: int = 256,
    size: int = SIZE,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
) -> v2.Compose:
    """Return what makes a picture a network's input: its shorter side resized, centre cropped, normalised."""
    steps = [v2.ToImage(), v2.Resize(shorter, interpolation, antialias=True), v2.CenterCrop(size)]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])


def squeezenet() -> nn.Module:
    """Return SqueezeNet 1.0, trained on ImageNet."""
    model: nn.Module = torchvision.models.squeezenet1_0(weights=None)
    model.load_state_dict(load_file(str(shared_data() / "imagenet" / "squeezenet1_0.safetensors")))
    return model.eval()


def efficientnet() -> nn.Module:
    """Return EfficientNet-Lite0, trained on ImageNet; a DataError says how to get what is missing."""
    try:
        return load_model("efficientnet-lite0")
    except ModelError as error:  # runs leave out what their data lack
        raise DataError(str(error)) from error


def networks(name: str) -> Prepared:
    """Return ``"squeezenet"`` or ``"efficientnet"`` with its preparation."""
    if name == "squeezenet":
        return Prepared(squeezenet(), preparation())
    half = (0.5, 0.5, 0.5)
    return Prepared(efficientnet(), preparation(256, 224, half, half, InterpolationMode.BICUBIC))


def halves_of_samples(network: str, part: int, most: int = 60) -> Asked:
    """Return a network that tells :data:`GROUPS` apart, with two halves of the samples of each group.

    There is one sample of every second class, and at most ``most`` of a group are taken. ``part`` 1 exchanges the
    halves.
    """
    model, prepare = networks(network)
    groups = [[i for first, last in ranges for i in range(first, last + 1)] for ranges in GROUPS.values()]
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(m.name for m in archive.getmembers() if m.isfile())
        halves = []
        for half in (part, 1 - part):
            chosen = {i: [files[n // 2] for n in group if n % 2 == 0][:most][half::2] for i, group in enumerate(groups)}
            halves.append(read(archive, chosen, prepare))
    return Asked(Grouped(model, groups), tuple(GROUPS), *halves)


def photographs(network: str, names: Iterable[str] | slice, n_train: int, n_test: int) -> Asked:
    """Return a network that tells classes of Tiny-ImageNet apart, with two sets of enlarged photographs.

    ``names`` are the classes, or a slice of all in the order of classes.csv; the first ``n_train`` photographs of each
    are the first set, the next ``n_test`` the second.
    """
    model, prepare = networks(network)
    folder = shared_data() / "tiny_imagenet"
    rows = tiny_classes()
    if isinstance(names, slice):
        rows = rows[names]
    else:
        rows = [row for row in rows if row["name"] in set(names)]
    with tarfile.open(folder / "train.tar") as archive:
        own = files_of(archive, rows)
        parts = [
            read(archive, {i: found[first:last] for i, found in enumerate(own)}, prepare)
            for first, last in ((0, n_train), (n_train, n_train + n_test))
        ]
    asked = Grouped(model, [[int(row["imagenet_index"])] for row in rows])
    return Asked(asked, tuple(row["name"] for row in rows), *parts)


def tiny_classes() -> list[dict[str, str]]:
    """Return the classes of Tiny-ImageNet that are here: wnid, name, synset and imagenet_index of each."""
    return list(csv.DictReader((shared_data() / "tiny_imagenet" / "classes.csv").open(encoding="utf-8")))


def files_of(archive: tarfile.TarFile, rows: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """Return the names of an archive's files by class, in order."""
    files = sorted(m.name for m in archive.getmembers() if m.isfile())
    return [[f for f in files if f.startswith(f"{row['wnid']}_")] for row in rows]


def opened(archive: tarfile.TarFile, name: str) -> Image.Image:
    """Return a picture of an archive."""
    return Image.open(archive.extractfile(name))  # type: ignore[arg-type]


def read(archive: tarfile.TarFile, files: Mapping[int, Sequence[str]], prepare: v2.Compose) -> Images:
    """Return the pictures of an archive, listed by class, the classes in turn."""
    longest = max(map(len, files.values()))
    order = [(c, own[i]) for i in range(longest) for c, own in files.items() if i < len(own)]
    images = [prepare(opened(archive, name).convert("RGB")) for _, name in order]
    return Images(torch.stack(images), np.array([c for c, _ in order]))
