"""``interpnet check``: whether a finished audit keeps to limits, for a script that goes on or stops; files alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import RunFolderError

from ..report.drawn import field_count, shared_by
from ..report.load import RunData, load_run
from ..report.numbers import number_text, percent
from ..report.shortcuts import part_words

FORMAT = "interpnet-check-1"


@dataclass(frozen=True)
class Limits:
    """What an audit may show."""

    max_suspicion: float | None = None  # how far a share may lie beyond what is usual
    min_accuracy: float | None = None  # share of the test images
    fail_on_shortcut: bool = True  # whether a class may be suspicious
    fail_on_field: bool = False  # whether images from the field that a class draws may have something in common


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    value: str  # in words
    limit: str
    passed: bool | None  # None where it could not be looked at
    number: float | None = None


def checks(folder: Path, limits: Limits) -> tuple[Check, ...]:
    """Compare a run folder with limits.

    ``RunFolderError`` for no run folder, a damaged file in it, or a limit on what the run has not measured, with the
    command that measures it.
    """
    run = load_run(folder)
    return (*_accuracy(run, limits), *_shortcuts(run, limits), *_field(run, limits))


def passed(found: tuple[Check, ...]) -> bool:
    """Whether nothing is beyond its limit."""
    return all(one.passed is not False for one in found)


def checks_json(folder: Path, found: tuple[Check, ...]) -> dict[str, Any]:
    """Return checks for a program."""
    return {
        "format": FORMAT,
        "run": str(folder),
        "passed": passed(found),
        "checks": [asdict(one) for one in found],
    }


def _accuracy(run: RunData, limits: Limits) -> Iterator[Check]:
    study = run.study
    wanted = limits.min_accuracy
    if study is None:
        if wanted is not None:
            raise RunFolderError(
                f"--min-accuracy came, and no test image has been looked at; run `{run.command('ablate')}` first"
            )
        return
    name = "accuracy"
    if run.independent:
        name = "recall over labels"
    known = (study.support > 0) & np.isfinite(study.intact)
    value = math.nan
    if known.any():
        value = float(np.average(study.intact[known], weights=study.support[known]))
    limit = "none"
    fine = True
    if wanted is not None:
        limit = f"at least {percent(wanted)}"
        fine = value >= wanted
    yield Check(name, f"{percent(value)} of {study.n_images} test images", limit, fine, _null(value))


def _shortcuts(run: RunData, limits: Limits) -> Iterator[Check]:
    found = run.shortcuts
    most = limits.max_suspicion
    if found is None:
        refused = run.entry("stages", "shortcuts").get("refused")
        if refused is None or most is not None:
            why = refused or f"run `{run.command('shortcuts')}` first, or leave it out (--allow-shortcuts)"
            if limits.fail_on_shortcut or most is not None:
                raise RunFolderError(f"{str(run.folder)!r} was not searched for shortcuts: {why}")
            return
        yield Check("shortcuts", f"not searched: {refused}", "none", None)
        return
    limit = "none"
    if limits.fail_on_shortcut:
        limit = "no class beyond what is usual"
    named = ", ".join(f"{run.classes[one.index]} ({part_words(one.part)})" for one in found.suspicious)
    count = len(found.suspicious)
    yield Check("shortcuts", named or "none found", limit, not (count and limits.fail_on_shortcut), count)
    known = [one for one in found.classes if math.isfinite(one.suspicion)]
    if not known:
        if most is not None:
            raise RunFolderError("--max-suspicion came, and the classes have too few images for any suspicion")
        return
    worst = max(known, key=lambda one: one.suspicion)
    limit = "none"
    if most is not None:
        limit = f"at most {number_text(most)}"
    value = f"{number_text(worst.suspicion)}: {run.classes[worst.index]}, {part_words(worst.part)}"
    yield Check("suspicion", value, limit, most is None or worst.suspicion <= most, worst.suspicion)


def _field(run: RunData, limits: Limits) -> Iterator[Check]:
    n = field_count(run)
    if n is None:
        if limits.fail_on_field:
            raise RunFolderError(
                f"--fail-on-field came, and no images from the field were looked at; run `{run.command('shortcuts')} "
                "--field FOLDER` first"
            )
        return
    found = [] if run.shortcuts is None else run.shortcuts.drawn
    shared = {run.classes[one.index]: shared_by(run, one) for one in found if one.source == "field"}
    named = ", ".join(f"{name} ({count} images)" for name, count in shared.items() if count)
    limit = "nothing shared by images that a class draws" if limits.fail_on_field else "none"
    value = named or f"nothing shared by {n} images"
    yield Check("field", value, limit, not (named and limits.fail_on_field), sum(map(bool, shared.values())))


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None
