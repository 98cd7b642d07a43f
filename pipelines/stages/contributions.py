"""Stage 1, second half: what every channel contributes to the log-odds of each class (docs/method.md, section 9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from interpnet.datasets import Batch
from interpnet.reliance import Contributions, collect_contributions
from interpnet.support.progress import progress_bar
from interpnet.support.types import Bools, Int64

from ..run.notes import Notes
from ..run.session import Session
from ..run.split import Batches
from .collect import load_table
from .solve import require_current
from .sums import Sums, counted, fitted_on, outputs_of, pass_key

FILE = "contributions.npz"
# Images after which the sums are written, so that an interruption costs no more.
_CHUNK = 2048


def contributions_key(session: Session) -> str:
    """Return the key of the contributions for the current scores and settings."""
    return pass_key(session, session.run.key("collect"), _targets(session))


def _targets(session: Session) -> str:
    """Return whether an image's own class is its label or what the network says, as for the weights."""
    if session.independent:
        return "labels"
    found = counted(session)
    return fitted_on(found.images, found.classes, session.config.fit_on)


def run_contributions(session: Session) -> bool:
    """Fill ``contributions/`` from the training images that have scores, going on where an interruption stopped it."""
    key = contributions_key(session)
    files = (f"contributions/{FILE}",)
    return session.perform("contributions", key, lambda notes: _contribute(session, key, notes), files=files)


def _contribute(session: Session, key: str, _notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("contributions")
    table = load_table(session)
    targets = _targets(session)
    wanted = first_of_each(image_classes(session), session.config.contribution_images)
    # Those of the pass that collected the scores, where it was one pass.
    found = Sums(folder, key, "rows").read(len(table))
    if found is None:
        found = _pass(session, key, targets, table.indices, wanted)
    found.save(folder / FILE)
    Sums(folder, key, "rows").forget()
    counts = np.asarray(found.counts)
    return {"n_images": int(counts.sum()), "most_images": session.config.contribution_images, "fill": found.fill}


def _pass(session: Session, key: str, targets: str, positions: Int64, wanted: Bools) -> Contributions:
    """Collect contributions of the ``wanted`` images (N,), or of labels of theirs (N, C), chunk by chunk."""
    subject = session.subject
    some = images_with(wanted)
    indices = positions[some]
    sums = Sums(session.run.folder("contributions"), key, "images")
    done, found = sums.last()
    if done:
        session.say(f"  going on at image {done} of {len(indices)}")
    # One bar for all chunks: theirs count for it.
    with progress_bar("Collecting contributions", len(indices), done=done):
        while done < len(indices) or found is None:
            chunk = indices[done : done + _CHUNK]
            part = collect_contributions(
                subject.model,
                _Wanted(subject.batches(subject.train, chunk), wanted[some][done : done + _CHUNK]),
                layers=session.config.layers,
                fill=session.config.fill,
                images=None,
                targets=targets,
                outputs=outputs_of(session),
                classes=list(session.run.known("model", "classes")),
                device=subject.device,
                output=subject.output,
                total=len(chunk),
            )
            if found is not None:
                part = found + part
            found = part
            done += len(chunk)
            sums.write(done, found)
    return found


@dataclass(frozen=True)
class _Wanted:
    """Batches with only those of their images' labels that are ``wanted`` (n, C); all where images have one (n,)."""

    batches: Batches
    wanted: Bools

    @property
    def n_images(self) -> int:
        """Images a pass covers."""
        return self.batches.n_images

    def __iter__(self) -> Iterator[Batch]:
        place = {int(index): i for i, index in enumerate(self.batches.loader.indices)}
        for batch in self.batches:
            if self.wanted.ndim > 1:
                rows = [place[index] for index in batch.indices.tolist()]
                batch = batch._replace(labels=batch.labels * torch.from_numpy(self.wanted[rows]))
            yield batch


def image_classes(session: Session) -> npt.NDArray[Any]:
    """Return the class of each image of the scores (N,): its label, or what the network says, as for the weights.

    Where an image can have several labels, its targets (N, C).
    """
    return np.asarray(load_table(session).targets(_targets(session)))


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


def images_with(wanted: Bools) -> Bools:
    """Return which images (N,) are wanted, or have a label that is wanted (N, C)."""
    images: Bools = np.asarray(wanted.reshape(len(wanted), -1).any(1))
    return images


def load_contributions(session: Session) -> Contributions:
    """Open the contributions of a complete stage; those of earlier settings are a RunFolderError."""
    require_current(session, "contributions", contributions_key(session))
    return Contributions.load(session.run.folder("contributions") / FILE)
