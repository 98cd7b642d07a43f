"""Stage 1, second half: what every channel contributes to the log-odds of each class (docs/method.md, section 9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.reliance import Contributions, collect_contributions
from interpnet.support.progress import progress_bar
from interpnet.support.types import Int64

from ..run.notes import Notes
from ..run.session import Session
from .collect import load_table
from .solve import require_current
from .sums import Sums, counted, fitted_on, pass_key

FILE = "contributions.npz"
# Images after which the sums are written, so that an interruption costs no more.
_CHUNK = 2048


def contributions_key(session: Session) -> str:
    """Return the key of the contributions for the current scores and settings."""
    return pass_key(session, session.run.key("collect"), _targets(session))


def _targets(session: Session) -> str:
    """Return whether an image's own class is its label or what the network says, as for the weights."""
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
    chosen = first_of_each(image_classes(session), session.config.contribution_images)
    # Those of the pass that collected the scores, where it was one pass.
    found = Sums(folder, key, "rows").read(len(table))
    if found is None:
        found = _pass(session, key, targets, table.indices[chosen])
    found.save(folder / FILE)
    Sums(folder, key, "rows").forget()
    counts = np.asarray(found.counts)
    return {"n_images": int(counts.sum()), "most_images": session.config.contribution_images, "fill": found.fill}


def _pass(session: Session, key: str, targets: str, indices: Int64) -> Contributions:
    """Collect contributions of some training images, chunk by chunk."""
    subject = session.subject
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
                subject.batches(subject.train, chunk),
                layers=session.config.layers,
                fill=session.config.fill,
                images=None,
                targets=targets,
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


def image_classes(session: Session) -> npt.NDArray[Any]:
    """Return the class of each image of the scores (N,): its label, or what the network says, as for the weights."""
    return np.asarray(load_table(session).targets(_targets(session)))


def first_of_each(classes: npt.NDArray[Any], most: int) -> Int64:
    """Return the positions of the first ``most`` images of each class, in order.

    Examples
    --------
    >>> first_of_each(np.array([1, 0, 1, 1, 0]), 2)
    array([0, 1, 2, 4])
    """
    taken: Int64 = np.sort(np.concatenate([np.flatnonzero(classes == c)[:most] for c in np.unique(classes)]))
    return taken


def load_contributions(session: Session) -> Contributions:
    """Open the contributions of a complete stage; those of earlier settings are a RunFolderError."""
    require_current(session, "contributions", contributions_key(session))
    return Contributions.load(session.run.folder("contributions") / FILE)
