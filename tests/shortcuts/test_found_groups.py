"""Two kinds of evidence in one class: by hand, against a reference, alarms without groups, and in a search."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import Channel
from interpnet.shortcuts import find, findings_json, read_findings
from interpnet.shortcuts._groups import axis_of, split_p, two_means


def test_two_means_by_hand() -> None:
    values = np.array([[0.0, 1.0], [0.0, 2.0], [9.0, 1.0], [9.0, 2.0], [8.0, 1.5]])
    one = two_means(values)
    assert one.tolist() in ([False, False, True, True, True], [True, True, False, False, False])
    axis = axis_of(values)
    assert sorted(axis.channels.tolist()) == [0, 1]
    # The means (0, 1.5) and (26/3, 1.5) differ in the first channel alone; places are along that difference.
    assert abs(axis.high - axis.low) == pytest.approx((26 / 3) ** 2)


def test_a_split_by_hand() -> None:
    values = np.repeat([[0.0], [1.0]], 20, axis=0)  # two places, nothing between them
    first, second = np.array_split(np.random.default_rng(3).permutation(40), 2)
    fewer = [min((rows < 20).sum(), (rows >= 20).sum()) for rows in (first, second)]
    assert split_p(values, np.random.default_rng(3)) == pytest.approx(2 * min(0.5**n for n in fewer))
    assert split_p(np.ones((40, 3)), np.random.default_rng(3)) == 1.0  # all alike


def reference(values: np.ndarray, seed: int) -> float:
    """Return the p-value, counted image by image."""
    order = np.random.default_rng(seed).permutation(len(values)).tolist()
    half = (len(order) + 1) // 2
    p = []
    for learn, test in ((order[:half], order[half:]), (order[half:], order[:half])):
        some = values[learn]
        covariance = np.cov(some.T)
        direction = np.linalg.eigh(covariance)[1][:, -1]
        side = (some - some.mean(0)) @ direction > 0
        for _ in range(99):
            means = [some[~side].mean(0), some[side].mean(0)]
            side = np.array([np.linalg.norm(x - means[1]) < np.linalg.norm(x - means[0]) for x in some])
        means = [some[~side].mean(0), some[side].mean(0)]
        apart = means[1] - means[0]
        kept = sorted(range(len(apart)), key=lambda j: -abs(apart[j]))[:10]
        low, high = (sum(mean[j] * apart[j] for j in kept) for mean in means)
        counts = [0, 0, 0]
        for i in test:
            at = (sum(values[i, j] * apart[j] for j in kept) - low) / (high - low)  # 0 and 1 at the means
            for number in range(3):
                counts[number] += -0.25 + 0.5 * number <= at < 0.25 + 0.5 * number
        left, middle, right = counts
        tails = [sum(comb(middle + n, i) for i in range(middle + 1)) / 2 ** (middle + n) for n in (left, right)]
        p.append(max(tails))
    return min(1.0, 2 * min(p))


@pytest.mark.parametrize("seed", range(4))
def test_the_split_is_that_of_a_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(61, 15))
    values[:20, :4] += 1.5 * seed
    assert split_p(values, np.random.default_rng(seed)) == pytest.approx(reference(values, seed), rel=1e-9)


def one_kind(rng: np.random.Generator, shape: str, n: int, m: int) -> np.ndarray:
    if shape == "skewed":
        return rng.exponential(size=(n, m)) * rng.exponential(size=m)
    if shape == "often nothing":
        return np.maximum(0.0, rng.normal(-1.0, 1.0, (n, m)))
    if shape == "one factor":
        return rng.exponential(size=(n, 1)) * rng.random(m) + 0.1 * rng.normal(size=(n, m))
    return rng.random((n, m))


@pytest.mark.parametrize("shape", ["skewed", "often nothing", "one factor", "flat"])
def test_images_of_one_kind_seldom_seem_to_be_of_two(shape: str) -> None:
    rng = np.random.default_rng(7)
    alarms = [split_p(one_kind(rng, shape, 80, 30), rng) < 0.05 for _ in range(200)]
    assert np.mean(alarms) <= 0.05


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_two_kinds_are_told(share: float) -> None:
    rng = np.random.default_rng(8)
    values = rng.exponential(size=(100, 200))
    values[: round(100 * share), :3] += 6.0
    assert split_p(values, rng) < 0.02


class Colours(nn.Module):
    """One channel for each of three colours, its mean; class 0 goes by the first or by the third."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(3)[:, :, None, None])
            self.head.weight.copy_(torch.tensor([[8.0, 0.0, 8.0], [0.0, 8.0, 0.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.stem(x)).mean((2, 3)))
        return out


def images(n: int, *, third: float) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 16, 16) of two classes; a share of class 0 has the third colour in place of the first."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    colours = labels.clone()
    colours[: round(third * n)][labels[: round(third * n)] == 0] = 2
    made = torch.rand(n, 3, 16, 16, generator=draws) / 10
    made[torch.arange(n), colours] += 0.3 * torch.rand(n, 1, 1, generator=draws) + 0.7
    return made, labels


def test_a_class_with_two_kinds_of_evidence_is_found() -> None:
    found = find(Colours(), [images(120, third=0.3)], progress=False)
    (one,) = found.grouped
    assert (one.index, one.name) == (0, "0")
    assert one.p < 0.01
    larger, smaller = one.groups
    assert (larger.n, smaller.n) == (42, 18)
    assert larger.channels[0].channel == Channel("act", 0)
    assert smaller.channels[0].channel == Channel("act", 2)
    assert smaller.channels[0].contribution > 2 * smaller.channels[0].elsewhere
    assert len(smaller.images) == 10
    assert set(smaller.images) <= set(range(0, 36, 2))
    again = read_findings(findings_json(found)).grouped
    assert [g.images for g in again[0].groups] == [g.images for g in one.groups]
    assert again[0].groups[1].channels[0].channel == smaller.channels[0].channel
    assert again[0].p == pytest.approx(one.p, rel=1e-5)
    older = {name: value for name, value in findings_json(found).items() if name != "grouped"}
    assert read_findings(older).grouped == ()


def test_a_class_of_one_kind_or_of_few_images_has_no_groups() -> None:
    assert find(Colours(), [images(120, third=0.0)], progress=False).grouped == ()
    assert find(Colours(), [images(28, third=0.5)], progress=False).grouped == ()
