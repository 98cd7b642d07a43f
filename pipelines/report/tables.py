"""Everything the page shows as CSV and JSON beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, Curve, curve_intervals, find_condition, finite_mean, mean_change
from interpnet.mulasso import SelectionCurve
from interpnet.support.csv_table import Row, write_csv
from interpnet.support.io import write_json

from ..run.selection import selection_json
from .load import RunData
from .verdict import Verdict
from .views import ClassView, ExampleView

# Names of columns, each with "=ATTRIBUTE" where the value is called otherwise in views.py.
_CLASSES = """
    index class=name train_images=n_train test_images=n_test relevant_channels=n_relevant recall_intact=recall
    recall_relevant_removed=after recall_random_removed=random others_change=others relative_gap=gap
"""
_CHANNELS = """
    class_index class rank layer channel=index family weight frequency own_recall_change_alone=own
    others_recall_change_alone=others images_averaged=count field_height field_width
"""
_EXAMPLES = "image=name dataset_index true predicted explained confidence channels note"
_LAYERS = "layer channels mean_share_of_abs_weight channels_relevant_to_any_class"
_CURVE = "k own_recall random_recall random_low random_high"
_ABLATION = """
    condition layers mean_removed repeats own_recall own_low own_high others_change others_change_low others_change_high
"""
TABLE_FILES = (
    *("classes.csv", "channels.csv", "examples.csv", "layers.csv"),
    *("mu_curve.csv", "ablation.csv", "ablation_curve.csv"),
)


def write_tables(
    run: RunData, folder: Path, classes: Sequence[ClassView], examples: Sequence[ExampleView], verdict: Verdict | None
) -> list[str]:
    """Write the tables the run has numbers for, and ``report.json``; return their names."""
    tables: dict[str, tuple[str, Iterable[Row]]] = {}
    if classes:
        tables["classes.csv"] = (_CLASSES, _picked(_CLASSES, map(vars, classes)))
        if run.weights is not None or run.pictures is not None:
            tables["channels.csv"] = (_CHANNELS, _picked(_CHANNELS, _channels(classes)))
    if examples:
        tables["examples.csv"] = (_EXAMPLES, _picked(_EXAMPLES, map(_example, examples)))
    if run.weights is not None:
        tables["layers.csv"] = (_LAYERS, layer_rows(run))
    if run.selection is not None:
        curve = _mu_curve(run.selection)
        tables["mu_curve.csv"] = (" ".join(curve), zip(*curve.values(), strict=True))
    if run.study is not None:
        tables["ablation.csv"] = (_ABLATION, _ablation(run.study))
        if run.study.curve is not None:
            tables["ablation_curve.csv"] = (_CURVE, _removal_curve(run.study, run.study.curve))
    for name, (columns, rows) in tables.items():
        write_csv(folder / name, [column.partition("=")[0] for column in columns.split()], rows)
    write_json(folder / "report.json", _summary(run, classes, verdict))
    return [*tables, "report.json"]


def _picked(columns: str, things: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each thing, of the values that the columns name."""
    names = [column.rpartition("=")[2] for column in columns.split()]
    return [[thing[name] for name in names] for thing in things]


def _channels(classes: Sequence[ClassView]) -> Iterable[Mapping[str, Any]]:
    for c in classes:
        for row in c.channels:
            height, width = row.field if len(row.field) == 2 else (None, None)
            yield vars(row) | {"class_index": c.index, "class": c.name, "field_height": height, "field_width": width}


def _example(example: ExampleView) -> Mapping[str, Any]:
    named = [f"{shot.title} ({shot.caption})" for shot in example.heatmaps if shot.title != "combined"]
    return vars(example) | {"channels": "; ".join(named)}


def layer_rows(run: RunData) -> list[tuple[str, int, float, int]]:
    """Return (layer, channels, mean share of |weight| over classes that have any, relevant in any class)."""
    if run.weights is None:
        return []
    shares = run.weights.layer_relevance()
    shares = shares[shares.sum(1) > 0]
    channels = run.weights.channels
    relevant = (run.weights.coef != 0).any(0)
    used = [int(relevant[channels.slice(name)].sum()) for name in channels.layers]
    means = np.zeros(len(used))
    if len(shares):
        means = shares.mean(0)
    return [(*layer, float(m), u) for layer, m, u in zip(channels.sizes, means, used, strict=True)]


def _mu_curve(found: SelectionCurve) -> dict[str, list[Any]]:
    """Return the columns of the choice of mu; accuracies stay empty where they were not measured."""
    names = ("error_mean", "error_se", "accuracy_mean", "accuracy_se", "channels_mean")
    columns: dict[str, list[Any]] = {"mu": found.mus.tolist()}
    for name in names:
        curve = getattr(found, name)
        columns[name] = [None] * len(found.mus)
        if curve is not None:
            columns[name] = curve.tolist()
    chosen = found.position(float(found.chosen))
    return columns | {"chosen": [int(t == chosen) for t in range(len(found.mus))]}


def _ablation(study: AblationResult) -> list[Row]:
    rows: list[Row] = [("intact", "", 0, 1, study.mean_intact, None, None, 0.0, None, None)]
    for condition in study.conditions:
        own_ends: Row = condition.interval_own()
        change, change_ends = mean_change(study, condition)
        repeats = condition.own.shape[0]
        ends: list[Row] = [own_ends, change_ends]
        if repeats == 1:  # a single draw has no interval
            ends = [(None, None)] * 2
        facts = (condition.name, condition.layers, finite_mean(condition.removed), repeats)
        rows.append((*facts, condition.mean_own(), *ends[0], change, *ends[1]))
    return rows


def _removal_curve(study: AblationResult, curve: Curve) -> Iterable[Row]:
    _, ends = curve_intervals(study)
    for k, own, random, (low, high) in zip(curve.k, curve.own, curve.random, ends, strict=True):
        yield (int(k), finite_mean(own), finite_mean([finite_mean(draw) for draw in random]), low, high)


def _summary(run: RunData, classes: Sequence[ClassView], verdict: Verdict | None) -> dict[str, Any]:
    """Return ``report.json``, for programs: what the page says, without its pictures."""
    summary: dict[str, Any] = {
        "format": "interpnet-report-1",
        "manifest": dict(run.manifest),
        "selection": None,
        "verdict": None,
        "mean_recall": {"intact": None, "relevant_removed": None},
    }
    if run.selection is not None:
        summary["selection"] = selection_json(run.selection)
    if verdict is not None:
        words = asdict(verdict)
        del words["figures"]
        summary["verdict"] = words
    if run.study is not None:
        summary["mean_recall"]["intact"] = _null(run.study.mean_intact)
        relevant = find_condition(run.study, "relevant")
        if relevant is not None:
            summary["mean_recall"]["relevant_removed"] = _null(relevant.mean_own())
    summary["classes"] = [
        {
            "index": c.index,
            "name": c.name,
            "relevant_channels": c.n_relevant,
            "recall_intact": _null(c.recall),
            "recall_relevant_removed": _null(c.after),
            "others_change": _null(c.others),
        }
        for c in classes
    ]
    return summary


def _null(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
