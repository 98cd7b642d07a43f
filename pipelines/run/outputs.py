"""Which output of the network each class of the data is: in order where both are as many, else by names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from interpnet.datasets import ImageData
from interpnet.errors import DataError, did_you_mean
from interpnet.support.io import small_text
from interpnet.support.types import Int64

from .config import RunConfig

#: The word for ``--classes`` that stands for the list of ImageNet's 1,000 classes.
IMAGENET = "imagenet"
_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_OUTPUTS = 1000  # their names are loaded with torchvision's models, for which no other network must wait
_SHOWN = 4  # classes in an error


class Outputs(NamedTuple):
    """The names of a network's outputs, and the output of each class of the data."""

    names: tuple[str, ...]
    of_data: Int64


def matched(data: ImageData, n_outputs: int, config: RunConfig, listed: Sequence[str] | None = None) -> Outputs:
    """Return the outputs' names and the output of each class of the data, as ``--classes`` or ``listed`` says.

    Labels without names are the outputs' numbers. Without a list, the classes of the data are the outputs, in order,
    where both are as many; everything else is a :class:`DataError`, because a wrong guess would give numbers that mean
    nothing.
    """
    if listed is None and config.classes not in (None, IMAGENET):
        listed = _lines(config.classes, Path(config.path(config.classes)))
    if data.numbered:
        if config.classes == IMAGENET:
            listed = imagenet_names()
        return by_number(data, n_outputs, listed)
    if listed is not None:
        return by_list(data, n_outputs, listed)
    if config.classes == IMAGENET:
        return by_imagenet(data, n_outputs)
    return in_order(data, n_outputs)


def _lines(written: str, path: Path) -> list[str]:
    try:
        lines = small_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"list of classes {written!r} cannot be read ({error}); expected a text file, one class per line, or the "
            f"word {IMAGENET}"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def by_number(data: ImageData, n_outputs: int, listed: Sequence[str] | None = None) -> Outputs:
    """Return the match of labels that are the outputs' numbers, with the outputs' names where they are listed."""
    if len(data.classes) > n_outputs:
        raise DataError(
            f"the labels of data {data.spec!r} go up to {len(data.classes) - 1}; the model has {n_outputs} outputs, so "
            f"expected labels from 0 to {n_outputs - 1}. Are the classes numbered as in training?"
        )
    if listed is not None:
        _check_list(listed, n_outputs)
    names = tuple(listed or map(str, range(n_outputs)))
    return Outputs(names, np.arange(len(data.classes), dtype=np.int64))


def by_list(data: ImageData, n_outputs: int, listed: Sequence[str]) -> Outputs:
    """Return the match by a list of all outputs' names."""
    _check_list(listed, n_outputs)
    for name in data.classes:
        if name not in listed:
            raise DataError(f"class {name!r} of the data is not in the list of classes{did_you_mean(name, listed)}")
    return Outputs(tuple(listed), np.array([listed.index(name) for name in data.classes], dtype=np.int64))


def _check_list(listed: Sequence[str], n_outputs: int) -> None:
    if len(listed) != n_outputs or len(set(listed)) != n_outputs:
        raise DataError(
            f"the list of classes (--classes) has {len(set(listed))} different lines; the model has {n_outputs} "
            "outputs; expected one class per line in the order of the outputs"
        )


def in_order(data: ImageData, n_outputs: int) -> Outputs:
    """Return the match of as many classes as there are outputs."""
    names = data.classes
    few = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
    if len(names) > n_outputs:
        raise DataError(
            f"data {data.spec!r} has {len(names)} classes and the model has {n_outputs} outputs; "
            f"expected at most {n_outputs}. Give the model --num-classes {len(names)}, or other data"
        )
    outputs = None
    if n_outputs == _IMAGENET_OUTPUTS:
        outputs = _of_imagenet(names)
    if outputs is not None and outputs != list(range(len(names))):
        raise DataError(
            f"the classes of data {data.spec!r} ({few}) are ImageNet's, but not its first ones in their order; give "
            f"--classes {IMAGENET}, which finds the output of each by its name"
        )
    if len(names) < n_outputs:
        raise DataError(
            f"data {data.spec!r} has {len(names)} classes ({few}) and the model {n_outputs} outputs, so which output "
            "belongs to which class is not known; give --classes FILE, a text file that names all outputs, one per "
            f"line in their order (--classes {IMAGENET} for its 1,000)"
        )
    return Outputs(names, np.arange(len(names), dtype=np.int64))


def by_imagenet(data: ImageData, n_outputs: int) -> Outputs:
    """Return the match of ImageNet's classes by their names or WordNet ids."""
    if n_outputs != _IMAGENET_OUTPUTS:
        raise DataError(
            f"--classes {IMAGENET} names {_IMAGENET_OUTPUTS} outputs; the model has {n_outputs}. Give --classes FILE, "
            "a text file that names all outputs, one per line in their order"
        )
    names = imagenet_names()
    find = _finder()
    found = [_one(name, find(name), names) for name in data.classes]
    for name, output in zip(data.classes, found, strict=True):
        if found.count(output) > 1:
            twice = [other for other, same in zip(data.classes, found, strict=True) if same == output]
            raise DataError(
                f"classes {' and '.join(map(repr, twice))} of the data are both ImageNet's {names[output]!r}; expected "
                f"one folder per class, such as {name!r}"
            )
    return Outputs(names, np.array(found, dtype=np.int64))


def imagenet_output(name: str) -> int:
    """Return the output of ImageNet's class of a name, WordNet id or synonym."""
    return _one(name, _finder()(name), imagenet_names(), of="")


def _one(name: str, outputs: Sequence[int], names: Sequence[str], of: str = " of the data") -> int:
    """Return the one output that a class is; ``of``: where it came from, for errors."""
    if len(outputs) == 1:
        return outputs[0]
    if outputs:
        which = " or ".join(f"{names[i]!r} (output {i})" for i in outputs)
        raise DataError(
            f"class {name!r}{of} can be ImageNet's {which}; name it by its WordNet id, or give --classes FILE"
        )
    if _WORDNET_ID.fullmatch(name) and not _synsets():
        raise DataError(
            f"class {name!r}{of} is a WordNet id, whose class the package timm knows; pip install "
            "'interpnet[timm]', or name the folders by the classes' names"
        )
    raise DataError(
        f"class {name!r}{of} is none of ImageNet's 1,000{did_you_mean(name, names)}; expected a name such as "
        f"{names[0]!r} or a WordNet id such as 'n01440764'"
    )


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of the outputs, as torchvision gives them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _of_imagenet(names: Sequence[str]) -> list[int] | None:
    """Return the outputs that names are those of, where every one is a class of ImageNet."""
    find = _finder()
    outputs = [find(name) for name in names]
    if not all(len(found) == 1 for found in outputs):
        return None
    return [found[0] for found in outputs]


def _finder() -> Callable[[str], list[int]]:
    """Return what finds the outputs that a name or WordNet id may mean: torchvision's names before synonyms."""
    exact = {_plain(name): i for i, name in enumerate(imagenet_names())}

    def find(name: str) -> list[int]:
        plain = _plain(name)
        if plain in exact:
            return [exact[plain]]
        return [i for i, words in enumerate(_synsets()) if plain in words]

    return find


def _plain(name: str) -> str:
    """Return a name in small letters, with single spaces between its words.

    Examples
    --------
    >>> _plain("Great_White-Shark")
    'great white shark'
    """
    return " ".join(re.findall(r"[^\W_]+", name.lower()))


@cache
def _synsets() -> Sequence[set[str]]:
    """Return the WordNet id and the words of each class's synset, in the order of the outputs; none without timm."""
    try:
        info = import_module("timm.data").ImageNetInfo("imagenet-1k")
    except ImportError:
        return ()
    words = {name: info.label_name_to_description(name).split(", ") for name in info.label_names()}
    return [{name, *map(_plain, own)} for name, own in words.items()]
