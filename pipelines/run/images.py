"""The images of a run: a data set by name, what a function of the user's file returns, or a program's own objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as made
from pathlib import Path
from typing import Any

from torch import nn

from interpnet.datasets import ImageData, load_dataset, located
from interpnet.engine import Output
from interpnet.errors import DataError
from interpnet.support.user_code import called, function_of, split_spec

from .config import RunConfig
from .own_images import own_data
from .own_reading import Images, Keys

_PARTS = ("train", "test")
# Data whose place is a path of the configuration, and those of them whose place can be a pattern with options.
_OF_FILES = ("imagefolder", "csv", "webdataset", "hf")
_OF_PATTERNS = ("webdataset", "hf")


@dataclass(frozen=True)
class Own:
    """A program's own objects in place of what a configuration names; ``None`` where the configuration holds."""

    model: nn.Module | None = None
    output: Output | None = None  # takes the logits out of what the model returns
    train: Images = None
    test: Images = None  # where there are training images: ``None`` for the same
    field: Images = None  # from where the network is used; ``None`` for what the configuration names
    classes: tuple[str, ...] | None = None  # the names of the model's outputs, in their order
    keys: Keys = made(default_factory=Keys)


def is_function(spec: str) -> bool:
    """Whether data are named by a function in a file: ``path/to/data.py:loaders``."""
    return ".py" in spec and spec.partition(":")[0] not in _OF_FILES


def own_of_function(config: RunConfig) -> Own:
    """Call the function that the configuration names; it returns the training images, or these and the test images."""
    path, name = split_spec(
        config.data, "data", DataError, "loaders", "returns the training images, or (training images, test images)"
    )
    path = Path(config.path(str(path)))
    with function_of(path, name, "data", DataError) as function:
        returned = called(function, path, name, DataError)
    if isinstance(returned, Mapping) and set(returned) <= {*_PARTS} and "train" in returned:
        return Own(train=returned["train"], test=returned.get("test"))
    if isinstance(returned, tuple) and len(returned) == len(_PARTS):
        return Own(train=returned[0], test=returned[1])
    if returned is None or isinstance(returned, tuple):
        raise DataError(
            f"{config.data} returned {'nothing' if returned is None else f'{len(returned)} things'}; expected the "
            "training images (a loader or data set), or (training images, test images)"
        )
    return Own(train=returned)


def load_splits(
    config: RunConfig, hint: Mapping[str, Any] | None = None, own: Own | None = None
) -> tuple[ImageData, ImageData]:
    """Load training and test images; what is not configured follows the weights' publisher (``hint``)."""
    if own is None or own.train is None:
        if not is_function(config.data):
            return load_images(config, "train", hint), load_images(config, "test", hint)
        own = own_of_function(config)
    train = _own_split(own, "train", config, hint)
    if own.test is None:
        return train, train
    return train, _own_split(own, "test", config, hint)


def _own_split(own: Own, split: str, config: RunConfig, hint: Mapping[str, Any] | None) -> ImageData:
    """Return one split of a program's images; without test images the training images, which keep their name."""
    images = own.train
    if split == "test" and own.test is not None:
        images = own.test
    else:
        split = "train"
    settings = _given(config) | {"on_bad_image": config.on_bad_image}
    return own_data(images, split=split, classes=own.classes, keys=own.keys, settings=settings, hint=hint or {})


def load_images(config: RunConfig, split: str, hint: Mapping[str, Any] | None = None) -> ImageData:
    """Load one split as configured; what is not configured follows the weights' publisher (``hint``)."""
    spec = config.data
    if is_function(spec):
        return _own_split(own_of_function(config), split, config, hint)
    options = preparation(config, hint)
    kind, colon, place = spec.partition(":")
    if kind in _OF_PATTERNS and place:
        spec = f"{kind}:{located(place, config.directory)}"
    elif kind in _OF_FILES and colon:
        spec = f"{kind}:{config.path(place)}"
    root = config.data_root and config.path(config.data_root)
    with warnings.catch_warnings():
        # What it warns of stands in the data's notes.
        warnings.simplefilter("ignore", UserWarning)
        return load_dataset(spec, split=split, root=root, on_bad_image=config.on_bad_image, **options)


def preparation(config: RunConfig, hint: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how image files become inputs: as configured, what is not follows the weights' publisher (``hint``)."""
    options = dict(hint or {}) | _given(config)
    if config.image_size is not None and config.crop is None:
        options.pop("crop", None)  # the publisher's crop belongs to the publisher's size
    return options


def _given(config: RunConfig) -> dict[str, Any]:
    """Return how images are prepared as far as the configuration says, as :func:`load_dataset` takes it."""
    options = {}
    for name in ("image_size", "crop", "mean", "std", "channels", "max_value"):
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) == 1:
            value = value[0]
        if value is not None:
            options[name] = value
    return options
