"""Repair a network that relies on a cue: remove the flagged channels, or teach its classifier other surroundings."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from experiments.common.batches import Batches
from experiments.common.flower_networks import masks_of
from experiments.shortcuts.audit import FLAG, Audited
from experiments.shortcuts.plan import whole
from experiments.shortcuts.swaps import swapped
from interpnet import ablate
from interpnet.engine import Channel
from interpnet.models import SmallCNN, train
from interpnet.support.types import Float64

SPLITS = {"agree": ("test-agree", True), "disagree": ("test-disagree", True), "clean": ("test", False)}
_SURROUNDINGS = 3  # with which each image is mixed
_EPOCHS = 4  # half of the first training
Tests = dict[str, tuple[Tensor, Tensor]]


def repairs(a: Audited, work: Path, *, n: int | None = None, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return, for each repair, the accuracy on every split and the number of channels removed."""
    splits = SPLITS.items()
    tests = {name: whole(a.subject.data(split, work, planted=planted, n=n)) for name, (split, planted) in splits}
    last = a.found.channels.layers[-1]
    rows = {"as it is": _without(a.model, tests)}
    rng = np.random.default_rng([seed, a.subject.seed])
    for how in FLAG:
        every = a.swaps[how].flagged(FLAG[how])
        top = [channel for channel in every if channel.layer == last]
        rows[f"flagged removed ({how})"] = _without(a.model, tests, every)
        rows[f"flagged removed, last layer ({how})"] = _without(a.model, tests, top)
        size = dict(a.found.channels.sizes)[last]
        free = [Channel(last, i) for i in range(size) if Channel(last, i) not in top]
        drawn = [free[i] for i in rng.choice(len(free), min(len(top), len(free)), replace=False)]
        rows[f"as many random ones, last layer ({how})"] = _without(a.model, tests, drawn)
    data = a.subject.data("train", work, n=n)
    images, labels = whole(data)
    plants = masks_of(data, name="plant")
    rows["classifier fitted again"] = _refitted(a.model, images, labels, tests)
    for how, inside in (("disc", None), ("mask", plants)):
        several = swapped(images, labels, inside, partners=_SURROUNDINGS, seed=seed)
        rows[f"classifier fitted on swapped surroundings ({how})"] = _refitted(a.model, *several, tests)
        one = swapped(images, labels, inside, seed=seed)
        rows[f"trained on with swapped surroundings ({how})"] = _trained_on(a.model, *one, tests, seed)
    rows["trained on"] = _trained_on(a.model, images, labels, tests, seed)
    return rows


def _without(model: SmallCNN, tests: Tests, channels: Sequence[Channel] = ()) -> dict[str, float]:
    with ablate(model, channels) if channels else nullcontext():
        return {**_measured(lambda images: model(images).argmax(1), tests), "removed": len(channels)}


def _measured(predict: Callable[[Tensor], Tensor], tests: Tests) -> dict[str, float]:
    with torch.no_grad():
        found = {name: float((predict(x) == y).double().mean()) for name, (x, y) in tests.items()}
    return {**found, "removed": 0}


def _features(model: SmallCNN, images: Tensor) -> Float64:
    with torch.no_grad():
        parts = [model.head(model.blocks(part)) for part in torch.split(images, 100)]
    return torch.cat(parts).double().numpy()


def _refitted(model: SmallCNN, images: Tensor, labels: Tensor, tests: Tests) -> dict[str, float]:
    """Fit a logistic regression on the last layer's features; after Kirichenko et al., ICLR 2023, without groups."""
    x = _features(model, images)
    spread = x.std(0)
    scale = np.where(spread > 0, spread, 1.0)  # a constant feature stays as it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(max_iter=500).fit(x / scale, labels.numpy())
    return _measured(lambda y: torch.from_numpy(fitted.predict(_features(model, y) / scale)), tests)


def _trained_on(model: SmallCNN, images: Tensor, labels: Tensor, tests: Tests, seed: int) -> dict[str, float]:
    """Train a copy of the whole network a little longer on the given images."""
    other = copy.deepcopy(model)  # the audited network stays as it is
    train(other, Batches(images, labels, seed), epochs=_EPOCHS, lr=1e-3, max_shift=4, seed=seed, progress=False)
    return _without(other, tests)
