"""What M2 fixes before anything is measured: methods with their options, measures with theirs."""

from __future__ import annotations

from typing import Any

from interpnet.attribution import methods

#: The library's own map: the three channels that contribute most to an image's class, by relevance.
CHANNELS = "channels"
CONTROLS = ("random", "edge", "center")
#: Methods of many passes come last, so that a run that is cut short lacks these.
LAST = (
    "smoothgrad",
    "vargrad",
    "integrated_gradients",
    "expected_gradients",
    "scorecam",
    "occlusion",
    "lime",
    "kernel_shap",
    "shapley_sampling",
)
#: Fewer samples than the defaults, where passes are many.
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 8},
    "vargrad": {"samples": 8},
    "integrated_gradients": {"steps": 16},
    "expected_gradients": {"samples": 16},
    "scorecam": {"channels": 32},
    "lime": {"samples": 64, "cells": 6},
    "kernel_shap": {"samples": 64, "cells": 6},
    "shapley_sampling": {"orders": 2, "cells": 6},
}
CELLS = 8  # patches along a side, of occlusion and of infidelity
#: Whose values are slopes, which infidelity multiplies with the change of the image.
SLOPES = ("gradient", "deconvnet", "guided", "smoothgrad")

STEPS = 16  # of deletion, insertion and the symmetric gain
RADIUS = 0.2  # of max-sensitivity, in standard deviations of the pixels
DRAWS = 4
GRIDS = 8  # of two by two images
CONFIDENCE = 0.5  # of an image in a grid
STRIDE = 2  # every network has layers of it
SEED = 0


#: What the measures ask, each with its measures; where one stands for all it is the first.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "does the network need what it marks": ("symmetric_relevance_gain", "deletion", "insertion", "infidelity"),
    "does it lie on the subject": ("energy_pointing", "iou_auc", "pointing_game", "segment_iou"),
    "does it lie on the class's own image": ("grid_pointing_game", "disconnected_pointing_game"),
    "does it depend on the class": ("class_sensitivity_spearman", "class_sensitivity_ssim"),
    "does it depend on the weights": (
        "parameter_randomisation_spearman",
        "parameter_randomisation_ssim",
        "efficient_randomisation",
    ),
    "does it stay where the image stays": ("max_sensitivity",),
    "of how few pixels does it speak": ("sparseness", "complexity"),
    "is it free of a grid": ("checkerboard",),
}


def method_names() -> tuple[str, ...]:
    """Return the methods in the order in which they are measured."""
    names = [one.name for one in methods()]
    first = [name for name in names if name not in LAST]
    return (CHANNELS, *first, *(name for name in LAST if name in names))


def options_of(method: str, side: int) -> dict[str, Any]:
    """Return a method's options for images of a side in pixels."""
    if method == "occlusion":
        return {"patch": max(1, side // CELLS), "stride": max(1, side // CELLS)}
    return OPTIONS.get(method, {})
