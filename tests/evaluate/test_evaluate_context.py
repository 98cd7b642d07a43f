"""Swapped surroundings: hand-made networks are told apart, and the effects are what an independent fit says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import context_swap, swapped_context
from interpnet.evaluate._context import _middle, _pairs
from interpnet.interpretation import Interpretation

SIZE = 8
MIDDLE = (3, 4)
CORNER = (0, 7)


def network(weights: list[list[float]]) -> nn.Module:
    """Return a network whose channels are the colours' maxima, and whose logits are the given sums of them."""
    net = nn.Sequential(
        nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(4).view(4, 4, 1, 1))
        net[4].weight.copy_(torch.tensor(weights))
    return net


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    """Return images whose colour 0 or 1 in the middle, and 2 or 3 in a corner, tells the class."""
    classes = torch.arange(n) % 2
    made = torch.zeros(n, 4, SIZE, SIZE)
    for i, c in enumerate(classes.tolist()):
        made[i, c, MIDDLE[0], MIDDLE[1]] = 1.0
        made[i, 2 + c, CORNER[0], CORNER[1]] = 1.0
    return made, classes


def of(coef: list[list[float]]) -> Interpretation:
    return Interpretation(ChannelIndex((("1", 4),)), np.array(coef), ("a", "b"), info={"normalisation": "none"})


def test_a_network_that_looks_at_the_middle_keeps_its_answers() -> None:
    weights = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    found = context_swap(network(weights), images()[0], of(weights))
    assert (found.follows, found.keeps) == (0.0, 1.0)
    np.testing.assert_allclose(found.class_share, [0.0, 0.0], atol=1e-12)
    assert found.mean_share == pytest.approx(0.0, abs=1e-12)
    assert found.flagged() == []


def test_a_network_that_looks_at_the_corner_follows_the_surroundings() -> None:
    weights = [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    found = context_swap(network(weights), images()[0], of(weights))
    assert (found.follows, found.keeps) == (1.0, 0.0)
    np.testing.assert_allclose(found.class_share, [1.0, 1.0], atol=1e-12)
    assert {(c, channel.index) for c, channel, share in found.flagged(0.99)} == {(0, 2), (1, 3)}


def test_channels_are_told_apart_and_shares_weigh_their_effects() -> None:
    """Class a: 3 from the middle and 1 from the corner; class b's negative weight speaks against a, from the corner."""
    coef = [[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, -1.0, 0.0]]
    made, classes = images()
    found = context_swap(network([[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), made, of(coef), classes=classes)
    np.testing.assert_allclose(found.share, [[0, np.nan, 1, np.nan], [np.nan, 0, 1, np.nan]], atol=1e-12)
    np.testing.assert_allclose(found.class_share, [0.25, 0.5], atol=1e-12)
    assert found.mean_share == pytest.approx(0.375)


def test_effects_are_the_least_squares_fit() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    net = net.double().train()
    made = torch.rand(15, 3, 9, 9, dtype=torch.float64)
    classes = torch.arange(15) % 3
    rng = np.random.default_rng(0)
    found = Interpretation(ChannelIndex((("2", 6),)), rng.normal(size=(3, 6)), ("a", "b", "c"))
    swapped = context_swap(net, made, found, classes=classes, partners=4, max_batch=7)
    assert net.training

    first, second = _pairs(classes, 4, 0)
    inside = ((np.arange(9) - 4.0)[:, None] ** 2 + (np.arange(9) - 4.0) ** 2) < (9 / 4) ** 2
    scores = []
    net.eval()
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        image = np.where(inside, made[a].numpy(), made[b].numpy())
        maps = net[:3](torch.from_numpy(image)[None])[0].detach().numpy()
        norms = np.sqrt((maps**2).sum((1, 2)))
        scores.append(norms / norms.sum())
    x = np.array(scores)
    for j in range(3):
        design = np.stack([np.ones(len(x)), classes[first].numpy() == j, classes[second].numpy() == j], 1).astype(float)
        _, a, b = np.linalg.solve(design.T @ design, design.T @ x)
        np.testing.assert_allclose(swapped.middle[j], a, atol=1e-9)
        np.testing.assert_allclose(swapped.surroundings[j], b, atol=1e-9)
        response = x @ found.coef[j]
        _, ra, rb = np.linalg.solve(design.T @ design, design.T @ response)
        total = max(ra, 0) + max(rb, 0)
        assert (
            swapped.class_share[j] == pytest.approx(max(rb, 0) / total) if total else np.isnan(swapped.class_share[j])
        )


def test_the_size_of_batches_changes_nothing() -> None:
    weights = [[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.5]]
    one, other = (context_swap(network(weights), images()[0], of(weights), max_batch=n) for n in (3, 64))
    np.testing.assert_array_equal(one.share, other.share)
    assert one.follows == other.follows


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda x: len(set(x)) > 1),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_every_image_meets_the_classes_in_turn(shown: list[int], partners: int, seed: int) -> None:
    classes = torch.tensor(shown)
    first, second = _pairs(classes, partners, seed)
    assert np.bincount(first).tolist() == [partners] * len(shown)
    assert (classes[first] != classes[second]).any()
    known = sorted(set(shown))
    for i in range(len(shown)):
        met = [int(classes[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a == i]
        counts = [met.count(c) for c in known]
        assert max(counts) - min(counts) <= 1


def test_what_comes_from_where() -> None:
    made = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 3, 3] = True
    first, swapped = swapped_context(made, torch.tensor([0, 1]), middle=masks)
    assert first.tolist() == [0, 1]
    # The union of both subjects comes from the first image, the rest from the second.
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[0, 0] = inside[3, 3] = True
    assert torch.equal(swapped[0, 0], (~inside).float())
    assert torch.equal(swapped[1, 0], inside.float())
    assert _middle(None, made).sum() == 4  # within one pixel of the centre of 4x4


def test_images_are_not_written_to() -> None:
    made, classes = images()
    before = made.clone()
    swapped_context(made, classes)
    context_swap(network([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), made, of([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    assert torch.equal(made, before)


WEIGHTS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"partners": 0}, "partners is 0; expected a whole number of at least 1"),
        ({"max_batch": 0}, "max_batch is 0; expected a whole number of at least 1"),
        ({"classes": torch.zeros(12, dtype=torch.long)}, "all of one class"),
        ({"classes": torch.zeros(3, dtype=torch.long)}, "expected 12 class numbers"),
        ({"classes": torch.zeros(12)}, "expected 12 class numbers"),
        ({"classes": torch.arange(12)}, "classes has 11; expected 0 to 1"),
        (
            {"middle": torch.ones(3, 3, dtype=torch.bool)},
            r"middle is torch.bool of shape \(3, 3\); expected bool \(8, 8\)",
        ),
        ({"middle": torch.ones(SIZE, SIZE)}, "middle is torch.float32"),
        ({"middle": torch.ones(SIZE, SIZE, dtype=torch.bool)}, "empty or full"),
        ({"middle": torch.zeros(12, SIZE, SIZE, dtype=torch.bool)}, "empty or full"),
    ],
)
def test_wrong_arguments_are_named(words: dict[str, object], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        context_swap(network(WEIGHTS), images()[0], of(WEIGHTS), **words)  # type: ignore[arg-type]


def test_an_interpretation_of_another_model_is_refused() -> None:
    other = Interpretation(ChannelIndex((("1", 5),)), np.ones((2, 5)), ("a", "b"))
    with pytest.raises(InterpNetError, match="has 4 channels in this model and 5 in the interpretation"):
        context_swap(network(WEIGHTS), images()[0], other)


def test_images_all_taken_for_one_class_are_refused() -> None:
    with pytest.raises(DataError, match="all of one class"):
        context_swap(network([[1.0] * 4, [0.0] * 4]), images()[0], of(WEIGHTS))
