"""Figures refuse arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from helpers import figure_results as made
from helpers.figure_cases import relied, study
from helpers.report_fixture import mu_selection
from helpers.shortcut_findings import findings
from helpers.wrong_kinds import (
    ARRAY,
    CHOICE,
    CONTRIBUTIONS,
    COUNT,
    FILTERS,
    FOUND,
    MAYBE_COUNT,
    NAN,
    NUMBER,
    STUDY,
    TABLE,
    TABLES,
    TEXT,
    TWELVE,
    VECTORS,
    Case,
    check_accepted,
    check_refused,
)

from interpnet import plot
from interpnet.mulasso import Stability

RESULT = [None, 5, "x", {}]
CLS = [99, "nothing", True, [0], 0.5]
STABLE = Stability(np.array([[1.0, 0.5, 0.0]]), 4, 10.0, False)

FUNCTIONS: dict[str, Case] = {
    "ablation": (plot.ablation, {"result": STUDY}, {"result": RESULT, "measure": CHOICE}),
    "ablation_curve": (plot.ablation_curve, {"result": study(2)}, {"result": RESULT}),
    "mu_curve": (plot.mu_curve, {"curve": mu_selection()}, {"curve": RESULT}),
    "activation_maps": (
        plot.activation_maps,
        {"maps": VECTORS[None], "layer": "1"},
        {"maps": [None, 5, "x", [], VECTORS[None] * NAN], "layer": TEXT, "image": [5, "x"], "most": COUNT},
    ),
    "embedding": (
        plot.embedding,
        {"points": VECTORS[:, :2], "labels": TWELVE, "classes": ["a", "b", "c"]},
        {
            "points": ARRAY,
            "labels": [None, 5, "x", TWELVE[:3], TWELVE + 9, TWELVE + 0.5, TWELVE > 0],
            "classes": [None, 5, [], ["a"], [1, 2, 3]],
            "predictions": [5, "x", TWELVE[:3], TWELVE + 9, TWELVE + 0.5],
        },
    ),
    "filters": (
        plot.filters,
        {"found": FILTERS},
        {"found": [None, 5], "most": MAYBE_COUNT, "planes": COUNT},
    ),
    "pictures": (
        plot.pictures,
        {"panels": [np.zeros((3, 8, 8))], "titles": ["a"]},
        {
            "panels": [None, 5, "x", [], [5]],
            "titles": [None, 5, ["a", "b"], [5]],
            "captions": [None, 5, ["a", "b"], [5]],
            "rows": [None, 5, ["a", "b"], [5]],
            "columns": COUNT,
            "heading": TEXT,
        },
    ),
    "attribution": (
        plot.attribution,
        {"maps": {"a": np.eye(4)}},
        {
            "maps": [None, 5, "x", {}, {"a": None}, {"a": np.eye(4) * NAN}, {"a": np.eye(4), "b": np.eye(5)}],
            "image": [5, "x"],
            "heading": TEXT,
        },
    ),
    "class_recall": (plot.class_recall, {"result": STUDY}, {"result": [None, 5, "x", {}], "most": COUNT}),
    "layer_relevance": (
        plot.layer_relevance,
        {"shares": FOUND.layer_relevance(), "layers": FOUND.channels.layers, "classes": FOUND.classes},
        {
            "shares": [None, 5, "x", [], FOUND.layer_relevance() * NAN],
            "layers": [None, 5, [], [1]],
            "classes": [None, 5, [], [1, 2, 3]],
            "expected": [5, "x", [], [NAN]],
            "by": CHOICE,
        },
    ),
    "scores": (
        plot.scores,
        {"table": TABLE},
        {"table": TABLES, "classes": [None, 5, ["a"]], "cls": CLS, "most": COUNT},
    ),
    "interpretation": (plot.interpretation, {"found": FOUND}, {"found": RESULT, "cls": CLS, "most": COUNT}),
    "contributions": (
        plot.contributions,
        {"found": CONTRIBUTIONS},
        {"found": RESULT, "cls": CLS, "price": NUMBER, "most": COUNT},
    ),
    "reliance": (plot.reliance, {"found": relied(3)}, {"found": RESULT, "cls": CLS, "most": COUNT}),
    "stability": (
        plot.stability,
        {"found": STABLE},
        {
            "found": RESULT,
            "channels": [5, "x", FOUND.channels],
            "classes": [None, 5, ["a", "b"]],
            "cls": CLS,
            "most": COUNT,
        },
    ),
    "path": (
        plot.path,
        {"found": made.path(3)},
        {"found": RESULT, "channels": [5, "x", FOUND.channels], "most": COUNT},
    ),
    "dissection": (plot.dissection, {"found": made.dissection(1, 1)}, {"found": RESULT}),
    "tcav": (plot.tcav, {"found": made.tcav(1, 1)}, {"found": RESULT, "by": CHOICE}),
    "probe": (plot.probe, {"found": made.probe(1, 1)}, {"found": RESULT}),
    "strongest": (plot.strongest, {"found": made.strongest(1)}, {"found": RESULT, "heading": TEXT}),
    "explanation": (
        plot.explanation,
        {"found": made.explanation(1, 1), "images": np.zeros((1, 3, 8, 8))},
        {"found": RESULT, "images": [None, 5, "x", np.zeros((3, 8, 8))], "classes": [None, 5], "most": COUNT},
    ),
    "average": (plot.average, {"found": made.average(0, 2)}, {"found": [*RESULT, {"a": 5}]}),
    "maximised": (
        plot.maximised,
        {"found": made.maximised(2)},
        {"found": RESULT, "names": [None, 5, ["a"]], "columns": COUNT},
    ),
    "measures": (plot.measures, {"found": made.score()}, {"found": [*RESULT, {"a": 5}]}),
    "curves": (plot.curves, {"found": made.score()}, {"found": [*RESULT, made.score(curve=False)]}),
    "randomisation": (plot.randomisation, {"found": made.randomisation(2)}, {"found": RESULT}),
    "shortcuts": (plot.shortcuts, {"found": findings(["a", "b", "c"])}, {"found": RESULT, "most": COUNT}),
    "repair": (plot.repair, {"found": made.repair(control=True)}, {"found": RESULT}),
    "training": (plot.training, {"found": made.history(2)}, {"found": RESULT}),
}


def test_every_figure_is_in_the_table() -> None:
    functions = {name for name in plot.__all__ if inspect.isfunction(getattr(plot, name))}
    assert functions - {"data", "draw", "save"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_of_figures_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_of_figures_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
