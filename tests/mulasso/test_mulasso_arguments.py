"""The solver, its choice of a radius and stability refuse arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from helpers.wrong_kinds import (
    ARRAY,
    CHOICE,
    COUNT,
    FLAG,
    GRAM,
    GRAMS,
    NAN,
    NUMBER,
    RADIUS,
    SEED,
    SOLVER,
    TWELVE,
    VECTORS,
    Case,
    check_accepted,
    check_refused,
)

import interpnet as ip


def fitted(kind: Any, **options: Any) -> Any:
    return kind(**options).fit(VECTORS, TWELVE)


FUNCTIONS: dict[str, Case] = {
    "mulasso_breakpoints": (
        ip.mulasso_breakpoints,
        {"gram": GRAM, "mu": 2.0},
        {
            "gram": GRAMS,
            "mu": RADIUS,
            "classes": [5, "x", [99], [-1], [0.5], [True]],
            "positive": FLAG,
            "tol": [*NUMBER, 0],
        },
    ),
    "mulasso_path": (
        ip.mulasso_path,
        {"gram": GRAM, "mus": [1.0]},
        {"gram": GRAMS, "mus": ["10", None, [NAN], [True], [-1], [], {}, ["a"]], **SOLVER},
    ),
    "stability_selection": (
        ip.stability_selection,
        {"X": VECTORS, "y": TWELVE, "mu": 1.0, "n_pairs": 2, "n_blocks": 4, "progress": False},
        {
            "X": ARRAY,
            "y": [None, "x", [], [0.5] * 12, TWELVE[:5], TWELVE * 1j],
            "mu": RADIUS,
            "n_pairs": [*COUNT, 10**9],
            "n_blocks": [*COUNT, 3, 10**9],
            "class_weight": [5, "x", True],
            "sample_weight": [5, "x", [-1] * 12],
            "seed": [*SEED, -1],
            "progress": FLAG,
            **SOLVER,
        },
    ),
    "Stability": (
        ip.Stability,
        {"frequency": np.ones((1, 2)), "n_subsamples": 4, "mu": 1.0, "positive": False},
        {"frequency": [None, 5, "x", [[2.0]], [[NAN]], []], "n_subsamples": COUNT, "mu": RADIUS, "positive": FLAG},
    ),
    "Stability.expected_false": (
        ip.Stability(np.ones((1, 2)), 4, 1.0, False).expected_false,
        {},
        {"threshold": ["1", None, NAN, True, [1], 0.5, 1.5]},
    ),
    "MuLasso": (
        lambda **options: fitted(ip.MuLasso, **options),
        {},
        {"mu": RADIUS, "warm_start": FLAG, "class_weight": [5, "x", []], **SOLVER},
    ),
    "MuLassoCV": (
        lambda **options: fitted(ip.MuLassoCV, **{"mus": [0.1, 0.5, 2.0], "cv": 2, **options}),
        {},
        {
            "mus": [5, "x", [NAN], [True], [-1], [], {}],
            "cv": [0, 1, -1, True, 2.5, "x", [], 10**9, {}],
            "rule": CHOICE,
            "per_class": FLAG,
            "accuracy": FLAG,
            "random_state": [0.5, "x", -1, True],
            **SOLVER,
        },
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])


SOLVE = {"positive": False, "tol": 1e-6, "max_iter": 20_000, "device": None, "n_jobs": None}
HALVES = {"n_pairs": 50, "seed": 0, "progress": True} | SOLVE


@pytest.mark.parametrize(
    ("function", "defaults"),
    [
        (ip.MuLasso, {"mu": 10.0, "warm_start": False, "class_weight": None} | SOLVE),
        (
            ip.MuLassoCV,
            {"mus": None, "cv": 5, "rule": "one_se", "per_class": False, "accuracy": True, "random_state": 0}
            | {"class_weight": None, "most_channels": None}
            | SOLVE,
        ),
        (ip.mulasso_path, SOLVE),
        (ip.mulasso_breakpoints, {"classes": None, "positive": False, "tol": 1e-6}),
        (ip.stability_selection, {"n_blocks": 16, "class_weight": None, "sample_weight": None} | HALVES),
        (ip.Stability.from_grams, HALVES),
        (ip.Stability.expected_false, {"threshold": 0.75}),
    ],
)
def test_what_is_taken_where_nothing_is_said(function: Any, defaults: dict[str, Any]) -> None:
    """A default is a promise: another one changes every result that was made without the argument."""
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty} == defaults
