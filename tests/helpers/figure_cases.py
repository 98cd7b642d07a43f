"""For every figure results to draw it from: of one class, of several, and of many with long names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.report_fixture import ablation, interpretation, mu_selection
from helpers.wrong_kinds import STUDY
from interpnet import plot
from interpnet.pictures import Filters

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
}
