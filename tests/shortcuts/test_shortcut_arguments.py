"""What looks for shortcuts refuses arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from helpers.cued import Halves, RightHalf, batches, cued
from helpers.wrong_kinds import (
    BATCHES,
    COUNT,
    DEVICE,
    FLAG,
    FUNCTION,
    IMAGES,
    LAYERS,
    LOADER,
    MAP,
    MAYBE_COUNT,
    MODEL,
    NAN,
    NET,
    NUMBER,
    SEED,
    Case,
    X,
    Y,
    check_accepted,
    check_refused,
)

from interpnet import shortcuts
from interpnet.engine import Channel, find_sites

OVERLAY = [*MAP, X[0] * NAN, X[0, 0], X[0, :, :4], (X[0] * 255).to(torch.uint8), X[0] + 0j]
OPACITY = [*MAP, X[0], X[0, 0, :4], X[0, 0] + 1, X[0, 0] * 0, X[0, 0] > 0, X[0, 0] + 0j]
GOOD = {"images": X, "overlay": X[0], "opacity": X[0, 0]}
WRONG = {"images": IMAGES, "overlay": OVERLAY, "opacity": OPACITY}
BOXES = [5, "x", [], np.zeros((6, 3)), np.full((6, 4), NAN), np.zeros((6, 4)), np.ones((2, 4)) * 8]
FOUND = shortcuts.Findings((), ("top left",), X[0, 0].numpy(), X[0, 0].numpy(), X[0, 0].numpy(), 6.0, 6)
CHANNEL = Channel(find_sites(NET, X).select()[0].name, 0)
MISSING = Channel(CHANNEL.layer, 10_000)
ODDS = np.random.default_rng(0).normal(size=(4, 3))
OTHERS = torch.rand(16, *X.shape[1:])
FUNCTIONS: dict[str, Case] = {
    "common_overlay": (
        shortcuts.common_overlay,
        {"images": X, "which": torch.arange(4), "others": OTHERS},
        {
            "images": [*IMAGES, X[:, :, :4], X[0]],
            "which": [
                None,
                5,
                "x",
                [0, 1, 2, 3],
                torch.arange(3),
                torch.arange(4) - 1,
                torch.arange(4) + 9,
                X[0, 0, 0],
            ],
            "others": [*IMAGES, OTHERS[:15], OTHERS[:, :, :4]],
            "seed": [*SEED, -1],
        },
    ),
    "find": (
        shortcuts.find,
        {"model": NET, "loader": BATCHES, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "classes": [5, "x", [], [7], [-1], [0.5], ["a"]],
            "boxes": BOXES,
            "masks": [5, "x", [], X[:, 0], X[:, 0, :4] > 0, X[:2, 0] > 0, X[:, 0] > 9],
            "field": [5, "x", [], {}, [X[:, :, :4]], [X[:, :2]], [(X * 255).to(torch.uint8)]],
            "inside": FLAG,
            "images": MAYBE_COUNT,
            "layers": LAYERS,
            "seed": [*SEED, -1],
            "max_batch": COUNT,
            "device": DEVICE,
            "output": FUNCTION,
            "progress": FLAG,
        },
    ),
    "paste_probe": (
        shortcuts.paste_probe,
        {"model": NET, "loader": BATCHES, "channels": {0: [CHANNEL]}, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "channels": [None, 5, "x", [], {}, {0: 5}, {0: ["a"]}, {-1: [CHANNEL]}, {9: [CHANNEL]}, {0: [MISSING]}],
            "most": COUNT,
            "images": MAYBE_COUNT,
            "donors": [*COUNT, 1],
            "targets": COUNT,
            "seed": [*SEED, -1],
            "max_batch": COUNT,
            "device": DEVICE,
            "output": FUNCTION,
            "progress": FLAG,
        },
    ),
    "findings_json": (shortcuts.findings_json, {"found": FOUND}, {"found": [None, 5, "x", [], {}]}),
    "leaning": (
        shortcuts.leaning,
        {"known": ODDS, "labels": [0, 1, 2, 0], "field": ODDS[:2]},
        {
            "known": [None, 5, "x", [], ODDS[0], ODDS[:, :2], ODDS * NAN],
            "labels": [None, 5, "x", [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, -1], [0.5, 1, 2, 0], [1, 1, 1, 1]],
            "field": [None, 5, "x", [], ODDS[0], ODDS[:0], ODDS[:, :2], ODDS * NAN],
        },
    ),
    "overlaid": (shortcuts.overlaid, GOOD, WRONG),
    "read_findings": (
        shortcuts.read_findings,
        {"value": shortcuts.findings_json(FOUND)},
        {"value": [None, 5, "x", [], {}, {"format": "interpnet-shortcuts-1"}, {"format": "interpnet-run-1"}]},
    ),
    "overlay_probe": (
        shortcuts.overlay_probe,
        {"model": NET, **GOOD, "progress": False},
        {
            "model": MODEL,
            **WRONG,
            "classes": [5, "x", Y + 0.5, Y > 0, Y[:3], Y + 9, Y - 1],
            "piece": COUNT,
            "controls": COUNT,
            "seed": [*SEED, -1],
            "max_batch": COUNT,
            "output": FUNCTION,
            "progress": FLAG,
        },
    ),
}
REPAIR = {
    "model": Halves(),
    "loader": batches(*cued(60)),
    "findings": RightHalf(),
    "how": "ridge",
    "max_clean_loss": 0.1,
    "progress": False,
}
FUNCTIONS["repair"] = (
    shortcuts.repair,
    REPAIR,
    {
        "model": MODEL,
        "loader": LOADER,
        "findings": [None, 5, "x", lambda x: x, object()],
        "how": ["nonsense", None, 5, [], True],
        "max_clean_loss": [*NUMBER, -0.1, 1.5],
        "validation": [value for value in LOADER if value is not None],
        "clean": ["nonsense", None, 5, [], True],
        "epochs": COUNT,
        "seed": [*SEED, -1],
        "device": DEVICE,
        "output": FUNCTION,
        "progress": FLAG,
        "inputs": [5, b"x"],
        "labels": [5, b"x"],
        "prepare": [5, "x", lambda x: 5],
    },
)


def test_every_function_is_in_the_table() -> None:
    assert {name for name in shortcuts.__all__ if inspect.isfunction(getattr(shortcuts, name))} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
