"""The classes that a run studies and shows: all, or those of ``--only``; the others' images stay the contrast."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from interpnet.errors import InterpNetError
from interpnet.support.class_names import chosen_classes
from interpnet.support.types import Bools

from .session import Session

#: Numbers of classes, rising; None for all.
Chosen = tuple[int, ...] | None
# Classes without images and channels that are listed beside the others.
_MOST_EMPTY = 500


def chosen(session: Session) -> Chosen:
    """Return the numbers of the classes that ``--only`` names, by the run's names, by folders' names or by numbers.

    ``InterpNetError`` with close matches for an unknown one.
    """
    classes = list(session.run.known("model", "classes"))
    return _numbers(session, classes, _folders(session.run.manifest.get("data", {}), classes))


def check_chosen(session: Session) -> None:
    """Refuse, before anything runs, a class of ``--only`` that does not exist or has no image."""
    subject = session.loaded
    classes = list(subject.classes)
    folders = {
        name: classes[output] for name, output in zip(subject.train.data.classes, subject.train.outputs, strict=True)
    }
    there = {int(c) for split in (subject.train, subject.test) for c in split.present}
    empty = [classes[c] for c in _numbers(session, classes, folders) or () if c not in there]
    if empty:
        raise InterpNetError(
            f"--only names {empty[0]!r}, of which the data {session.config.data!r} has no image; expected some of "
            f"{', '.join(classes[c] for c in sorted(there)[:10])}{', ...' * (len(there) > 10)}"
        )


def _numbers(session: Session, classes: list[str], folders: dict[str, str]) -> Chosen:
    only = session.config.only
    if not only:
        return None
    # What the run calls a class comes before what its folder is called.
    names = [name if name in classes else folders.get(name, name) for name in only]
    numbers = chosen_classes(names, classes, "--only")
    if len(numbers) == len(classes):
        return None
    return numbers


def _folders(data: dict[str, Any], classes: list[str]) -> dict[str, str]:
    """Return what the run calls the class of each folder of the training images."""
    train = data.get("train", {})
    # A run of an older version did not note them.
    pairs = zip(train.get("classes", ()), train.get("outputs", ()), strict=False)
    return {name: classes[output] for name, output in pairs}


def studied_by(entry: dict[str, Any]) -> Chosen:
    """Return the classes that a stage was done for, by its entry in the manifest."""
    only = entry.get("only")
    if only is None:
        return None
    return tuple(only)


def covers(done: Chosen, wanted: Chosen) -> bool:
    """Whether what was done for some classes has all that is wanted.

    Examples
    --------
    >>> covers(None, (1,)), covers((1, 3), (1,)), covers((1,), None)
    (True, True, False)
    """
    return done is None or (wanted is not None and set(wanted) <= set(done))


def noted(only: Chosen) -> dict[str, Any]:
    """Return what a stage's entry in the manifest notes of the classes; nothing where it is done for all."""
    if only is None:
        return {}
    return {"only": list(only)}


def key_part(only: Chosen) -> list[Any]:
    """Return what the key of a stage holds beside the rest; nothing where it is done for all, as it was before."""
    return list(noted(only).values())


def of_chosen(labels: Any, only: Chosen) -> Any:
    """Return which labels (N,) are of the chosen classes."""
    if only is None:
        return np.ones(len(labels), dtype=bool)
    return np.isin(labels, only)


def numbers_of(classes: Collection[str], only: Chosen) -> list[int]:
    """Return the numbers of the chosen classes; of all where none were chosen."""
    if only is None:
        return list(range(len(classes)))
    return list(only)


def worth_listing(something: Bools) -> tuple[int, ...]:
    """Return the numbers of the classes that are written and shown, by whether there is something to say of them (C,).

    All of them, unless there is nothing to say of very many: outputs of a large network that the data do not have.

    Examples
    --------
    >>> worth_listing(np.array([True, False, True]))
    (0, 1, 2)
    >>> worth_listing(np.arange(1000) < 3)
    (0, 1, 2)
    """
    numbers = np.arange(len(something))
    if len(something) - int(something.sum()) > _MOST_EMPTY:
        numbers = np.flatnonzero(something)
    return tuple(numbers.tolist())
