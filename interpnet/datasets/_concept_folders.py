"""Folders of images with concepts, as loaders of (images, masks) by category."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interpnet.datasets._decode import read_image
from interpnet.datasets._files import is_image
from interpnet.datasets._folders import require_folder
from interpnet.datasets._pixels import READ_ERRORS, reason_of
from interpnet.datasets._preprocess import Preprocessing, make_preprocessing
from interpnet.datasets._walk import entries, is_folder, is_junk, subfolders
from interpnet.errors import DataError
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.checksums import checksum

_IMAGES = "images"
_MASKS = "masks"
_NAMES = "names.txt"
_NO_CONCEPT = {"", "-"}
_UNNAMED = -1


@dataclass(frozen=True)
class Marked:
    """One image with the files that tell where concepts are."""

    image: Path
    masks: tuple[tuple[int, Path], ...] = ()  # of concepts by number; of all concepts in one file: (-1, file)
    shows: frozenset[int] = frozenset()  # the concepts of the whole image


@dataclass(frozen=True)
class ConceptFolder:
    """The images of one category: a loader of (images, masks), as :func:`interpnet.concepts.dissect` wants it."""

    name: str
    concepts: tuple[str, ...]
    files: tuple[Marked, ...]
    preprocessing: Preprocessing
    batch_size: int
    numbers: tuple[int, ...] = ()  # the concept of each value of an index mask, -1 for none
    whole: bool = False  # whether concepts are of whole images, without masks

    def __len__(self) -> int:
        return math.ceil(len(self.files) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W) as the network wants them, and masks (B, H, W), (B, K, H, W) or (B, K)."""
        for start in range(0, len(self.files), self.batch_size):
            pairs = [self._read(one) for one in self.files[start : start + self.batch_size]]
            sizes = {tuple(image.shape) for image, _ in pairs}
            if len(sizes) > 1:
                raise DataError(
                    f"category {self.name!r}: images of {' and '.join(map(str, sorted(sizes)))} came; give image_size, "
                    "so that all have one size"
                )
            yield torch.stack([image for image, _ in pairs]), torch.stack([marks for _, marks in pairs])

    def _read(self, one: Marked) -> tuple[Tensor, Tensor]:
        how = self.preprocessing
        try:
            pixels = read_image(one.image, how.channels, how.max_value)
            image = how.normalise(how.shape(pixels))
        except READ_ERRORS as error:
            raise DataError(f"image {str(one.image)!r} cannot be read: {reason_of(error)}") from error
        if self.whole:
            return image, torch.tensor([k in one.shows for k in range(len(self.concepts))])
        size = tuple(pixels.shape[1:])
        if self.numbers:
            return image, self._index(one, size)
        masks = torch.zeros(len(self.concepts), *image.shape[1:], dtype=torch.bool)
        for k, path in one.masks:
            masks[k] = how.place(_mask(path, size) != 0)
        return image, masks

    def _index(self, one: Marked, size: tuple[int, ...]) -> Tensor:
        ((_, path),) = one.masks
        values = _mask(path, size)
        beyond = values >= len(self.numbers)
        named = torch.tensor([*self.numbers, _UNNAMED])[values.clamp(max=len(self.numbers))]
        # 255 is what many tools write where nothing was marked.
        unknown = beyond & (values != 255)
        if bool(unknown.any()):
            raise DataError(
                f"mask {str(path)!r} has the value {int(values[unknown][0])}, and {_NAMES} of {self.name!r} names "
                f"{len(self.numbers)} values, from 0; add a line for each value ('-' for no concept)"
            )
        return self.preprocessing.place(named)


def _mask(path: Path, size: tuple[int, ...]) -> Tensor:
    """Return a mask's values (H, W), int64."""
    try:
        with Image.open(path) as file:
            values = np.array(file)
    except READ_ERRORS as error:
        raise DataError(f"mask {str(path)!r} cannot be read: {reason_of(error)}") from error
    if values.ndim != 2:
        raise DataError(
            f"mask {str(path)!r} has {values.shape[2]} colours; expected one number a pixel (grey or palette)"
        )
    if values.shape != size:
        raise DataError(
            f"mask {str(path)!r} is {values.shape[0]} x {values.shape[1]} pixels and its image {size[0]} x {size[1]}; "
            "expected the same size"
        )
    return torch.from_numpy(values.astype(np.int64))


def concept_folders(
    root: str | os.PathLike[str],
    *,
    channels: int = 3,
    image_size: int | Sequence[int] | None = None,
    crop: int | Sequence[int] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    batch_size: int = 16,
) -> dict[str, ConceptFolder]:
    """Return the loaders of (images, masks) of a folder's categories, for :func:`interpnet.concepts.dissect`.

    A category is a folder in ``root``, in which the same concepts were looked for in every image. Three layouts:

    - ``images/`` and ``masks/`` with files of the same names, and ``names.txt``: its first line names the concept of
      value 0, the next that of 1, and so on; an empty line or ``-`` is no concept, nor is 255.
    - ``images/`` and ``masks/CONCEPT/``: a mask for each concept, not 0 where it is; without a file it is not there.
    - ``CONCEPT/``: images that show a concept as a whole, such as a texture or a scene. A file that stands in several
      of them (the same bytes) is one image that shows all of these.

    Masks are of their images' size, and are resized and cropped like them, to the nearest pixel.

    Parameters
    ----------
    root : path
    channels, image_size, crop, mean, std
        As in :func:`interpnet.load_dataset`: as the network wants its images.
    batch_size : int

    Raises
    ------
    DataError
        No such folder, one without images, an image without a mask, masks without names or of another size, what
        cannot be read.
    """
    check_kinds(concept_folders, locals())
    whole_number(batch_size, "batch_size", least=1)
    how = make_preprocessing(channels=channels, image_size=image_size, crop=crop, mean=mean, std=std)
    folder = Path(root)
    require_folder(folder, "one folder per category of concepts")
    names = subfolders(folder)
    if not names:
        raise DataError(f"folder {str(folder)!r} has no folder; expected one folder per category of concepts")
    return {name: _category(folder / name, how, batch_size) for name in names}


def _category(folder: Path, how: Preprocessing, batch_size: int) -> ConceptFolder:
    inside = subfolders(folder)
    if _MASKS not in inside:
        return _whole(folder, inside, how, batch_size)
    if _IMAGES not in inside:
        raise DataError(f"folder {str(folder)!r} has {_MASKS}/ and no {_IMAGES}/; expected both")
    images = _images_of(folder / _IMAGES)
    names = folder / _NAMES
    if names.exists():
        return _indexed(folder, names, images, how, batch_size)
    concepts = subfolders(folder / _MASKS)
    if not concepts:
        raise DataError(
            f"folder {str(folder)!r} has neither {_NAMES} (a line for each value of its masks) nor a folder per "
            f"concept in {_MASKS}/; expected one of them"
        )
    by_concept = [{path.stem: path for path in _images_of(folder / _MASKS / concept)} for concept in concepts]
    stems = {path.stem for path in images}
    strange = sorted({stem for masks in by_concept for stem in masks} - stems)
    if strange:
        raise DataError(
            f"folder {str(folder / _MASKS)!r} has a mask {strange[0]!r} and {_IMAGES}/ no image of that name "
            f"({len(strange)} such); expected the same names"
        )
    files = [
        Marked(path, tuple((k, masks[path.stem]) for k, masks in enumerate(by_concept) if path.stem in masks))
        for path in images
    ]
    return ConceptFolder(folder.name, tuple(concepts), tuple(files), how, batch_size)


def _indexed(folder: Path, names: Path, images: list[Path], how: Preprocessing, batch_size: int) -> ConceptFolder:
    try:
        lines = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(names)!r} cannot be read: {reason_of(error)}") from error
    concepts = [line for line in lines if line not in _NO_CONCEPT]
    twice = sorted({one for one in concepts if concepts.count(one) > 1})
    if not concepts or twice:
        what = f"names {twice[0]!r} twice" if twice else "names no concept"
        raise DataError(f"{str(names)!r} {what}; expected a line for each value of the masks, '-' for no concept")
    numbers = tuple(concepts.index(line) if line not in _NO_CONCEPT else _UNNAMED for line in lines)
    masks = {path.stem: path for path in _images_of(folder / _MASKS)}
    missing = [path.name for path in images if path.stem not in masks]
    if missing:
        raise DataError(
            f"folder {str(folder)!r}: image {missing[0]!r} has no mask in {_MASKS}/ ({len(missing)} of {len(images)}); "
            "expected one of the same name for each"
        )
    files = tuple(Marked(path, ((_UNNAMED, masks[path.stem]),)) for path in images)
    return ConceptFolder(folder.name, tuple(concepts), files, how, batch_size, numbers)


def _whole(folder: Path, concepts: list[str], how: Preprocessing, batch_size: int) -> ConceptFolder:
    if not concepts:
        raise DataError(
            f"folder {str(folder)!r} has no folder; expected one per concept with its images, or {_IMAGES}/ and "
            f"{_MASKS}/"
        )
    paths: dict[str, Path] = {}
    shows: dict[str, set[int]] = {}
    for k, concept in enumerate(concepts):
        for path in _images_of(folder / concept):
            key = checksum(path.read_bytes())
            paths.setdefault(key, path)
            shows.setdefault(key, set()).add(k)
    files = tuple(Marked(paths[key], shows=frozenset(shows[key])) for key in paths)
    return ConceptFolder(folder.name, tuple(concepts), files, how, batch_size, whole=True)


def _images_of(folder: Path) -> list[Path]:
    """Return the image files of a folder in sorted order; none is a DataError."""
    found = [
        Path(entry.path)
        for entry in entries(str(folder))
        if not is_folder(entry) and not is_junk(entry.name) and is_image(entry.path, entry.name)
    ]
    if not found:
        raise DataError(f"folder {str(folder)!r} has no image")
    return found
