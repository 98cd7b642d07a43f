"""Results made by hand for figures: of few things and of many, with long names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy import sparse

from interpnet.concepts import Dissection, ProbeResult, Strongest, TcavResult
from interpnet.engine import Channel, ChannelIndex
from interpnet.evaluate import ParameterRandomisation, Score
from interpnet.explanation import AverageVisualization, Explanation
from interpnet.models import History
from interpnet.mulasso import BreakPoints
from interpnet.pictures import Maximised
from interpnet.shortcuts import Figures, Repair

RNG = np.random.default_rng(0)


def layers(count: int) -> tuple[str, ...]:
    return tuple(f"features.{i}.a_long_name.relu:1" for i in range(count))


def dissection(depth: int, concepts: int) -> Dissection:
    channels = ChannelIndex(tuple((layer, 4) for layer in layers(depth)))
    m = len(channels)
    iou = RNG.random((m, concepts))
    names = tuple(f"concept {k}" for k in range(concepts))
    categories = tuple(f"a category of concepts, number {k}" for k in range(concepts))
    zeros = np.zeros(m)
    return Dissection(
        channels, names, categories, iou, iou - 0.1, iou + 0.1, zeros + 0.5, iou * 0, zeros,
        np.zeros((m, 2), np.int64), dict.fromkeys(categories, 5), np.ones(concepts, np.int64), np.ones(concepts),
        0.005, 0.04, 3,
    )  # fmt: skip


def tcav(concepts: int, depth: int) -> TcavResult:
    shape = (concepts, depth)
    effect = RNG.normal(size=shape)
    ends = np.stack([effect - 0.3, effect + 0.3], 2)
    score = RNG.random(shape)
    return TcavResult(
        tuple(f"stripes and other concepts {k}" for k in range(concepts)), layers(depth), 0, score,
        np.stack([score - 0.1, score + 0.1], 2), RNG.random(shape), effect, ends, RNG.random(shape) * 0.1, score,
        score > 0.5, RNG.random((*shape, 3)), RNG.random((depth, 3)), RNG.normal(size=(depth, 3)), np.ones(depth),
        RNG.normal(size=(*shape, 2)), (),
    )  # fmt: skip


def probe(targets: int, depth: int) -> ProbeResult:
    accuracy = 0.5 + 0.4 * RNG.random((targets, depth))
    return ProbeResult(
        tuple(f"a target with a long name {t}" for t in range(targets)), layers(depth), (("a", "b"),) * targets,
        np.full(targets, 50), np.full(targets, 0.4), accuracy, np.stack([accuracy - 0.1, accuracy + 0.1], 2),
        accuracy * 0, accuracy * 0.5, accuracy,
    )  # fmt: skip


def score(count: int = 6, *, controls: bool = False, curve: bool = True) -> Score:
    values = torch.rand(count, generator=torch.Generator().manual_seed(0))
    known: dict[str, Any] = {"random": score(count, curve=False)} if controls else {}
    more: dict[str, Any] = {}
    if curve:
        more = {"curve": torch.rand(count, 9), "thresholds": torch.linspace(0, 1, 9)}
    return Score(values, "deletion", "lower is better", (0.0, 1.0), "by hand", controls=known, **more)


def randomisation(depth: int) -> ParameterRandomisation:
    found = Score(torch.rand(3), "a", "lower is better", (-1.0, 1.0), "", curve=torch.rand(3, depth))
    return ParameterRandomisation(layers(depth), found, found, found, found, torch.zeros(3, depth) > 1, ())


def strongest(count: int) -> Strongest:
    return Strongest(tuple(range(count)), torch.rand(count, 3, 8, 8), torch.rand(count, 8, 8), 0.5)


def explanation(count: int, k: int) -> Explanation:
    channels = [[Channel(layers(1)[0], c) for c in range(k)], *[[Channel("a", 0)]] * (count - 1)]
    responses = [[0.25] * len(own) for own in channels]
    shape = (count, k, 8, 8)
    return Explanation(
        torch.arange(count), torch.arange(count), torch.full((count,), 0.5), channels, responses,
        torch.rand(shape), torch.rand(count, 8, 8), torch.rand(count, k, 3, 8, 8), 1, 1,
    )  # fmt: skip


def average(index: int, crops: int) -> AverageVisualization:
    rng = np.random.default_rng(index)
    pictures = rng.random((crops, 3, 5, 5)).astype(np.float32)
    return AverageVisualization(
        Channel(layers(1)[0], index), pictures.mean(0), pictures, np.arange(crops), crops, (5, 5), False, 0.5, 1.0
    )


def maximised(count: int) -> Maximised:
    targets: list[Any] = [Channel(layers(1)[0], i) for i in range(count - 1)]
    zeros = np.zeros(count, np.float32)
    return Maximised(
        (*targets, 7), RNG.random((count, 3, 8, 8)).astype(np.float32), zeros, zeros, np.arange(count) == 0, zeros + 2,
        np.ones(count, np.int64),
    )  # fmt: skip


def path(channels: int) -> BreakPoints:
    mu = np.arange(5.0)
    weights = RNG.normal(size=(5, channels)) * mu[:, None]
    return BreakPoints(mu, mu[::-1], sparse.csr_matrix(weights), mu * 0)


def repair(*, control: bool) -> Repair:
    before = Figures(0.9, 0.4, np.ones(3), np.ones(3), 60, np.full(3, 20))
    after = Figures(0.89, 0.8, np.ones(3), np.ones(3), 60, np.full(3, 20))
    return Repair(
        torch.nn.Identity(), True, "", "ridge", 1.0, before, after, before if control else None, (), {}, 0.005, ""
    )


def history(count: int) -> History:
    epochs: Any = tuple(SimpleNamespace(loss=1 / (i + 1), accuracy=1 - 1 / (i + 2), seconds=1.0) for i in range(count))
    return History(epochs)
