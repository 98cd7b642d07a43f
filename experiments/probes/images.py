"""The images of C1, and what is to be read off them: class, colour, a cue that the class does not tell, and a place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.networks import resnet56
from experiments.common.subjects import cifar10
from experiments.shortcuts.plan import SIZE, behaviour, network
from experiments.shortcuts.plan import Subject as Planted
from interpnet.datasets import An8Flower, an8flower, stack_images
from interpnet.models import SmallCNN
from interpnet.support.types import Float64, Int64

#: The networks: trained, and the same with the random weights that training began from.
CIFAR = "CIFAR-10, ResNet-56"
UNTRAINED = ", untrained"
#: Networks of flowers with a hidden layer. The watermark agrees with the class in 9 of 10 training images, or in all.
FLOWERS = {
    "flowers": Planted(number=0, seed=7000, kind="watermark", strength=0.9, contrast=0.75, hidden=32),
    "flowers, cue always": Planted(number=1, seed=7001, kind="watermark", strength=1.0, contrast=0.75, hidden=32),
}
NETWORKS = tuple(name + state for name in (CIFAR, *FLOWERS) for state in ("", UNTRAINED))
_EACH = 40  # CIFAR images of each class
_CORNER = 5  # pixels of a side of the square in a corner of a CIFAR image
_TARGETS = ("class", "colour", "cue", "place")


@dataclass(frozen=True)
class Probed:
    """A network, N images, and a value of each target for each image."""

    model: nn.Module
    images: Tensor
    targets: dict[str, list[Any]]
    reliance: float | None = None  # of a trained network of flowers: accuracy lost where the cue disagrees


def probed(name: str, work: Path, *, quick: bool = False) -> Probed:
    """Return what C1 asks of one of :data:`NETWORKS`; ``quick`` takes few images and hardly trains."""
    trained = not name.endswith(UNTRAINED)
    planted = FLOWERS.get(name.removesuffix(UNTRAINED))
    if planted is None:
        return _cifar(work, trained=trained)
    return _flowers(planted, work, trained=trained, quick=quick)


def _flowers(planted: Planted, work: Path, *, trained: bool, quick: bool) -> Probed:
    n = 120 if quick else 600
    words: dict[str, Any] = {"epochs": 1, "n": 60} if quick else {}
    # In the test images the cue has any value, whatever the class.
    data = planted.data("test", work, n=n)
    reliance = None
    if trained:
        model = network(planted, work, **words)
        reliance = behaviour(model, planted, work, n=words.get("n"))["reliance"]
    else:
        model = SmallCNN(3, len(data.classes), SIZE, 8, hidden=planted.hidden, seed=planted.seed)
    made = drawn(planted, work, n)
    if made.cue is None:
        raise ValueError("no cue")
    plants = made.mask("plant")
    columns = (plants.sum(1) * np.arange(SIZE)).sum(1) / plants.sum((1, 2))
    images = stack_images(data, range(len(data)))
    values = [data.labels, thirds(reddish(images)), made.cue, thirds(columns)]
    return Probed(model.eval(), images, dict(zip(_TARGETS, map(list, values), strict=True)), reliance)


def drawn(subject: Planted, work: Path, n: int) -> An8Flower:
    """Return the first ``n`` test images with what is known of how they were made."""
    return an8flower(
        split="test",
        n=n,
        root=work,
        size=SIZE,
        seed=subject.seed,
        contrast=subject.contrast,
        shortcut=subject.kind,
        strength=subject.strength,
    )


def _cifar(work: Path, *, trained: bool) -> Probed:
    subject = cifar10(56, 1, work)
    model = subject.model
    if not trained:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = resnet56()
    each = np.concatenate([np.flatnonzero(subject.test_labels == c)[:_EACH] for c in range(10)])
    images = subject.test[torch.from_numpy(each)]
    colour = thirds(reddish(images))
    images, corner = cornered(images)
    cue = (corner >= 0).astype(np.int64)
    place = [None if c < 0 else int(c) for c in corner]
    values = [subject.test_labels[each], colour, cue, place]
    return Probed(model.eval(), images, dict(zip(_TARGETS, map(list, values), strict=True)))


def cornered(images: Tensor) -> tuple[Tensor, Int64]:
    """Return images with a grey square in one of four corners of every second one, and which (N,), -1 for none.

    Examples
    --------
    >>> marked, corner = cornered(torch.ones(8, 3, 32, 32))
    >>> int((corner >= 0).sum()), bool((marked[corner == 0, :, :5, :5] == 0).all())
    (4, True)
    """
    draws = np.random.default_rng(0)
    n = len(images)
    corner = draws.permutation(np.where(np.arange(n) % 2, np.arange(n) // 2 % 4, -1)).astype(np.int64)
    marked = images.clone()
    places = [(slice(None, _CORNER), slice(-_CORNER, None))[i] for i in range(2)]
    for i, c in enumerate(corner):
        if c >= 0:
            marked[i, :, places[c // 2], places[c % 2]] = 0.0
    return marked, corner


def reddish(images: Tensor) -> Float64:
    """Return how much more red than blue each image has (N,)."""
    means = images.double().mean((2, 3)).numpy()
    difference: Float64 = means[:, 0] - means[:, 2]
    return difference


def thirds(values: Float64) -> Int64:
    """Return which third of the images each belongs to by a number.

    Examples
    --------
    >>> thirds(np.array([5.0, 1.0, 9.0])).tolist()
    [1, 0, 2]
    """
    return np.digitize(values, np.quantile(values, [1 / 3, 2 / 3])).astype(np.int64)
