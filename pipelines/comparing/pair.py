"""Two runs that are to be compared: read, refused where they cannot be, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation import Answers
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.types import Int64

from ..report.audited import title
from ..report.load import STUDIES, RunData, clean, load_run, reading
from ..run.config import MU_LASSO, RELIANCE
from ..run.folder import ANSWERS, RunFolder

_MOST_NAMED = 4
# What each stage leaves, by its field of RunData; of studies and named channels by the way.
_FIELDS = {
    "solve": "weights",
    "reliance": "relied",
    "contributions": "contributions",
    "shortcuts": "shortcuts",
}
_STUDY_STAGES = {"ablate": MU_LASSO, "ablate-reliance": RELIANCE}


@dataclass(frozen=True)
class Pair:
    """Two runs."""

    first: RunData
    second: RunData
    classes: tuple[str, ...]  # the names that both have, in the order of the first
    at: tuple[Int64, Int64]  # their numbers in each
    # What each says of the test images that both looked at, row by row, with classes as numbered here; None where the
    # images are others, or one run kept no answers.
    answers: tuple[Answers, Answers] | None
    same_train: bool
    notes: tuple[str, ...]

    @property
    def runs(self) -> tuple[RunData, RunData]:
        """Both."""
        return self.first, self.second

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to name channels that both have."""
        return tuple(way for way in self.first.named if way in self.second.named)

    @property
    def studied(self) -> Int64:
        """The numbers, as here, of the classes that both runs studied: all, but where one was asked for some alone."""
        both = np.ones(len(self.classes), dtype=bool)
        for run, at in zip(self.runs, self.at, strict=True):
            if run.only is not None:
                both &= np.isin(at, run.only)
        return np.flatnonzero(both)

    @property
    def same_channels(self) -> bool:
        """Whether both networks have the same layers with as many channels."""
        sizes = [{run.named[way].channels.sizes for way in self.ways} for run in self.runs]
        return bool(self.ways) and sizes[0] == sizes[1]


def pair_of(first: Path, second: Path) -> Pair:
    """Read two run folders; ``RunFolderError`` where one is none, damaged or holds nothing to compare.

    ``InterpNetError`` where they cannot be compared: the same folder, no class in common, one class for an image there
    and several labels here.
    """
    if first.exists() and second.exists() and first.samefile(second):
        raise InterpNetError(f"{str(first)!r} and {str(second)!r} are the same run folder; name two runs")
    notes: list[str] = []
    a, b = (_read(folder, letter, notes) for folder, letter in ((first, "A"), (second, "B")))
    if a.independent != b.independent:
        words = ["several labels for an image" if run.independent else "one class for each image" for run in (a, b)]
        raise InterpNetError(
            f"the runs cannot be compared: {str(first)!r} has {words[0]} and {str(second)!r} {words[1]}, so that "
            "recall means something else in each"
        )
    there = set(b.classes)
    names = [name for name in a.classes if name in there]
    if not names:
        raise InterpNetError(
            f"the runs cannot be compared: they have no class in common ({_some(a.classes)} in {str(first)!r}, "
            f"{_some(b.classes)} in {str(second)!r})"
        )
    for run, letter in ((a, "A"), (b, "B")):
        if run.only is not None:
            notes.append(
                f"{letter} studied {len(run.only)} of its {len(run.classes)} classes (--only): of the others recalls "
                "alone are compared."
            )
        alone = [name for name in run.classes if name not in set(names)]
        if alone:
            notes.append(
                f"Classes are compared that are in both runs ({len(names)}); in {letter} alone: {_some(alone)}. A "
                "network with other classes has another task: a recall can differ for that."
            )
    at = tuple(np.array([run.classes.index(name) for name in names]) for run in (a, b))
    if a.classes == b.classes:
        # Two outputs can have the same name.
        at = (np.arange(len(names)), np.arange(len(names)))
    if a.entry("model").get("fingerprint") == b.entry("model").get("fingerprint") is not None:
        notes.append("The weights of both networks are the same: what differs comes from images, settings and chance.")
    answers = _answers(a, b, (at[0], at[1]), len(names), notes)
    train = _same(a, b, "train")
    return Pair(a, b, tuple(names), (at[0], at[1]), answers, train, tuple(notes))


def _read(folder: Path, letter: str, notes: list[str]) -> RunData:
    """Read a run, without what a stage left that did not end."""
    run, left_out = finished(load_run(folder))
    RunFolder(folder, dict(run.manifest)).check_whole()
    notes += [
        f"In {letter} the stage {stage} did not end, so its numbers are left out: `{run.command('audit --out')}` goes "
        "on."
        for stage in left_out
    ]
    if not run.studies and not run.named and run.shortcuts is None:
        raise RunFolderError(
            f"run folder {str(folder)!r} holds nothing to compare: no recalls, no channels of classes, no search for "
            f"shortcuts; run `{run.command('audit --out')}` to its end first"
        )
    return run


def finished(run: RunData) -> tuple[RunData, list[str]]:
    """Return a run without what a stage left that did not end, and the names of these stages."""
    left_out = []
    for stage, entry in run.entry("stages").items():
        if entry.get("state") == "complete":
            continue
        if stage in _FIELDS:
            nothing: dict[str, Any] = {_FIELDS[stage]: None}
            run = replace(run, **nothing)
        elif stage in _STUDY_STAGES:
            studies = {way: study for way, study in run.studies.items() if way != _STUDY_STAGES[stage]}
            run = replace(run, studies=studies)
        else:
            continue
        left_out.append(stage)
    return run, left_out


def _same(a: RunData, b: RunData, split: str) -> bool:
    prints = [run.entry("data", split).get("fingerprint") for run in (a, b)]
    return prints[0] == prints[1] is not None


def _answers(
    a: RunData, b: RunData, at: tuple[Int64, Int64], count: int, notes: list[str]
) -> tuple[Answers, Answers] | None:
    if not (a.studies and b.studies):
        return None
    if not _same(a, b, "test"):
        notes.append(
            "The test images are others in each run: recalls are compared as those of two samples, and a difference "
            "can come from the images."
        )
        return None
    found = [_numbered(run, numbers, count) for run, numbers in zip((a, b), at, strict=True)]
    mine, theirs = found
    if mine is None or theirs is None:
        letters = " and ".join(letter for letter, one in zip("AB", found, strict=True) if one is None)
        notes.append(
            f"An earlier version wrote {letters}, without what the network says of each image: recalls are compared as "
            "those of two samples of images, which makes intervals wider."
        )
        return None
    pairs = mine.paired(theirs)
    if not len(pairs[0].images):
        notes.append("The runs looked at other test images of the same set: recalls are those of two samples.")
        return None
    if len(pairs[0].images) < max(len(mine.images), len(theirs.images)):
        notes.append(
            f"Recalls are over the {len(np.unique(pairs[0].images)):,} test images that both looked at, of "
            f"{len(np.unique(mine.images)):,} in A and {len(np.unique(theirs.images)):,} in B."
        )
    return pairs


def _numbered(run: RunData, numbers: Int64, count: int) -> Answers | None:
    """Return what a run says of its test images, with the common classes' numbers; ``None`` where it kept nothing."""
    for way in run.studies:
        study = run.folder / STUDIES[way]
        path = study.with_name(f"{study.stem}{ANSWERS}")
        if not path.is_file():
            continue
        with reading(path, "ablate", run.folder):
            found = Answers.load(path)
            place = np.full(max(len(run.classes), int(found.labels.max(initial=0)) + 1), -1)
            place[numbers] = np.arange(count)
            labels = place[found.labels]
        known = labels >= 0
        return Answers(found.images[known], labels[known], found.right[known], found.log_odds[known])
    return None


def run_words(run: RunData) -> str:
    """Return what a run is of, for a heading."""
    weights = run.entry("model").get("weights")
    said = title(run)
    if weights:
        said += f", {clean(weights)}"
    return said


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    return f"{listed} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else listed
