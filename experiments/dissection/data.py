"""Street photographs with masks, and textures, as loaders that read their archives again each time."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from experiments.common.shared_data import shared_data

STREET = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
TEXTURES = ("banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "striped")
_UNLABELLED = 11
_STRETCH = 300  # frames, 10 seconds of a film: what is seen then is seen again


@dataclass(frozen=True)
class Archive:
    """Batches of (images, masks) of an archive's files, in their order."""

    path: Path
    files: tuple[str, ...]
    prepare: v2.Compose
    read: Callable[[tarfile.TarFile, str, v2.Compose], tuple[Tensor, Tensor]]
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with tarfile.open(self.path) as archive:
            for start in range(0, len(self.files), self.size):
                pairs = [self.read(archive, name, self.prepare) for name in self.files[start : start + self.size]]
                yield torch.stack([image for image, _ in pairs]), torch.stack([mark for _, mark in pairs])


def _picture(archive: tarfile.TarFile, name: str) -> Image.Image:
    file = archive.extractfile(name)
    if file is None:
        raise FileNotFoundError(name)
    return Image.open(io.BytesIO(file.read()))


def _street(archive: tarfile.TarFile, name: str, prepare: v2.Compose) -> tuple[Tensor, Tensor]:
    image = tv_tensors.Image(_picture(archive, name).convert("RGB"))
    numbers = np.array(_picture(archive, name.replace("/images/", "/masks/").replace(".jpg", ".png"))).astype(np.int64)
    numbers[numbers == _UNLABELLED] = -1
    mask = tv_tensors.Mask(torch.from_numpy(numbers)[None])
    image, mask = prepare(image, mask)
    return image.as_subclass(Tensor), mask.as_subclass(Tensor)[0]


def _texture(archive: tarfile.TarFile, name: str, prepare: v2.Compose) -> tuple[Tensor, Tensor]:
    image = prepare(tv_tensors.Image(_picture(archive, name).convert("RGB")))
    return image.as_subclass(Tensor), torch.tensor(TEXTURES.index(name.split("/", maxsplit=1)[0]))


def _files(path: Path, ending: str, every: int) -> tuple[str, ...]:
    with tarfile.open(path) as archive:
        found = sorted(one.name for one in archive.getmembers() if one.isfile() and one.name.endswith(ending))
    return tuple(name for name in found if "/masks/" not in name)[::every]


def loaders(prepare: v2.Compose, *, every: int = 1, size: int = 16) -> dict[str, Archive]:
    """Return the loaders of both categories; ``every``: of every so-many-th image."""
    folder = shared_data() / "concepts"
    street, textures = folder / "camvid.tar", folder / "textures.tar"
    return {
        "street": Archive(street, _files(street, ".jpg", every), prepare, _street, size),
        "textures": Archive(textures, _files(textures, ".jpg", every), prepare, _texture, size),
    }


CONCEPTS = {"street": STREET, "textures": TEXTURES}


def groups(sources: dict[str, Archive]) -> dict[str, list[str]]:
    """Return which photographs of the street belong together: ten seconds of one film; textures are independent."""
    return {"street": [stretch(name) for name in sources["street"].files]}


def stretch(name: str) -> str:
    """Return the film of a frame and which ten seconds of it.

    Examples
    --------
    >>> stretch("train/images/0001TP_006930.jpg"), stretch("val/images/0016E5_07961.jpg")
    ('0001TP 23', '0016E5 26')
    """
    film, frame = Path(name).stem.split("_")
    return f"{film} {int(frame.lstrip('f')) // _STRETCH}"
