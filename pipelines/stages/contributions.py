"""Stage 1, second half: what every channel contributes to the log-odds of each class (docs/method.md, section 9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from interpnet.datasets import Batch
from interpnet.reliance import Contributions, ContributionSums, added_up
from interpnet.scores import batches_of, collect_scores
from interpnet.support.progress import progress_bar
from interpnet.support.types import Bools, Int64

from ..run.notes import Notes
from ..run.session import Session
from ..run.split import Batches
from .collect import load_table
from .solve import require_current
from .sums import Sums, Wanted, first_of_each, fitted_on_labels, outputs_of, pass_key

FILE = "contributions.npz"
# Images of a process after which the sums are written.
_CHUNK = 2048


def contributions_key(session: Session) -> str:
    """Return the key of the contributions for the current scores and settings."""
    return pass_key(session, session.run.key("collect"), _targets(session))


def _targets(session: Session) -> str:
    """Return whether an image's own class is its label or what the network says, as for the weights."""
    return {True: "labels", False: "predictions"}[fitted_on_labels(session)]


def run_contributions(session: Session) -> bool:
    """Fill ``contributions/`` from the training images that have scores, going on where an interruption stopped it."""
    key = contributions_key(session)
    files = (f"contributions/{FILE}",)
    return session.perform(
        "contributions", key, lambda notes: _contribute(session, key, notes), files=files, split=True
    )


def _contribute(session: Session, key: str, _notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("contributions")
    table = load_table(session)
    targets = _targets(session)
    classes = image_classes(session)
    wanted = first_of_each(classes, session.config.contribution_images)
    # Those of the pass that collected the scores, where it was one pass.
    found = Sums(folder, key, "rows").read(len(table))
    if found is None:
        of = Wanted(table.indices, classes, wanted, table.n_classes)
        found = _pass(session, key, targets, of)
    if session.ranks.first:
        found.save(folder / FILE)
        Sums(folder, key, "rows").forget()
    counts = np.asarray(found.counts)
    return {"n_images": int(counts.sum()), "most_images": session.config.contribution_images, "fill": found.fill}


def _pass(session: Session, key: str, targets: str, wanted: Wanted) -> Contributions:
    """Collect the contributions that are wanted in a pass over the batches that scores are collected from.

    Every process runs a share of some batches; then their sums are written, so that an interruption costs no more.
    """
    subject = session.subject
    ranks = session.ranks
    indices = subject.train_indices()
    batches = _batches_with(wanted, indices, session)
    sums = Sums(session.run.folder("contributions"), key, "batches")
    done, found = sums.last()
    done = ranks.share(done)
    if done:
        session.say(f"  going on at image {batches[done - 1][1]} of {len(indices)}")
    # One bar for all batches: theirs count for it.
    with progress_bar("Collecting contributions", sum(stop - start for start, stop in batches)) as advance:
        while done < len(batches):
            per = max(1, min(_CHUNK // session.config.batch_size, -(-(len(batches) - done) // ranks.world)))
            first = done + per * ranks.rank
            part = added_up(_summed(session, batches[first : first + per], indices, wanted), ranks)
            if found is not None:
                part = found + part
            found = part
            end = min(done + per * ranks.world, len(batches))
            advance(sum(stop - start for start, stop in batches[done:end]))
            done = end
            if ranks.first:
                sums.write(done, found)
    found = found or added_up(_summed(session, [], indices, wanted), ranks)
    # Batches of which nothing is wanted are not run.
    return replace(found, images=len(wanted.positions), info={**found.info, "targets": targets})


def _batches_with(wanted: Wanted, indices: Int64, session: Session) -> list[tuple[int, int]]:
    """Return the batches, as positions in ``indices``, in which there is an image that is wanted."""
    some = np.zeros(len(indices), dtype=bool)
    some[np.searchsorted(indices, wanted.positions)] = images_with(wanted.of)
    # Their mean is that of all images.
    if session.config.fill == "mean":
        some[:] = True
    batches = batches_of([(0, len(indices))], session.config.batch_size)
    return [(start, stop) for start, stop in batches if some[start:stop].any()]


def _summed(session: Session, batches: Sequence[tuple[int, int]], indices: Int64, wanted: Wanted) -> Contributions:
    """Sum the contributions of some batches; of none, those of no image."""
    subject = session.subject
    nothing = not batches
    if nothing:
        # The network says what its layers are.
        at = int(np.searchsorted(indices, wanted.positions[0]))
        batches = [(at, at + 1)]
    source = _Wanted(subject.batches(subject.train, indices), batches, wanted, nothing=nothing)
    sums = ContributionSums(
        fill=session.config.fill,
        images=None,
        outputs=outputs_of(session),
        classes=list(session.run.known("model", "classes")),
    )
    # The whole batch runs, so that each image's numbers are those of the pass that collects scores.
    collect_scores(
        subject.model,
        source,
        layers=session.config.layers,
        device=subject.device,
        output=subject.output,
        contributions=sums,
        total=source.n_images,
    )
    found = sums.result()
    if nothing:
        found = replace(found, images=0, level=np.zeros_like(found.level))
    return found


@dataclass(frozen=True)
class _Wanted:
    """Some batches, whose targets (B, C) are 1 where contributions are wanted."""

    batches: Batches
    spans: Sequence[tuple[int, int]]
    wanted: Wanted
    nothing: bool = False

    @property
    def n_images(self) -> int:
        """Images a pass covers."""
        return sum(stop - start for start, stop in self.spans)

    def __iter__(self) -> Iterator[Batch]:
        for _, batch in self.batches.numbered(self.spans):
            if not len(batch.indices):
                continue
            targets = self.wanted.targets(batch.indices)
            if self.nothing:
                targets = torch.zeros_like(targets)
            yield batch._replace(labels=targets)


def image_classes(session: Session) -> npt.NDArray[Any]:
    """Return the class of each image of the scores (N,): its label, or what the network says, as for the weights.

    Where an image can have several labels, its targets (N, C).
    """
    return np.asarray(load_table(session).targets(_targets(session)))


def images_with(wanted: Bools) -> Bools:
    """Return which images (N,) are wanted, or have a label that is wanted (N, C)."""
    images: Bools = np.asarray(wanted.reshape(len(wanted), -1).any(1))
    return images


def load_contributions(session: Session) -> Contributions:
    """Open the contributions of a complete stage; those of earlier settings are a RunFolderError."""
    require_current(session, "contributions", contributions_key(session))
    return Contributions.load(session.run.folder("contributions") / FILE)
