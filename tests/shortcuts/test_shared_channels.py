"""Channels that two classes share and no third: hand-made contributions, a slow reference, and a network."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from interpnet import collect_contributions, collect_scores
from interpnet.engine import ChannelIndex
from interpnet.errors import DataError
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.shortcuts import shared_channels
from interpnet.shortcuts._shared import likeness, pairs_in, shares_of


def contributed(means: np.ndarray, sizes: tuple[tuple[str, int], ...], n: int = 10) -> Contributions:
    names = tuple(f"class {k}" for k in range(len(means)))
    counts = np.full(len(means), n)
    return Contributions(
        ChannelIndex(sizes),
        names,
        counts,
        np.zeros(len(means)),
        np.stack([n * means, n * means**2]),
        np.zeros(means.shape[1]),
    )


def table_of(found: Contributions, labels: np.ndarray) -> ScoreTable:
    scores = np.random.default_rng(0).random((len(labels), len(found.channels))).astype(np.float32)
    return ScoreTable(scores, labels, labels, found.channels, 100 + np.arange(len(labels)), len(found.classes))


MEANS = np.array(
    [
        [6.0, 0.0, 2.0, -2.0],
        [0.0, 5.0, 2.0, 3.0],
        [5.0, 1.0, 0.0, 4.0],
        [0.0, 2.0, 6.0, 2.0],
    ]
)


def test_what_two_classes_share_computed_by_hand() -> None:
    found = contributed(MEANS, (("a", 4),))
    one = shared_channels(found, table_of(found, np.arange(4)), usual=0.3)
    # The rows add up to 10: the first channel gives 0.6 to class 0, 0.5 to class 2, and nothing to a third.
    assert [pair.indices for pair in one] == [(0, 2)]
    pair = one[0]
    assert pair.names == ("class 0", "class 2")
    assert pair.shared == pytest.approx(0.5)
    assert (pair.alike, pair.usual) == (0.0, 0.3)
    assert len(pair.channels) == 1
    channel = pair.channels[0]
    assert (str(channel.channel), channel.shares, channel.next) == ("a[0]", (0.6, 0.5), 0.0)
    assert sorted(channel.images) == [100, 101, 102, 103]
    assert sorted(channel.top_classes) == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_the_largest_layer_counts_and_classes_of_few_images_do_not() -> None:
    twice = np.concatenate([MEANS, 2 * MEANS + np.eye(4)], 1)
    found = contributed(twice, (("a", 4), ("b", 4)))
    pair = shared_channels(found, table_of(found, np.arange(4)), usual=0.3)[0]
    assert pair.channels[0].channel.layer == "a"
    few = contributed(MEANS, (("a", 4),), n=4)
    assert shared_channels(few, table_of(few, np.arange(4)), usual=0.0) == ()


def test_classes_that_are_alike_in_all_else_are_left_out() -> None:
    # The first and the third class share the first channel, and as much of what the others lead in.
    alike = np.array([[6.0, 2.0, 2.0, 0.0], [0.0, 5.0, 0.0, 3.0], [5.0, 2.0, 2.0, 0.0], [0.0, 0.0, 6.0, 2.0]])
    found = contributed(alike, (("a", 4),))
    assert all(pair.indices != (0, 2) for pair in shared_channels(found, table_of(found, np.arange(4)), usual=0.1))
    shares = shares_of(alike)
    near, typical = likeness(shares, (0, 2), np.array([0]))
    assert near > typical


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_a_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(5, 9))
    shares = shares_of(means)
    expected: dict[tuple[int, int], float] = {}
    for channel in range(9):
        values = [max(means[k, channel], 0.0) / sum(abs(x) for x in means[k]) for k in range(5)]
        for pair in combinations(range(5), 2):
            third = max(values[k] for k in range(5) if k not in pair)
            excess = min(values[k] for k in pair) - third
            if excess > 0:
                expected[pair] = expected.get(pair, 0.0) + excess
    found = pairs_in(shares)
    assert {pair: excess for pair, (excess, _) in found.items()} == pytest.approx(expected)
    for pair, (_, own) in found.items():
        rest = [j for j in range(9) if j not in own]

        def overlap(k: int, other: int, rest: list[int] = rest) -> float:
            return sum(min(shares[k, j], shares[other, j]) for j in rest)

        typical = min(float(np.median([overlap(k, o) for o in range(5) if o != k])) for k in pair)
        assert likeness(shares, pair, own) == pytest.approx((overlap(*pair), typical))


def test_two_classes_have_no_third_to_compare_with() -> None:
    assert pairs_in(np.ones((2, 3))) == {}


class Marked(nn.Module):
    """Four classes by colours of their own; the first and the third also by a mark in the corner."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 5, 1, bias=False)
        self.last = nn.Linear(5, 4, bias=False)
        with torch.no_grad():
            self.first.weight[:] = torch.eye(5)[:, :, None, None]
            self.last.weight[:] = torch.cat([torch.eye(4) * 4, torch.tensor([[9.0], [0.0], [9.0], [0.0]])], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.relu(self.first(x)).mean((2, 3)))
        return out


def test_a_mark_of_two_classes_is_found_in_a_network() -> None:
    labels = torch.arange(120) % 4
    images = torch.rand(120, 5, 8, 8, generator=torch.Generator().manual_seed(0)) / 4
    images[torch.arange(120), labels] += 1.0
    images[:, 4] = 0.0
    images[(labels == 0) | (labels == 2), 4, :4] = 2.0
    model, batches = Marked().eval(), [(images, labels)]
    found = shared_channels(
        collect_contributions(model, batches, outputs="independent", progress=False),
        collect_scores(model, batches, progress=False),
    )
    assert [one.indices for one in found] == [(0, 2)]
    assert found[0].channels[0].channel.index == 4
    assert {k for k, _ in found[0].channels[0].top_classes} <= {0, 2}
    exclusive = collect_contributions(model, batches, progress=False)
    with pytest.raises(DataError, match="a channel that two classes share contributes nothing"):
        shared_channels(exclusive, collect_scores(model, batches, progress=False))


def test_tables_that_do_not_fit_are_refused() -> None:
    found = contributed(MEANS, (("a", 4),))
    other = contributed(MEANS, (("b", 4),))
    with pytest.raises(DataError, match="table has 4 channels, and contributions has 4 or other layers"):
        shared_channels(found, table_of(other, np.arange(4)))
    several = table_of(found, np.arange(4))
    targets = ScoreTable(
        several.X, np.eye(4, dtype=np.float32), several.predictions, several.channels, several.indices, 4
    )
    with pytest.raises(DataError, match="several labels an image"):
        shared_channels(found, targets)
