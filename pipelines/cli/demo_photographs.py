"""The photographs of ``interpnet demo photos``: those that scikit-image and scikit-learn bring with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import DataError, RunFolderError
from interpnet.plotting import Picture, save_png
from interpnet.support.io import read_json, remove_tree, write_json

#: Sides of the square pieces that are cut from a photograph, as shares of its shorter side.
_SIDES = (0.75, 0.5)
_VERSION = 1  # other photographs or pieces make an earlier folder stale
_NOTED = "photographs.json"  # names the photographs last, so that a folder that it describes is whole


@dataclass(frozen=True)
class Photograph:
    """A photograph, where it comes from, and the class of ImageNet that is nearest to what it shows."""

    name: str  # of its file
    label: str
    shows: str
    package: str  # skimage.data or sklearn.datasets
    licence: str

    def read(self) -> Picture:
        """Return the picture, uint8 (h, w, 3); a :class:`DataError` where the package does not have it."""
        # Importing them takes a second: not for a command that only prints its help.
        try:
            pixels = _READ[self.package](self.name)
        except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
            raise DataError(
                f"the photograph {self.name!r} of {self.package.partition('.')[0]} cannot be read "
                f"({type(error).__name__}: {error}); install the packages of this demo: pip install interpnet[photos]"
            ) from error
        found = np.asarray(pixels)
        if found.ndim == 2:  # grey
            found = np.repeat(found[:, :, None], 3, axis=2)
        return found[:, :, :3]


def _of_skimage(name: str) -> Any:
    from skimage import data

    found = getattr(data, name)()
    if isinstance(found, tuple):  # two views and what lies how deep
        found = found[0]
    return found


def _of_sklearn(name: str) -> Any:
    from sklearn.datasets import load_sample_image

    return load_sample_image(f"{name}.jpg")


_READ: dict[str, Callable[[str], Any]] = {"skimage.data": _of_skimage, "sklearn.datasets": _of_sklearn}

#: Labelled by hand, before a network was asked. ImageNet has no motorcycle, no dahlia and no Chinese palace.
PHOTOGRAPHS = (
    Photograph("chelsea", "tabby", "a tabby cat", "skimage.data", "CC0"),
    Photograph("coffee", "espresso", "a cup of espresso", "skimage.data", "CC0"),
    Photograph("camera", "tripod", "a man with a camera on a tripod", "skimage.data", "CC0"),
    Photograph("stereo_motorcycle", "moped", "a motorcycle", "skimage.data", "CC0"),
    Photograph("rocket", "missile", "a rocket on its launch pad", "skimage.data", "public domain"),
    Photograph("flower", "daisy", "a dahlia", "sklearn.datasets", "CC BY"),
    Photograph("china", "palace", "a Chinese palace", "sklearn.datasets", "CC BY"),
)


def pieces(picture: Picture) -> list[Picture]:
    """Return the square pieces of a photograph (h, w, 3), those of each size evenly spread over it.

    Examples
    --------
    >>> [piece.shape for piece in pieces(np.zeros((32, 64, 3), np.uint8))][:3]
    [(24, 24, 3), (24, 24, 3), (24, 24, 3)]
    """
    found = []
    height, width = picture.shape[:2]
    for share in _SIDES:
        side = int(min(height, width) * share)
        for top in _starts(height, side):
            found += [picture[top : top + side, left : left + side] for left in _starts(width, side)]
    return found


def _starts(length: int, side: int) -> list[int]:
    """Return where pieces of a side begin, so that they cover a length with as little overlap as can be."""
    count = -(-length // side)
    return [round(value) for value in np.linspace(0, length - side, count)]


def write_photographs(folder: Path) -> list[Path]:
    """Write all photographs and their pieces, one folder per class; return the files of the whole photographs.

    A folder that is complete is left as it is; one that holds something else is a :class:`RunFolderError`.
    """
    whole = [folder / shot.label / f"{shot.name}.png" for shot in PHOTOGRAPHS]
    noted = folder.parent / _NOTED
    facts = {
        "version": _VERSION,
        "photographs": [
            {
                "file": f"{path.parent.name}/{path.name}",
                "shows": shot.shows,
                "from": shot.package,
                "licence": shot.licence,
            }
            for path, shot in zip(whole, PHOTOGRAPHS, strict=True)
        ],
    }
    if _known(noted) == facts and all(path.is_file() for path in whole):
        return whole
    if folder.is_dir() and any(folder.iterdir()) and not noted.is_file():
        raise RunFolderError(
            f"{str(folder)!r} is not empty and was not made by this demo; move it away, or choose another "
            "folder (--out)"
        )
    pictures = [shot.read() for shot in PHOTOGRAPHS]  # all, before a folder is made
    write_json(noted, {})  # what follows is the demo's, though it is not whole
    remove_tree(folder)
    for path, picture in zip(whole, pictures, strict=True):
        save_png(path, picture, durable=False)
        for i, piece in enumerate(pieces(picture), 1):
            save_png(path.with_stem(f"{path.stem}-piece-{i:02d}"), piece, durable=False)
    write_json(noted, facts)
    return whole


def _known(noted: Path) -> object:
    """Return what was noted of an earlier folder; ``None`` where nothing whole is there."""
    try:
        return read_json(noted)
    except RunFolderError:
        return None
