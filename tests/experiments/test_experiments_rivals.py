"""What the literature would suspect: each statistic finds the toy that it must find, and counts as a hand does."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from experiments.common.suspicion import (
    area_of,
    bimodality,
    outside_middle,
    separations,
    shares_of,
    standardised,
)
from experiments.cues import rivals
from interpnet.models import SmallCNN, last_layer


class Weights:
    """What a last layer says of its weights."""

    def __init__(self, weight: Any) -> None:
        self.weight = torch.from_numpy(weight)


def of_numbers(labels: list[int], **given: Any) -> rivals.Seen:
    """Return what was seen where only some of it matters."""
    n = len(labels)
    own = np.array(labels)
    logits = torch.from_numpy(3.0 * np.eye(own.max() + 1)[own])  # every image right
    rest: dict[str, Any] = {"model": nn.Identity(), "images": torch.zeros(n, 3, 16, 16), "labels": own, "seed": 0}
    rest |= {"features": np.zeros((n, 2)), "layer": Weights(np.zeros((own.max() + 1, 2))), "logits": logits}
    rest |= {"mapped": np.arange(n), "maps": torch.zeros(n, 16, 16)}
    return rivals.Seen(**{**rest, **given})


def test_standardised_differences_by_hand() -> None:
    x = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0], [7.0, 5.0]])
    found = standardised(x, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [[-4 / np.sqrt(5), 0], [4 / np.sqrt(5), 0]])


def test_bimodality_by_hand() -> None:
    assert bimodality(np.array([0.0, 0.0, 1.0, 1.0])) == pytest.approx(1.0)
    assert bimodality(np.array([2.0, 2.0])) is None
    # 0, 0, 0, 1: skewness 2 / sqrt(3), kurtosis 7 / 3.
    assert bimodality(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx((4 / 3 + 1) / (7 / 3))


def test_maps_in_two_places_are_two_clusters() -> None:
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.random((40, 32, 32)))
    maps[:10, :8, :8] += 50
    maps[10:20, 24:, 24:] += 50  # group 0 looks at two corners
    maps[20:, 12:20, 12:20] += 50  # group 1 at the middle
    groups = np.repeat([0, 1], 20)
    two, one, none = separations(maps, groups, 3)
    assert two > 0.9
    assert one < 0.1
    assert none == 0.0
    s = of_numbers(groups.tolist(), maps=maps)
    assert rivals.spray(s).tolist() == [two, one]


def test_shares_of_the_heat_by_hand() -> None:
    maps = np.zeros((3, 17, 17))
    maps[0, 8, 8] = 5.0  # the very middle
    maps[1] = 1.0
    shares = shares_of(maps)  # the blank one is gone
    assert shares.sum((1, 2)).tolist() == pytest.approx([1.0, 1.0])
    across = np.exp(-0.5 * ((np.arange(17) - 8) / 4.25) ** 2)
    np.testing.assert_allclose(outside_middle(shares), [0.0, 1 - np.outer(across, across).mean()], atol=1e-12)
    np.testing.assert_allclose(area_of(shares), [1 / 17**2, 1.0])
    s = of_numbers([0, 1, 1], maps=torch.from_numpy(maps[[0, 1, 2]]))
    np.testing.assert_allclose(rivals.heat_area(s), [1 / 17**2, 1.0])
    assert rivals.heat_outside(s)[0] == pytest.approx(0.0)


def test_every_class_is_drawn_alike() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    rows = rivals.evenly(labels, 24, 3)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 4]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rivals.evenly(labels, 24, 3).tolist() == rows.tolist()
    assert rivals.evenly(labels, 100, 0).tolist() == list(range(84))


def test_gaps_between_the_quarters_by_hand() -> None:
    labels = [0] * 8 + [1] * 8
    features = np.zeros((16, 2))
    features[:8, 0] = np.arange(8)  # class 0 counts on it
    features[:8, 1] = np.arange(8)[::-1]  # and on this one not
    logits = torch.zeros(16, 2, dtype=torch.float64)
    logits[:, 0] = torch.tensor([-1.0, 1, 1, 1, 1, 1, 3, 5] + [-2.0] * 8)
    s = of_numbers(labels, features=features, layer=Weights(np.array([[1.0, -1.0], [1.0, 1.0]])), logits=logits)
    # Of two features both are among the five: the best gap is feature 0's; features of class 1 are all the same.
    np.testing.assert_allclose(rivals.spurious_accuracy(s), [1.0 - 0.5, 0.0])
    np.testing.assert_allclose(rivals.spurious_log_odds(s), [4.0 - 0.0, 0.0], atol=1e-9)
    assert rivals.spurious_accuracy(of_numbers([0, 0, 0])).tolist() == [0.0]  # no quarter


def test_a_slice_of_mistakes_is_found() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 100 + [1] * 100
    features = 0.1 * rng.standard_normal((200, 3))
    features[:20] += [5.0, 0.0, 0.0]  # a kind of class 0 ...
    logits = torch.from_numpy(3.0 * np.eye(2)[labels])
    logits[:20] = torch.tensor([0.0, 3.0], dtype=torch.float64)  # ... that is always missed
    worst, clean = rivals.worst_slice(of_numbers(labels, features=features, logits=logits))
    assert worst == pytest.approx(1.0 - 0.2)
    assert clean == 0.0
    np.testing.assert_allclose(rivals.error(of_numbers(labels, logits=logits)), [0.2, 0.0])


class Colours(nn.Module):
    """The mean of each colour, and from them the classes."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(3, len(weights), bias=False)
        self.last.weight.data = torch.tensor(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.last(torch.relu(self.pool(images)).flatten(1))
        return logits


def test_the_gradient_trail_leads_to_a_cue_that_mistakes_lack() -> None:
    """Class 0 is known by red alone: its images without red are missed, and one step towards it brings red."""
    rng = np.random.default_rng(0)
    images = torch.zeros(60, 3, 16, 16)
    images[:30, 1] = torch.from_numpy(rng.uniform(0.5, 1.0, (30, 1, 1)))
    images[:25, 0] = 1.0  # the cue of class 0, which five images lack
    images[30:, 2] = 1.0
    labels = np.repeat([0, 1], 30)
    model = Colours([[4.0, 0.0, 0.0], [0.0, 1.0, 2.0]]).eval()
    layer = last_layer(model, images)
    features, logits = rivals.read(layer, images)
    given = {"model": model, "images": images, "features": features, "layer": layer, "logits": logits}
    s = of_numbers(labels.tolist(), **given)
    assert (s.predicted != labels).sum() == 5
    first, _ = rivals.gradient_trail(s)
    assert first == pytest.approx(0.5)  # a concept of red is there in none of them before, and in all after
    right = Colours([[4.0, 2.0, 0.0], [0.0, 1.0, 2.0]]).eval()
    given |= {"model": right, "layer": last_layer(right, images)}
    given["logits"] = rivals.read(given["layer"], images)[1]
    assert rivals.gradient_trail(of_numbers(labels.tolist(), **given)).tolist() == [0.0, 0.0]  # no mistake, no trail


def test_log_odds_in_two_groups() -> None:
    logits = torch.zeros(40, 2, dtype=torch.float64)
    logits[:20, 0] = torch.tensor([4.0] * 10 + [-4.0] * 10)
    logits[20:, 1] = torch.linspace(0, 1, 20, dtype=torch.float64)
    two, even = rivals.two_answers(of_numbers([0] * 20 + [1] * 20, logits=logits))
    assert two == pytest.approx(1.0)
    assert even == pytest.approx(5 / 9, abs=0.02)
    own = logits.numpy()[np.arange(40), [0] * 20 + [1] * 20]
    other = logits.numpy()[np.arange(40), [1] * 20 + [0] * 20]
    np.testing.assert_allclose(
        of_numbers([0] * 20 + [1] * 20, logits=logits).own_log_odds,
        log_softmax(np.stack([own, other], 1), 1) @ [1.0, -1.0],
    )


def test_every_statistic_of_a_network_twice_the_same_and_the_network_left_alone() -> None:
    model = SmallCNN(3, 3, 32, 4, seed=0)
    before = copy.deepcopy(model.state_dict())
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(90, 3, 32, 32, generator=draws)
    labels = torch.arange(90) % 3
    given = images.clone()
    found = rivals.suspicions(model, images, labels)
    assert found.keys() == rivals.STATISTICS.keys()
    for values in found.values():
        assert values.shape == (3,)
        assert np.isfinite(values).all()
    again = rivals.suspicions(model, images, labels)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert model.training
    assert torch.equal(images, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    difference = found["class-activation difference"]
    assert (difference > 0).all()
