"""Read an8Flower as its authors laid it out: class folders of pictures with a mask beside each."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interpnet.errors import DataError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.types import Bools, Bytes, Int64

_PICTURE = re.compile(r"class(\w+?)_img(\d+)_p(\d+)_r(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
_MASK_ENDINGS = ("_mask.png", "_mask.jpg", ".png")
_NAMED = 4
# Masks saved as JPEG have grey seams.
_MASK_FROM = 128


@brief
@dataclass(frozen=True, eq=False)
class ReleasedFlower:
    """N pictures read by :func:`released_an8flower`."""

    images: Bytes  # (N, H, W, 3)
    labels: Int64  # (N,)
    classes: tuple[str, ...]  # the folders' names, sorted
    mask: Bools  # (N, H, W), the pixels that tell the class
    names: tuple[str, ...]  # paths below the folder, with forward slashes
    individual: Int64  # (N,), the number after p in the file's name
    angle: Int64  # (N,), the number after r

    def __len__(self) -> int:
        return len(self.labels)

    def named_masks(self) -> dict[str, Bools]:
        """Return what tells the class, by name."""
        return {"discriminative": self.mask}


def released_an8flower(path: str | os.PathLike[str]) -> ReleasedFlower:
    """Read a folder in the layout of the released an8Flower.

    ``PATH/CLASS/classC_imgI_pP_rR.jpg`` are the pictures, all of one size. The mask of ``NAME.jpg`` is looked for as
    ``NAME_mask.png``, ``NAME_mask.jpg`` and ``NAME.png`` beside it and in a folder ``masks`` beside it; it is read as
    grey, and is true from half brightness on. Untested on the original files: the names of the masks are a guess.
    No such folder, no pictures, a file that is no picture, missing masks (named), and a mask of another size than its
    picture, or one that is empty or full, are DataErrors.

    Examples
    --------
    >>> released_an8flower("no/such/folder")
    Traceback (most recent call last):
        ...
    interpnet.errors.DataError: an8Flower folder 'no/such/folder' does not exist; give the folder of the class folders
    """
    if not os.fspath(path):
        raise DataError("an8Flower folder '' is no folder; give the folder of the class folders")
    root = Path(path).expanduser()
    if not root.is_dir():
        what = {True: "is a file", False: "does not exist"}[root.exists()]
        raise DataError(f"an8Flower folder {str(path)!r} {what}; give the folder of the class folders")
    found = _pictures(root)
    if not found:
        raise DataError(
            f"an8Flower folder {str(path)!r} has no class folders of pictures; expected CLASS/classC_imgI_pP_rR.jpg"
        )
    # Looked for before a picture is read, so that missing masks are known in a moment.
    mask_files = _mask_files([file for *_, file in found])
    names = tuple(file.relative_to(root).as_posix() for *_, file in found)
    images: list[Bytes] = []
    masks: list[Bools] = []
    for name, (*_, file) in zip(names, found, strict=True):
        image = _read(file, "RGB", name)
        images.append(image)
        if image.shape != images[0].shape:
            raise DataError(
                f"picture {name!r} is {_size(image)} pixels, but {names[0]!r} is {_size(images[0])}; "
                "all must have one size"
            )
        mask_name = mask_files[file].relative_to(root).as_posix()
        masks.append(_read(mask_files[file], "L", mask_name) >= _MASK_FROM)
        _check_mask(masks[-1], image, mask_name)
    folders = [folder for folder, *_ in found]
    classes, labels = np.unique(folders, return_inverse=True)
    individuals, angles = np.array([(p, r) for _, _, p, r, _ in found], dtype=np.int64).T
    return ReleasedFlower(
        np.stack(images), labels, tuple(classes.tolist()), np.stack(masks), names, individuals, angles
    )


def _check_mask(mask: Bools, image: Bytes, name: str) -> None:
    if mask.shape != image.shape[:2]:
        raise DataError(f"mask {name!r} is {_size(mask)} pixels, expected {_size(image)} (height x width) as its image")
    for fault, found in (("empty", not mask.any()), ("full", mask.all())):
        if found:
            raise DataError(f"mask {name!r} is {fault}; expected the pixels that tell the class, some but not all")


def _pictures(root: Path) -> list[tuple[str, int, int, int, Path]]:
    """Return each picture's folder, the numbers in its name, and its path, in this order."""
    found = []
    for file in root.glob("*/*"):
        match = _PICTURE.fullmatch(file.name)
        # NAME.png beside NAME.jpg is its mask.
        if match and not (file.suffix.lower() == ".png" and _has_jpeg(file)):
            found.append((file.parent.name, int(match[2]), int(match[3]), int(match[4]), file))
    return sorted(found)


def _has_jpeg(file: Path) -> bool:
    return any(file.with_suffix(ending).exists() for ending in (".jpg", ".jpeg", ".JPG", ".JPEG"))


def _mask_files(files: list[Path]) -> dict[Path, Path]:
    """Return the mask of every picture, or refuse the folder and name the pictures that have none."""
    masks = {file: mask for file in files if (mask := _mask_file(file))}
    missing = [file for file in files if file not in masks]
    if not missing:
        return masks
    first = missing[0]
    wanted = f"{first.stem}_mask.png"
    beside = [entry.name for entry in first.parent.iterdir() if entry != first]
    # A few names show the pattern that is wrong.
    named = ", ".join(repr(f"{file.parent.name}/{file.name}") for file in missing[:_NAMED])
    if len(missing) > _NAMED:
        named += f" and {len(missing) - _NAMED} more"
    raise DataError(
        f"{len(missing)} of {len(files)} pictures have no mask: {named}; expected {wanted!r} beside the "
        f"first, or in a folder 'masks' there{did_you_mean(wanted, beside, limit=2)}"
    )


def _mask_file(file: Path) -> Path | None:
    folders = (file.parent, file.parent / "masks")
    candidates = (folder / f"{file.stem}{ending}" for folder in folders for ending in _MASK_ENDINGS)
    return next((candidate for candidate in candidates if candidate != file and candidate.is_file()), None)


def _read(file: Path, mode: str, name: str) -> Bytes:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"picture {name!r} cannot be read ({error}); repair or remove it") from error


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
