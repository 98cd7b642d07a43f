"""Two run folders made by hand that differ in known ways, for tests of comparing and checking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helpers.report_fixture import make_run
from interpnet.ablation import Answers, as_result
from interpnet.scores import ScoreTable
from interpnet.support.io import write_json
from interpnet.support.types import Bools

CLASSES = 8
MEASURED = ("collect", "solve", "ablate")
#: Test images of each class.
EACH = 1000


def run_of(folder: Path, right: Mapping[int, float] | None = None, *, seed: int = 1, **options: Any) -> Path:
    """Write a run that recognises the first ``right`` of each class's images, by default nine of ten, and keep answers.

    Images 0 to 999 are of the first class, and so on; log-odds are 1 where the image is recognised, else -1.
    """
    make_run(folder, classes=CLASSES, stages=MEASURED, **options)
    shares = dict.fromkeys(range(CLASSES), 0.9) | dict(right or {})
    labels = np.repeat(np.arange(CLASSES), EACH)
    hits: Bools = np.concatenate([np.arange(EACH) < round(share * EACH) for share in shares.values()])
    answers = Answers(np.arange(len(labels)), labels, hits, np.where(hits, 1, -1).astype(np.float32))
    for name in ("ablation", "reliance"):
        path = folder / "ablation" / f"{name}.json"
        if path.is_file():
            study = json.loads(path.read_text())
            study["intact"] = [float(hits[labels == c].mean()) for c in range(CLASSES)]
            study["support"] = [EACH] * CLASSES
            as_result(study)
            write_json(path, study)
            answers.save(folder / "ablation" / f"{name}-answers.npz")
    edit(folder, lambda manifest: manifest["model"].update(fingerprint=f"{seed:064x}"))
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest of a run."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_scores(folder: Path, X: np.ndarray) -> None:
    """Give a run the scores ``X`` (n, m) of its training images."""
    from interpnet.interpretation import Interpretation

    channels = Interpretation.load(folder / "weights" / "interpretation.npz").channels
    numbers = np.zeros(len(X), dtype=np.int64)
    table = ScoreTable(X.astype(np.float32), numbers, numbers, channels, np.arange(len(X)), CLASSES)
    table.save(folder / "scores")
