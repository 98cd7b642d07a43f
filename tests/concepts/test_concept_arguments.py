"""What looks for concepts refuses arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.concepts import sets
from helpers.wrong_kinds import (
    CHOICE,
    COUNT,
    DEVICE,
    FLAG,
    FUNCTION,
    LAYERS,
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

from interpnet import concepts

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")

SETS = [torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(j)) for j in range(5)]
IMAGES = [5, "x", X.numpy(), (X * 255).to(torch.uint8), X + 0j, X.to("meta"), X[:0], X[0], X * NAN, [5], [None], []]
MASKS = torch.zeros(len(X), 2, *X.shape[2:], dtype=torch.bool)
MASKS[:, 0, :4] = True
MASKS[:, 1, 4:] = True
FOUND = concepts.dissect(NET, [(X, MASKS)], concepts=["a", "b"], quantile=0.5, untrained=False, progress=False)
FUNCTIONS: dict[str, Case] = {
    "probe": (
        concepts.probe,
        {"model": NET, "loader": [(X, torch.arange(6) % 2)], "folds": 3, "progress": False},
        {
            "model": MODEL,
            "loader": [
                None,
                5,
                "x",
                X,
                {},
                [],
                [5],
                [None],
                [(X.numpy(), Y)],
                [(X, Y + 0.5)],
                [(X, Y * 0)],
                [(X, Y[:4])],
            ],
            "layers": LAYERS,
            "targets": [5, "x", [], {}, {1: Y}, X, X[:, 0, 0, 0], [0, 1], {"a": None}, [None] * 6, [object()] * 6],
            "control": FLAG,
            "folds": [*COUNT, 1, 4],
            "strength": [*NUMBER, 0, -1, float("inf")],
            "seed": [*SEED, -1],
            "device": DEVICE,
            "output": FUNCTION,
            "progress": FLAG,
            "inputs": [5, b"x"],
            "labels": [5, b"x"],
            "prepare": [5, "x", lambda x: 5],
        },
    ),
    "dissect": (
        concepts.dissect,
        {"model": NET, "loader": [(X, MASKS)], "concepts": ["a", "b"], "untrained": False, "progress": False},
        {
            "model": MODEL,
            "loader": [None, 5, "x", X, [(X, None)], [(X, MASKS[:1])], [(X[:0], MASKS[:0])], []],
            "concepts": [None, 5, "ab", ["a"], ["a", 5], ["a", "a"], [], {"one": ["a", "b"]}],
            "groups": [5, "ab", [0], {"one": [1]}],
            "layers": LAYERS,
            "quantile": [None, "x", 0, 1, -1, float("nan")],
            "least": [None, "x", -1, 2, float("nan")],
            "step": COUNT,
            "draws": COUNT,
            "untrained": FLAG,
            "top": COUNT,
            "seed": [*SEED, -1],
            "max_batch": COUNT,
            "device": DEVICE,
            "output": FUNCTION,
            "progress": FLAG,
            "inputs": [5],
            "labels": [5],
            "prepare": [5, "x"],
        },
    ),
    "strongest": (
        concepts.strongest,
        {"model": NET, "loader": [(X, MASKS)], "found": FOUND, "channels": [*FOUND.channels][:1]},
        {
            "model": MODEL,
            "loader": [None, 5, X, []],
            "found": [None, 5, "x"],
            "channels": [None, 5, [5], ["1"]],
            "most": COUNT,
            "max_batch": COUNT,
            "device": DEVICE,
            "output": FUNCTION,
            "inputs": [5],
            "labels": [5],
            "prepare": [5, "x"],
        },
    ),
    "tcav": (
        concepts.tcav,
        {
            "model": NET,
            "concept": SETS[0],
            "random": SETS[1:],
            "images": X,
            "target": 1,
            "layer": "1",
            "progress": False,
        },
        {
            "model": MODEL,
            "concept": [None, *IMAGES, {}, {1: X}, {"a": None}],
            "random": [None, *IMAGES, SETS[1:3], sets(4, 4)],
            "images": [None, *IMAGES],
            "target": [0.5, True, "nothing", 99, -1, [0, 1], [0.5], [], None, {}],
            "layer": LAYERS,
            "cav": CHOICE,
            "against": IMAGES,
            "pool": FLAG,
            "outputs": CHOICE,
            "sets": [*COUNT, 2],
            "seed": [*SEED, -1],
            "max_batch": COUNT,
            "device": DEVICE,
            "output": FUNCTION,
            "progress": FLAG,
        },
    ),
}


def test_every_function_is_in_the_table() -> None:
    assert {name for name in concepts.__all__ if inspect.isfunction(getattr(concepts, name))} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
