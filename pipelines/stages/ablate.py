"""Stage 3: remove the channels of each class and measure what it costs, against controls."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from interpnet.ablation import AblationResult, ablation_study
from interpnet.support.io import read_json, write_json, write_text

from ..run.folder import digest
from ..run.session import Notes, Session
from .collect import load_table
from .solve import load_interpretation, require_current, solve_key

_VERSION = 1
_CHECKPOINT = "measured.json"
_FILES = ("ablation/ablation.json", "ablation/ablation.csv")


def ablate_key(session: Session) -> str:
    """Return the key of the ablate stage for the current weights, test images and settings."""
    identity = session.run.manifest["identity"]
    images = identity["set of test images"]
    return digest(
        ["ablate", _VERSION, solve_key(session), images, session.config.section("ablate"), session.config.seed]
    )


def run_ablate(session: Session) -> bool:
    """Run the ablation study on the test images and write ``ablation/``."""
    load_interpretation(session)  # refuses stale weights before the model is loaded
    session.open_subject()
    return session.perform("ablate", ablate_key(session), lambda notes: _ablate(session, notes), files=_FILES)


def _ablate(session: Session, notes: Notes) -> dict[str, Any]:
    subject, config = session.subject, session.config
    indices = subject.test_indices()
    batches = subject.test.batches(batch_size=config.batch_size, workers=config.workers, indices=indices)
    if len(indices) < len(subject.test.labels):
        notes.add(
            f"Ablation is measured on {len(indices)} of {len(subject.test.labels)} test images, balanced by class."
        )
    folder = session.run.folder("ablate")
    result = ablation_study(
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
        key=ablate_key(session),
    )
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    skipped = [[s.index, s.name, s.reason] for s in batches.loader.skipped]
    session.run.manifest["data"]["test"]["skipped"] = skipped
    if skipped:
        notes.add(f"{len(skipped)} test images could not be read and were left out.")
    without = [name for name, n in zip(result.classes, result.support, strict=True) if n == 0]
    if without:
        notes.add(f"Classes without a test image, so without recall ({len(without)}): {', '.join(without[:10])}")
    write_json(folder / "ablation.json", result.to_json())
    write_text(folder / "ablation.csv", ablation_csv(result))
    relevant = result.condition("relevant")
    return {
        "n_images": result.n_images,
        "repeats": result.repeats,
        "fill": result.fill,
        "mean_intact": _plain(result.mean_intact),
        "mean_relevant": _plain(relevant.mean_own()),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def ablation_csv(result: AblationResult) -> str:
    """Return one line a condition, repeat and class: recalls of the class itself and of the others."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["condition", "layers", "repeat", "class", "images", "removed", "intact", "own", "others"])
    for condition in result.conditions:
        for repeat in range(condition.own.shape[0]):
            for c, name in enumerate(result.classes):
                numbers = (
                    condition.removed[c], result.intact[c], condition.own[repeat, c], condition.others[repeat, c]
                )  # fmt: skip
                shown = ["" if math.isnan(v) else f"{v:.6g}" for v in numbers]
                writer.writerow([condition.name, condition.layers, repeat, name, int(result.support[c]), *shown])
    return text.getvalue()


def load_ablation(session: Session) -> AblationResult | None:
    """Open the study of the present weights, or return None where it was not run.

    Raises
    ------
    RunFolderError
        There is one, of earlier weights or settings.
    """
    if session.run.stage("ablate").get("state") != "complete":
        return None
    require_current(session, "ablate", ablate_key(session))
    return AblationResult.from_json(read_json(session.run.folder("ablate") / "ablation.json"))
