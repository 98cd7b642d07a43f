"""What looks for shortcuts refuses arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.wrong_kinds import (
    COUNT,
    FLAG,
    FUNCTION,
    IMAGES,
    MAP,
    MODEL,
    NAN,
    NET,
    SEED,
    Case,
    X,
    Y,
    check_accepted,
    check_refused,
)

from interpnet import shortcuts

OVERLAY = [*MAP, X[0] * NAN, X[0, 0], X[0, :, :4], (X[0] * 255).to(torch.uint8), X[0] + 0j]
OPACITY = [*MAP, X[0], X[0, 0, :4], X[0, 0] + 1, X[0, 0] * 0, X[0, 0] > 0, X[0, 0] + 0j]
GOOD = {"images": X, "overlay": X[0], "opacity": X[0, 0]}
WRONG = {"images": IMAGES, "overlay": OVERLAY, "opacity": OPACITY}
FUNCTIONS: dict[str, Case] = {
    "overlaid": (shortcuts.overlaid, GOOD, WRONG),
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


def test_every_function_is_in_the_table() -> None:
    assert {name for name in shortcuts.__all__ if inspect.isfunction(getattr(shortcuts, name))} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
