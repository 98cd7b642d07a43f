"""``interpnet check``: whether a finished audit keeps to limits, for a script that goes on or stops; files alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.errors import RunFolderError

from ..comparing.pair import finished
from ..report.drawn import field_count, shared_by
from ..report.load import RunData, load_run
from ..report.numbers import number_text, percent
from ..report.shortcuts import part_words
from ..run.check_settings import CheckSettings
from ..run.config import EARLIER, RunConfig
from ..run.folder import CONFIG
from ..run.manifest import read_manifest

FORMAT = "interpnet-check-1"
#: Classes in a finding.
MOST_NAMED = 5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    value: str  # in words
    limit: str
    passed: bool | None  # None where it could not be looked at
    number: float | None = None

    @property
    def sentence(self) -> str:
        """What was found, with the limit where there is one."""
        if self.limit == "none":
            return self.value
        return f"{self.value}; limit: {self.limit}"


def limits_of(folder: Path, file: Path | None = None) -> RunConfig:
    """Return the settings that hold a run's limits: those of a file, by default the run's own ``run.toml``.

    ``RunFolderError`` for no run folder, a file that cannot be read, and a name in it that is none, with the nearest.
    """
    read_manifest(folder)
    if file is None:
        file = folder / CONFIG
        # A run is made without one by no version, but without it there are no limits.
        if not file.is_file():
            return RunConfig()
    return RunConfig.load(file, missing=EARLIER)


def checks(folder: Path, limits: CheckSettings, known: frozenset[tuple[str, str]] = frozenset()) -> tuple[Check, ...]:
    """Compare a run folder with limits; classes that are ``known`` to go by a part (name, part) may do so.

    What a stage left that did not end counts as not measured.
    ``RunFolderError`` for no run folder, a damaged file in it, or a limit on what the run has not measured, with the
    command that measures it.
    """
    run, _ = finished(load_run(folder))
    return (*_accuracy(run, limits), *_recall(run, limits), *_shortcuts(run, limits, known), *_field(run, limits))


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


def _accuracy(run: RunData, limits: CheckSettings) -> Iterator[Check]:
    study = run.study
    wanted = limits.min_accuracy
    if study is None:
        if wanted is not None:
            raise _unmeasured(run, "--min-accuracy")
        return
    name = "accuracy"
    if run.independent:
        name = "recall over labels"
    known = (study.support > 0) & np.isfinite(study.recall)
    value = math.nan
    if known.any():
        value = float(np.average(study.recall[known], weights=study.support[known]))
    limit = "none"
    fine = True
    if wanted is not None:
        limit = f"at least {percent(wanted)}"
        fine = value >= wanted
    yield Check(name, f"{percent(value)} of {study.n_images} test images", limit, fine, _null(value))


def _unmeasured(run: RunData, option: str) -> RunFolderError:
    return RunFolderError(f"{option} came, and no test image has been looked at; run `{run.command('ablate')}` first")


def _recall(run: RunData, limits: CheckSettings) -> Iterator[Check]:
    study = run.study
    wanted = limits.min_recall
    if wanted is None:
        return
    if study is None:
        raise _unmeasured(run, "--min-recall")
    known = np.flatnonzero((study.support > 0) & np.isfinite(study.recall))
    if not len(known):
        raise RunFolderError("--min-recall came, and no class has test images")
    order = known[np.argsort(study.recall[known], kind="stable")]
    below = [c for c in order.tolist() if study.recall[c] < wanted] or order[:1].tolist()
    named = ", ".join(f"{run.classes[c]} {percent(study.recall[c])} of {study.support[c]}" for c in below[:MOST_NAMED])
    if len(below) > MOST_NAMED:
        named += f" and {len(below) - MOST_NAMED} more"
    least = float(study.recall[order[0]])
    yield Check("recall of each class", named, f"at least {percent(wanted)}", least >= wanted, least)


def _shortcuts(run: RunData, limits: CheckSettings, known: frozenset[tuple[str, str]]) -> Iterator[Check]:
    found = run.shortcuts
    most = limits.max_suspicion
    forbidden = limits.fail_on_shortcut is not False
    if found is None:
        refused = run.entry("stages", "shortcuts").get("refused")
        if refused is None or most is not None:
            why = refused or f"run `{run.command('shortcuts')}` first, or leave it out (--allow-shortcuts)"
            if forbidden or most is not None:
                raise RunFolderError(f"{str(run.folder)!r} was not searched for shortcuts: {why}")
            return
        yield Check("shortcuts", f"not searched: {refused}", "none", None)
        return
    limit = "none"
    if forbidden:
        limit = "no class beyond what is usual"
    new = [one for one in found.suspicious if (one.name, one.part) not in known]
    named = ", ".join(f"{run.classes[one.index]} ({part_words(one.part)})" for one in new) or "none found"
    if len(new) < len(found.suspicious):
        named += f"; {len(found.suspicious) - len(new)} that the baseline has, too"
    yield Check("shortcuts", named, limit, not (new and forbidden), len(new))
    measured = [one for one in found.classes if math.isfinite(one.suspicion)]
    if not measured:
        if most is not None:
            raise RunFolderError("--max-suspicion came, and the classes have too few images for any suspicion")
        return
    worst = max(measured, key=lambda one: one.suspicion)
    limit = "none"
    if most is not None:
        limit = f"at most {number_text(most)}"
    value = f"{number_text(worst.suspicion)}: {run.classes[worst.index]}, {part_words(worst.part)}"
    yield Check("suspicion", value, limit, most is None or worst.suspicion <= most, worst.suspicion)


def _field(run: RunData, limits: CheckSettings) -> Iterator[Check]:
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
