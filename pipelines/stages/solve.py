"""Stage 2: the channels each class relies on, from the scores alone; needs neither model nor images."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from interpnet._io import write_json, write_text
from interpnet.gram import Gram
from interpnet.relevance import Interpretation, interpret
from interpnet.score_table import ScoreTable
from pipelines.run_folder import digest
from pipelines.session import Notes, Session
from pipelines.stages.collect import GRAM_FILE, load_table

_VERSION = 1
#: Below so many labelled images a class on average, the fit follows the network's own predictions.
FEWEST_PER_CLASS = 5
FILE = "interpretation.npz"
_FILES = (f"weights/{FILE}", "weights/channels.csv", "weights/summary.json")


def solve_key(session: Session) -> str:
    """Return the key of the solve stage for the current scores and settings."""
    return digest(["solve", _VERSION, session.run.key("collect"), session.config.section("solve")])


def run_solve(session: Session) -> bool:
    """Solve the mu-lasso of every class and write ``weights/``."""
    return session.perform("solve", solve_key(session), lambda notes: _solve(session, notes), files=_FILES)


def _solve(session: Session, notes: Notes) -> dict[str, Any]:
    config, folder = session.config, session.run.folder("solve")
    table = load_table(session)
    classes = model_classes(session)
    fit_on = _target(table, len(classes), config.fit_on, notes)
    saved = session.run.folder("collect") / GRAM_FILE
    gram = Gram.load(saved) if fit_on == "labels" and saved.is_file() else table.gram(fit_on)
    info = {
        "norm": config.norm,
        "normalisation": table.info.get("normalisation", "layer"),
        "fit_on": fit_on,
        "n_images": len(table),
    }
    found = interpret(gram, classes=classes, channels=table.channels, mu=config.mu, positive=config.positive, info=info)
    found.save(folder / FILE)
    write_text(folder / "channels.csv", channels_csv(found))
    counts = np.bincount(np.asarray(table.targets(fit_on)), minlength=len(classes))
    summary = summarise(found, counts)
    write_json(folder / "summary.json", summary)
    silent = [c["name"] for c in summary["classes"] if not c["n_relevant"] and c["n_images"]]
    if silent:
        notes.add(f"Classes with images but without a relevant channel ({len(silent)}): {', '.join(silent[:10])}")
    return {
        "mu": config.mu,
        "positive": config.positive,
        "norm": config.norm,
        "fit_on": fit_on,
        "mean_relevant": summary["mean_relevant"],
        "worst_gap": summary["worst_gap"],
    }


def model_classes(session: Session) -> tuple[str, ...]:
    """Return the names of the model's outputs, as the manifest has them."""
    return tuple(session.run.manifest["model"]["classes"])


def _target(table: ScoreTable, n_classes: int, wanted: str, notes: Notes) -> str:
    if wanted != "auto":
        if wanted == "predictions":
            notes.add("Fitted on the network's predictions rather than the labels, as asked (--fit-on predictions).")
        return wanted
    mean = len(table) / n_classes
    if mean >= FEWEST_PER_CLASS:
        return "labels"
    notes.add(
        f"The labels give {mean:.2g} images a class on average, fewer than {FEWEST_PER_CLASS}: fitted on the network's "
        "predictions instead, so the channels are those of what the network says (--fit-on labels overrides)."
    )
    return "predictions"


def channels_csv(found: Interpretation) -> str:
    """Return one line a relevant channel: class, rank, layer, index, weight."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "rank", "layer", "index", "weight"])
    for c, name in enumerate(found.classes):
        for rank, (channel, weight) in enumerate(found.relevant(c), start=1):
            writer.writerow([name, rank, channel.layer, channel.index, repr(weight)])
    return text.getvalue()


def summarise(found: Interpretation, counts: np.ndarray) -> dict[str, Any]:
    """Return, for every class, its images, channels, gap, and the layers its weight lies in."""
    share = found.layer_relevance()
    classes = [
        {
            "index": c,
            "name": name,
            "n_images": int(counts[c]),
            "n_relevant": len(found.columns(c)),
            "n_positive": len(found.columns(c, "positive")),
            "l1": float(np.abs(found.coef[c]).sum()),
            "gap": float(found.gaps[c]),
            "layers": {layer: float(share[c, j]) for j, layer in enumerate(found.channels.layers) if share[c, j] > 0},
        }
        for c, name in enumerate(found.classes)
    ]
    used = [len(found.columns(c)) for c in range(len(found.classes)) if counts[c]]
    return {
        "mu": found.mu,
        "positive": found.positive,
        "info": dict(found.info),
        "n_channels": len(found.channels),
        "mean_relevant": float(np.mean(used)) if used else 0.0,
        "worst_gap": float(found.gaps.max()),
        "classes": classes,
    }


def load_interpretation(session: Session) -> Interpretation:
    """Open the weights of the current solve stage.

    Raises
    ------
    RunFolderError
        The stage has not run, or not with the present settings.
    """
    require_current(session, "solve", solve_key(session))
    return Interpretation.load(Path(session.run.folder("solve")) / FILE)


def require_current(session: Session, stage: str, key: str) -> None:
    """Refuse what a stage wrote for other inputs than ``key`` stands for."""
    from interpnet.errors import RunFolderError

    if session.run.key(stage) != key:
        raise RunFolderError(
            f"run folder {str(session.run.path)!r}: what the stage {stage!r} wrote belongs to earlier settings or "
            f"inputs; run `interpnet {stage} {session.run.path}` again"
        )
