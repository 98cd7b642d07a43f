"""Sums of contributions on their way: what they depend on, and their files in ``contributions/``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.errors import RunFolderError
from interpnet.reliance import Contributions, ContributionSums, added_up
from interpnet.scores import PARTS, ScoreTable
from interpnet.support.ranks import Ranks
from interpnet.support.types import Bools, Int64

from ..run.folder import STAGES, digest
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


def fitted_on_labels(session: Session) -> bool:
    """Whether an image's class is its label, and not what the network says; see :func:`fitted_on`."""
    if session.independent:
        return True
    found = counted(session)
    return fitted_on(found.images, found.classes, session.config.fit_on) == "labels"


def pass_key(session: Session, collect_key: str, targets: str) -> str:
    """Return the key of contributions that are collected beside the scores of ``collect_key``."""
    config = session.config
    settings = {"images": config.contribution_images, "fill": config.fill, "targets": targets}
    return digest(["contributions", _VERSION, collect_key, settings])


class Sums:
    """Contributions of a part of the images in a file whose name says of how many, and with which settings."""

    def __init__(self, folder: Path, key: str, counted: str, written: int = 0) -> None:
        self._folder = folder
        self._about = (key, counted)
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

    def beside(self, folder: Path) -> Sums:
        """Return the same in another folder."""
        return Sums(folder, *self._about)

    def forget(self, but: Collection[int] = ()) -> None:
        """Delete all sums, of other settings too, but those of some counts."""
        kept = {self._path(count) for count in but}
        for path in self._folder.glob(_PATTERN):
            if path not in kept:
                path.unlink()

    def _path(self, count: int) -> Path:
        return self._folder / f"{self._stem}{count:09d}.npz"


class KeptSums(ContributionSums):
    """Contributions that are summed while scores are collected, and written whenever these are.

    ``only`` says, where a process sums some of the images alone, of which images and classes contributions are wanted.
    """

    def __init__(self, files: Sums, only: Wanted | None = None, *, images: int, **options: Any) -> None:
        super().__init__(images=images, **options)
        self._most = images
        self._files = files
        self._only = only
        self._earlier: list[Path] = []
        #: Of all processes, once they have been added up; None where some are lost.
        self.total: Contributions | None = None

    def logits(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor,
        put: Callable[[Tensor], Tensor],
        *,
        known: int = 0,
    ) -> Tensor:
        """Run one batch, as the library does, for the images and classes that are wanted."""
        if self._only is not None:
            labels = self._only.targets(indices)
        return super().logits(images, labels, indices, put, known=known)

    def commit(self, rows: int) -> None:
        """Hold the sums of the first ``rows`` images, and write them."""
        super().commit(rows)
        self._files.write(rows, self.so_far())

    def share(self, ranks: Ranks, folders: Sequence[Path]) -> None:
        """Note which of the parts that are there already this process adds up."""
        self._earlier = list(folders)[ranks.rank :: ranks.world]

    def place(self, folder: Path | None) -> None:
        """Keep the sums of a part beside its scores."""
        if folder is not None:
            self._files = self._files.beside(folder)

    def keep(self, table: ScoreTable, folder: Path) -> None:
        """Write the sums of all processes, unless images that could not be read leave room for others."""
        if self._only is None or self.total is None:
            return
        wanted = first_of_each(table.labels, self._most)
        if np.array_equal(wanted, self._only.some(table.indices)):
            self._files.beside(folder).write(len(table), self.total)

    def add_up(self, ranks: Ranks) -> None:
        """Make ``total`` the sums of all parts, those of earlier runs included."""
        found: Contributions | None = self.result()
        for folder in self._earlier:
            rows = ScoreTable.progress(folder).rows
            files = self._files.beside(folder)
            if folder.parent.name != PARTS:
                files = self._files.beside(folder.parent / STAGES["contributions"])
            part = files.read(rows)
            if part is None and rows:
                found = None
            if found is not None and part is not None:
                found = found + part
        complete = all(ranks.collect(found is not None))
        if found is not None and complete:
            self.total = added_up(found, ranks)


@dataclass(frozen=True)
class Wanted:
    """Of which images and classes contributions are wanted: ``of`` (N,), or (N, C) where an image can have several."""

    positions: Int64  # (N,) of the images in the data set, rising
    labels: npt.NDArray[Any]  # (N,), or targets (N, C)
    of: Bools
    n_classes: int

    def targets(self, indices: Tensor) -> Tensor:
        """Return which classes of some images are wanted (n, n_classes), as 0 and 1."""
        rows = np.searchsorted(self.positions, indices.cpu().numpy())
        targets = np.zeros((len(rows), self.n_classes), dtype=np.float32)
        if self.of.ndim > 1:
            targets[:] = self.of[rows]
        else:
            targets[np.arange(len(rows)), self.labels[rows]] = self.of[rows]
        return torch.from_numpy(targets)

    def some(self, positions: Int64) -> Bools:
        """Return ``of`` for some of the images."""
        chosen: Bools = self.of[np.searchsorted(self.positions, positions)]
        return chosen


def first_of_each(classes: npt.NDArray[Any], most: int) -> Bools:
    """Return which images are among the first ``most`` of their class (N,), or of each of their labels (N, C).

    Examples
    --------
    >>> first_of_each(np.array([1, 0, 1, 1, 0]), 2)
    array([ True,  True,  True, False,  True])
    >>> first_of_each(np.array([[1, 0], [1, 1]]), 1).tolist()
    [[True, False], [False, True]]
    """
    if classes.ndim > 1:
        has = classes > 0.5
        return has & (np.cumsum(has, axis=0) <= most)
    taken: Bools = np.zeros(len(classes), dtype=bool)
    for c in np.unique(classes):
        taken[np.flatnonzero(classes == c)[:most]] = True
    return taken
