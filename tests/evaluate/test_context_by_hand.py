"""Swapped surroundings, their pieces by hand: the disc, the pairs, shares and flags, and what reaches the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, find_sites
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import ContextSwap, context_swap, swapped_context
from interpnet.evaluate._context import _effects, _middle, _pairs, _share
from interpnet.interpretation import Interpretation

NAN = float("nan")


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 12), (12, 6), (9, 9), (5, 8)])
def test_the_disc_has_a_quarter_of_the_shorter_side(height: int, width: int) -> None:
    inside = _middle(None, torch.zeros(2, 1, height, width))
    for i in range(height):
        for j in range(width):
            distance = ((i - (height - 1) / 2) ** 2 + (j - (width - 1) / 2) ** 2) ** 0.5
            assert bool(inside[i, j]) == (distance < min(height, width) / 4), (i, j)


def test_a_mask_for_each_image_or_one_for_all() -> None:
    images = torch.zeros(2, 1, 2, 3)
    one = torch.tensor([[True, False, False], [False, False, False]])
    assert torch.equal(_middle(one, images), one)
    both = torch.stack([one, ~one])
    assert torch.equal(_middle(both, images), both)
    for bad, message in (
        (torch.stack([one, one & ~one]), "empty or full"),
        (torch.stack([one | ~one, one]), "empty or full"),
        (both[:1], r"middle is torch.bool of shape \(1, 2, 3\); expected bool \(2, 3\) or \(2, 2, 3\)"),
        (one.float(), "middle is torch.float32"),
    ):
        with pytest.raises(DataError, match=message):
            _middle(bad, images)
    with pytest.raises(DataError, match=r"images: shape \(2, 2, 3\) came; expected \(images, channels, height, width"):
        _middle(None, images[:, 0])


def test_shares_by_hand() -> None:
    a = np.array([3.0, 1.0, 0.0, -1.0, 2.0, -2.0, NAN])
    b = np.array([1.0, 3.0, 2.0, 4.0, -1.0, -3.0, 1.0])
    np.testing.assert_allclose(_share(a, b), [0.25, 0.75, 1.0, 1.0, 0.0, NAN, NAN])


def swap(coef: Any, middle: Any, surroundings: Any, class_share: Any) -> ContextSwap:
    found = Interpretation(ChannelIndex((("x", 2), ("y", 1))), np.array(coef), ("a", "b"))
    arrays = [np.array(values) for values in (class_share, middle, surroundings)]
    return ContextSwap(found, 0.0, 0.0, *arrays, n=1)


def test_flags_are_of_relevant_channels_above_the_share_largest_first() -> None:
    found = swap(
        coef=[[2.0, -1.0, 0.0], [0.5, 1.0, -3.0]],
        middle=[[1.0, -1.0, 1.0], [1.0, 1.0, 0.0]],
        surroundings=[[1.0, -3.0, 9.0], [4.0, -1.0, -2.0]],
        class_share=[0.25, NAN],
    )
    # A negative weight turns both effects round.
    np.testing.assert_allclose(found.share, [[0.5, 0.75, NAN], [0.8, 0.0, 1.0]])
    expected = [(1, Channel("y", 0), 1.0), (1, Channel("x", 0), 0.8), (0, Channel("x", 1), 0.75)]
    assert found.flagged() == expected
    assert found.flagged(0.75) == expected[:2]
    assert found.flagged(0.4) == [*expected, (0, Channel("x", 0), 0.5)]
    assert found.mean_share == 0.25
    assert np.isnan(swap([[0.0] * 3] * 2, [[0.0] * 3] * 2, [[0.0] * 3] * 2, [NAN, NAN]).mean_share)


def test_effects_of_classes_that_cannot_be_told_apart_are_missing() -> None:
    """Class 0 always with its own surroundings, class 2 never shown; then the effects 2 and 5 by hand."""
    x = np.array([[1.0], [2.0], [4.0]])
    same = torch.tensor([0, 1, 0])
    assert np.isnan(_effects(x, same, same, 3)).all()
    middle = torch.tensor([0, 0, 1, 1])
    around = torch.tensor([0, 1, 0, 1])
    x = np.array([[8.0], [3.0], [6.0], [1.0]])  # 1 + 2 [middle 0] + 5 [around 0]
    found = _effects(x, middle, around, 3)
    np.testing.assert_allclose(found[:, :2, 0], [[2.0, -2.0], [5.0, -5.0]], atol=1e-12)
    assert np.isnan(found[:, 2]).all()
    # Class 2 in the middle only, which leaves nothing to tell its surroundings' effect from.
    found = _effects(x, torch.tensor([2, 0, 1, 1]), around, 3)
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, :2]).all()


def test_pairs_partners_and_seed_are_those_asked_for() -> None:
    classes = torch.tensor([0, 1, 2, 1, 0, 2])
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    inside = _middle(None, images)
    for partners, seed in ((1, 0), (3, 0), (3, 4)):
        first, second = _pairs(classes, partners, seed)
        found, swapped = swapped_context(images, classes, partners=partners, seed=seed)
        assert torch.equal(found, first)
        assert len(first) == 6 * partners
        for k, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            assert torch.equal(swapped[k], torch.where(inside, images[a], images[b]))
    draws = {tuple(_pairs(classes, 3, seed)[1].tolist()) for seed in range(5)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": torch.tensor([0, -1, 1])}, "classes has .*; expected 0 to 1"),
        ({"classes": torch.tensor([1, 1, 1])}, "the images are all of one class"),
        ({"classes": torch.tensor([[0], [1], [1]])}, "expected 3 class numbers"),
        ({"classes": torch.tensor([True, False, True])}, "classes is torch.bool"),
        ({"partners": 0}, "partners is 0; expected a whole number of at least 1"),
        ({"partners": 10_001}, "partners is 10001; expected a whole number of at most 10000"),
        ({"seed": -1}, "seed is -1; expected a whole number of at least 0"),
    ],
)
def test_odd_arguments_of_both_functions(options: dict[str, Any], message: str) -> None:
    given = {"images": torch.rand(3, 2, 4, 4), "classes": torch.tensor([0, 1, 1])} | options
    with pytest.raises(InterpNetError, match=message):
        swapped_context(**given)
    with pytest.raises(InterpNetError, match=message):
        context_swap(network(), interpretation=FOUND, **given)


def network() -> nn.Module:
    """Channels are the colours; a logit is the largest value of its colour."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model[0].weight.data = torch.eye(2).view(2, 2, 1, 1)
    return model


FOUND = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"), info={"normalisation": "none"})


def marked(n: int = 12) -> tuple[Tensor, Tensor]:
    """Colour c shows class c, in a corner only."""
    classes = torch.arange(n) % 2
    made = torch.zeros(n, 2, 8, 8)
    made[torch.arange(n), classes, 0, 7] = 1.0
    return made, classes


def test_images_of_two_classes_are_counted() -> None:
    """Six images of each class meet both classes in turn; half of them begin with their own."""
    made, _ = marked()
    found = context_swap(network(), made, FOUND, partners=3)
    assert (found.n, found.follows, found.keeps) == (18, 1.0, 0.0)
    assert context_swap(network(), made, FOUND, partners=2).n == 12
    assert context_swap(network(), made, FOUND).n == 30


def test_a_third_answer_neither_follows_nor_keeps() -> None:
    made, classes = marked()
    joined = nn.Sequential(network(), Step(lambda x: torch.cat([x, torch.full((len(x), 1), 2.0)], 1)))
    found = Interpretation(ChannelIndex((("0.1", 2),)), np.ones((3, 2)), ("a", "b", "c"))
    swapped = context_swap(joined, made, found, classes=classes)
    assert (swapped.follows, swapped.keeps) == (0.0, 0.0)
    assert np.isnan(swapped.class_share[2]), "no image is of the third class"


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(x)}


def test_an_output_and_a_trace_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = marked()
    model = nn.DataParallel(Wrapped())
    named = Interpretation(ChannelIndex((("inner.1", 2),)), np.eye(2), ("a", "b"), info={"normalisation": "none"})
    read = {"output": lambda out: out["logits"]}
    plain = context_swap(model, made, named, **read)
    assert (plain.follows, plain.n) == (1.0, 30)
    trace = find_sites(model.module.eval(), made[:1], **read)
    monkeypatch.setattr("interpnet.evaluate._context.find_sites", None)
    again = context_swap(model, made, named, trace=trace, **read)
    np.testing.assert_array_equal(again.share, plain.share)


def test_no_pass_is_larger_than_allowed() -> None:
    made, _ = marked()
    model = network()
    trace = find_sites(model.eval(), made[:1])
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _module, given: sizes.append(len(given[0])))
    context_swap(model, made, FOUND, max_batch=5, partners=2, trace=trace)
    # The classes of 12 images, then 24 swapped ones.
    assert sizes == [5, 5, 2, 5, 5, 5, 5, 4]


def test_scores_that_are_not_finite_name_both_images() -> None:
    """The square of 1e20 is beyond float32; the map and the logits are not."""
    model = nn.Sequential(network(), Step(lambda x: x.clamp(max=2.0)))
    made, classes = marked(4)
    made[2, 0, 4, 4] = 1e20
    squares = Interpretation(ChannelIndex((("0.1", 2),)), np.eye(2), ("a", "b"), info={"norm": "l2sq"})
    first, second = _pairs(classes, 1, 0)
    at = first.tolist().index(2)
    message = f"scores of image 2 with the surroundings of image {int(second[at])} are NaN or infinite"
    with pytest.raises(DataError, match=message):
        context_swap(model, made, squares, classes=classes, partners=1)
