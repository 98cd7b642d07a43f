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
    SEED,
    Case,
    X,
    check_accepted,
    check_refused,
)

from interpnet import concepts

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")

SETS = [torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(j)) for j in range(5)]
IMAGES = [5, "x", X.numpy(), (X * 255).to(torch.uint8), X + 0j, X.to("meta"), X[:0], X[0], X * NAN, [5], [None], []]
FUNCTIONS: dict[str, Case] = {
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
            "target": [0.5, True, "nothing", 99, -1, [0, 1], None, {}],
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
