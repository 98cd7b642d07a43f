"""S1's context share: hand-made networks are told apart, and the effects are what an independent fit says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.shortcuts.swaps import Swaps, disc, effects_of, pairs, share_of, swapped, swaps_of
from interpnet.engine import Channel, ChannelIndex
from interpnet.interpretation import Interpretation

NAN = float("nan")


def network(weights: list[list[float]]) -> nn.Module:
    """Return a network whose channels are the colours' maxima, and whose logits are the given sums of them."""
    net = nn.Sequential(
        nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(4).view(4, 4, 1, 1))
        net[4].weight.copy_(torch.tensor(weights))
    return net.eval()


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    """Return images whose colour 0 or 1 in the middle, and 2 or 3 in a corner, tells the class."""
    classes = torch.arange(n) % 2
    made = torch.zeros(n, 4, 8, 8)
    each = torch.arange(n)
    made[each, classes, 3, 4] = made[each, 2 + classes, 0, 7] = 1.0
    return made, classes


def of(coef: list[list[float]]) -> Interpretation:
    info = {"normalisation": "none"}
    return Interpretation(ChannelIndex((("1", 4),)), np.array(coef), ("a", "b"), info=info)


@pytest.mark.parametrize(
    ("weights", "share"),
    [([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], 0.0), ([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], 1.0)],
)
def test_answers_go_with_what_the_network_looks_at(weights: list[list[float]], share: float) -> None:
    found = swaps_of(network(weights), *images(), of(weights))
    assert found.follows == share
    np.testing.assert_allclose(found.class_share, [share, share], atol=1e-7)
    assert found.mean_share == pytest.approx(share, abs=1e-7)
    assert found.flagged(0.5) == [Channel("1", 2), Channel("1", 3)][: 2 * int(share)]


def test_channels_are_told_apart_and_shares_weigh_their_effects() -> None:
    """Class a: 3 from the middle and 1 from the corner; class b's negative weight speaks against a, from the corner."""
    coef = [[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, -1.0, 0.0]]
    found = swaps_of(network([[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), *images(), of(coef))
    np.testing.assert_allclose(found.share, [[0, NAN, 1, NAN], [NAN, 0, 1, NAN]], atol=1e-7)
    np.testing.assert_allclose(found.class_share, [0.25, 0.5], atol=1e-7)


def test_effects_are_the_least_squares_fit() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    made = torch.rand(15, 3, 9, 9)
    labels = torch.arange(15) % 3
    found = Interpretation(ChannelIndex((("1", 6),)), np.ones((3, 6)), ("a", "b", "c"))
    got = swaps_of(net, made, labels, found)
    first, second = pairs(labels, 5, 0)
    rows = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        image = np.where(disc(9, 9).numpy(), made[a].numpy(), made[b].numpy())
        norms = np.sqrt((net[:2](torch.from_numpy(image)[None])[0].detach().numpy().astype(float) ** 2).sum((1, 2)))
        rows.append(norms / norms.sum())
    for j in range(3):
        design = np.stack([np.ones(len(rows)), labels[first].numpy() == j, labels[second].numpy() == j], 1).astype(
            float
        )
        _, a, b = np.linalg.solve(design.T @ design, design.T @ np.array(rows))
        np.testing.assert_allclose([got.middle[j], got.surroundings[j]], [a, b], atol=1e-6)


def test_effects_that_cannot_be_told_apart_are_missing() -> None:
    """Class 0 always with its own surroundings, class 2 never shown; then the effects 2 and 5 by hand."""
    same = np.array([0, 1, 0])
    assert np.isnan(effects_of(np.array([[1.0], [2.0], [4.0]]), same, same, 3)).all()
    x = np.array([[8.0], [3.0], [6.0], [1.0]])  # 1 + 2 [middle 0] + 5 [around 0]
    found = effects_of(x, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 3)
    np.testing.assert_allclose(found[:, :2, 0], [[2.0, -2.0], [5.0, -5.0]], atol=1e-12)
    assert np.isnan(found[:, 2]).all()


def test_shares_and_flags_by_hand() -> None:
    a = np.array([3.0, 1.0, 0.0, -1.0, 2.0, -2.0, NAN])
    b = np.array([1.0, 3.0, 2.0, 4.0, -1.0, -3.0, 1.0])
    np.testing.assert_allclose(share_of(a, b), [0.25, 0.75, 1.0, 1.0, 0.0, NAN, NAN])
    known = Interpretation(
        ChannelIndex((("x", 2), ("y", 1))), np.array([[2.0, -1.0, 0.0], [0.5, 1.0, -3.0]]), ("a", "b")
    )
    found = Swaps(
        known,
        0.0,
        np.array([[1.0, -1.0, 1.0], [1.0, 1.0, 0.0]]),
        np.array([[1.0, -3.0, 9.0], [4.0, -1.0, -2.0]]),
    )
    # A negative weight turns both effects round.
    np.testing.assert_allclose(found.share, [[0.5, 0.75, NAN], [0.8, 0.0, 1.0]])
    assert found.flagged(0.5) == [Channel("y", 0), Channel("x", 0), Channel("x", 1)]
    assert found.flagged(0.75) == [Channel("y", 0), Channel("x", 0)]


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda x: len(set(x)) > 1),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_every_image_meets_the_classes_in_turn(shown: list[int], partners: int, seed: int) -> None:
    labels = torch.tensor(shown)
    first, second = pairs(labels, partners, seed)
    assert torch.equal(torch.bincount(first), torch.full((len(shown),), partners))
    for i in range(len(shown)):
        met = [shown[b] for a, b in zip(first.tolist(), second.tolist(), strict=True) if a == i]
        counts = [met.count(c) for c in set(shown)]
        assert max(counts) - min(counts) <= 1


def test_what_comes_from_where() -> None:
    made = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 3, 3] = True
    mixed, labels = swapped(made, torch.tensor([0, 1]), masks)
    assert labels.tolist() == [0, 1]
    both = masks.any(0).float()  # the union of both subjects comes from the first image, the rest from the second
    assert torch.equal(mixed[:, 0], torch.stack([1 - both, both]))
    mixed, labels = swapped(made, torch.tensor([0, 1]), partners=2)
    assert labels.tolist() == [0, 0, 1, 1] or labels.tolist() == [0, 1, 0, 1]
    middle = disc(4, 4)
    assert middle.sum() == 4  # within one pixel of the centre
    assert (mixed[:, 0, middle] == labels[:, None]).all()
