"""What a tracker is told of a finished audit: settings, numbers, words and files; reads the run folder alone."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, by_class, find_condition, finite_mean
from interpnet.errors import RunFolderError
from interpnet.support.io import read_json

from ..report.audited import title
from ..report.load import RunData, load_run, reading

_PAGE = "report/index.html"
_SUMMARY = "report/report.json"
#: Numbers of single classes are logged of so many classes at most; ``classes.csv`` has all.
MOST_CLASSES = 100
# What every tracker takes in the name of a number.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_. :-]")


@dataclass(frozen=True)
class Facts:
    """What is logged of one run."""

    name: str  # of the run folder
    title: str  # the model and the data
    settings: Mapping[str, str]  # of run.toml, such as "solve.mu"
    numbers: Mapping[str, float]  # finite
    words: Mapping[str, str]  # verdicts, versions and fingerprints
    files: Sequence[Path]  # the report and what lies beside it

    @property
    def page(self) -> Path:
        """The report."""
        return next(file for file in self.files if file.name == "index.html")

    @property
    def figures(self) -> list[Path]:
        """The report's figures."""
        return [file for file in self.files if file.suffix == ".png"]


def gather(folder: Path) -> Facts:
    """Read a run folder; ``RunFolderError`` for none, for one without a report, or for a damaged file."""
    run = load_run(folder)
    page = folder / _PAGE
    summary = folder / _SUMMARY
    if not page.is_file() or not summary.is_file():
        raise RunFolderError(f"{str(folder)!r} has no report, which is logged too; run `{run.command('report')}`")
    with reading(summary, "report", folder):
        told = dict(read_json(summary)["named"])
        verdicts = {way: told[way]["verdict"] or {} for way in run.studies}
        numbers = {name: value for name, value in _numbers(run, verdicts) if math.isfinite(value)}
        words = {f"{way}.{part}": str(said[part]) for way, said in verdicts.items() for part in said if part in _SAID}
    beside = [file for file in sorted(page.parent.iterdir()) if file.is_file()]
    whole = [folder / name for name in ("run.toml", "manifest.json")]
    return Facts(
        name=folder.resolve().name,
        title=title(run),
        settings=_settings(run.config),
        numbers=numbers,
        words=words | _origin(run),
        files=[*(file for file in whole if file.is_file()), *beside],
    )


_SAID = ("level", "headline")


def _settings(text: str) -> dict[str, str]:
    """Return the settings of ``run.toml`` as text; where the run was started is none."""
    found = {}
    for section, table in tomllib.loads(text).items():
        for name, value in table.items():
            if name == "directory":
                continue
            found[f"{section}.{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _origin(run: RunData) -> dict[str, str]:
    """Return what the numbers came from."""
    facts: dict[str, Any] = {"interpnet": run.manifest.get("interpnet"), "created": run.manifest.get("created")}
    facts["model.fingerprint"] = run.entry("model").get("fingerprint")
    for split in ("train", "test"):
        facts[f"data.{split}.fingerprint"] = run.entry("data", split).get("fingerprint")
    return {name: str(value) for name, value in facts.items() if value}


def _numbers(run: RunData, verdicts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield the names and values of the run's numbers; some are NaN."""
    yield "training_accuracy", float(run.entry("stages", "collect").get("accuracy") or math.nan)
    names = _distinct(run.classes)
    few = len(names) <= MOST_CLASSES
    if run.study is not None:
        yield "recall/intact", run.study.mean_intact
        if few:
            yield from ((f"classes/{name}/recall", float(v)) for name, v in zip(names, run.study.intact, strict=True))
    for way, found in run.named.items():
        counts = found.counts.astype(np.float64)
        if way in run.studies:
            # Classes that were not studied, by choice or for want of images, are no classes of no channels.
            counts[(counts == 0) & ~np.isfinite(run.studies[way].intact)] = math.nan
        yield f"{way}/channels", finite_mean(counts)
        if few:
            yield from ((f"{way}/classes/{name}/channels", float(n)) for name, n in zip(names, counts, strict=True))
    for way, study in run.studies.items():
        yield from ((f"{way}/{name}", value) for name, value in _of_study(study))
        yield f"{way}/verdict_shown", float(verdicts[way].get("level") == "shown")
        relevant = find_condition(study, "relevant")
        if relevant is not None and few:
            left = by_class(relevant.own)
            yield from ((f"{way}/classes/{name}/recall", float(v)) for name, v in zip(names, left, strict=True))
    if run.shortcuts is not None:
        yield "shortcuts/suspicion", run.shortcuts.suspicion
        yield "shortcuts/suspicious_classes", float(len(run.shortcuts.suspicious))


def _of_study(study: AblationResult) -> Iterator[tuple[str, float]]:
    """Yield what each condition on all layers leaves and changes, means over classes."""
    for condition in study.conditions:
        if condition.layers != "all":
            continue
        name = _plain(condition.name)
        yield f"recall/{name}", condition.mean_own()
        yield f"recall_of_others/{name}", condition.mean_others()
        odds = condition.changes.get("log_odds")
        if odds is not None:
            yield f"log_odds_change/{name}", odds.own.overall()


def _plain(name: str) -> str:
    return _FORBIDDEN.sub("_", name).strip() or "_"


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names that every tracker takes, each still its own.

    Examples
    --------
    >>> _distinct(["cat", "Bär", "B/r"])
    ['cat', 'B_r 1', 'B_r 2']
    """
    plain = [_plain(name) for name in names]
    return [f"{name} {i}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]
