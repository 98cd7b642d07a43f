"""The shapes that public functions promise, checked by jaxtyping at every call that the tests make.

`SHAPES` names for each function its arguments and results (`return` is the value itself, `return.NAME` an attribute of
it) with jaxtyping's dimensions: a letter stands for the same size everywhere in one call, `*space` for any number of
axes. A call that raises is not checked.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, jaxtyped
from torch import Tensor

import interpnet

Kind = tuple[Any, type, str]  # dtype, array type, dimensions

SHAPES: dict[str, dict[str, Kind]] = {
    "attribute": {
        "images": (Float, Tensor, "B colours *space"),
        "return": (Float, Tensor, "B *space"),
    },
    "attribute_full": {
        "images": (Float, Tensor, "B colours *space"),
        "return.maps": (Float, Tensor, "B *space"),
    },
    "average_visualization": {
        "return.mean": (Float, np.ndarray, "colours *window"),
        "return.crops": (Float, np.ndarray, "n colours *window"),
        "return.indices": (Int, np.ndarray, "count"),
    },
    "channel_heatmap": {
        "images": (Float, Tensor, "B colours *space"),
        "return": (Float, Tensor, "B *space"),
    },
    "channel_signal": {
        "images": (Float, Tensor, "B colours *space"),
        "return": (Float, Tensor, "B k colours *space"),
    },
    "collect_contributions": {
        "return.mean": (Float, np.ndarray, "C m"),
        "return.stderr": (Float, np.ndarray, "C m"),
        "return.counts": (Int, np.ndarray, "C"),
        "return.log_odds": (Float, np.ndarray, "C"),
        "return.reference": (Float, np.ndarray, "m"),
    },
    "collect_scores": {
        "return.X": (Float, np.ndarray, "N m"),
        "return.predictions": (Int, np.ndarray, "N"),
    },
    "explain": {
        "images": (Float, Tensor, "B colours *space"),
        "return.classes": (Int, Tensor, "B"),
        "return.predictions": (Int, Tensor, "B"),
        "return.confidences": (Float, Tensor, "B"),
        "return.heatmaps": (Float, Tensor, "B k *space"),
        "return.combined": (Float, Tensor, "B *space"),
        "return.signals": (Float, Tensor, "B k colours *space"),
    },
    "interpret": {
        "source.X": (Float, np.ndarray, "N m"),
        "source.G": (Float, np.ndarray, "m m"),
        "source.B": (Float, np.ndarray, "m C"),
        "return.coef": (Float, np.ndarray, "C m"),
    },
    "merge_scores": {
        "return.X": (Float, np.ndarray, "N m"),
        "return.predictions": (Int, np.ndarray, "N"),
    },
    "mulasso_path": {
        "gram.G": (Float, np.ndarray, "m m"),
        "gram.B": (Float, np.ndarray, "m C"),
        "gram.yy": (Float, np.ndarray, "C"),
        "return": (Float, np.ndarray, "T C m"),
    },
    "stability_selection": {
        "return.frequency": (Float, np.ndarray, "C m"),
    },
    "concepts.probe": {
        "return.n": (Int, np.ndarray, "T"),
        "return.chance": (Float, np.ndarray, "T"),
        "return.accuracy": (Float, np.ndarray, "T L"),
        "return.interval": (Float, np.ndarray, "T L 2"),
        "return.p_value": (Float, np.ndarray, "T L"),
        "return.control": (Float, np.ndarray, "T L"),
        "return.memorised": (Float, np.ndarray, "T L"),
    },
    "concepts.dissect": {
        "return.iou": (Float, np.ndarray, "m K"),
        "return.low": (Float, np.ndarray, "m K"),
        "return.high": (Float, np.ndarray, "m K"),
        "return.null": (Float, np.ndarray, "m"),
        "return.floor": (Float, np.ndarray, "m K"),
        "return.thresholds": (Float, np.ndarray, "m"),
        "return.top": (Int, np.ndarray, "m t"),
        "return.images_with": (Int, np.ndarray, "K"),
        "return.cover": (Float, np.ndarray, "K"),
    },
    "concepts.tcav": {
        "return.score": (Float, np.ndarray, "K L"),
        "return.interval": (Float, np.ndarray, "K L 2"),
        "return.p_value": (Float, np.ndarray, "K L"),
        "return.effect": (Float, np.ndarray, "K L"),
        "return.effect_interval": (Float, np.ndarray, "K L 2"),
        "return.effect_p_value": (Float, np.ndarray, "K L"),
        "return.accuracy": (Float, np.ndarray, "K L"),
        "return.separates": (Bool, np.ndarray, "K L"),
        "return.scores": (Float, np.ndarray, "K L vectors"),
        "return.random_score": (Float, np.ndarray, "L R"),
        "return.random_effect": (Float, np.ndarray, "L R"),
        "return.random_accuracy": (Float, np.ndarray, "L"),
        "return.by_image": (Float, np.ndarray, "K L M"),
    },
    "evaluate.checkerboard": {
        "maps": (Float, Tensor, "*maps height width"),
        "return": (Float, Tensor, "*maps"),
    },
    "evaluate.complexity": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.sparseness": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.deletion": {
        "images": (Float, Tensor, "B colours height width"),
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B T"),
        "return.thresholds": (Float, Tensor, "T"),
    },
    "evaluate.energy_pointing": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "masks": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.insertion": {
        "images": (Float, Tensor, "B colours height width"),
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B T"),
        "return.thresholds": (Float, Tensor, "T"),
    },
    "evaluate.symmetric_relevance_gain": {
        "images": (Float, Tensor, "B colours height width"),
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B T"),
        "return.thresholds": (Float, Tensor, "T"),
    },
    "evaluate.grid_pointing_game": {
        "images": (Float, Tensor, "N colours height width"),
        "return.score.values": (Float, Tensor, "G"),
        "return.score.curve": (Float, Tensor, "G cells"),
        "return.score.flagged": (Bool, Tensor, "G"),
        "return.which": (Int, Tensor, "G cells"),
        "return.classes": (Int, Tensor, "G cells"),
    },
    "evaluate.disconnected_pointing_game": {
        "images": (Float, Tensor, "N colours height width"),
        "return.score.values": (Float, Tensor, "G"),
        "return.score.curve": (Float, Tensor, "G cells"),
        "return.score.flagged": (Bool, Tensor, "G"),
        "return.which": (Int, Tensor, "G cells"),
        "return.classes": (Int, Tensor, "G cells"),
    },
    "evaluate.efficient_randomisation": {
        "images": (Float, Tensor, "B colours height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B 2"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.infidelity": {
        "images": (Float, Tensor, "B colours height width"),
        "heatmaps": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B K"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.max_sensitivity": {
        "images": (Float, Tensor, "B colours height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B S"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.iou_auc": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "masks": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
        "return.curve": (Float, Tensor, "B T"),
        "return.thresholds": (Float, Tensor, "T"),
        "return.flagged": (Bool, Tensor, "B"),
    },
    "evaluate.pointing_game": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "masks": (Shaped, Tensor, "B height width"),
        "return.values": (Float, Tensor, "B"),
    },
    "evaluate.segment": {
        "heatmaps": (Shaped, Tensor, "B height width"),
        "masks": (Shaped, Tensor, "B height width"),
        "return.iou.values": (Float, Tensor, "B"),
        "return.iou.curve": (Float, Tensor, "B T"),
        "return.precision.values": (Float, Tensor, "B"),
        "return.recall.values": (Float, Tensor, "B"),
        "return.marked": (Bool, Tensor, "B height width"),
        "return.thresholds": (Float, Tensor, "B"),
        "return.folds": (Int, Tensor, "B"),
    },
    "evaluate.spearman": {
        "a": (Shaped, Tensor, "*#maps height width"),
        "b": (Shaped, Tensor, "*#maps height width"),
        "return": (Float, Tensor, "*#maps"),
    },
    "evaluate.ssim": {
        "a": (Shaped, Tensor, "*#maps height width"),
        "b": (Shaped, Tensor, "*#maps height width"),
        "return": (Float, Tensor, "*#maps"),
    },
    "shortcuts.common_overlay": {
        "images": (Float, Tensor, "B colours height width"),
        "which": (Int, Tensor, "n"),
        "others": (Float, Tensor, "R colours height width"),
        "return.pattern": (Float, Tensor, "colours height width"),
    },
    "shortcuts.leaning": {
        "known": (Float, np.ndarray, "N classes"),
        "labels": (Int, np.ndarray, "N"),
        "field": (Float, np.ndarray, "F classes"),
        "return.images": (Bool, np.ndarray, "F classes"),
        "return.n": (Int, np.ndarray, "classes"),
        "return.expected": (Float, np.ndarray, "classes"),
        "return.p": (Float, np.ndarray, "classes"),
    },
    "shortcuts.overlaid": {
        "images": (Float, Tensor, "B colours height width"),
        "overlay": (Float, Tensor, "colours height width"),
        "opacity": (Float, Tensor, "height width"),
        "return": (Float, Tensor, "B colours height width"),
    },
    "pictures.activation_maps": {
        "images": (Float, Tensor, "B *image"),
        "return": (Float, np.ndarray, "B channels *space"),
    },
    "pictures.embed": {
        "return.vectors": (Float, np.ndarray, "N D"),
        "return.labels": (Int, np.ndarray, "N"),
        "return.predictions": (Int, np.ndarray, "N"),
        "return.indices": (Int, np.ndarray, "N"),
    },
    "pictures.maximise": {
        "return.pictures": (Float, np.ndarray, "n colours *space"),
        "return.activations": (Float, np.ndarray, "n"),
        "return.start": (Float, np.ndarray, "n"),
        "return.silent": (Bool, np.ndarray, "n"),
    },
    "pictures.tsne": {
        "return": (Float, np.ndarray, "N 2"),
    },
}


def check(name: str, shapes: dict[str, Kind], values: dict[str, Any]) -> None:
    """Raise AssertionError where an array of a call has another shape or type than promised."""
    with jaxtyped("context"):
        for path, (dtype, array, dimensions) in shapes.items():
            first, _, rest = path.partition(".")
            value = values.get(first)
            if rest:
                value = operator.attrgetter(rest)(value) if hasattr(value, rest.split(".")[0]) else None
            # What is not an array (an optional argument, another kind of source) promises nothing.
            if not isinstance(value, array):
                continue
            hint = dtype[array, dimensions]
            if not isinstance(value, hint):
                raise AssertionError(  # noqa: TRY004 - a broken promise of ours, not a wrong argument
                    f"{name}: {path} is {value.dtype}{tuple(value.shape)}; promised {dimensions!r}"
                )


def checked(name: str, function: Callable[..., Any], shapes: dict[str, Kind]) -> Callable[..., Any]:
    """Return the function with its promises checked after every call."""
    signature = inspect.signature(function)
    # An argument can have another name too, which the signature does not show.
    names = getattr(function, "also_called", {})

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        own = {names.get(name, name): value for name, value in options.items()}
        values = signature.bind(*arguments, **own).arguments
        check(name, shapes, {**values, "return": result})
        return result

    return call


def install() -> None:
    """Put the checked functions where the real ones stand, before a test imports them."""
    for name, shapes in SHAPES.items():
        function = operator.attrgetter(name)(interpnet)
        replacement = checked(name, function, shapes)
        # The function's own module, and faces that have handed it on already.
        for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "interpnet"]:
            for known, value in list(vars(module).items()):
                if value is function:
                    setattr(module, known, replacement)
