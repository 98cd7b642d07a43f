"""Everything the page shows as CSV and JSON beside it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, find_condition, finite_mean, interval, mean_change
from interpnet.mulasso import SelectionCurve
from interpnet.support.io import write_json, write_text

from ..run.selection import selection_json
from .load import RunData
from .verdict import Verdict
from .views import ClassView, ExampleView

TABLE_FILES = (
    "classes.csv", "channels.csv", "examples.csv", "layers.csv", "mu_curve.csv", "ablation.csv", "ablation_curve.csv",
)  # fmt: skip
# What a spreadsheet would run as a formula when a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Row = Sequence[Any]


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs as a formula; numbers stay numbers and NaN becomes empty.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell(-0.5), safe_cell(float("nan"))
    ("'=1+1", -0.5, '')
    """
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value


def write_csv(path: Path, header: Row, rows: Iterable[Row]) -> None:
    """Write a table atomically, with every cell made safe by :func:`safe_cell`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    write_text(path, buffer.getvalue())


def write_tables(
    run: RunData,
    folder: Path,
    classes: Sequence[ClassView],
    examples: Sequence[ExampleView],
    verdict: Verdict | None,
) -> list[str]:
    """Write the tables the run has numbers for, and ``report.json``; return their names."""
    tables: dict[str, tuple[Row, list[Row]]] = {}
    if classes:
        tables["classes.csv"] = _classes(classes)
        if run.weights is not None or run.pictures is not None:
            tables["channels.csv"] = _channels(classes)
    if examples:
        tables["examples.csv"] = _examples(examples)
    if run.weights is not None:
        tables["layers.csv"] = _layers(run)
    if run.selection is not None:
        tables["mu_curve.csv"] = _mu_curve(run.selection)
    if run.study is not None:
        tables["ablation.csv"] = _ablation(run.study)
        if run.study.curve is not None:
            tables["ablation_curve.csv"] = _curve(run.study)
    for name, (header, rows) in tables.items():
        write_csv(folder / name, header, rows)
    write_json(folder / "report.json", _summary(run, classes, verdict))
    return [*tables, "report.json"]


def _classes(classes: Sequence[ClassView]) -> tuple[Row, list[Row]]:
    header = (
        "index", "class", "train_images", "test_images", "relevant_channels", "recall_intact",
        "recall_relevant_removed", "recall_random_removed", "others_change", "relative_gap",
    )  # fmt: skip
    return header, [
        (c.index, c.name, c.n_train, c.n_test, c.n_relevant, c.recall, c.after, c.random, c.others, c.gap)
        for c in classes
    ]


def _channels(classes: Sequence[ClassView]) -> tuple[Row, list[Row]]:
    header = (
        "class_index", "class", "rank", "layer", "channel", "family", "weight", "frequency", "own_recall_change_alone",
        "others_recall_change_alone", "images_averaged", "field_height", "field_width",
    )  # fmt: skip
    return header, [
        (c.index, c.name, r.rank, r.layer, r.index, r.family, r.weight, r.frequency, r.own, r.others, r.count,
         *_two(r.field))
        for c in classes
        for r in c.channels
    ]  # fmt: skip


def _two(field: tuple[int, ...]) -> tuple[int | None, int | None]:
    return (field[0], field[1]) if len(field) == 2 else (None, None)


def _examples(examples: Sequence[ExampleView]) -> tuple[Row, list[Row]]:
    header = ("image", "dataset_index", "true", "predicted", "explained", "confidence", "channels", "note")
    return header, [
        (e.name, e.dataset_index, e.true, e.predicted, e.explained, e.confidence,
         "; ".join(f"{shot.title} ({shot.caption})" for shot in e.heatmaps if shot.title != "combined"), e.note)
        for e in examples
    ]  # fmt: skip


def layer_rows(run: RunData) -> list[tuple[str, int, float, int]]:
    """Return (layer, channels, mean share of |weight| over classes that have any, relevant in any class)."""
    if run.weights is None:
        return []
    shares = run.weights.layer_relevance()
    shares = shares[shares.sum(1) > 0]
    channels = run.weights.channels
    relevant = (run.weights.coef != 0).any(0)
    used = [int(relevant[channels.slice(name)].sum()) for name in channels.layers]
    means = shares.mean(0) if len(shares) else np.zeros(len(used))
    return [(*layer, float(m), u) for layer, m, u in zip(channels.sizes, means, used, strict=True)]


def _layers(run: RunData) -> tuple[Row, list[Row]]:
    return ("layer", "channels", "mean_share_of_abs_weight", "channels_relevant_to_any_class"), list(layer_rows(run))


def _mu_curve(found: SelectionCurve) -> tuple[Row, list[Row]]:
    header = ("mu", "error_mean", "error_se", "accuracy_mean", "accuracy_se", "channels_mean", "chosen")
    unknown = [None] * len(found.mus)
    accuracy = unknown if found.accuracy_mean is None else found.accuracy_mean.tolist()
    accuracy_se = unknown if found.accuracy_se is None else found.accuracy_se.tolist()
    chosen = [int(t == found.position(float(found.chosen))) for t in range(len(found.mus))]
    columns = (
        found.mus.tolist(), found.error_mean.tolist(), found.error_se.tolist(), accuracy, accuracy_se,
        found.channels_mean.tolist(), chosen,
    )  # fmt: skip
    return header, list(zip(*columns, strict=True))


def _ablation(study: AblationResult) -> tuple[Row, list[Row]]:
    header = (
        "condition", "layers", "mean_removed", "repeats", "own_recall", "own_low", "own_high", "others_change",
        "others_change_low", "others_change_high",
    )  # fmt: skip
    rows: list[Row] = [("intact", "", 0, 1, study.mean_intact, None, None, 0.0, None, None)]
    for c in study.conditions:
        change, ends = mean_change(study, c)
        repeats = c.own.shape[0]
        bounds = (c.interval_own(), ends) if repeats > 1 else ((None, None), (None, None))
        own = (c.name, c.layers, finite_mean(c.removed), repeats, c.mean_own(), *bounds[0])
        rows.append((*own, change, *bounds[1]))
    return header, rows


def _curve(study: AblationResult) -> tuple[Row, list[Row]]:
    header = ("k", "own_recall", "random_recall", "random_low", "random_high")
    if study.curve is None:
        return header, []
    rows: list[Row] = []
    for k, own, random in zip(study.curve.k, study.curve.own, study.curve.random, strict=True):
        draws = np.array([finite_mean(draw) for draw in random])
        rows.append((int(k), finite_mean(own), finite_mean(draws), *interval(draws)))
    return header, rows


def _summary(run: RunData, classes: Sequence[ClassView], verdict: Verdict | None) -> dict[str, Any]:
    relevant = None if run.study is None else find_condition(run.study, "relevant")
    return {
        "format": "interpnet-report-1",
        "manifest": dict(run.manifest),
        "selection": None if run.selection is None else selection_json(run.selection),
        "verdict": None
        if verdict is None
        else {
            "level": verdict.level,
            "headline": verdict.headline,
            "judgement": verdict.judgement,
            "details": list(verdict.details),
        },
        "mean_recall": {
            "intact": None if run.study is None else _null(run.study.mean_intact),
            "relevant_removed": None if relevant is None else _null(relevant.mean_own()),
        },
        "classes": [
            {
                "index": c.index,
                "name": c.name,
                "relevant_channels": c.n_relevant,
                "recall_intact": _null(c.recall),
                "recall_relevant_removed": _null(c.after),
                "others_change": _null(c.others),
            }
            for c in classes
        ],
    }


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None
