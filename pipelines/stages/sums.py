"""Sums of contributions on their way: what they depend on, and their files in ``contributions/``."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from interpnet.errors import RunFolderError
from interpnet.reliance import Contributions, ContributionSums

from ..run.folder import digest
from ..run.session import Session
from ..run.split import EXCLUSIVE, INDEPENDENT

_VERSION = 1  # a change of what is summed makes earlier results stale
#: Below so many labelled images per class on average, a class's images are those that the network takes for it.
FEWEST_PER_CLASS = 5
_PATTERN = "sums-*.npz"
_KEY_SHOWN = 16  # letters of a key in a file's name


def classes_with_images(labels: npt.ArrayLike) -> int:
    """Return how many classes the labels (N,), or the targets (N, C), name.

    Examples
    --------
    >>> classes_with_images([3, 0, 3]), classes_with_images([[0, 1, 1], [0, 0, 1]])
    (2, 2)
    """
    given = np.asarray(labels)
    if given.ndim > 1:
        return int(given.any(0).sum())
    return len(np.unique(given))


def outputs_of(session: Session) -> str:
    """Return how the network's outputs belong together, as the library says it."""
    return {True: INDEPENDENT, False: EXCLUSIVE}[session.independent]


def fitted_on(n_images: int, n_classes: int, wanted: str) -> str:
    """Return ``"labels"`` or ``"predictions"``: what an image's class is taken to be; of the classes with images.

    Examples
    --------
    >>> fitted_on(50, 10, "auto"), fitted_on(49, 10, "auto"), fitted_on(49, 10, "labels")
    ('labels', 'predictions', 'labels')
    """
    if wanted == "auto":
        return {True: "labels", False: "predictions"}[n_images / n_classes >= FEWEST_PER_CLASS]
    return wanted


class Counted(NamedTuple):
    """The images of a collection."""

    images: int
    classes: int  # that have images
    by_outputs: bool  # whether an older version counted, for which every output was a class with images


def counted(session: Session) -> Counted:
    """Return how many images the collect stage scored, and of how many classes.

    A run that an older version collected keeps that version's count, so that what it fitted stays what it was.
    """
    entry = session.run.stage("collect")
    n_images = session.run.known("stages", "collect", "n_images")
    if "n_classes_with_images" in entry:
        return Counted(n_images, int(entry["n_classes_with_images"]), by_outputs=False)
    return Counted(n_images, len(session.run.known("model", "classes")), by_outputs=True)


def pass_key(session: Session, collect_key: str, targets: str) -> str:
    """Return the key of contributions that are collected beside the scores of ``collect_key``."""
    config = session.config
    settings = {"images": config.contribution_images, "fill": config.fill, "targets": targets}
    return digest(["contributions", _VERSION, collect_key, settings])


class Sums:
    """Contributions of a part of the images in a file whose name says of how many, and with which settings."""

    def __init__(self, folder: Path, key: str, counted: str, written: int = 0) -> None:
        self._folder = folder
        self._written = written  # the count that holds
        self._stem = f"sums-{key[:_KEY_SHOWN]}-{counted}-"

    def read(self, count: int) -> Contributions | None:
        """Return the sums of the first ``count``, or None where there are none, or damaged ones."""
        path = self._path(count)
        if path.is_file():
            with suppress(RunFolderError):
                return Contributions.load(path)
        return None

    def last(self) -> tuple[int, Contributions | None]:
        """Return the most that was counted, and its sums; 0 and None where there are none."""
        counts = [path.stem.removeprefix(self._stem) for path in self._folder.glob(f"{self._stem}*.npz")]
        for count in sorted((int(text) for text in counts if text.isdecimal()), reverse=True):
            found = self.read(count)
            if found is not None:
                return count, found
        return 0, None

    def write(self, count: int, found: Contributions) -> None:
        """Write the sums of the first ``count``, then delete all but these and those written before them."""
        # Until whoever counts has written the new count down, the earlier one holds.
        kept = {self._written, count}
        self._written = count
        found.save(self._path(count))
        self.forget(kept)

    def forget(self, but: Collection[int] = ()) -> None:
        """Delete all sums, of other settings too, but those of some counts."""
        kept = {self._path(count) for count in but}
        for path in self._folder.glob(_PATTERN):
            if path not in kept:
                path.unlink()

    def _path(self, count: int) -> Path:
        return self._folder / f"{self._stem}{count:09d}.npz"


class KeptSums(ContributionSums):
    """Contributions that are summed while scores are collected, and written whenever these are."""

    def __init__(self, files: Sums, **options: Any) -> None:
        super().__init__(**options)
        self._files = files

    def commit(self, rows: int) -> None:
        """Hold the sums of the first ``rows`` images, and write them."""
        super().commit(rows)
        self._files.write(rows, self.so_far())
