"""For every figure results to draw it from: of one class, of several, and of many with long names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helpers import figure_results as made
from helpers.report_fixture import ablation, contributions, interpretation, mu_selection
from helpers.shortcut_findings import findings
from helpers.wrong_kinds import CONTRIBUTIONS, STUDY, TABLE
from interpnet import plot
from interpnet.interpretation import Interpretation
from interpnet.mulasso import Stability
from interpnet.pictures import Filters
from interpnet.reliance import Reliance

Draw = Callable[[], Any]
LONG = "a class whose name is so long that no axis has room for it, number"


def names(count: int) -> list[str]:
    """Return long names, with a letter that is markup to matplotlib and one that its font lacks."""
    return [f"{LONG} ${c}_\N{CJK UNIFIED IDEOGRAPH-4E2D}" for c in range(count)]


def study(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return ablation(interpretation(names(count), rng), rng)


def shares(count: int, layers: int) -> tuple[Any, list[str], list[str]]:
    table = np.random.default_rng(0).dirichlet(np.ones(layers), count)
    return table, [f"features.{i}.a_long_name.relu:1" for i in range(layers)], names(count)


def points(count: int) -> tuple[Any, Any, list[str]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 2)), rng.integers(0, count, 120), names(count)


def weights(count: int) -> Interpretation:
    return interpretation(tuple(names(count)), np.random.default_rng(5))


def relied(count: int) -> Reliance:
    found = contributions(weights(count))
    m = len(found.channels)
    order = tuple(np.roll(np.arange(m), c)[:3] for c in range(count))
    sizes = np.full(count, 2)
    ones = np.ones(count)
    return Reliance(found, "zero", 1.0, 0.5, 0.1, order, sizes, sizes, ("share",) * count, ones, ones / 2)


def bank(count: int, inputs: int) -> Filters:
    weights = np.random.default_rng(0).normal(size=(count, inputs, 5, 5)).astype(np.float32)
    return Filters("features.0.a_long_name", weights, (1, 1), 1, inputs == 3)


#: By the name of the function: drawn from few things and from many.
CASES: dict[str, list[Draw]] = {
    "ablation": [
        lambda: plot.ablation(study(2)),
        lambda: plot.ablation(study(60)),
        lambda: plot.ablation(STUDY, measure="log_odds"),
    ],
    "ablation_curve": [lambda: plot.ablation_curve(study(2)), lambda: plot.ablation_curve(study(60))],
    "class_recall": [lambda: plot.class_recall(study(2)), lambda: plot.class_recall(study(60))],
    "layer_relevance": [
        lambda: plot.layer_relevance(*shares(1, 1)),
        lambda: plot.layer_relevance(*shares(100, 60), expected=np.full(60, 1 / 60)),
    ],
    "mu_curve": [lambda: plot.mu_curve(mu_selection(accuracy=False)), lambda: plot.mu_curve(mu_selection())],
    "filters": [
        lambda: plot.filters(bank(1, 1)),
        lambda: plot.filters(bank(100, 3)),
        lambda: plot.filters(bank(30, 40)),
    ],
    "activation_maps": [
        lambda: plot.activation_maps(np.ones((1, 4, 4)), "conv1"),
        lambda: plot.activation_maps(
            np.random.default_rng(0).random((80, 7, 7)), names(1)[0], image=np.ones((3, 8, 8))
        ),
    ],
    "pictures": [
        lambda: plot.pictures([np.zeros((3, 8, 8))], ["a"]),
        lambda: plot.pictures([np.zeros((3, 8, 8))] * 20, names(20), heading=names(1)[0]),
        lambda: plot.pictures([np.zeros((8, 8, 3), np.uint8)] * 20, captions=["max 1"] * 20, rows=names(2)),
    ],
    "attribution": [
        lambda: plot.attribution({"gradient": np.zeros((4, 6))}),
        lambda: plot.attribution({name: dict.fromkeys("abc", np.eye(8)) for name in names(4)}, np.ones((1, 8, 8))),
    ],
    "embedding": [
        lambda: plot.embedding(*points(1)),
        lambda: plot.embedding(*points(24), predictions=points(24)[1] * 0),
        lambda: plot.embedding(*points(100), predictions=points(100)[1] * 0),
    ],
    "scores": [lambda: plot.scores(TABLE), lambda: plot.scores(TABLE, ["a", "b", names(1)[0]], cls=2)],
    "interpretation": [
        lambda: plot.interpretation(weights(1)),
        lambda: plot.interpretation(weights(60)),
        lambda: plot.interpretation(weights(60), cls=3),
    ],
    "contributions": [
        lambda: plot.contributions(CONTRIBUTIONS),
        lambda: plot.contributions(contributions(weights(40))),
        lambda: plot.contributions(contributions(weights(40)), cls=0),
    ],
    "reliance": [
        lambda: plot.reliance(relied(3)),
        lambda: plot.reliance(relied(40)),
        lambda: plot.reliance(relied(3), cls=0),
    ],
    "stability": [
        lambda: plot.stability(Stability(np.array([[1.0, 0.5, 0.0]]), 4, 10.0, False)),
        lambda: plot.stability(Stability(np.random.default_rng(0).random((40, 90)), 4, 10.0, False), classes=names(40)),
    ],
    "path": [lambda: plot.path(made.path(1)), lambda: plot.path(made.path(30))],
    "dissection": [lambda: plot.dissection(made.dissection(1, 1)), lambda: plot.dissection(made.dissection(40, 8))],
    "tcav": [lambda: plot.tcav(made.tcav(1, 1)), lambda: plot.tcav(made.tcav(6, 4), by="score")],
    "probe": [lambda: plot.probe(made.probe(1, 1)), lambda: plot.probe(made.probe(8, 20))],
    "strongest": [lambda: plot.strongest(made.strongest(1)), lambda: plot.strongest(made.strongest(9), heading="a[3]")],
    "explanation": [
        lambda: plot.explanation(made.explanation(1, 1), np.zeros((1, 3, 8, 8))),
        lambda: plot.explanation(made.explanation(9, 3), np.zeros((9, 3, 8, 8)), names(9)),
    ],
    "average": [
        lambda: plot.average(made.average(0, 1)),
        lambda: plot.average({i: made.average(i, 9 - i) for i in range(6)}),
    ],
    "maximised": [lambda: plot.maximised(made.maximised(1)), lambda: plot.maximised(made.maximised(9), names(9))],
    "measures": [
        lambda: plot.measures(made.score(1)),
        lambda: plot.measures({name: made.score(controls=True) for name in names(40)}),
    ],
    "curves": [
        lambda: plot.curves(made.score(1)),
        lambda: plot.curves({name: made.score() for name in names(12)}),
    ],
    "randomisation": [
        lambda: plot.randomisation(made.randomisation(1)),
        lambda: plot.randomisation(made.randomisation(60)),
    ],
    "shortcuts": [lambda: plot.shortcuts(findings(["a", "b", "c"])), lambda: plot.shortcuts(findings(names(60)))],
    "repair": [lambda: plot.repair(made.repair(control=False)), lambda: plot.repair(made.repair(control=True))],
    "training": [lambda: plot.training(made.history(1)), lambda: plot.training(made.history(40))],
}
