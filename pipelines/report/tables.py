"""Everything the page shows as CSV and JSON beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, Curve, curve_intervals, find_condition, finite_mean
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve
from interpnet.support.csv_table import Row, write_csv
from interpnet.support.io import write_json

from ..run.selection import selection_json
from .charts import PREFIXES
from .concepts import concept_facts, concept_table
from .conditions import condition_row
from .drawn import drawn_images
from .load import RunData
from .sections import facts_of
from .shortcuts import Look, Looks
from .verdict import Verdict
from .views import ClassView, ExampleView

# Names of columns, each with "=ATTRIBUTE" where the value is called otherwise in views.py.
_CLASSES = """
    index class=name train_images=n_train test_images=n_test relevant_channels=mu-lasso:n recall_intact=recall
    recall_relevant_removed=mu-lasso:after recall_random_removed=mu-lasso:random others_change=mu-lasso:others
    relative_gap=gap log_odds_intact=log_odds log_odds_change=mu-lasso:log_odds
    others_log_odds_change=mu-lasso:others_log_odds verdict=mu-lasso:level relied_on_channels=reliance:n
    recall_relied_on_removed=reliance:after recall_random_for_relied_on=reliance:random
    others_change_for_relied_on=reliance:others log_odds_change_for_relied_on=reliance:log_odds
    others_log_odds_change_for_relied_on=reliance:others_log_odds verdict_for_relied_on=reliance:level
    named_by_both named_by_reliance_only
    named_by_weights_only not_used=n_unused training_log_odds training_log_odds_without_relied_on reliance_end
"""
# What a class has more, where an image can have several labels.
_LABELS = """
    precision_intact=precision precision_relevant_removed=mu-lasso:precision
    precision_relied_on_removed=reliance:precision
"""
_CHANNELS = """
    class_index class rank layer channel=index family weight frequency own_recall_change_alone=own
    others_recall_change_alone=others images_averaged=count field_height field_width relied_on=relied reliance
    reliance_standard_error=stderr contribution price not_used=unused own_log_odds_change_alone=own_log_odds
    own_log_odds_standard_error=own_log_odds_stderr others_log_odds_change_alone=others_log_odds
"""
_SHORTCUTS = """
    class_index=index class=name suspicious part share share_low=low share_high=high usual detectable
    taken_for_it_with_part=raised taken_for_it_without=raised_before confirmed images=n
"""
_EXAMPLES = "image=name dataset_index true predicted explained confidence channels note"
_LAYERS = "layer channels mean_share_of_abs_weight channels_relevant_to_any_class"
_CURVE = "k own_recall random_recall random_low random_high"
_ABLATION = """
    condition layers mean_removed repeats own_recall own_low own_high others_change others_change_low others_change_high
    own_log_odds_change own_log_odds_low own_log_odds_high others_log_odds_change others_log_odds_low
    others_log_odds_high
"""
_CONCEPTS = """
    layer channel=index concept category iou low high other_images_masks=null random_weights=floor
"""
_DRAWN = "class_index class source image shares_it"
_OF_EACH = ("layers.csv", "ablation.csv", "ablation_curve.csv")
TABLE_FILES = (
    *("classes.csv", "channels.csv", "examples.csv", "mu_curve.csv", "shortcuts.csv", "drawn.csv"),
    "concepts.csv",
    *(f"{prefix}{name}" for prefix in PREFIXES.values() for name in _OF_EACH),
)


def write_tables(
    run: RunData,
    folder: Path,
    classes: Sequence[ClassView],
    examples: Sequence[ExampleView],
    verdicts: Mapping[str, Verdict],
    looks: Looks | None = None,
) -> list[str]:
    """Write the tables the run has numbers for, and ``report.json``; return their names."""
    tables = make_tables(run, classes, examples, looks)
    for name, (columns, rows) in tables.items():
        write_csv(folder / name, columns, rows)
    write_json(
        folder / "report.json",
        _summary(run, classes, verdicts) | {"shortcuts": _looks(looks), "concepts": concept_facts(run)},
    )
    return [*tables, "report.json"]


def make_tables(
    run: RunData, classes: Sequence[ClassView], examples: Sequence[ExampleView], looks: Looks | None = None
) -> dict[str, tuple[list[str], list[Row]]]:
    """Return the columns and rows of the tables the run has numbers for, by the name of their files."""
    tables: dict[str, tuple[str, Iterable[Row]]] = {}
    if classes:
        columns = _CLASSES + _LABELS * run.independent
        tables["classes.csv"] = (columns, _picked(columns, map(_class, classes)))
        if run.named or run.pictures is not None:
            tables["channels.csv"] = (_CHANNELS, _picked(_CHANNELS, _channels(classes)))
    if examples:
        tables["examples.csv"] = (_EXAMPLES, _picked(_EXAMPLES, map(_example, examples)))
    if looks is not None:
        tables["shortcuts.csv"] = (_SHORTCUTS, _picked(_SHORTCUTS, map(_look, looks.classes)))
        drawn = list(drawn_images(run))
        if drawn:
            tables["drawn.csv"] = (_DRAWN, _picked(_DRAWN, drawn))
    if run.words:
        tables["concepts.csv"] = (_CONCEPTS, _picked(_CONCEPTS, concept_table(run)))
    for way, found in run.named.items():
        tables[f"{PREFIXES[way]}layers.csv"] = (_LAYERS, layer_rows(found))
    if run.selection is not None:
        curve = _mu_curve(run.selection)
        tables["mu_curve.csv"] = (" ".join(curve), zip(*curve.values(), strict=True))
    for way, study in run.studies.items():
        tables[f"{PREFIXES[way]}ablation.csv"] = (_ABLATION, _ablation(study, way))
        if study.curve is not None:
            tables[f"{PREFIXES[way]}ablation_curve.csv"] = (_CURVE, _removal_curve(study, study.curve))
    return {
        name: ([column.partition("=")[0] for column in columns.split()], list(rows))
        for name, (columns, rows) in tables.items()
    }


def _picked(columns: str, things: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each thing, of the values that the columns name."""
    names = [column.rpartition("=")[2] for column in columns.split()]
    return [[thing[name] for name in names] for thing in things]


def _class(view: ClassView) -> Mapping[str, Any]:
    """Return the values that name the columns of a class: of each way to name channels under ``WAY:NAME``."""
    values: dict[str, Any] = dict.fromkeys(column.rpartition("=")[2] for column in (_CLASSES + _LABELS).split())
    values |= vars(view) | {"n_unused": view.n_unused}
    if view.agreement is not None:
        names = ("named_by_both", "named_by_reliance_only", "named_by_weights_only")
        values |= dict(zip(names, view.agreement, strict=True))
    if view.taken is not None:
        values["training_log_odds"] = view.taken.intact
        values["training_log_odds_without_relied_on"] = view.taken.left
        values["reliance_end"] = view.taken.end
    for way, count in view.counts.items():
        values[f"{way}:n"] = count
    for way, removal in view.removals.items():
        values |= {f"{way}:{name}": value for name, value in vars(removal).items()}
    return values


def _channels(classes: Sequence[ClassView]) -> Iterable[Mapping[str, Any]]:
    for c in classes:
        for row in c.channels:
            height, width = row.field if len(row.field) == 2 else (None, None)
            yield {
                **vars(row),
                **row.alone._asdict(),
                "class_index": c.index,
                "class": c.name,
                "field_height": height,
                "field_width": width,
                "relied": int(row.relied),
                "price": row.price,
                "unused": int(row.unused),
            }


def _example(example: ExampleView) -> Mapping[str, Any]:
    named = [f"{shot.title} ({shot.caption})" for shot in example.heatmaps if shot.title != "combined"]
    return vars(example) | {"channels": "; ".join(named)}


def _look(look: Look) -> Mapping[str, Any]:
    return vars(look) | {"suspicious": int(look.suspicious), "confirmed": int(look.confirmed)}


def _looks(looks: Looks | None) -> dict[str, Any] | None:
    """Return what the page says of shortcuts; ``None`` where nothing was searched."""
    if looks is None:
        return None
    numbers = ("share", "low", "high", "usual", "detectable", "raised", "raised_before")
    return {
        "level": looks.level,
        "headline": looks.headline,
        **facts_of(looks.sections),
        "classes": [
            {"index": one.index, "name": one.name, "suspicious": one.suspicious, "part": one.part}
            | {name: _null(getattr(one, name)) for name in numbers}
            for one in looks.classes
        ],
    }


def layer_rows(found: Interpretation) -> list[tuple[str, int, float, int]]:
    """Return (layer, channels, mean share of |weight| over classes that have any, relevant in any class)."""
    shares = found.layer_relevance()
    shares = shares[shares.sum(1) > 0]
    channels = found.channels
    relevant = (found.coef != 0).any(0)
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


def _ablation(study: AblationResult, way: str) -> list[Row]:
    rows: list[Row] = [("intact", "", 0, 1, study.mean_intact, None, None, 0.0, *[None] * 8)]
    for condition in study.conditions:
        row = condition_row(study, condition, way)
        pairs = [(row.own, row.own_ends), (row.others, row.others_ends)]
        pairs += [(row.log_odds, row.log_odds_ends), (row.others_log_odds, row.others_log_odds_ends)]
        facts = (row.name, row.layers, row.removed, row.repeats)
        rows.append((*facts, *(number for value, ends in pairs for number in (value, *ends))))
    return rows


def _removal_curve(study: AblationResult, curve: Curve) -> Iterable[Row]:
    _, ends = curve_intervals(study)
    for k, own, random, (low, high) in zip(curve.k, curve.own, curve.random, ends, strict=True):
        yield (int(k), finite_mean(own), finite_mean([finite_mean(draw) for draw in random]), low, high)


def _summary(run: RunData, classes: Sequence[ClassView], verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Return ``report.json``, for programs: what the page says, without its pictures.

    ``verdict``, ``mean_recall`` and the recalls of ``classes`` are of the channels that lead; ``named`` has each way's.
    """
    summary: dict[str, Any] = {
        "format": "interpnet-report-1",
        "manifest": dict(run.manifest),
        "selection": None,
        "verdict": None,
        "mean_recall": {"intact": None, "relevant_removed": None},
    }
    if run.selection is not None:
        summary["selection"] = selection_json(run.selection)
    words = {way: _words(run, verdict) for way, verdict in verdicts.items()}
    summary["verdict"] = next(iter(words.values()), None)
    if run.study is not None:
        summary["mean_recall"] = _mean_recall(run.study)
    summary["named"] = {
        way: {"verdict": words.get(way), "mean_recall": _mean_recall(study)} for way, study in run.studies.items()
    }
    summary["classes"] = [
        {
            "index": c.index,
            "name": c.name,
            "relevant_channels": next(iter(c.counts.values()), None),
            "recall_intact": _null(c.recall),
            "recall_relevant_removed": _null(c.first.after),
            "others_change": _null(c.first.others),
            **_precision(run, c),
        }
        for c in classes
    ]
    return summary


def _words(run: RunData, verdict: Verdict) -> dict[str, Any]:
    """Return a verdict without its figures, and without the classes of which nothing is listed."""
    if verdict.classes and run.only is None:
        verdict = replace(verdict, classes=tuple(verdict.classes[c] for c in run.shown))
    return {name: part for name, part in asdict(verdict).items() if name != "figures"}


def _precision(run: RunData, c: ClassView) -> dict[str, float | None]:
    if not run.independent:
        return {}
    return {"precision_intact": _null(c.precision), "precision_relevant_removed": _null(c.first.precision)}


def _mean_recall(study: AblationResult) -> dict[str, float | None]:
    relevant = find_condition(study, "relevant")
    removed = None
    if relevant is not None:
        removed = _null(relevant.mean_own())
    return {"intact": _null(study.mean_intact), "relevant_removed": removed}


def _null(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
