"""One folder of images, as tar shards and as a data set of Hugging Face: the same images in the same order."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from interpnet.datasets import ImageData, load_dataset

CLASSES = ("cat", "dog", "emu")
# JPEG, PNG, WebP, a palette, grey, CMYK and a turned photograph: every source must decode all of them alike.
_KINDS = ("jpg", "png", "webp", "gif", "tif", "jpeg")


def folder_of_kinds(root: Path, splits: Sequence[str] = ("train", "val")) -> Path:
    """Write images of several formats and modes, six per class and split."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i, kind in enumerate(_KINDS):
                image = Image.fromarray(rng.integers(0, 256, (18, 22, 3), dtype=np.uint8))
                options: dict[str, Any] = {}
                if kind == "gif":
                    image = image.convert("P")
                elif kind == "tif":
                    image = image.convert("L")
                elif kind == "jpeg":
                    exif = Image.Exif()
                    exif[274] = 6
                    options = {"exif": exif}
                elif kind == "jpg":
                    image = image.convert("CMYK")
                image.save(root / split / name / f"{i}.{kind}", **options)
    return root


def files_of(folder: Path) -> list[Path]:
    """Return the images of a split in the order in which a folder is read."""
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], **options: Any) -> Path:
    """Write a tar of named bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shards_of(folder: Path, target: Path, split: str, per_shard: int = 4) -> list[Path]:
    """Write the images of one split as shards, with names of classes."""
    files = files_of(folder / split)
    paths = []
    for start in range(0, len(files), per_shard):
        members = []
        for file in files[start : start + per_shard]:
            key = f"{file.parent.name}/{file.stem}"
            members += [(f"{key}.cls", file.parent.name.encode()), (f"{key}{file.suffix}", file.read_bytes())]
        paths.append(write_tar(target / f"{split}-{start // per_shard:04d}.tar", members))
    return paths


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return one split as rows of a data set of Hugging Face."""
    return [
        {"image": {"bytes": file.read_bytes(), "path": file.name}, "label": CLASSES.index(file.parent.name)}
        for file in files_of(folder)
    ]


def png(value: int = 0) -> bytes:
    """Return the bytes of a tiny grey image."""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def folder_and_shards(root: Path) -> Path:
    """Write a folder of images below folder/, and its shards below shards/."""
    folder_of_kinds(root / "folder")
    for split in ("train", "val"):
        shards_of(root / "folder", root / "shards", split)
    return root


def loaded(place: str | Path, **options: Any) -> ImageData:
    """Load shards."""
    return load_dataset(f"webdataset:{place}", **options)


def one(folder: Path, *members: tuple[str, bytes], **options: Any) -> Path:
    """Write a single shard."""
    return write_tar(folder / "one.tar", members, **options)


def sample(key: str, label: str = "0", value: int = 0) -> list[tuple[str, bytes]]:
    """Return the members of a sample."""
    return [(f"{key}.png", png(value)), (f"{key}.cls", label.encode())]
