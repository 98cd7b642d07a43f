"""Stage 2: the channels each class relies on, from the scores alone; needs neither model nor images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import RunFolderError
from interpnet.gram import Gram, RowGram, parts_gib
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable
from interpnet.support.csv_table import write_csv
from interpnet.support.io import write_json
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64

from ..run.chosen import worth_listing
from ..run.folder import command, digest
from ..run.notes import Notes
from ..run.selection import SELECTION_FILE, STABILITY_FILE, seldom, write_selection
from ..run.session import Session
from ..run.split import INDEPENDENT, check_settings
from .collect import GRAM_FILE, load_table
from .select import choose_mu, measure_stability, sample_weights
from .sums import FEWEST_PER_CLASS, Counted, counted, fitted_on

_VERSION = 1
FILE = "interpretation.npz"
# The settings of the section that the weights depend on.
_MU_LASSO = ("mu", "mu_rule", "positive", "fit_on", "class_weight", "stability", "seed")
# Settings newer than the first run folders, and the value that leaves such a run as it was.
_LATER = {"class_weight": "none", "stability": 0, "mu_rule": "error"}
_FILES = (f"weights/{FILE}", "weights/channels.csv", "weights/summary.json")


def solve_key(session: Session) -> str:
    """Return the key of the solve stage for the current scores and settings."""
    # Settings that came later count only where they are used, so that earlier runs stay up to date.
    config = session.config
    settings = config.section("solve")
    if config.mu == "auto" or config.stability:
        settings["seed"] = config.seed
    if config.mu != "auto":
        del settings["mu_rule"]
    used = {name: value for name, value in settings.items() if name in _MU_LASSO and _LATER.get(name) != value}
    return digest(["solve", _VERSION, session.run.key("collect"), used])


def run_solve(session: Session) -> bool:
    """Solve the mu-lasso of every class and write ``weights/``."""
    files = list(_FILES)
    if session.config.mu == "auto":
        files.append(f"weights/{SELECTION_FILE}")
    if session.config.stability:
        files.append(f"weights/{STABILITY_FILE}")
    return session.perform("solve", solve_key(session), lambda notes: _solve(session, notes), files=files)


def _solve(session: Session, notes: Notes) -> dict[str, Any]:
    config = session.config
    folder = session.run.folder("solve")
    for name in (SELECTION_FILE, STABILITY_FILE):
        (folder / name).unlink(missing_ok=True)  # an earlier choice says nothing of this one
    table = load_table(session)
    classes = tuple(session.run.known("model", "classes"))
    if session.independent:
        check_settings(config)
        fit_on = "labels"
    else:
        fit_on = _target(counted(session), config.fit_on, notes)
    mu = config.mu
    rule = "given"
    if mu == "auto":
        curve = choose_mu(table, fit_on, config, classes, notes)
        write_selection(folder, curve)
        mu = float(curve.chosen)
        rule = curve.rule
    info = {
        "norm": config.norm,
        "normalisation": table.info.get("normalisation", "layer"),
        "fit_on": fit_on,
        "n_images": len(table),
        "mu_rule": rule,
        "class_weight": config.class_weight,
    }
    if session.independent:
        info["outputs"] = INDEPENDENT
    gram = _gram(session, table, fit_on)
    with progress_bar("Solving", len(classes), unit="classes"):
        found = interpret(gram, classes=classes, channels=table.channels, mu=mu, positive=config.positive, info=info)
    route = _route(gram)
    if route:
        notes.add(
            f"The weights were found on working sets of the {len(table.channels):,} channels and certified on all of "
            f"them, in {route['passes']} passes over the scores: a Gram matrix would take "
            f"{parts_gib(len(table.channels), 1):.1f} GiB."
        )
    del gram  # stability needs that room
    frequency = None
    if config.stability:
        frequency = measure_stability(table, fit_on, config, mu, len(classes), folder)
    found.save(folder / FILE)
    write_csv(folder / "channels.csv", *channel_rows(found, frequency))
    counts = images_of(table.targets(fit_on), len(classes))
    summary = summarise(found, counts, frequency)
    write_json(folder / "summary.json", summary)
    silent = [c["name"] for c in summary["classes"] if not c["n_relevant"] and c["n_images"]]
    if silent:
        notes.add(f"Classes with images but without a relevant channel ({len(silent)}): {', '.join(silent[:10])}")
    if rule != "given" and summary["mean_relevant"] > len(table.channels) / 2:
        notes.add(
            f"The chosen mu = {mu:.3g} names {summary['mean_relevant']:.0f} of {len(table.channels)} channels per "
            "class: nearly every channel helps to predict, so being named says little. A smaller --mu names fewer; the "
            "curve shows what that costs."
        )
    return {
        "mu": mu,
        "mu_rule": rule,
        "positive": config.positive,
        "norm": config.norm,
        "fit_on": fit_on,
        "class_weight": config.class_weight,
        "stability": config.stability,
        "mean_relevant": summary["mean_relevant"],
        "worst_gap": summary["worst_gap"],
        **route,
    }


def _route(gram: Gram | RowGram) -> dict[str, Any]:
    """Return how the weights were found where no Gram matrix was made: by how many passes over the scores."""
    if isinstance(gram, Gram):
        return {}
    return {"route": "working sets", "passes": gram.passes, "column_reads": gram.reads}


def images_of(targets: npt.NDArray[Any], n_classes: int) -> Int64:
    """Return how many images each class has, by class numbers (N,) or targets (N, C)."""
    if targets.ndim > 1:
        counts: Int64 = (targets > 0.5).sum(0)
        return counts
    return np.bincount(targets, minlength=n_classes)


def _gram(session: Session, table: ScoreTable, fit_on: str) -> Gram | RowGram:
    """Return the sums that the collection left where they are those of this fit, else what is made of the scores."""
    weights = sample_weights(np.asarray(table.targets(fit_on)), session.config)
    saved = session.run.folder("collect") / GRAM_FILE
    if fit_on == "labels" and weights is None and saved.is_file():
        return Gram.load(saved)
    with progress_bar("Summing scores", len(table)):
        return table.gram_or_rows(fit_on, sample_weight=weights)


def _target(images: Counted, wanted: str, notes: Notes) -> str:
    if wanted == "predictions":
        notes.add("Fitted on the network's predictions rather than the labels, as asked (--fit-on predictions).")
    found = fitted_on(images.images, images.classes, wanted)
    if found != "labels" and wanted == "auto":
        per_class = f"{images.images / images.classes:.2g} images per class on average"
        if images.by_outputs:
            per_class += " (over all outputs, as an older version counted that began this run; --fresh counts anew)"
        notes.add(
            f"The labels give {per_class}, fewer than {FEWEST_PER_CLASS}: fitted on the network's predictions instead, "
            "so the channels are those of what the network says (--fit-on labels overrides)."
        )
    return found


def channel_rows(found: Interpretation, frequency: Float64 | None = None) -> tuple[list[str], list[list[Any]]]:
    """Return header and a row per relevant channel: class, rank, layer, index, weight; frequency (C, m) where known."""
    header = ["class", "rank", "layer", "index", "weight"]
    if frequency is not None:
        header.append("frequency")
    rows: list[list[Any]] = []
    for c, name in enumerate(found.classes):
        often = []
        if frequency is not None:
            often = frequency[c, found.columns(c)].tolist()
        for rank, (channel, weight) in enumerate(found.relevant(c)):
            row = [name, rank + 1, channel.layer, channel.index, weight]
            rows.append(row + often[rank : rank + 1])
    return header, rows


def summarise(found: Interpretation, counts: Int64, frequency: Float64 | None = None) -> dict[str, Any]:
    """Return every class's images, channels, gap and layers, and with frequencies (C, m) how many are seldom named.

    Of very many classes without images and channels nothing is said.
    """
    share = found.layer_relevance()
    classes: list[dict[str, Any]] = []
    for c in worth_listing((counts > 0) | (found.counts > 0)):
        columns = found.columns(c)
        entry: dict[str, Any] = {"index": c, "name": found.classes[c], "n_images": int(counts[c])}
        entry["n_relevant"] = len(columns)
        entry["n_positive"] = len(found.columns(c, "positive"))
        if frequency is not None:
            entry["n_seldom"] = sum(seldom(float(frequency[c, column])) for column in columns)
        entry["l1"] = float(np.abs(found.coef[c]).sum())
        entry["gap"] = float(found.gaps[c])
        by_layer = zip(found.channels.layers, share[c], strict=True)
        entry["layers"] = {layer: float(part) for layer, part in by_layer if part > 0}
        classes.append(entry)
    used = [entry["n_relevant"] for entry in classes if entry["n_images"]]
    return {
        "mu": found.mu,
        "positive": found.positive,
        "info": dict(found.info),
        "n_channels": len(found.channels),
        "mean_relevant": float(np.mean(used or [0])),
        "worst_gap": float(found.gaps.max()),
        "classes": classes,
    }


def load_interpretation(session: Session) -> Interpretation:
    """Open the weights of the solve stage; one that has not run with the present settings is a RunFolderError."""
    require_current(session, "solve", solve_key(session))
    return Interpretation.load(Path(session.run.folder("solve")) / FILE)


def require_current(session: Session, stage: str, key: str) -> None:
    """Refuse what a stage wrote for other inputs than ``key`` stands for."""
    if session.run.key(stage) != key:
        raise RunFolderError(
            f"run folder {str(session.run.path)!r}: what the stage {stage!r} wrote belongs to earlier settings or "
            f"inputs; run `interpnet {command(stage)} {session.run.path}` again"
        )
    session.run.verify(stage)
