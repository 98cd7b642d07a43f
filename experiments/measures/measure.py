"""One cell of M2: a measure of a method's maps of a network, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.maps import quietly
from experiments.common.tables import Line
from experiments.measures import settings
from experiments.measures.subjects import Subject
from interpnet.errors import InterpNetError, ModelError
from interpnet.evaluate import (
    Score,
    checkerboard,
    class_sensitivity,
    complexity,
    deletion,
    disconnected_pointing_game,
    efficient_randomisation,
    energy_pointing,
    grid_pointing_game,
    infidelity,
    insertion,
    iou_auc,
    max_sensitivity,
    parameter_randomisation,
    pointing_game,
    randomised,
    segment,
    sparseness,
    symmetric_relevance_gain,
)
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores

_PIXELS = 3_300_000  # in one pass on a GPU, which several processes may share
_ZERO: dict[str, Any] = {"constant": "zero"}


def batch_of(images: Tensor) -> int:
    """Return how many images run together."""
    if images.device.type == "cpu":
        return 32
    return min(512, max(16, _PIXELS // images[0, 0].numel()))


class Maps:
    """The maps of one method on one network; those that several measures ask for are made once."""

    def __init__(self, subject: Subject, method: str) -> None:
        self.subject = subject
        self.method = method
        self.batch = batch_of(subject.images)
        self._channels: dict[nn.Module, Interpretation] = {}

    def of(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Return raw maps (B, H, W) of classes (B,)."""
        if self.method == settings.CHANNELS:
            found = self._nameless(model, images)
            return explain(model, images, found, choose="all", classes=target).combined
        options = settings.options_of(self.method, min(images.shape[2:]))
        return quietly(model, images, target, self.method, max_batch=self.batch, seed=settings.SEED, **options)

    def own(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the maps of the images' own classes."""
        return self.of(model, images, self.subject.labels)

    @cached_property
    def trained(self) -> Tensor:
        """The maps (B, H, W) of the network as it is."""
        return self.own(self.subject.model, self.subject.images)

    @cached_property
    def random(self) -> Tensor:
        """The maps of the network with random weights."""
        other = randomised(self.subject.model, self.subject.images, seed=settings.SEED)
        return self.own(other, self.subject.images)

    @property
    def positive(self) -> Tensor:
        """What speaks for the class."""
        return self.trained.clamp(min=0)

    @property
    def asked(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        """What measures of the network's answers ask for."""
        return self.subject.model, self.subject.images, self.trained, self.subject.labels

    def both(self) -> Callable[[nn.Module, Tensor], Tensor]:
        """Return a function that has the maps of the trained network at its first call, then those of the random."""
        # The measures make the same random network: the seed is the same.
        made = iter((self.trained, self.random))
        return lambda _model, _images: next(made)

    def _nameless(self, model: nn.Module, images: Tensor) -> Interpretation:
        """Return a network's channels without names: each image's contributions choose among all."""
        if model not in self._channels:
            with torch.no_grad():
                outputs = model(images[:1]).shape[1]
            batch = [(images[:2].cpu(), torch.zeros(len(images[:2]), dtype=torch.int64))]
            channels = collect_scores(model, batch, device=images.device, progress=False).channels
            self._channels[model] = Interpretation(
                channels, np.zeros((outputs, len(channels))), tuple(map(str, range(outputs)))
            )
        return self._channels[model]


def _answers(run: Callable[..., Score], **more: Any) -> Callable[[Maps], Score]:
    return lambda maps: run(*maps.asked, controls=(), max_batch=maps.batch, **_ZERO, **more)


def _infidelity(maps: Maps) -> Score:
    patch = max(1, min(maps.subject.images.shape[2:]) // settings.CELLS)
    form = "gradient" if maps.method in settings.SLOPES else "contribution"
    return infidelity(*maps.asked, patch=patch, form=form, controls=(), max_batch=maps.batch, **_ZERO)


def _max_sensitivity(maps: Maps) -> Score:
    how: dict[str, Any] = {"radius": settings.RADIUS, "samples": settings.DRAWS, **_ZERO}
    return max_sensitivity(maps.subject.model, maps.subject.images, maps.own, **how)


def _class_sensitivity(maps: Maps, kind: str) -> Score:
    model, images, own, labels = maps.asked
    if "classes" not in maps.__dict__:
        with torch.no_grad():
            outputs = model(images[:1]).shape[1]
        # A class that is far away in the list, so that two breeds of dog are not compared.
        other = maps.of(model, images, (labels + outputs // 2) % outputs)
        maps.__dict__["classes"] = class_sensitivity(torch.stack([own, other], 1), **_ZERO)
    found: Score = getattr(maps.__dict__["classes"], kind)
    return found


def _randomisation(maps: Maps, kind: str) -> Score:
    found = parameter_randomisation(maps.subject.model, maps.subject.images, maps.both(), stages=1, **_ZERO)
    score: Score = getattr(found, kind)
    return score


def _efficient(maps: Maps) -> Score:
    return efficient_randomisation(maps.subject.model, maps.subject.images, maps.both(), seed=settings.SEED, **_ZERO)


def _game(run: Callable[..., Any]) -> Callable[[Maps], Score]:
    how: dict[str, Any] = {"grids": settings.GRIDS, "confidence": settings.CONFIDENCE, "seed": settings.SEED, **_ZERO}

    def played(maps: Maps) -> Score:
        subject = maps.subject
        score: Score = run(subject.model, subject.images, subject.labels, maps.of, max_batch=maps.batch, **how).score
        return score

    return played


def _inside(run: Callable[..., Score]) -> Callable[[Maps], Score]:
    return lambda maps: run(maps.positive, maps.subject.inside, **_ZERO)


def _segment(maps: Maps) -> Score:
    folds = min(5, len(maps.positive))
    return segment(maps.positive, maps.subject.inside, folds=folds, **_ZERO).iou


#: By the name that :func:`interpnet.evaluate.measures` has.
MEASURES: dict[str, Callable[[Maps], Score | Tensor]] = {
    "deletion": _answers(deletion, steps=settings.STEPS),
    "insertion": _answers(insertion, steps=settings.STEPS),
    "symmetric_relevance_gain": _answers(symmetric_relevance_gain, steps=settings.STEPS),
    "infidelity": _infidelity,
    "grid_pointing_game": _game(grid_pointing_game),
    "disconnected_pointing_game": _game(disconnected_pointing_game),
    "class_sensitivity_spearman": lambda maps: _class_sensitivity(maps, "spearman"),
    "class_sensitivity_ssim": lambda maps: _class_sensitivity(maps, "ssim"),
    "parameter_randomisation_spearman": lambda maps: _randomisation(maps, "spearman"),
    "parameter_randomisation_ssim": lambda maps: _randomisation(maps, "ssim"),
    "efficient_randomisation": _efficient,
    "max_sensitivity": _max_sensitivity,
    "sparseness": lambda maps: sparseness(maps.trained, **_ZERO),
    "complexity": lambda maps: complexity(maps.trained, **_ZERO),
    "checkerboard": lambda maps: checkerboard(maps.trained.float(), settings.STRIDE),
    "iou_auc": _inside(iou_auc),
    "pointing_game": _inside(pointing_game),
    "energy_pointing": _inside(energy_pointing),
    "segment_iou": _segment,
}
ON_MASKS = ("iou_auc", "pointing_game", "energy_pointing", "segment_iou")


def measured(maps: Maps, name: str) -> Line:
    """Return a measure's values (images or grids) and how many of the maps were constant, or why there are none.

    Nothing where the device's memory was short, so that it is asked again.
    """
    try:
        found = MEASURES[name](maps)
    except (ModelError, InterpNetError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "device's memory" in str(error):
            return {}
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    if isinstance(found, Tensor):
        return {"values": _short(found)}
    flagged = 0 if found.flagged is None else int(found.flagged.sum())
    return {"values": _short(found.values), "constant": flagged}


def _short(values: Tensor) -> list[float | None]:
    """Return four digits of each value; none where it is infinite, as a share of nothing is."""
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values.double().tolist()]
