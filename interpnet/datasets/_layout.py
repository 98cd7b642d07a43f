"""Which folders of a data set are splits, and which are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interpnet.datasets._files import is_image
from interpnet.datasets._sources import shown
from interpnet.datasets._splits import pair_of, split_name
from interpnet.datasets._walk import entries, is_folder, is_junk, listed, subfolders
from interpnet.errors import DataError


@dataclass(frozen=True)
class Layout:
    """Where the classes of the training and of the test lie; the same folder where there are no splits."""

    training: Path
    test: Path
    notes: tuple[str, ...] = ()


def find_layout(folder: Path) -> Layout:
    """Find the splits of a folder by their names, or take its subfolders for the classes of both.

    A pair of folders for training and test (see :func:`pair_of`) with a folder per class in each are the splits, also
    one level deeper (``data/train``, ``seg_train/seg_train``). What looks like a split without being one for sure is a
    DataError, or a note where it may well be a class.
    """
    names = subfolders(folder)
    if not names:
        raise DataError(
            f"image folder {str(folder)!r} has no subfolders, expected one per class: {folder}/CLASS/IMAGE.png"
        )
    training, tests = _paired(folder, names)
    if len(names) == 1 and not training:
        inner = folder / names[0]
        deeper = _paired(inner, subfolders(inner))
        if all(deeper):
            folder = inner
            names = subfolders(inner)
            training, tests = deeper
    if len(training) > 1:
        raise DataError(
            f"{str(folder)!r} has several folders for training ({listed(training)}); "
            "leave one of them, or give imagefolder: that folder itself to use it for both splits"
        )
    if training and tests:
        return _split_layout(folder, names, training[0], tests)
    _refuse_half_splits(folder, names)
    return Layout(folder, folder, tuple(_doubts(folder, names)))


def _paired(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the pair of splits whose folders hold folders themselves."""
    training, tests = pair_of([name for name in names if subfolders(folder / name)])
    return training, tests


def _class_root(folder: Path) -> Path:
    """Return the folder of the classes: archives often hold a split's folder within one of the same name."""
    names = subfolders(folder)
    outer = split_name(folder.name)
    if len(names) == 1 and outer is not None:
        inner = split_name(names[0])
        if inner is not None and inner.kind == outer.kind and subfolders(folder / names[0]):
            return folder / names[0]
    return folder


def _split_layout(folder: Path, names: Sequence[str], training: str, tests: Sequence[str]) -> Layout:
    notes = []
    left = [name for name in names if name not in {training, tests[0]}]
    if left or (training, tests[0]) != ("train", "test"):
        text = f"Training images are those of {training!r}, test images those of {tests[0]!r}"
        if left:
            text += f"; left out beside them: {listed(left)}"
        notes.append(shown(f"{text}."))
    return Layout(_class_root(folder / training), _class_root(folder / tests[0]), tuple(notes))


def _refuse_half_splits(folder: Path, names: Sequence[str]) -> None:
    """Raise a DataError where the subfolders are splits rather than classes, but not a pair that can be used."""
    path = str(folder)
    named = [name for name in names if split_name(name) is not None]
    nested = {name: subfolders(folder / name) for name in names}
    remedy = (
        "expected train/CLASS/IMAGE and test/CLASS/IMAGE; name the folders so, "
        f"or give imagefolder:{path}/NAME to use one folder for both splits"
    )
    if len(named) == len(names):
        if len(names) == 1 and nested[names[0]]:
            other = "test or val"
            if _kind(names[0]) != "train":
                other = "train"
            raise DataError(
                f"{path!r} has a {names[0]} folder but no {other} folder beside it; "
                f"give imagefolder:{path}/{names[0]} to use it for both splits"
            )
        raise DataError(f"the subfolders of {path!r} ({listed(names)}) are splits, not classes; {remedy}")
    for name in named:
        others = [nested[other] for other in names if other != name]
        # A class that is called like a split has subfolders only where the other classes have their own.
        if nested[name] and (not all(others) or any(set(nested[name]) & set(other) for other in others)):
            raise DataError(
                f"{path!r} has the folder {name!r} with the subfolders {listed(nested[name])}: it looks like a "
                f"split, but its counterpart is missing beside {listed([n for n in names if n != name])}; {remedy}"
            )
    if len(names) == 1 and len(nested[names[0]]) > 1 and not _holds_images(folder / names[0]):
        raise DataError(
            f"{path!r} has the single folder {names[0]!r}, whose subfolders {listed(nested[names[0]])} look like the "
            f"classes; give imagefolder:{path}/{names[0]}"
        )


def _kind(name: str) -> str:
    found = split_name(name)
    return "" if found is None else found.kind


def _doubts(folder: Path, names: Sequence[str]) -> list[str]:
    """Return notes on classes that look like something else."""
    notes = [
        f"The folder {name!r} is taken for a class, though its name is that of a split."
        for name in names
        if split_name(name) is not None
    ]
    inner = {tuple(subfolders(folder / name)) for name in names}
    if len(names) > 1 and len(inner) == 1 and len(next(iter(inner))) > 1:
        notes.append(
            f"All folders of {str(folder)!r} ({listed(names)}) have the same subfolders "
            f"({listed(next(iter(inner)))}) and are taken for classes; if they are splits, name them train and test."
        )
    return [shown(note) for note in notes]


def _holds_images(folder: Path) -> bool:
    return any(not is_folder(e) and not is_junk(e.name) and is_image(e.path, e.name) for e in entries(str(folder)))
