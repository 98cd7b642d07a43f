"""The data sets that have a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interpnet.datasets._an8flower.source import flower_source, released_source
from interpnet.datasets._data import ImageData
from interpnet.datasets._preprocess import make_preprocessing
from interpnet.datasets._sources import ArraySource, FolderSource, Source
from interpnet.errors import DataError, did_you_mean

_FOLDER = "imagefolder"
_RELEASED = "an8flower-released"
_FLOWERS = ("an8flower-single-6c", "an8flower-double-12c")
_SPLITS = ("train", "test")
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_MNIST_MEAN, _MNIST_STD = 0.1307, 0.3081
# Over the 1,442 training images of the split below.
_DIGITS_MEAN, _DIGITS_STD = 0.3051, 0.3762
_DIGITS_TEST_EVERY = 5
# Rounded from 900 training images of single-6c; options change them little.
_FLOWER_MEAN, _FLOWER_STD = (0.61, 0.59, 0.57), (0.17, 0.18, 0.21)


class _Defaults(NamedTuple):
    channels: int
    mean: Sequence[float]
    std: Sequence[float]


def load_dataset(
    spec: str,
    *,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
    crop: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int | None = None,
    on_bad_image: str = "fail",
    download: bool = True,
) -> ImageData:
    """Load a data set by name.

    Parameters
    ----------
    spec : str
        - ``"digits"``: scikit-learn's 1,797 grey digits of 8x8 pixels; every fifth of a class is for testing.
        - ``"mnist"``, ``"cifar10"``: as torchvision stores them below ``root``.
        - ``"imagefolder:PATH"``: one folder a class, in sorted order. Where PATH has a ``train`` folder
          and one of ``test``, ``val``, ``valid``, ``validation``, these are the splits, with the training
          folder's classes; otherwise the whole folder is either split. Hidden files and folders are not data.
        - ``"an8flower-single-6c"``, ``"an8flower-double-12c"``: generated, and kept below ``root``; with options as
          in ``"an8flower-single-6c?shortcut=pot&strength=0.9&size=64"``, see :func:`interpnet.datasets.an8flower`,
          which also gives the masks.
        - ``"an8flower-released:PATH"``: see :func:`interpnet.datasets.released_an8flower`.
    split : str
        ``"train"`` or ``"test"``; an8Flower has more.
    root : path, optional
        Where torchvision's data sets live and generated ones are kept, by default ``data``.
    image_size : int or (int, int), optional
        The shorter side after resizing (bilinear, antialiased), or exactly (height, width); by default as is.
    crop : int or (int, int), optional
        Centre crop after resizing; by default the square of ``image_size`` where that is one number.
    mean, std : float or sequence of float, optional
        Normalisation of pixels in [0, 1], one number or one a channel. By default the data's own for digits,
        MNIST and CIFAR-10, and ImageNet's for folders; a change of ``channels`` averages or repeats them.
    channels : int, optional
        1 or 3: images are converted; by default 1 for digits and MNIST, else 3.
    on_bad_image : str
        ``"fail"``: an unreadable image is an error naming it; ``"skip"``: loaders leave it out and list it.
    download : bool
        Whether torchvision may fetch what is not there.

    Returns
    -------
    ImageData
        The images; nothing but the labels is read yet (arrays apart).

    Raises
    ------
    DataError
        Unknown name or split, a missing or empty folder, a failed download, or bad settings.

    Examples
    --------
    >>> data = load_dataset("digits", split="test", image_size=16)
    >>> len(data), data.name(0), tuple(data[0][0].shape)
    (355, 'digits/test/0', (1, 16, 16))
    """
    base = spec.partition("?")[0]
    if base not in _FLOWERS and split not in _SPLITS:
        raise DataError(f"split is {split!r}, expected 'train' or 'test'{did_you_mean(str(split), _SPLITS)}")
    if channels not in {None, 1, 3}:
        raise DataError(f"channels is {channels!r}, expected 1 (grey) or 3 (colour)")
    word, _, path = spec.partition(":")
    if word == _FOLDER:
        source: Source = _read_folder(path, split)
        defaults = _Defaults(3, _IMAGENET_MEAN, _IMAGENET_STD)
    elif base in _FLOWERS:
        source = flower_source(spec, split, Path("data") if root is None else Path(root))
        defaults = _Defaults(3, _FLOWER_MEAN, _FLOWER_STD)
    elif word == _RELEASED:
        source = released_source(path)
        defaults = _Defaults(3, _FLOWER_MEAN, _FLOWER_STD)
    elif spec in _NAMED:
        build, defaults = _NAMED[spec]
        source = build(split, Path("data") if root is None else Path(root), download)
    else:
        known = dataset_names()
        hint = did_you_mean(base, known)
        if not hint and Path(spec).is_dir():
            hint = f"; did you mean '{_FOLDER}:{spec}'?"
        raise DataError(f"unknown data set {spec!r}, expected one of {', '.join(known)}{hint}")
    wanted = defaults.channels if channels is None else channels
    steps = make_preprocessing(
        channels=wanted,
        image_size=image_size,
        crop=crop,
        mean=_fitted(defaults.mean, wanted) if mean is None else mean,
        std=_fitted(defaults.std, wanted) if std is None else std,
    )
    return ImageData(source, steps, spec=spec, split=split, on_bad_image=on_bad_image)


def dataset_names() -> tuple[str, ...]:
    """Return the names :func:`load_dataset` knows.

    Examples
    --------
    >>> dataset_names()
    ('digits', 'mnist', 'cifar10', 'imagefolder:PATH',
     'an8flower-single-6c', 'an8flower-double-12c', 'an8flower-released:PATH')
    """
    return (*_NAMED, f"{_FOLDER}:PATH", *_FLOWERS, f"{_RELEASED}:PATH")


def _fitted(values: Sequence[float], channels: int) -> Sequence[float]:
    if len(values) == channels:
        return values
    return [round(sum(values) / len(values), 4)]


def _digits(split: str, root: Path, download: bool) -> Source:
    from sklearn.datasets import load_digits

    del root, download
    bunch = load_digits()
    labels = np.asarray(bunch.target, dtype=np.int64)
    # The position of each image among those of its class.
    rank = np.zeros(len(labels), dtype=np.int64)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        rank[members] = np.arange(len(members))
    is_test = rank % _DIGITS_TEST_EVERY == _DIGITS_TEST_EVERY - 1
    chosen = is_test if split == "test" else ~is_test
    pixels = (np.asarray(bunch.images)[chosen] / 16).astype(np.float32)
    return ArraySource(pixels, labels[chosen], [str(digit) for digit in range(10)], f"digits/{split}")


def _mnist(split: str, root: Path, download: bool) -> Source:
    from torchvision.datasets import MNIST

    data = _fetched(MNIST, "mnist", split, root, download)
    names = [str(digit) for digit in range(10)]
    return ArraySource(data.data.numpy(), data.targets.numpy(), names, f"mnist/{split}")


def _cifar10(split: str, root: Path, download: bool) -> Source:
    from torchvision.datasets import CIFAR10

    data = _fetched(CIFAR10, "cifar10", split, root, download)
    return ArraySource(data.data, np.asarray(data.targets), data.classes, f"cifar10/{split}")


_NAMED: dict[str, tuple[Callable[[str, Path, bool], Source], _Defaults]] = {
    "digits": (_digits, _Defaults(1, [_DIGITS_MEAN], [_DIGITS_STD])),
    "mnist": (_mnist, _Defaults(1, [_MNIST_MEAN], [_MNIST_STD])),
    "cifar10": (_cifar10, _Defaults(3, _CIFAR_MEAN, _CIFAR_STD)),
}


def _fetched(kind: Any, name: str, split: str, root: Path, download: bool) -> Any:
    """Open a data set of torchvision's, fetching it only where it is not there."""
    try:
        return kind(str(root), train=split == "train", download=False)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        if not download:
            raise DataError(
                f"data set {name!r} is not, or not whole, below {str(root)!r} ({error}); "
                "give root= (--data-root), or allow the download"
            ) from error
    try:
        return kind(str(root), train=split == "train", download=True)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise DataError(
            f"data set {name!r} is not, or not whole, below {str(root)!r} and could not be downloaded "
            f"({error}). Download it where there is a network and give its folder as root= (--data-root)"
        ) from error


def _read_folder(path: str, split: str) -> Source:
    if not path:
        raise DataError(f"data set '{_FOLDER}:' lacks its folder, expected {_FOLDER}:PATH")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f"{path!r} is a file, expected a folder with one subfolder a class")
        siblings = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
        raise DataError(f"image folder {path!r} does not exist{did_you_mean(folder.name, siblings)}")
    tests = [folder / name for name in _TEST_FOLDERS if _subfolders(folder / name)]
    if not _subfolders(folder / "train"):
        return _scan(folder, _subfolders(folder))
    if tests:
        classes = _subfolders(folder / "train")
        chosen = folder / "train" if split == "train" else tests[0]
        foreign = sorted(set(_subfolders(chosen)) - set(classes))
        if foreign:
            raise DataError(
                f"{str(chosen)!r} has the class {foreign[0]!r}, which {str(folder / 'train')!r} lacks"
                f"{did_you_mean(foreign[0], classes)}"
            )
        return _scan(chosen, classes)
    if _subfolders(folder) == ["train"]:
        raise DataError(
            f"{path!r} has a train folder but no {' or '.join(_TEST_FOLDERS)} folder beside it; "
            f"give {_FOLDER}:{path}/train to use it for both splits"
        )
    return _scan(folder, _subfolders(folder))


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _scan(root: Path, classes: list[str]) -> Source:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not classes:
        raise DataError(f"image folder {str(root)!r} has no subfolders, expected one a class: {root}/CLASS/IMAGE.png")
    extensions = tuple(IMG_EXTENSIONS)

    def is_image(file: str) -> bool:
        # macOS leaves '._name.jpg' files beside the true ones on foreign disks.
        return file.lower().endswith(extensions) and not file.rpartition(os.sep)[2].startswith(".")

    numbers = {name: number for number, name in enumerate(classes)}
    samples = make_dataset(str(root), numbers, is_valid_file=is_image, allow_empty=True)
    skip = len(str(root)) + len(os.sep)
    files = [(file[skip:].replace(os.sep, "/"), label) for file, label in samples]
    if not files:
        raise DataError(
            f"image folder {str(root)!r} has no images in its {len(classes)} class folders; "
            f"known endings are {', '.join(extensions)}"
        )
    return FolderSource(root, files, classes)
