"""Stage 3: remove the channels of each class and measure what it costs, against controls."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from interpnet.ablation import (
    CONTROLS,
    AblationResult,
    Condition,
    ablation_study,
    as_result,
    checkpoints_beside,
    find_condition,
)
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.reliance import Contributions
from interpnet.support.csv_table import write_csv
from interpnet.support.io import read_object, write_json
from interpnet.support.types import Float64

from ..run.chosen import Chosen, chosen, covers, key_part, noted, numbers_of, studied_by, worth_listing
from ..run.config import MU_LASSO, RELIANCE
from ..run.folder import ANSWERS, digest
from ..run.notes import Notes
from ..run.own_code import short_names
from ..run.session import Session
from .collect import load_table
from .contributions import load_contributions
from .identified import load_way, way_key
from .solve import require_current
from .sums import outputs_of

_VERSION = 1  # a change of what the stage writes makes earlier results stale
# The study of each way to name channels: its stage, and what its files are called.
STAGES = {MU_LASSO: "ablate", RELIANCE: "ablate-reliance"}
_STEMS = {MU_LASSO: "ablation", RELIANCE: "reliance"}
# What an interrupted study has measured.
_CHECKPOINTS = {MU_LASSO: "measured.json", RELIANCE: "reliance-measured.json"}
_COLUMNS = ("condition", "layers", "repeat", "class", "images", "removed", "intact", "own", "others")
# Where an image can have several labels; the last two of the named channels of all layers alone.
_OF_LABELS = ("false_alarms_intact", "precision_intact", "false_alarms_own", "precision_own")


def ablate_key(session: Session, way: str = MU_LASSO) -> str:
    """Return the key of the study of one way to name channels: of these, the test images and settings."""
    wanted = chosen(session)
    entry = session.run.stage(STAGES[way])
    done = studied_by(entry)
    # The study of more classes has all that is wanted of fewer.
    if entry.get("state") == "complete" and covers(done, wanted) and entry["key"] == _key(session, way, done):
        return str(entry["key"])
    return _key(session, way, wanted)


def _key(session: Session, way: str, only: Chosen) -> str:
    images = session.run.known("identity", "set of test images")
    config = session.config
    settings = config.section("ablate")
    # As runs of all classes, and without rankings, always had it.
    del settings["only"]
    rankings = settings.pop("rankings")
    own: list[Any] = []
    if rankings:
        own = [rankings, session.own_code("rankings")]
    return digest(["ablate", _VERSION, way_key(session, way), images, settings, config.seed, *own, *key_part(only)])


def run_ablate(session: Session) -> bool:
    """Run the ablation study of each way to name channels on the test images; return whether one of them ran."""
    for way in session.config.ways:
        load_way(session, way)  # refuses stale ones before the model is loaded
    session.open_subject()
    ran = [_run(session, way) for way in sorted(session.config.ways)]
    return any(ran)


def _run(session: Session, way: str) -> bool:
    files = [f"ablation/{_STEMS[way]}{end}" for end in (".json", ".csv", ANSWERS)]
    work = partial(_ablate, session, way)
    outdated = partial(_outdated, session, way)
    return session.perform(STAGES[way], ablate_key(session, way), work, files=files, check=outdated, split=True)


def _outdated(session: Session, way: str) -> dict[str, str]:
    """Find a study in which images of other classes lost the channels of classes that have none."""
    name = f"ablation/{_STEMS[way]}.json"
    relevant = find_condition(as_result(read_object(session.run.path / name)), "relevant")
    if relevant is None or not relevant.changes or not (relevant.removed > 0).any():
        return {}
    if not np.isfinite(relevant.others[:, relevant.removed == 0]).any():
        return {}
    return {name: "is of an older version, in whose study images of other classes lost the channels of classes without"}


def _ablate(session: Session, way: str, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    config = session.config
    indices = subject.test_indices()
    batches = subject.batches(subject.test, indices)
    if len(indices) < len(subject.test.data):
        notes.add(f"Ablation is measured on {len(indices)} of {len(subject.test.data)} test images, balanced by class.")
    only = chosen(session)
    folder = session.run.folder("ablate")
    result = ablation_study(  # docs/method.md, section 6
        subject.model,
        batches,
        load_way(session, way),
        table=load_table(session),
        controls=(*CONTROLS, *short_names(config.rankings)),
        contributions=_contributions(session),
        repeats=config.repeats,
        seed=config.seed,
        fill=config.fill,
        device=subject.device,
        output=subject.output,
        outputs=outputs_of(session),
        checkpoint=folder / _CHECKPOINTS[way],
        only=only,
        key=ablate_key(session, way),  # by which a checkpoint of other weights is refused
        group=session.group,
    )
    if not session.ranks.first:
        return {}
    for kept in (folder / _CHECKPOINTS[way], *checkpoints_beside(folder / _CHECKPOINTS[way])):
        kept.unlink(missing_ok=True)  # the result holds it all
    skipped = [[image.index, image.name, image.reason] for image in batches.loader.skipped]
    session.run.manifest["data"]["test"]["skipped"] = skipped
    if skipped:
        notes.add(f"{len(skipped)} test images could not be read and were left out.")
    if result.why_whole:
        notes.add(f"The study took longer than it has to: {result.why_whole}.")
    without = [result.classes[c] for c in numbers_of(result.classes, only) if result.support[c] == 0]
    if without:
        notes.add(f"Classes without a test image, so without recall ({len(without)}): {', '.join(without[:10])}")
    write_json(folder / f"{_STEMS[way]}.json", result.to_json())
    if result.answers is not None:
        there = indices[~np.isin(indices, [image.index for image in batches.loader.skipped])]
        replace(result.answers, images=there[result.answers.images]).save(folder / f"{_STEMS[way]}{ANSWERS}")
    columns = [*_COLUMNS, *_OF_LABELS[: len(_OF_LABELS) * result.independent]]
    write_csv(folder / f"{_STEMS[way]}.csv", columns, ablation_rows(result))
    return {
        "n_images": result.n_images,
        "repeats": result.repeats,
        "fill": result.fill,
        **noted(only),
        "mean_intact": _plain(result.mean_intact),
        "mean_relevant": _plain(result.condition("relevant").mean_own()),
    }


def _contributions(session: Session) -> Contributions | None:
    """Return what rankings of the user's own may look at, where it was collected."""
    if not session.config.rankings or RELIANCE not in session.config.ways:
        return None
    return load_contributions(session)


def _plain(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def ablation_rows(result: AblationResult) -> list[list[Any]]:
    """Return one row per condition, repeat and class: recalls of the class itself and of the others.

    Of very many classes that have neither test images nor channels to remove there are no rows.
    """
    rows = []
    for condition in result.conditions:
        kept = set(worth_listing((result.support > 0) | (condition.removed > 0)))
        for repeat, (own, others) in enumerate(zip(condition.own, condition.others, strict=True)):
            more = _of_labels(result, condition)
            columns = zip(condition.removed, result.intact, own, others, *more, strict=True)
            named = zip(result.classes, result.support, columns, strict=True)
            for c, (name, support, numbers) in enumerate(named):
                if c not in kept or not covers(result.only, (c,)):
                    continue
                shown = ["" if math.isnan(value) else f"{value:.6g}" for value in numbers]
                rows.append([condition.name, condition.layers, repeat, name, int(support), *shown])
    return rows


def _of_labels(result: AblationResult, condition: Condition) -> list[Float64]:
    """Return false alarms and precision, whole and without a label's channels; nothing where an image has one label."""
    if not result.independent:
        return []
    without = [result.false_alarms_removed, result.precision_removed]
    if (condition.name, condition.layers) != ("relevant", "all"):
        without = [None, None]
    unknown = np.full(len(result.classes), math.nan)
    found = [result.false_alarms, result.precision, *without]
    return [unknown if values is None else values for values in found]


def studied(session: Session, way: str) -> bool:
    """Whether the channels that one way names were removed."""
    return session.run.stage(STAGES[way]).get("state") == "complete"


def load_ablation(session: Session, way: str = MU_LASSO) -> AblationResult | None:
    """Open a study of the chosen classes, or return None where it was not run; ``RunFolderError`` for a stale one."""
    if not studied(session, way):
        return None
    require_current(session, STAGES[way], ablate_key(session, way))
    path = session.run.folder("ablate") / f"{_STEMS[way]}.json"
    try:
        result = as_result(read_object(path))
        only = chosen(session)
        if only is not None:
            result = result.restricted(only)
    except InterpNetError as error:
        raise RunFolderError(f"{str(path)!r} cannot be used: {error}") from error
    return result
