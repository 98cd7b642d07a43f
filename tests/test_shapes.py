"""The shapes that public functions promise are checked at every call of every test (helpers/shapes.py)."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from helpers.shapes import SHAPES, checked
from jaxtyping import Float

import interpnet

# Functions that take or return no array of their own: names, loaders, models, results without a fixed shape.
WITHOUT_SHAPES = {
    "ablate", "ablation_study", "audit", "average_visualizations", "backward_rules", "compare", "find_sites",
    "load_dataset", "load_model", "load_run", "make_loader", "measure_reliance", "methods", "mulasso_breakpoints",
    "rankings", "register_method", "register_ranking", "unregister_method", "unregister_ranking",
    "evaluate.class_sensitivity", "evaluate.measures", "evaluate.parameter_randomisation", "evaluate.randomised",
    "concepts.strongest", "pictures.filter_sheet", "pictures.filter_tiles", "pictures.filters", "pictures.last_site",
    "pictures.map_sheet", "pictures.nearest_images", "pictures.picture_plane", "shortcuts.find",
    "shortcuts.findings_json", "shortcuts.overlay_probe", "shortcuts.paste_probe", "shortcuts.read_findings",
    "shortcuts.repair",
}  # fmt: skip


def public_functions() -> set[str]:
    names = {name for name in interpnet.__all__ if inspect.isfunction(getattr(interpnet, name))}
    for room in ("concepts", "evaluate", "pictures", "shortcuts"):
        package = getattr(interpnet, room)
        names |= {f"{room}.{name}" for name in package.__all__ if inspect.isfunction(getattr(package, name))}
    return names


def test_every_public_function_promises_shapes_or_is_listed():
    assert set(SHAPES) | WITHOUT_SHAPES == public_functions()
    assert not set(SHAPES) & WITHOUT_SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_the_public_functions_are_the_checked_ones(name):
    function = interpnet
    for part in name.split("."):
        function = getattr(function, part)
    assert hasattr(function, "__wrapped__")


def test_a_broken_promise_is_seen():
    def halves(images):
        return images[:, 0, ::2]

    shapes = {"images": (Float, torch.Tensor, "B colours *space"), "return": (Float, torch.Tensor, "B *space")}
    call = checked("halves", halves, shapes)
    with pytest.raises(AssertionError, match=r"halves: return is torch.float32\(2, 2, 5\); promised 'B \*space'"):
        call(torch.zeros(2, 3, 4, 5))


def test_a_wrong_type_is_seen():
    call = checked("whole", lambda: np.zeros(3, dtype=np.int64), {"return": (Float, np.ndarray, "N")})
    with pytest.raises(AssertionError, match="return is int64"):
        call()
