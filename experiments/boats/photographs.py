"""The photographs of S3: 24 classes of Tiny-ImageNet with the subject's box, and streets without a subject."""

from __future__ import annotations

import csv
import tarfile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from experiments.common.imagenet import files_of, opened, read, tiny_classes
from experiments.common.shared_data import shared_data
from interpnet.support.types import Bools, Int64

SIDE = 64  # pixels
#: Of each class, the last by name. They are many, because a class has few subjects small enough to exchange.
HELD_OUT = 150
#: What lives or swims on water, or in it.
ON_WATER = (
    "gondola",
    "lifeboat",
    "goose",
    "albatross",
    "black_stork",
    "king_penguin",
    "dugong",
    "snorkel",
)
#: Subjects that have nothing to do with water: what lies in their place, and whose surroundings are land.
ON_LAND = (
    "Egyptian_cat",
    "tabby",
    "Persian_cat",
    "cougar",
    "lion",
    "golden_retriever",
    "school_bus",
    "sports_car",
    "tractor",
    "bullet_train",
)
#: Classes that name a scene. Their outputs are right as well where a scene is pasted, and are left out then.
#: So is a bridge, which EfficientNet-Lite0 takes most lakes for.
SCENES = ("seashore", "lakeside", "coral_reef", "dam", "alp", "steel_arch_bridge")
#: Water with nothing in it.
WATER = ("seashore", "lakeside")


class Photographs(NamedTuple):
    """Photographs, the classes in turn."""

    images: Tensor  # (N, 3, 64, 64), uint8
    labels: Int64  # (N,)
    boxes: Int64  # (N, 4): the subject's first column and row, and its last
    held_out: Bools  # (N,)
    classes: tuple[str, ...]

    def numbers(self, names: tuple[str, ...]) -> list[int]:
        """Return the numbers of some classes."""
        return [self.classes.index(name) for name in names]

    def rows(self, names: tuple[str, ...], *, most: float = 1.0) -> Int64:
        """Return the rows of held-out photographs of some classes, whose box covers at most this share of them."""
        small = (self.areas >= _LEAST) & (self.areas <= most)
        return np.flatnonzero(self.held_out & small & np.isin(self.labels, self.numbers(names)))

    @property
    def areas(self) -> np.ndarray:
        """(N,): the share of a photograph that its box covers."""
        left, top, right, bottom = self.boxes.T
        shares: np.ndarray = (right + 1 - left) * (bottom + 1 - top) / SIDE**2
        return shares


_LEAST = 0.03  # of the area: below it is no subject to see at 64 pixels


def photographs() -> Photographs:
    """Return all photographs; a box outside of its picture is cut at the edge, and an empty one refused."""
    folder = shared_data() / "tiny_imagenet"
    classes = tiny_classes()
    with (folder / "boxes.csv").open(encoding="utf-8") as file:
        boxes = {
            row["file"]: [int(row[side]) for side in ("left", "top", "right", "bottom")] for row in csv.DictReader(file)
        }
    with tarfile.open(folder / "train.tar") as archive:
        files = files_of(archive, classes)
        each = min(map(len, files))
        names = [name for own in files for name in own[:each]]
        images = torch.stack([v2.functional.pil_to_tensor(opened(archive, name).convert("RGB")) for name in names])
    found = np.array([boxes[name] for name in names]).clip(0, SIDE - 1)
    if (found[:, 2:] < found[:, :2]).any():
        raise ValueError(f"boxes.csv has an empty box: {names[int((found[:, 2:] < found[:, :2]).any(1).argmax())]}")
    return Photographs(
        images,
        np.repeat(np.arange(len(classes)), each),
        found,
        np.tile(np.arange(each) >= each - HELD_OUT, len(classes)),
        tuple(row["name"] for row in classes),
    )


def streets() -> Tensor:
    """Return CamVid's street photographs (N, 3, 64, 64), uint8, the square in the middle of each."""
    shrink = v2.Compose([v2.PILToTensor(), v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)])
    with tarfile.open(shared_data() / "concepts" / "camvid.tar") as archive:
        names = sorted(m.name for m in archive.getmembers() if m.isfile() and "/images/" in m.name)
        return read(archive, {0: names}, shrink).images
