"""Grams, tables and weights refuse arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from helpers.wrong_kinds import (
    ARRAY,
    CHANNEL,
    COUNT,
    FLAG,
    FOUND,
    GRAM,
    GRAMS,
    LABELS,
    MAYBE_COUNT,
    NAN,
    RADIUS,
    SEED,
    TABLE,
    TWELVE,
    VECTORS,
    Case,
    Y,
    check_accepted,
    check_refused,
    names_without_files,
)

import interpnet as ip
from interpnet.gram import GramAccumulator, one_hot, part_grams, random_parts

FUNCTIONS: dict[str, Case] = {
    "Gram": (
        ip.Gram,
        {"G": GRAM.G, "B": GRAM.B, "yy": GRAM.yy, "n": 6},
        {"G": ARRAY, "B": ARRAY, "yy": ARRAY, "n": COUNT},
    ),
    "Gram.from_scores": (
        ip.Gram.from_scores,
        {"X": VECTORS, "L": TWELVE},
        {
            "X": ARRAY,
            "L": LABELS,
            "n_classes": [*MAYBE_COUNT, 1j],
            "sample_weight": [5, "x", [-1] * 12, [NAN] * 12],
            "block": COUNT,
        },
    ),
    "Gram.without": (GRAM.without, {"part": ip.Gram.from_scores(TABLE.X[:2], Y[:2], n_classes=3)}, {"part": GRAMS}),
    "Gram.save": (GRAM.save, {"path": "/dev/null/x.npz"}, {"path": [5, None, [], True]}),
    "Gram.load": (ip.Gram.load, {"path": "/nonexistent.npz"}, {"path": [5, None, [], True]}),
    "GramAccumulator": (GramAccumulator, {"m": 2, "n_classes": 2}, {"m": [*COUNT, 10**9], "n_classes": COUNT}),
    "one_hot": (
        one_hot,
        {"labels": TWELVE},
        {"labels": [None, "x", [], [0.5], [True], [-1], [10**12]], "n_classes": [0, "3", 2.5]},
    ),
    "part_grams": (
        part_grams,
        {"X": VECTORS, "L": TWELVE, "part": TWELVE},
        {"part": [None, "x", [], [0.5] * 12, [-1] * 12, [True] * 12], "n_parts": MAYBE_COUNT},
    ),
    "random_parts": (
        random_parts,
        {"labels": TWELVE, "n_parts": 2},
        {"labels": [None, -1, 0.5, "x", True, {}], "n_parts": [*COUNT, 10**9], "seed": [*SEED, -1]},
    ),
    "Interpretation": (
        ip.Interpretation,
        {"channels": FOUND.channels, "coef": FOUND.coef, "classes": FOUND.classes},
        {
            "channels": [None, 5, "x"],
            "coef": [None, 5, "x", FOUND.coef[:2], FOUND.coef * NAN, FOUND.coef * 1j],
            "classes": [None, 5, "abc", ["a", "b"], [1, 2, 3], ["a", None, "c"], [], [True, False, True]],
            "mu": RADIUS,
            "positive": FLAG,
            "gaps": [5, "x", [1]],
            "info": [5, "x", []],
        },
    ),
    "Interpretation.class_index": (
        FOUND.class_index,
        {"cls": 0},
        {"cls": [0.5, True, None, "zz", 99, -1, [], b"a", NAN]},
    ),
    "Interpretation.top_channels": (
        FOUND.top_channels,
        {"x": TABLE.X[0], "cls": 0},
        {"x": [None, 5, "x", [], TABLE.X, TABLE.X[0] * NAN, TABLE.X[0] * 1j], "cls": [0.5, True, None], "k": COUNT},
    ),
    "Interpretation.load": (ip.Interpretation.load, {"path": "/nonexistent.npz"}, {"path": [5, None, [], object()]}),
    "ScoreTable": (
        ip.ScoreTable,
        {
            "X": TABLE.X,
            "labels": TABLE.labels,
            "predictions": TABLE.predictions,
            "channels": TABLE.channels,
            "indices": TABLE.indices,
            "n_classes": 3,
        },
        {
            "X": [None, 5, "x", TABLE.X[:2], TABLE.X[:, :2], TABLE.X.astype(str)],
            "n_classes": COUNT,
            "info": [5, "x", []],
            "labels": [
                None,
                5,
                "x",
                TABLE.labels[:2],
                TABLE.labels + 9,
                TABLE.labels + 0.5,
                TABLE.labels > 0,
                TABLE.labels - 1,
            ],
            "predictions": [None, 5, TABLE.labels[:2], TABLE.labels + 9, TABLE.labels + 0.5],
            "channels": [None, 5, "x", ip.ChannelIndex((("1", 3),))],
            "indices": [None, 5, "x", TABLE.labels[:2]],
        },
    ),
    "ScoreTable.channel_means": (
        TABLE.channel_means,
        {},
        {"rows": ["x", [0.5], [99], [-99], {}, [True]], "block": COUNT},
    ),
    "ChannelIndex": (
        ip.ChannelIndex,
        {"sizes": (("1", 4),)},
        {
            "sizes": [
                None,
                5,
                "x",
                [5],
                [("1",)],
                [("1", 0.5)],
                [("1", True)],
                [("1", "4")],
                [(1, 4)],
                [("1", 4), ("1", 2)],
            ]
        },
    ),
    "ChannelIndex.position": (
        TABLE.channels.position,
        {"channel": CHANNEL},
        {"channel": [None, 5, "x", ip.Channel("1", 0.5), ip.Channel("1", True), ip.Channel(1, 0), ip.Channel("1", -1)]},
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", names_without_files(FUNCTIONS))
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])


ROWS = {"n_classes": None, "sample_weight": None, "block": 4096}


@pytest.mark.parametrize(
    ("function", "defaults"),
    [
        (ip.Gram.from_scores, ROWS),
        (part_grams, {"n_parts": None} | ROWS),
        (GramAccumulator.add, {"sample_weight": None}),
        (one_hot, {"n_classes": None}),
        (random_parts, {"seed": 0}),
    ],
)
def test_what_is_taken_where_nothing_is_said(function: Any, defaults: dict[str, Any]) -> None:
    """A default is a promise: another one changes every result that was made without the argument."""
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty} == defaults
