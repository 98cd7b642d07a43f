"""Stage 3: remove the channels of each class and measure what it costs, against controls."""

from __future__ import annotations

import math
from typing import Any

from interpnet.ablation import AblationResult, ablation_study, as_result
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.csv_table import write_csv
from interpnet.support.io import read_object, write_json

from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .collect import load_table
from .solve import load_interpretation, require_current, solve_key

_VERSION = 1  # a change of what the stage writes makes earlier results stale
_CHECKPOINT = "measured.json"  # what an interrupted study has measured
_FILES = ("ablation/ablation.json", "ablation/ablation.csv")
_COLUMNS = ("condition", "layers", "repeat", "class", "images", "removed", "intact", "own", "others")


def ablate_key(session: Session) -> str:
    """Return the key of the ablate stage for the current weights, test images and settings."""
    images = session.run.known("identity", "set of test images")
    config = session.config
    return digest(["ablate", _VERSION, solve_key(session), images, config.section("ablate"), config.seed])


def run_ablate(session: Session) -> bool:
    """Run the ablation study on the test images and write ``ablation/``."""
    load_interpretation(session)  # refuses stale weights before the model is loaded
    session.open_subject()
    return session.perform("ablate", ablate_key(session), lambda notes: _ablate(session, notes), files=_FILES)


def _ablate(session: Session, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    config = session.config
    indices = subject.test_indices()
    batches = subject.batches(subject.test, indices)
    if len(indices) < len(subject.test.labels):
        notes.add(
            f"Ablation is measured on {len(indices)} of {len(subject.test.labels)} test images, balanced by class."
        )
    folder = session.run.folder("ablate")
    result = ablation_study(  # docs/method.md, section 6
        subject.model,
        batches,
        load_interpretation(session),
        table=load_table(session),
        repeats=config.repeats,
        seed=config.seed,
        fill=config.fill,
        device=subject.device,
        output=subject.output,
        checkpoint=folder / _CHECKPOINT,
        key=ablate_key(session),  # by which a checkpoint of other weights is refused
    )
    (folder / _CHECKPOINT).unlink(missing_ok=True)  # the result holds it all
    skipped = [[image.index, image.name, image.reason] for image in batches.loader.skipped]
    session.run.manifest["data"]["test"]["skipped"] = skipped
    if skipped:
        notes.add(f"{len(skipped)} test images could not be read and were left out.")
    without = [name for name, n in zip(result.classes, result.support, strict=True) if n == 0]
    if without:
        notes.add(f"Classes without a test image, so without recall ({len(without)}): {', '.join(without[:10])}")
    write_json(folder / "ablation.json", result.to_json())
    write_csv(folder / "ablation.csv", _COLUMNS, ablation_rows(result))
    return {
        "n_images": result.n_images,
        "repeats": result.repeats,
        "fill": result.fill,
        "mean_intact": _plain(result.mean_intact),
        "mean_relevant": _plain(result.condition("relevant").mean_own()),
    }


def _plain(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def ablation_rows(result: AblationResult) -> list[list[Any]]:
    """Return one row per condition, repeat and class: recalls of the class itself and of the others."""
    rows = []
    for condition in result.conditions:
        for repeat, (own, others) in enumerate(zip(condition.own, condition.others, strict=True)):
            columns = zip(condition.removed, result.intact, own, others, strict=True)
            for name, support, numbers in zip(result.classes, result.support, columns, strict=True):
                shown = ["" if math.isnan(value) else f"{value:.6g}" for value in numbers]
                rows.append([condition.name, condition.layers, repeat, name, int(support), *shown])
    return rows


def load_ablation(session: Session) -> AblationResult | None:
    """Open the study, or return None where it was not run; ``RunFolderError`` for one of earlier settings."""
    if session.run.stage("ablate").get("state") != "complete":
        return None
    require_current(session, "ablate", ablate_key(session))
    path = session.run.folder("ablate") / "ablation.json"
    try:
        return as_result(read_object(path))
    except InterpNetError as error:
        raise RunFolderError(f"{str(path)!r} cannot be used: {error}") from error
