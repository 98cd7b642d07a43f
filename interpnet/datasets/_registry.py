"""The data sets that have a name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets._an8flower.dataset import an8flower_from_spec
from interpnet.datasets._an8flower.files import released_an8flower
from interpnet.datasets._data import ImageData
from interpnet.datasets._folders import read_folder
from interpnet.datasets._funnybirds import BirdSource
from interpnet.datasets._hub import read_hub
from interpnet.datasets._places import word_for
from interpnet.datasets._preprocess import make_preprocessing, require_unit_range
from interpnet.datasets._sample import look_into
from interpnet.datasets._sources import ArraySource, EncodedSource, FlowerSource, Source
from interpnet.datasets._table import read_table
from interpnet.datasets._webdataset import read_shards
from interpnet.errors import DataError, did_you_mean
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.types import Float32, Int64

_FOLDER = "imagefolder"
_TABLE = "csv"
_SHARDS = "webdataset"
_HUB = "hf"
_BIRDS = "funnybirds"
_READ: dict[str, Callable[[str, str, float | None], EncodedSource]] = {
    _FOLDER: read_folder,
    _TABLE: read_table,
    _SHARDS: read_shards,
    _HUB: read_hub,
    _BIRDS: BirdSource,
}
_RELEASED = "an8flower-released"
_FLOWERS = ("an8flower-single-6c", "an8flower-double-12c")
_TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10"}
_SPLITS = ("train", "test")
_CHECKED_BELOW = {"split", "image_size", "crop", "mean", "std", "channels", "max_value", "on_bad_image"}
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
    max_value: float | None = None,
    on_bad_image: str = "fail",
    download: bool = True,
) -> ImageData:
    """Load a data set by name; of image files only a sample of 32 is looked at yet.

    Unknown names, missing or empty folders, failed downloads and bad settings are DataErrors. Files that are left out
    are counted in a warning, which ``notes`` of the result keeps.

    Parameters
    ----------
    spec : str
        - ``"digits"``: scikit-learn's 1,797 grey digits of 8x8 pixels; every fifth of a class is for testing.
        - ``"mnist"``, ``"cifar10"``: as torchvision stores them below ``root``.
        - ``"imagefolder:PATH"``: one folder per class, in sorted order. Where PATH has folders for training
          (``train``, ``training``, ``train_set``, ``seg_train``, ...) and for the test (of ``test``, ``testing``;
          ``val``, ``valid``, ``validation``; ``dev``; ``eval``; ``holdout`` the first that is there), whatever their
          case, these are the splits, with the training folder's classes; otherwise the whole folder is either split.
          Hidden files and folders are not data. See docs/data.md.
        - ``"csv:PATH"``: a table of image files with any number of labels for each, or a folder with ``labels.csv`` or
          with ``train.csv`` and ``test.csv``: a column of names relative to the table, then one of 0 and 1 for each
          class, or one called ``labels`` with names between semicolons; a column ``split`` may tell training and test.
        - ``"webdataset:PATTERN"``: tar shards on a disk, such as ``train-{000..146}.tar``, a pattern with stars, or a
          folder of shards; each sample has an image and a label (``.cls``, ``.json`` or ``.txt``). Names of shards or
          of their folders tell training and test as those of folders do; ``?test=PATTERN`` says it.
        - ``"hf:PATH"``: a data set that the package ``datasets`` saved (``save_to_disk``), or its arrow or parquet
          files, with a column of images and one of labels; needs that package.
        - ``"an8flower-single-6c"``, ``"an8flower-double-12c"``: generated, and kept below ``root``; with options as
          in ``"an8flower-single-6c?shortcut=pot&strength=0.9&size=64"``, see :func:`interpnet.datasets.an8flower`.
        - ``"funnybirds:PATH"``: rendered birds with masks of their parts, see :func:`interpnet.datasets.funny_birds`.
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
        Normalisation of pixels in [0, 1], one number or one per channel; those of pixels up to 255 are refused. By
        default the data's own for digits, MNIST and CIFAR-10, and ImageNet's for folders; a change of ``channels``
        averages or repeats them.
    channels : int, optional
        1 or 3: images are converted; by default 1 for digits and MNIST, else 3. For folders also any other number:
        images must have so many bands (2 is grey and alpha, 4 colours and alpha or another band), and ``mean`` and
        ``std`` must be given.
    max_value : float, optional
        For folders: the value of white in the files, by default 255 for 8 bits, 65535 for more, 1 for floats. Needed
        where 10 or 12 bits are stored in files of 16: 1023 or 4095.
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
    check_kinds(load_dataset, locals(), but=_CHECKED_BELOW)
    is_flower = spec.partition("?")[0] in _FLOWERS
    if not is_flower:
        one_of(split, "split", _SPLITS, error=DataError)
    word, _, path = spec.partition(":")
    if channels is not None:
        channels = whole_number(channels, "channels", least=1, error=DataError)
    if word not in _READ and channels not in {None, 1, 3}:
        raise DataError(f"channels is {channels!r}, expected 1 (grey) or 3 (colour); image folders can have others")
    if word not in _READ and max_value is not None:
        raise DataError(f"max_value is {max_value!r} with data {spec!r}; it is for image folders only")
    folder = Path(root or "data")
    if is_flower:
        source: Source = _flower(spec, split, folder)
        usual: tuple[Sequence[float], Sequence[float]] = _FLOWER
    elif word in _READ:
        if not path:
            raise DataError(f"data set '{word}:' lacks its folder or file, expected {word}:PATH")
        source = _READ[word](path, split, max_value)
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
        # A place without the word before it is the likeliest slip.
        meant = word_for(Path(spec))
        if not hint and meant is not None:
            hint = f"; did you mean '{meant}:{spec}'?"
        raise DataError(f"unknown data set {spec!r}, expected one of {', '.join(dataset_names())}{hint}")
    channels = channels or len(usual[0])
    if channels not in {1, 3} and (mean is None or std is None):
        raise DataError(
            f"mean and std are not given for {channels} channels; give mean= and std= (--mean, --std) as in the "
            "network's training"
        )
    if mean is None:
        mean = _fitted(usual[0], channels)
    if std is None:
        std = _fitted(usual[1], channels)
    steps = make_preprocessing(
        channels=channels, image_size=image_size, crop=crop, mean=mean, std=std, max_value=max_value
    )
    require_unit_range(steps.mean, steps.std)
    if isinstance(source, EncodedSource):
        look_into(source, spec, channels)
    for text in source.warned:
        warnings.warn(text, UserWarning, stacklevel=2)
    return ImageData(source, steps, spec=spec, split=split, on_bad_image=on_bad_image)


def dataset_names() -> tuple[str, ...]:
    """Return the names :func:`load_dataset` knows.

    Examples
    --------
    >>> dataset_names()
    ('digits', 'mnist', 'cifar10', 'imagefolder:PATH', 'csv:PATH', 'webdataset:PATTERN', 'hf:PATH',
     'funnybirds:PATH', 'an8flower-single-6c', 'an8flower-double-12c', 'an8flower-released:PATH')
    """
    places = (f"{_FOLDER}:PATH", f"{_TABLE}:PATH", f"{_SHARDS}:PATTERN", f"{_HUB}:PATH", f"{_BIRDS}:PATH")
    return (*_NORMALISATION, *places, *_FLOWERS, f"{_RELEASED}:PATH")


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
