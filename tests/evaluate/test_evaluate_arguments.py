"""Measures refuse arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.wrong_kinds import (
    BASELINE,
    CHOICE,
    CONSTANT,
    COUNT,
    FLAG,
    FUNCTION,
    HEATMAPS,
    IMAGES,
    LABELS,
    MAP,
    MAPS,
    MASK,
    MASKS,
    MAYBE_COUNT,
    MODEL,
    NAN,
    NET,
    NUMBER,
    SEED,
    TARGET,
    Case,
    X,
    check_accepted,
    check_refused,
    names_without_files,
    network,
)
from torch import nn

from interpnet import evaluate

BOXES = [[0, 0, 4, 8]] * 6
WRONG_BOXES = [5, "x", [], [[0, 0, 1]] * 6, BOXES[:5], [[0, 0, 4, NAN]] * 6, [["0", 0, 4, 8]] * 6, [[4, 0, 4, 8]] * 6]
MAYBE_NUMBER = [value for value in NUMBER if value is not None]
# Right ones are wrong beside masks.
BOX = [BOXES, *WRONG_BOXES]

COLOURS = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4, bias=False))
COLOURS[2].weight.data = 40 * torch.eye(4)

MAPS_OF_COLOURS = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), *COLOURS)
MAPS_OF_COLOURS[0].weight.data = torch.eye(4).view(4, 4, 1, 1)

FUNCTIONS: dict[str, Case] = {
    "evaluate.checkerboard": (
        evaluate.checkerboard,
        {"maps": HEATMAPS, "stride": 2},
        {"maps": MAP, "stride": [*COUNT, (2, 2, 2), (2, "2"), 10**9], "width": [*NUMBER, 0, 2]},
    ),
    "evaluate.class_sensitivity": (
        evaluate.class_sensitivity,
        {"maps": lambda m, x, c: x.abs().sum(1), "model": NET, "images": X, "classes": [0, 1], "window": 3},
        {
            "maps": [None, 5, "x", lambda *a: 5],
            "model": MODEL,
            "images": IMAGES,
            "absolute": FLAG,
            "constant": CONSTANT,
            "classes": [None, 5, "x", [0], [0.5, 1], [True, False], [0, 0]],
            "window": [*COUNT, 2, 99],
        },
    ),
    "evaluate.grid_pointing_game": (
        evaluate.grid_pointing_game,
        {
            "model": COLOURS,
            "images": torch.eye(4).view(4, 4, 1, 1).expand(4, 4, 3, 3),
            "labels": [0, 1, 2, 3],
            "explain": lambda m, x, t: x.abs().sum(1) * torch.rand(6, 6),
            "grids": 2,
        },
        {
            "model": MODEL,
            "images": IMAGES,
            "labels": [*LABELS, [0, 1, 2, 4], [0, 1, 2], [0, 1, 2, 2]],
            "explain": [None, 5, "x", lambda m, x, t: None, lambda m, x, t: x, lambda m, x, t: x.sum(1) * NAN],
            "side": [*COUNT, 1, 3],
            "grids": COUNT,
            "confidence": [*NUMBER, -0.5, 1.5],
            "resize": FLAG,
            "max_batch": COUNT,
            "seed": SEED,
            "output": FUNCTION,
            "constant": CONSTANT,
        },
    ),
    "evaluate.disconnected_pointing_game": (
        evaluate.disconnected_pointing_game,
        {
            "model": MAPS_OF_COLOURS,
            "images": torch.eye(4).view(4, 4, 1, 1).expand(4, 4, 3, 3),
            "labels": [0, 1, 2, 3],
            "explain": lambda m, x, t: x.abs().sum(1) * torch.rand(6, 6),
            "grids": 2,
        },
        {
            "model": MODEL,
            "images": IMAGES,
            "labels": [*LABELS, [0, 1, 2, 4], [0, 1, 2], [0, 1, 2, 2]],
            "explain": [None, 5, "x", lambda m, x, t: None, lambda m, x, t: x, lambda m, x, t: x.sum(1) * NAN],
            "side": [*COUNT, 1, 3],
            "grids": COUNT,
            "confidence": [*NUMBER, -0.5, 1.5],
            "layer": [5, "nonsense", ["nonsense"], [5]],
            "max_batch": COUNT,
            "seed": SEED,
            "output": FUNCTION,
            "constant": CONSTANT,
        },
    ),
    "evaluate.efficient_randomisation": (
        lambda **options: evaluate.efficient_randomisation(**{"model": network(), **options}),
        {"images": X, "explain": lambda m, x: x.abs().sum(1)},
        {
            "model": MODEL,
            "images": IMAGES,
            "explain": [None, 5, "x", lambda m, x: None, lambda m, x: x],
            "bins": [*COUNT, 1],
            "how": CHOICE,
            "seed": SEED,
            "constant": CONSTANT,
        },
    ),
    "evaluate.infidelity": (
        evaluate.infidelity,
        {"model": NET, "images": X, "heatmaps": HEATMAPS, "patch": 4},
        {
            "model": MODEL,
            "images": IMAGES,
            "heatmaps": MAPS,
            "target": TARGET,
            "patch": [*MAYBE_COUNT, 9],
            "form": CHOICE,
            "scaled": FLAG,
            "baseline": BASELINE,
            "score": CHOICE,
            "controls": ["random", 5, None, ["nonsense"], [5]],
            "max_batch": COUNT,
            "seed": SEED,
            "output": FUNCTION,
            "constant": CONSTANT,
        },
    ),
    "evaluate.max_sensitivity": (
        evaluate.max_sensitivity,
        {"model": NET, "images": X, "explain": lambda m, x: x.abs().sum(1), "samples": 2},
        {
            "model": MODEL,
            "images": IMAGES,
            "explain": [None, 5, "x", lambda m, x: None, lambda m, x: x, lambda m, x: x.sum(1) * NAN],
            "radius": [*NUMBER, 0, -1, float("inf")],
            "samples": COUNT,
            "seed": SEED,
            "constant": CONSTANT,
        },
    ),
    "evaluate.iou_auc": (
        evaluate.iou_auc,
        {"heatmaps": HEATMAPS, "masks": MASKS},
        {
            "heatmaps": MAPS,
            "masks": MASK,
            "boxes": BOX,
            "constant": CONSTANT,
            "thresholds": [0, 1, True, 2.5, "x", None, [], [0.5], [-1, 1], [NAN, 1], [1, 0], ["a", "b"], 10**9, 10**12],
        },
    ),
    "evaluate.pointing_game": (
        evaluate.pointing_game,
        {"heatmaps": HEATMAPS, "masks": MASKS},
        {"heatmaps": MAPS, "masks": MASK, "boxes": BOX, "tolerance": [*NUMBER, -1], "constant": CONSTANT},
    ),
    "evaluate.energy_pointing": (
        lambda heatmaps, boxes, **more: evaluate.energy_pointing(heatmaps, boxes=boxes, **more),
        {"heatmaps": HEATMAPS, "boxes": BOXES},
        {
            "heatmaps": MAPS,
            "boxes": [None, *WRONG_BOXES],
            "masks": [m for m in MASK if m is not None],
            "constant": CONSTANT,
        },
    ),
    "evaluate.segment": (
        evaluate.segment,
        {"heatmaps": HEATMAPS, "masks": MASKS},
        {
            "heatmaps": MAPS,
            "masks": MASK,
            "boxes": BOX,
            "threshold": [*MAYBE_NUMBER, -0.1, 1.1],
            "folds": [*COUNT, 1, [0] * 6, [0, 1], [0.5] * 6, "ab"],
            "segments": [5, "x", [], MASKS, HEATMAPS, MASKS[0].long()[1:], MASKS.long().to("meta"), MASKS.numpy()],
            "seed": SEED,
            "constant": CONSTANT,
        },
    ),
    "evaluate.spearman": (
        evaluate.spearman,
        {"a": HEATMAPS, "b": HEATMAPS},
        {"a": [*MAP, HEATMAPS[:5]], "b": [*MAP, HEATMAPS[:5]]},
    ),
    "evaluate.ssim": (
        evaluate.ssim,
        {"a": HEATMAPS, "b": HEATMAPS, "window": 3},
        {"a": [*MAP, HEATMAPS[:5]], "b": [*MAP, HEATMAPS[:5]], "window": [*COUNT, 2, 99]},
    ),
    "evaluate.parameter_randomisation": (
        lambda **options: evaluate.parameter_randomisation(**{"model": network(), **options}),
        {"images": X, "explain": lambda m, x: x.abs().sum(1), "window": 3},
        {
            "model": MODEL,
            "images": IMAGES,
            "explain": [None, 5, "x", lambda m, x: None, lambda m, x: x],
            "stages": [0, True, 2.5, "3", 10**9],
            "how": CHOICE,
            "seed": SEED,
            "window": [*COUNT, 2, 99],
            "max_batch": COUNT,
            "constant": CONSTANT,
        },
    ),
    "evaluate.randomised": (
        lambda **options: evaluate.randomised(**{"model": network(), **options}),
        {"images": X},
        {"model": MODEL, "images": IMAGES, "how": CHOICE, "seed": SEED},
    ),
}
for name in ("complexity", "sparseness"):
    FUNCTIONS[f"evaluate.{name}"] = (
        getattr(evaluate, name),
        {"heatmaps": HEATMAPS},
        {"heatmaps": MAPS, "constant": CONSTANT},
    )
for name in ("deletion", "insertion", "symmetric_relevance_gain"):
    FUNCTIONS[f"evaluate.{name}"] = (
        getattr(evaluate, name),
        {"model": NET, "images": X, "heatmaps": HEATMAPS, "steps": 2},
        {
            "model": MODEL,
            "images": IMAGES,
            "heatmaps": MAPS,
            "target": TARGET,
            "steps": COUNT,
            "baseline": BASELINE,
            "score": CHOICE,
            "controls": ["random", 5, None, ["nonsense"], [5]],
            "max_batch": COUNT,
            "seed": SEED,
            "output": FUNCTION,
            "constant": CONSTANT,
        },
    )


def test_every_measure_is_in_the_table() -> None:
    functions = {name for name in evaluate.__all__ if inspect.isfunction(getattr(evaluate, name))}
    assert {f"evaluate.{name}" for name in functions - {"measures"}} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", names_without_files(FUNCTIONS))
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
