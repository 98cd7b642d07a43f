"""The data sets that have a name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets._an8flower.dataset import an8flower_from_spec
from interpnet.datasets._an8flower.files import released_an8flower
from interpnet.datasets._data import ImageData
from interpnet.datasets._preprocess import make_preprocessing
from interpnet.datasets._sources import ArraySource, FlowerSource, FolderSource, Source
from interpnet.errors import DataError, did_you_mean
from interpnet.support.checks import one_of
from interpnet.support.types import Float32, Int64

_FOLDER = "imagefolder"
_RELEASED = "an8flower-released"
_FLOWERS = ("an8flower-single-6c", "an8flower-double-12c")
_TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10"}
_SPLITS = ("train", "test")
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_DIGITS_TEST_EVERY = 5
# What torchvision raises on files that are absent or cut off, and on networks that are down.
_FETCH_ERRORS = (RuntimeError, OSError, ValueError, EOFError)


# Mean and standard deviation of pixels in [0, 1], per channel. Photos have ImageNet's, as most published networks.
_PHOTOS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Rounded from 900 training images of single-6c; options change them little.
_FLOWER = ((0.61, 0.59, 0.57), (0.17, 0.18, 0.21))
_NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # Over the 1,442 training images of the split below.
    "digits": ((0.3051,), (0.3762,)),
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


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
    """Load a data set by name; of files nothing but the labels is read yet.

    Unknown names, missing or empty folders, failed downloads and bad settings are DataErrors.

    Parameters
    ----------
    spec : str
        - ``"digits"``: scikit-learn's 1,797 grey digits of 8x8 pixels; every fifth of a class is for testing.
        - ``"mnist"``, ``"cifar10"``: as torchvision stores them below ``root``.
        - ``"imagefolder:PATH"``: one folder per class, in sorted order. Where PATH has a ``train`` folder
          and one of ``test``, ``val``, ``valid``, ``validation``, these are the splits, with the training
          folder's classes; otherwise the whole folder is either split. Hidden files and folders are not data.
        - ``"an8flower-single-6c"``, ``"an8flower-double-12c"``: generated, and kept below ``root``; with options as
          in ``"an8flower-single-6c?shortcut=pot&strength=0.9&size=64"``, see :func:`interpnet.datasets.an8flower`.
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
        Normalisation of pixels in [0, 1], one number or one per channel. By default the data's own for digits,
        MNIST and CIFAR-10, and ImageNet's for folders; a change of ``channels`` averages or repeats them.
    channels : int, optional
        1 or 3: images are converted; by default 1 for digits and MNIST, else 3.
    on_bad_image : str
        ``"fail"``: an unreadable image is an error naming it; ``"skip"``: loaders leave it out and list it.
    download : bool
        Whether torchvision may fetch what is not there.

    Examples
    --------
    >>> data = load_dataset("digits", split="test", image_size=16)
    >>> len(data), data.name(0), tuple(data[0][0].shape)
    (355, 'digits/test/0', (1, 16, 16))
    """
    is_flower = spec.partition("?")[0] in _FLOWERS
    if not is_flower:
        one_of(split, "split", _SPLITS, error=DataError)
    if channels not in {None, 1, 3}:
        raise DataError(f"channels is {channels!r}, expected 1 (grey) or 3 (colour)")
    word, _, path = spec.partition(":")
    folder = Path(root or "data")
    if is_flower:
        source: Source = _flower(spec, split, folder)
        usual: tuple[Sequence[float], Sequence[float]] = _FLOWER
    elif word == _FOLDER:
        source = _read_folder(path, split)
        usual = _PHOTOS
    elif word == _RELEASED:
        released = released_an8flower(path)
        source = FlowerSource(released, released.names)
        usual = _FLOWER
    elif spec in _NORMALISATION:
        source = _named(spec, split, folder, download)
        usual = _NORMALISATION[spec]
    else:
        hint = did_you_mean(spec.partition("?")[0], dataset_names())
        # A folder without the word before it is the likeliest slip.
        if not hint and Path(spec).is_dir():
            hint = f"; did you mean '{_FOLDER}:{spec}'?"
        raise DataError(f"unknown data set {spec!r}, expected one of {', '.join(dataset_names())}{hint}")
    channels = channels or len(usual[0])
    if mean is None:
        mean = _fitted(usual[0], channels)
    if std is None:
        std = _fitted(usual[1], channels)
    steps = make_preprocessing(channels=channels, image_size=image_size, crop=crop, mean=mean, std=std)
    return ImageData(source, steps, spec=spec, split=split, on_bad_image=on_bad_image)


def dataset_names() -> tuple[str, ...]:
    """Return the names :func:`load_dataset` knows.

    Examples
    --------
    >>> dataset_names()
    ('digits', 'mnist', 'cifar10', 'imagefolder:PATH',
     'an8flower-single-6c', 'an8flower-double-12c', 'an8flower-released:PATH')
    """
    return (*_NORMALISATION, f"{_FOLDER}:PATH", *_FLOWERS, f"{_RELEASED}:PATH")


def _fitted(values: Sequence[float], channels: int) -> Sequence[float]:
    """Return one value per channel: grey's repeated, colours' averaged."""
    return values if len(values) == channels else [round(sum(values) / len(values), 4)]


def _flower(spec: str, split: str, root: Path) -> Source:
    flower = an8flower_from_spec(spec, split, root=root)
    prefix = f"an8flower-{flower.options.variant}"
    return FlowerSource(flower, [f"{prefix}/{flower.name(i)}" for i in range(len(flower))])


def _named(name: str, split: str, root: Path, download: bool) -> Source:
    classes = [str(digit) for digit in range(10)]
    if name == "digits":
        pixels, labels = _digits(split)
    else:
        data = _fetched(name, split, root, download)
        pixels = np.asarray(data.data)
        labels = np.asarray(data.targets)
        # Torchvision's names of MNIST's classes are "0 - zero" and so on.
        if name == "cifar10":
            classes = data.classes
    return ArraySource(pixels, labels, classes, f"{name}/{split}")


def _digits(split: str) -> tuple[Float32, Int64]:
    """Return scikit-learn's digits (N, 8, 8) in [0, 1] of one split, and their labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = np.asarray(bunch.target, dtype=np.int64)
    is_test = np.zeros(len(labels), dtype=np.bool_)
    for digit in range(10):
        is_test[np.flatnonzero(labels == digit)[_DIGITS_TEST_EVERY - 1 :: _DIGITS_TEST_EVERY]] = True
    chosen = is_test == (split == "test")
    return (np.asarray(bunch.images)[chosen] / 16).astype(np.float32), labels[chosen]


def _fetched(name: str, split: str, root: Path, download: bool) -> Any:
    """Open a data set of torchvision's, fetching it only where it is not there."""
    import torchvision

    kind = getattr(torchvision.datasets, _TORCHVISION[name])
    # Without fetching first: older versions of torchvision print a line for files that are there.
    for fetch in sorted({False, download}):
        try:
            return kind(str(root), train=split == "train", download=fetch)
        except _FETCH_ERRORS as error:
            reason = error
    text = f"data set {name!r} is not, or not whole, below {str(root)!r}"
    if not download:
        raise DataError(f"{text} ({reason}); give root= (--data-root), or allow the download") from reason
    raise DataError(
        f"{text} and could not be downloaded ({reason}). "
        "Download it where there is a network and give its folder as root= (--data-root)"
    ) from reason


def _read_folder(path: str, split: str) -> Source:
    if not path:
        raise DataError(f"data set '{_FOLDER}:' lacks its folder, expected {_FOLDER}:PATH")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f"{path!r} is a file, expected a folder with one subfolder per class")
        raise DataError(f"image folder {path!r} does not exist{did_you_mean(folder.name, _subfolders(folder.parent))}")
    training = folder / "train"
    classes = _subfolders(training)
    tests = [folder / name for name in _TEST_FOLDERS if _subfolders(folder / name)]
    if not classes or not tests:
        if classes and _subfolders(folder) == ["train"]:
            raise DataError(
                f"{path!r} has a train folder but no {' or '.join(_TEST_FOLDERS)} folder beside it; "
                f"give {_FOLDER}:{path}/train to use it for both splits"
            )
        # "train" without tests beside it is a class of that name.
        return _scan(folder, _subfolders(folder))
    if split == "train":
        return _scan(training, classes)
    # Labels are numbers of training classes: a class that training lacks has none.
    foreign = sorted(set(_subfolders(tests[0])) - set(classes))
    if foreign:
        raise DataError(
            f"{str(tests[0])!r} has the class {foreign[0]!r}, which {str(training)!r} lacks"
            f"{did_you_mean(foreign[0], classes)}"
        )
    return _scan(tests[0], classes)


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _scan(root: Path, classes: list[str]) -> Source:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not classes:
        raise DataError(f"image folder {str(root)!r} has no subfolders, expected one per class: {root}/CLASS/IMAGE.png")
    extensions = tuple(IMG_EXTENSIONS)

    def is_image(file: str) -> bool:
        # macOS leaves '._name.jpg' files beside the true ones on foreign disks.
        return file.lower().endswith(extensions) and not file.rpartition(os.sep)[2].startswith(".")

    numbers = {name: number for number, name in enumerate(classes)}
    samples = make_dataset(str(root), numbers, is_valid_file=is_image, allow_empty=True)
    # Slices, because a Path for each of a million files takes seconds.
    skip = len(str(root)) + len(os.sep)
    files = [(file[skip:].replace(os.sep, "/"), label) for file, label in samples]
    if not files:
        raise DataError(
            f"image folder {str(root)!r} has no images in its {len(classes)} class folders; "
            f"known endings are {', '.join(extensions)}"
        )
    return FolderSource(root, files, classes)
